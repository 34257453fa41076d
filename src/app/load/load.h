#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/http_client.h"
#include "app/load/histogram.h"
#include "base/error.h"
#include "base/time.h"

// Loads for `workmill bench`: what a server does in a second, and how long a job waits. One thread, raw sockets, so
// that on two cores the server has one for itself.
namespace workmill::app {

enum class Load : std::uint8_t {
  enqueue,     // One job a call, each answered before the next on its connection.
  drain,       // Lease, report with the next lease, until nothing is left. Enqueues its jobs first, not timed.
  end_to_end,  // Half of the connections enqueue, half work, one job at a time.
  latency,     // One producer at a steady pace, one worker that waits: how long until the handler could start.
};
std::string_view to_string(Load load);

struct LoadOptions {
  ServerAddress server;
  std::size_t connections = 64;
  std::uint64_t jobs = 100'000;
  std::size_t payload_bytes = 100;
  std::size_t batch = 1;  // Jobs in one lease call: drain.
  Duration gap{1};        // Between two jobs: latency.
  std::string queue;      // Made for this, and emptied at the end.
};

struct LoadResult {
  Load load{};
  std::size_t connections = 0;
  std::uint64_t jobs = 0;
  std::chrono::nanoseconds elapsed{};
  Histogram latency;                    // ns. Of a call, and for end_to_end and latency from enqueue to handler start.
  std::optional<double> server_cpu_us;  // A job; where the server runs on this machine.

  double per_second() const;
};

// Called ten times a second or so, with what is done and what is to do.
using OnLoadProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

Result<LoadResult> run_load(Load load, LoadOptions const& options, Clock const& clock,
                            OnLoadProgress const& on_progress);

// What a lease answer holds of each job.
struct TakenJob {
  std::string_view id;
  std::string_view lease;
  std::chrono::nanoseconds sent_at{};  // From its payload.
};
// Finds the jobs in an answer to POST /v1/leases to jobs of ours, without parsing it all. Cleared first.
void find_jobs(std::string_view body, std::vector<TakenJob>& jobs);
// The job's body; a time can be put in with every call.
class JobTemplate {
 public:
  JobTemplate(std::string_view host, std::string_view token, std::string_view queue, std::size_t payload_bytes);
  // The whole request. Lent until the next call.
  std::string_view request(std::chrono::nanoseconds sent_at);
  std::size_t payload_bytes() const { return payload_bytes_; }

 private:
  std::string request_;
  std::size_t time_at_ = 0;
  std::size_t payload_bytes_ = 0;
};

// The CPU time of the process that listens on this port of this machine; nothing where that is not known.
std::optional<int> find_listener(std::uint16_t port);
std::optional<std::chrono::nanoseconds> cpu_time_of(int process);

}  // namespace workmill::app
