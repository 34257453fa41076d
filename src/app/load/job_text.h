#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// What loads send and read of jobs, as text: nothing is parsed that need not be.
namespace workmill::app {

// The request that enqueues `batch` jobs in one call: one job, or {"jobs": […]}. Times can be put in with every call.
class JobTemplate {
 public:
  // `more`: members of each job beside type, queue and payload, as JSON text with a leading comma, or nothing.
  // `payload_bytes` is the length of the payload's JSON; it is never shorter than the time in it.
  JobTemplate(std::string_view host, std::string_view token, std::string_view queue, std::size_t payload_bytes,
              std::size_t batch = 1, std::string_view more = {});
  // The whole request. Lent until the next call.
  std::string_view request(std::chrono::nanoseconds sent_at);
  std::size_t payload_bytes() const { return payload_bytes_; }

 private:
  std::string request_;
  std::vector<std::size_t> times_at_;
  std::size_t payload_bytes_ = 0;
};

// What a lease answer, or a message of a stream, holds of each job.
struct TakenJob {
  std::string_view id;
  std::string_view lease;
  std::chrono::nanoseconds sent_at{};  // From its payload.
  bool is_first_attempt = true;
};
// Finds the jobs in an answer to POST /v1/leases, or in a message of a stream, to jobs of ours. `jobs` is cleared
// first.
void find_jobs(std::string_view body, std::vector<TakenJob>& jobs);

// The results of reports in such an answer.
struct ReportResults {
  std::uint64_t accepted = 0;
  bool is_any_refused = false;
};
ReportResults count_reports(std::string_view body);

}  // namespace workmill::app
