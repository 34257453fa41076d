#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/json.h"
#include "base/time.h"

// What a server says of itself at one moment, as `top` and `doctor URL` need it: /v1/status and /v1/queues as values.
//
// Plain values, no I/O. What an older server does not say is empty here, and is then neither shown nor judged.
namespace workmill::app::health {

struct Bound {
  std::string name;
  std::uint64_t used = 0;
  std::uint64_t limit = 0;  // 0: none.
  double fullness() const { return limit == 0 ? 0 : static_cast<double>(used) / static_cast<double>(limit); }
};

// How long one part of the way takes.
struct Stage {
  std::string name;
  std::uint64_t count = 0;
  double seconds_total = 0;
  double p50_us = 0, p99_us = 0;
};

struct Thread {
  std::string name;
  double busy = 0;     // 0 to 1, over the last seconds.
  double waiting = 0;  // The same: ready to run, and no core for it.
  double cpu_seconds_total = 0;
};

struct TypeCounts {
  std::string type;
  std::uint64_t enqueued = 0, completed = 0, failed = 0;
};

struct HttpCounts {
  std::uint64_t connections = 0, requests = 0, refused = 0;
};

// The shared cache. Totals of calls for a value.
struct CacheState {
  std::uint64_t entries = 0, flights = 0, memory_bytes = 0;
  std::uint64_t fresh = 0, stale = 0, computed = 0, failed = 0;  // `computed`: for whoever waited for that, too.
  std::uint64_t asked = 0;                                       // All of them, those that found nothing as well.
};

struct QueueState {
  std::string name;
  bool paused = false;
  std::uint64_t ready = 0, scheduled = 0, leased = 0, dead = 0;
  std::optional<std::uint64_t> max_depth;  // Where it refuses what goes beyond; not where that pushes out older jobs.
  std::optional<Instant> oldest_ready_at;
  double enqueued_per_s = 0, completed_per_s = 0, failed_per_s = 0;  // Over about ten seconds.
  std::uint64_t enqueued = 0, taken = 0, completed = 0, failed = 0;  // Since the queue was made.

  std::uint64_t unfinished() const { return scheduled + ready + leased; }  // What max_depth counts.
};

struct Snapshot {
  std::string version, readiness;
  Instant now{};  // By the server's clock.
  double uptime_seconds = 0;
  std::uint64_t jobs = 0, ready = 0, scheduled = 0, leased = 0, completed = 0, dead = 0;
  std::uint64_t queue_count = 0;

  std::uint64_t commands = 0, flushes = 0;
  double decide_seconds = 0, flush_seconds = 0, read_seconds = 0;
  double flush_ms_typical = 0;
  bool flush_on_writer_thread = false;
  std::uint64_t log_bytes = 0, live_bytes = 0, disk_free_bytes = 0;
  // From /metrics:
  std::uint64_t damaged = 0;  // Places of the log found damaged.
  std::uint64_t gated = 0;    // Ready jobs that a feature flag holds back.
  std::optional<Instant> certificate_end{};
  bool reload_refused = false;

  std::vector<Bound> bounds;
  std::vector<Stage> stages, job_stages;
  std::vector<Thread> threads;
  std::vector<TypeCounts> types;
  std::optional<HttpCounts> http;
  std::optional<CacheState> cache;
  std::vector<QueueState> queues;
};

// From the answer of GET /v1/status; of a body that is something else nothing is left but defaults.
Snapshot read_status(JsonValue const& status);
// Adds one page of GET /v1/queues.
void read_queues(JsonValue const& page, Snapshot& snapshot);
// Adds what only GET /metrics tells.
void read_metrics(std::string_view text, Snapshot& snapshot);

}  // namespace workmill::app::health
