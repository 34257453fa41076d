#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "workmill/error.h"

// What a worker is told: frames of the stream, and answers to leases and reports, which have the same members. Pure.
// Internal.
namespace workmill::client::detail {

// A job as it stands in a frame. Everything is lent by the frame's text. JSON values are as they were sent; names and
// tokens need no unescaping (docs/reference/requests.md).
struct JobView {
  std::string_view id{}, lease{}, type{}, queue{};
  std::string_view payload{};  // JSON; the text in base64 where `payload_is_bytes`.
  std::string_view checkpoint{}, meta{}, batch{};
  std::string_view traceparent{};
  std::string_view tracestate{};  // Escaped, as it stands between its quotes.
  unsigned attempt = 0;
  unsigned max_attempts = 0;
  bool payload_is_bytes = false;
};

struct ReportAnswer {
  std::size_t index = 0;  // In its batch.
  std::string id{};
  bool cancel_requested = false;
  std::optional<Error> error{};
};

struct Subscribed {
  std::string resume{};
  bool resumed = false;
  bool direct = false;  // Nobody is between: no pings while nothing is held.
};

// Reused from one to the next: no allocation for an ordinary one.
struct Frame {
  std::vector<JobView> jobs;
  std::size_t answers = 0;               // So many reports were answered,
  std::vector<ReportAnswer> remarkable;  // and of these, those that say more than "ok".
  bool has_jobs = false;                 // If only none.
  bool has_answers = false;
  std::vector<std::string> cancel;
  std::optional<Subscribed> subscribed;
  std::optional<Error> error;
  bool drained = false;
};

class FrameReader {
 public:
  FrameReader();
  ~FrameReader();
  // `text` must have padding() more bytes behind it that may be read. protocol_error where it is no frame; what comes
  // after the fault is not in `frame` then. Members that are not known are ignored.
  Result<> read(std::string_view text, Frame& frame);
  static std::size_t padding();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace workmill::client::detail
