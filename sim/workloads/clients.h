#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/command.h"
#include "model/reply.h"
#include "sim/checkers/model.h"
#include "sim/figures.h"

// The simulated callers and workers. They know what they were answered and nothing else (they may aim at jobs of the
// model, as a caller aims at an id in its own database), and they do what people do: repeat a request whose answer got
// lost, stall beyond their lease, report late, twice or under another's token, vanish and come back.
namespace workmill::sim {

enum class Action : std::uint8_t {
  enqueue_one,
  enqueue_bulk,
  repeat_request,
  lease,
  report,
  report_stale,
  get_job,
  get_log,
  list_jobs,
  cancel,
  retry,
  remove,
  patch,
  bulk,
  list_queues,
  get_queue,
  patch_queue,
  purge,
  status,
};
inline constexpr std::size_t kActions = 19;

struct WorkloadOptions {
  std::array<std::uint32_t, kActions> weights{};
  std::uint32_t queues = 3;
  std::uint32_t groups = 3;
  std::uint32_t workers = 6;
  std::uint64_t backlog = 100;  // Unfinished jobs, about.
  std::uint32_t bulk_max = 10;
  std::size_t payload_bytes_max = 64;
  // In thousandths: how many jobs have...
  std::uint32_t delay = 150, expiry = 80, id = 100, key = 150, group = 400, priority = 300, retries = 400, keep = 400;
  std::uint32_t idempotent = 200;  // Requests with a key.
  std::uint32_t reply_lost = 30;
  std::uint32_t long_poll = 500;  // Leases that wait.
  std::uint32_t type_run = 0;     // Jobs that are of the same type, one after the other; 0: as chance has it.
  std::uint32_t vanish = 20;      // Workers that forget what they hold when they ask for more.
};

class Clients {
 public:
  Clients(WorkloadOptions const& options, Rng chance, Figures& figures)
      : options_(options), chance_(chance), figures_(figures), workers_(options.workers) {
    for (std::uint32_t const weight : options_.weights) weight_sum_ += weight;
  }

  // The next request. `cookie` is what it will be known by.
  Command next(Model const& model, Instant now, shard::Cookie cookie);
  // The answer, unless it was lost on the way.
  void answered(shard::Cookie cookie, Reply const& reply);
  // It was never taken, or its server died.
  void refused(shard::Cookie cookie);
  void server_died();
  // Somebody who waits and hangs up.
  std::optional<shard::Cookie> hang_up();

 private:
  struct Held {
    JobNumber number{};
    LeaseToken token{};
    std::string client_id;
  };
  struct Worker {
    std::optional<shard::Cookie> asks;
    bool waits = false;
    std::vector<Held> holds;
  };
  struct Sent {
    std::vector<Bytes> specs;
    Idempotency idempotency;
  };

  std::uint64_t below(std::uint64_t n) { return chance_.below(n); }
  bool chance(std::uint32_t permille) { return chance_.chance(permille); }
  Duration ms(std::uint64_t most) { return Duration{static_cast<Duration::rep>(below(most + 1))}; }
  std::string queue_name() { return "q" + std::to_string(below(options_.queues)); }

  Action choose(Model const& model);
  Bytes make_spec(Instant now);
  Enqueue make_enqueue(Instant now, std::size_t jobs);
  Command make_lease(shard::Cookie cookie);
  std::vector<Report> make_reports(Worker& worker, std::size_t most);
  Report make_stale_report();
  Outcome make_outcome();
  JobRef aim(Model const& model);
  JobFilter make_filter();
  void remember_stale(Held held);

  WorkloadOptions options_;
  Rng chance_;
  Figures& figures_;
  std::uint64_t weight_sum_ = 0;
  std::uint64_t serial_ = 0;
  std::uint64_t keys_ = 0;
  std::vector<Worker> workers_;
  std::map<shard::Cookie, std::size_t> asking_;  // Which worker.
  std::vector<Sent> sent_;                       // Requests with a key, to be repeated.
  std::vector<Held> stale_;                      // Leases that were over once.
  std::vector<JobNumber> numbers_;               // Of jobs made.
};

}  // namespace workmill::sim
