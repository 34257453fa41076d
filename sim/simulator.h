#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/rng.h"
#include "engine/engine.h"
#include "log/memory/memory_disk.h"
#include "shard/shard_loop.h"
#include "sim/checkers/model.h"
#include "sim/faulty_log.h"
#include "sim/figures.h"
#include "sim/mutation.h"
#include "sim/workloads/clients.h"

// The server but its sockets, in one thread, in a made-up world: the real shard loop, engine and log over a disk in
// memory that breaks, on a clock that is turned, with callers and workers that misbehave, from one seed. The model
// (checkers/model.h) looks at every turn.
namespace workmill::sim {

struct SimOptions {
  std::uint64_t seed = 1;
  std::uint64_t operations = 20'000;
  Mutation mutation = Mutation::none;
  bool trace = false;  // Says on standard error what happens.
};

struct SimResult {
  bool ok = true;
  std::string complaint{};
  Figures figures{};
};

// How one run is set up: drawn from the seed, so that rare paths are common in some runs (small segments, tiny
// channels, steps of one) and whole features are missing in others.
struct Setup {
  FaultyLogOptions log;
  engine::EngineOptions engine;
  shard::ShardOptions shard;
  WorkloadOptions workload;
  std::uint64_t requests_per_turn_max = 8;
  std::uint32_t death_permille = 10;  // Turns after which the process dies...
  std::uint32_t fault_permille = 10;  // ...and turns before which the disk is told to fail.
  std::uint32_t recovery_fault_permille = 300;
  std::uint32_t jump_permille = 5;        // Turns before which hours go by.
  std::uint32_t clock_back_permille = 2;  // Turns before which the clock is set back.
  std::uint32_t tick_ms_max = 20;
  std::uint64_t disk_bytes = 0;  // Room on the disk; 0: enough.
};
Setup draw_setup(std::uint64_t seed);

class Simulator {
 public:
  explicit Simulator(SimOptions const& options);
  SimResult run();

 private:
  enum class Death : std::uint8_t { kill, power_cut, power_cut_prefix, power_cut_sectors };
  struct Lost {  // The turn that the process died in.
    TurnRecord record;
    std::vector<Asked> asked;
    Bytes payload;
    std::uint64_t batch = 0;  // None: nothing was written.
  };

  void step();
  void pass_time();
  void send_requests();
  void send(Command command, shard::Cookie cookie);
  void arm_fault();
  bool turn();  // True: there is more to do at once.
  void look_closely(bool with_content);
  std::vector<JobView> all_jobs(engine::Engine& engine, log::Log& log, bool with_content);
  void check_disk_bound(std::uint64_t live_before);

  void die(Death death);
  void start();
  Result<> boot();
  void resolve_lost_turn();
  void stop_orderly();
  void flip_a_bit();
  Death draw_death();
  void come_to_rest();

  void complain(std::string text);
  bool ok() const { return complaint_.empty(); }
  void trace(std::string_view text) const;
  void mutate(Asked& asked);
  void mutate(std::unordered_map<shard::Cookie, Reply>& replies);

  SimOptions options_;
  Setup setup_;
  Rng chance_;
  Figures figures_;
  std::string complaint_;
  SimClock clock_;
  log::MemoryDisk disk_;
  LogWatch watch_;
  std::unique_ptr<FaultyLog> log_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<shard::ShardLoop> loop_;
  Model model_;
  Clients clients_;

  Instant now_{};
  shard::Cookie next_cookie_ = 1;
  std::deque<Asked> sent_;  // Not decided yet.
  std::vector<Effect> effects_;
  std::optional<Lost> lost_;
  Instant idempotent_at_{};  // The newest request with a key, where only some answers are kept.
  bool is_draining_ = false;
  Reply last_reply_;  // For a mutation.
};

}  // namespace workmill::sim
