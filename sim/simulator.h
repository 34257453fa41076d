#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/rng.h"
#include "cache/cache.h"
#include "engine/engine.h"
#include "log/memory/memory_disk.h"
#include "shard/shard_loop.h"
#include "sim/checkers/model.h"
#include "sim/faulty_log.h"
#include "sim/fetcher_script.h"
#include "sim/figures.h"
#include "sim/front_end.h"
#include "sim/mutation.h"
#include "sim/setup.h"
#include "sim/workloads/batch_callers.h"
#include "sim/workloads/cache_callers.h"
#include "sim/workloads/clients.h"
#include "sim/workloads/flag_callers.h"
#include "sim/workloads/stream_workers.h"
#include "sim/writer_script.h"

// The server but its sockets, in one thread, in a made-up world: the real service, shard loop, engine and log over a
// disk in memory that breaks, on a clock that is turned, with callers and workers that misbehave, from one seed. The
// model (checkers/model.h) looks at every turn.
//
// A turn is decided when it is decided, but the model is told of it once it can no longer be undone: when all it rests
// on is durable, and who asked has been answered. Until then it is open. At the end of a process the open turns whose
// batch is on the disk have happened, in order, and the others have not.
namespace workmill::sim {

struct SimOptions {
  std::uint64_t seed = 1;
  std::uint64_t operations = 20'000;
  Mutation mutation = Mutation::none;
  bool trace = false;         // Says on standard error what happens.
  std::uint32_t without = 0;  // Bits of Without: what this run leaves out, to find out what a finding needs.
};

struct SimResult {
  bool ok = true;
  std::string complaint{};
  Figures figures{};
};

class Simulator {
 public:
  explicit Simulator(SimOptions const& options);
  SimResult run();

 private:
  enum class Death : std::uint8_t { kill, power_cut, power_cut_prefix, power_cut_sectors };
  struct Restart {
    Instant resumed_at{};
    Instant last_in_life_at{};
    std::uint64_t evicted = 0;  // In the life before.
  };
  struct Abandoned {
    shard::Cookie cookie = 0;
    Instant at{};  // As the shard knew the time.
  };
  struct Open {  // A turn, or a start: what it wrote may be lost like any turn's.
    std::optional<Restart> restart;
    TurnRecord record;
    std::vector<Asked> asked;
    std::vector<Abandoned> abandoned;  // Before it.
    std::vector<shard::Cookie> set_aside;
    std::vector<std::string> fetched;
    Bytes payload;               // Of its batch,
    std::uint64_t batch = 0;     // and its serial; 0: it wrote nothing.
    std::uint64_t rests_on = 0;  // Serial of the newest batch by then.
    std::uint64_t number = 0;    // As the shard counts turns.
    std::optional<std::chrono::nanoseconds> flushed_at;
    bool is_answered = false;
    std::unordered_map<shard::Cookie, Reply> replies;
    Pushes pushes;
    std::vector<shard::Cookie> gone;  // Of those who asked: nobody reads these.
    std::vector<FlagsSeen> flags_seen;
    std::vector<CacheSeen> seen;  // By those who looked into the cache when it was the newest to be answered.
  };
  struct Claim {      // Of a value, by whoever refreshes it.
    CacheTimes of{};  // All of them: an empty value may be stored twice in one millisecond.
    Instant at{};
    std::uint64_t evicted = 0;
  };
  struct Flipped {  // A bit of a durable batch, while the server runs.
    std::uint32_t ordinal = 0;
    std::uint64_t offset = 0;
    int bit = 0;
    int turns_left = 0;
  };

  // --- simulator.cpp and requests.cpp: life.
  void step();
  bool comes_once_in(std::uint64_t requests);  // In this turn?
  void pass_time();
  void advance(Duration by);
  void run_syncer();
  void send_requests();
  void send(Command command, shard::Cookie cookie);
  void send_on_streams();
  void set_keys(Command& command);
  Instant draw_end_of_patience(Command const& command);
  void hang_up();
  void hang_up(shard::Cookie cookie);
  void give_back(LeaseReply const& leased);
  void remember_ids(EnqueueReply const& reply);
  void check_ids();
  void arm_fault();
  void step_writer();
  void step_fetcher();
  void flush_by_writer();
  void note_flushed();
  bool turn();  // True: there is more to do at once.
  void turn_failed(Error const& error, Open open, bool was_in_bulk);
  void take_answers(std::uint64_t durable);
  void tell_model();
  void tell_model(Open& open, bool was_answered);
  void tell_model_of_looks(Open const& open);
  void hurry();   // Flushes and syncs what is under way.
  bool settle();  // True: no turn is open any more.
  void look_closely(bool with_content);
  std::vector<JobView> all_jobs(engine::Engine& engine, log::Log& log, bool with_content);
  void check_disk_bound(std::uint64_t live_before);
  void come_to_rest();

  // --- cache_reads.cpp
  void use_cache();
  cache::Lookup look_up(std::string const& key);
  void compute_cached(std::string key);
  void check_claim(std::string const& key, CacheTimes const& times, Instant at);
  void check_refusal(std::string const& key, CacheTimes const& times, Instant at);
  void check_room();
  void check_cache();
  std::uint64_t evicted() const;
  std::uint64_t lost_entries() const;
  void look_at_damaged();
  bool is_failure_beside_value(std::string const& key) const;  // In the index.

  // --- flag_calls.cpp
  void use_flags();
  void look_at_flags();
  void check_flags();
  bool is_flag_change_open() const;
  std::map<std::string, FlagHistory> flag_histories(engine::Engine& engine);

  // --- batch_calls.cpp
  void use_batches();
  void check_batches();
  static std::vector<BatchView> batches_of(engine::Engine const& engine);

  // --- death.cpp and doctor.cpp: the end of a process, and the next one.
  void die(Death death);
  void start();
  Result<> boot();
  void resolve_open_turns();
  void stop_orderly();
  void flip_a_bit();
  void flip_a_bit_in_life();
  std::optional<Position> oldest_leased_flight() const;
  LogWatch::Batch draw_batch_to_damage();
  void tell_model_of_damage(LogWatch::Batch const& batch);
  void flip_back();
  void let_the_doctor_look();
  Death draw_death();

  // --- mutate.cpp
  void mutate(Asked& asked);
  void mutate(std::unordered_map<shard::Cookie, Reply>& replies);

  void complain(std::string text);
  bool ok() const { return complaint_.empty(); }
  bool is_without(Without what) const { return (options_.without & static_cast<std::uint32_t>(what)) != 0; }
  void trace(std::string_view text) const;

  SimOptions options_;
  Setup setup_;
  Rng chance_;
  SimClock clock_;
  log::MemoryDisk disk_;
  LogWatch watch_;
  Figures figures_;
  WriterScript writer_;
  FetcherScript fetcher_;
  Model model_;
  Clients clients_;
  StreamWorkers stream_workers_;
  CacheCallers cache_callers_;
  FlagCallers flag_callers_;
  BatchCallers batch_callers_;
  Rng doctor_chance_;
  Rng fetch_chance_;
  std::map<std::string, Claim> claims_;
  std::optional<shard::Cookie> forgetting_by_;  // Who deletes by tag or prefix. Meanwhile nobody deletes otherwise.
  std::set<shard::Cookie> quiet_;               // Refreshes, which nobody waits for.
  std::uint64_t evicted_before_ = 0;            // In the life before.
  Instant now_{};                               // The shard's: it does not go back.
  shard::Cookie next_cookie_ = 1;
  std::deque<Asked> sent_;  // Taken by the shard, for its next turns.
  std::deque<Open> open_;
  std::vector<Abandoned> abandoned_;   // Since the last turn.
  std::set<shard::Cookie> set_aside_;  // Who waits for the disk, or for the answer after that.
  std::uint64_t loop_turns_ = 0;       // Of this life.
  bool is_draining_ = false;
  bool was_on_writer_ = false;
  Instant idempotent_at_{};  // When the last request with a key was decided; the end of time: it waits.
  std::chrono::nanoseconds synced_at_{};
  std::uint64_t disk_bytes_ = 0;
  std::optional<Flipped> flipped_;
  std::vector<std::uint64_t> damaged_;                  // Jobs with something in that batch.
  std::vector<std::string> damaged_keys_;               // Whose values stand there.
  bool has_been_damaged_ = false;                       // In this life: segments may be held for a day.
  std::vector<std::pair<JobNumber, std::string>> ids_;  // Some that were given out: they hold across restarts.
  std::string complaint_;
  Reply last_reply_;  // answers_twice
  std::vector<Effect> effects_;

  // One process.
  std::unique_ptr<FaultyLog> log_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<cache::Cache> cache_;
  std::unique_ptr<shard::ShardLoop> loop_;
  std::unique_ptr<FrontEnd> front_;
};

}  // namespace workmill::sim
