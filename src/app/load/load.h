#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "app/http_client.h"
#include "app/load/histogram.h"
#include "base/error.h"
#include "base/time.h"

// Loads for `workmill bench`: what a server does in a second, and how long a job waits. One thread, raw sockets, so
// that on two cores the server has one for itself.
namespace workmill::app {

enum class Load : std::uint8_t {
  enqueue,     // Producers alone; a call is answered before the next one on its connection.
  drain,       // Workers alone, until nothing is left. Enqueues its jobs first, not timed.
  end_to_end,  // Producers and workers.
  mixed,       // The same, and some jobs fail once, some are delayed, some tell their progress, some are looked at.
  latency,     // end_to_end with one producer at a steady pace and one worker: how long until the handler could start.
};
std::string_view to_string(Load load);

// How workers get their jobs. Jobs are always sent over HTTP.
enum class Transport : std::uint8_t {
  http,    // POST /v1/leases, which waits; reports ride on the next call.
  stream,  // GET /v1/worker: a WebSocket; reports of what came in one message go out in one.
};
std::string_view to_string(Transport transport);

struct LoadOptions {
  ServerAddress server;
  Transport transport = Transport::http;
  std::size_t producers = 16;          // Connections; 0 for drain.
  std::size_t workers = 16;            // Connections; 0 for enqueue.
  std::uint64_t jobs = 0;              // At most so many; 0: no bound, and then there is `run_for`.
  std::chrono::nanoseconds run_for{};  // No jobs are sent after this time; 0: no bound. Not for drain.
  double rate = 0;                     // Jobs a second of all producers together; 0: as fast as they are answered.
  std::size_t payload_bytes = 100;
  std::size_t batch = 1;       // Jobs in one call that enqueues, and at most in one that leases.
  std::size_t credit = 1'000;  // Of a stream: jobs that are out on it at a time.
  std::string queue;           // Made for this, and emptied at the end.
};

struct LoadResult {
  std::uint64_t jobs = 0;
  std::chrono::nanoseconds elapsed{};
  Histogram latency;  // ns. Of a call; for end_to_end, mixed and latency from enqueue to handler start.
  std::optional<double> server_cpu_us;  // A job.
  std::string_view cpu_source;          // "/proc" or "/metrics", where there is that.

  double per_second() const;
};

// Called ten times a second or so, with what is done, and what is to do where that is known.
using OnLoadProgress = std::function<void(std::uint64_t done, std::optional<std::uint64_t> total)>;

// Errors: what the server answers but 429 and 503, which are sent again; lease_lost where a report is refused;
// outcome_unknown where it does not answer any more.
Result<LoadResult> run_load(Load load, LoadOptions const& options, Clock const& clock,
                            OnLoadProgress const& on_progress);

}  // namespace workmill::app
