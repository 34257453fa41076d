#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "frames.h"
#include "transport.h"
#include "workmill/jobs.h"

// How a worker gets jobs and hands in reports: over a stream, or by leasing. On one loop's thread. Internal.
namespace workmill::client::detail {

struct Subscription {
  std::vector<QueueChoice> queues;
  unsigned credit = 0;
  Duration lease{};
  std::string worker;
};

// Somebody waits to hear what became of a report.
struct ReportWaiter {
  std::size_t index = 0;
  std::move_only_function<void(Result<>)> done;
};

// Reports that go out together, and are answered together.
struct ReportBatch {
  static constexpr std::size_t kReportsMax = 1'000;               // As many as a request takes.
  static constexpr std::size_t kBytesMax = std::size_t{1} << 20;  // Well below what a server takes, but for one report
                                                                  // that alone is larger.
  std::string text;                                               // Their JSON, with commas between.
  std::vector<std::size_t> starts;                                // Of each, in it.
  std::size_t count = 0;
  std::vector<ReportWaiter> waiters;
  bool sent_before = false;  // It may have counted already.
  // The server has refused a message with it, or one that was under way beside it. It is sent with nothing else under
  // way, to see whether it was this one.
  bool is_suspect = false;

  std::string_view report(std::size_t index) const {
    std::size_t const end = index + 1 < count ? starts[index + 1] - 1 : text.size();
    return std::string_view{text}.substr(starts[index], end - starts[index]);
  }

  bool has_room(std::size_t bytes) const {
    return count == 0 || (count < kReportsMax && text.size() + bytes <= kBytesMax);
  }
};
using ReportBatchPtr = std::unique_ptr<ReportBatch>;

// Each report of a batch by itself, as a suspect.
std::vector<ReportBatchPtr> split(ReportBatchPtr batch);

// How a report begins, which is no more than this library's own way of writing it: what follows may not even be JSON.
struct ReportHead {
  std::string_view id{}, lease{}, outcome{};
  bool is_end = false;  // Of an attempt.
};
ReportHead read_head(std::string_view report);

// Whether a refusal of a message with reports may be for one of them. Else it is for whoever sends them.
bool is_about_reports(Error const& error);

// On the loop's thread, never from inside a call of the link's.
struct LinkEvents {
  virtual ~LinkEvents() = default;
  // Jobs and cancellations. What the frame lends is good until this returns.
  virtual void on_frame(Frame& frame) = 0;
  // A batch that was sent has been answered: the answers are in the frame.
  virtual void on_answers(ReportBatch& batch, Frame& frame) = 0;
  // Connected. `resumed`: with all jobs that were out; otherwise those that are held count on no stream.
  virtual void on_up(bool resumed, bool again) = 0;
  // The server does not take the one report that is in it, and will not.
  virtual void on_report_refused(ReportBatch& batch, Error const& error) = 0;
  // The worker cannot go on: its token is not good, or its request is at fault. Or, `is_stream`, there is no such thing
  // at this server, which was never seen to have one.
  virtual void on_refused(Error error, bool is_stream) = 0;
  // After drain(): no job is out any more, and none will come.
  virtual void on_drained() = 0;
  virtual void on_trouble(std::string const& what) = 0;  // For the log: it tries again.
  // Ids of the jobs that it holds and has not reported.
  virtual std::vector<std::string> held() = 0;
  virtual std::size_t held_count() = 0;
};

class WorkLink {
 public:
  virtual ~WorkLink() = default;
  virtual void start() = 0;
  // Sent soon, again where the connection breaks, and answered by on_answers().
  virtual void send(ReportBatchPtr batch) = 0;
  // There is room for more jobs than before.
  virtual void set_credit(unsigned credit) = 0;
  virtual void on_room() = 0;
  virtual void drain() = 0;
  virtual bool has_unanswered() const = 0;
};

}  // namespace workmill::client::detail
