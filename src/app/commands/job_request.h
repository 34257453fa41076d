#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

// A job as `enqueue` sends it. Pure functions.
namespace workmill::app {

// Options as the user wrote them; empty ones are not sent, so the server's defaults hold.
struct JobOptions {
  std::string type{};
  std::string queue{};
  std::string id{};
  std::optional<unsigned> priority{};
  std::string delay{};
  std::string run_at{};
  std::string expires_in{};
  std::optional<unsigned> max_attempts{};
  std::string backoff_first{};
  std::optional<double> backoff_factor{};
  std::string backoff_cap{};
  std::optional<double> backoff_jitter{};
  std::string lease{};
  std::string unique_key{};
  std::string unique_while{};
  std::string unique_for{};
  std::string group{};
  std::vector<std::string> tags{};
  std::string batch{};
  std::string keep_result{};
  std::string meta{};  // JSON.
};

enum class PayloadFrom : std::uint8_t {
  guess,  // JSON where it is JSON, else text.
  json,   // JSON, or an error.
  text,   // A JSON string, whatever it looks like.
  bytes,  // payload_base64.
};

// The job as JSON. No payload: none is sent. malformed_json where the payload is not what `from` promises.
Result<std::string> job_json(JobOptions const& options, std::optional<std::string_view> payload, PayloadFrom from);

// Jobs for `{"jobs": [...]}`, up to the bounds of one request.
class JobBatch {
 public:
  static constexpr std::size_t kJobsMax = 1'000;
  static constexpr std::size_t kBytesMax = std::size_t{2} << 20;  // Well below what a server takes by default.

  // `line` is where the job came from.
  void add(std::string_view job_json, std::uint64_t line);
  bool empty() const { return lines_.empty(); }
  std::size_t size() const { return lines_.size(); }
  bool is_full() const { return lines_.size() >= kJobsMax || body_.size() >= kBytesMax; }
  std::uint64_t first_line() const { return lines_.front(); }

  // The request's body. Empties the batch, but for its lines.
  std::string take_body();
  void clear();
  // The line that an error's field speaks of: "jobs[17].priority" is about the 18th job.
  std::optional<std::uint64_t> line_of_field(std::string_view field) const;

 private:
  std::string body_;
  std::vector<std::uint64_t> lines_;
};

}  // namespace workmill::app
