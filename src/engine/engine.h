#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "flags/flag_set.h"
#include "model/batch.h"
#include "model/command.h"
#include "model/effect.h"
#include "model/figures.h"
#include "model/ids.h"
#include "model/reply.h"

// One shard's mind: the deterministic state machine of jobs, queues and leases.
//
// The shard that owns it touches it on its own thread only, so there is no lock. There is no clock, no randomness and
// no I/O either: time and chance come in with each call, payloads stay in the log, and the same calls give the same
// effects and replies, byte for byte. State changes by apply() alone, in life as in replay.
namespace workmill::engine {

struct EngineOptions {
  std::uint32_t finished_kept_per_queue = kFinishedBudgetDefault;
  Duration dead_kept = kKeepDead;
  std::uint32_t idempotency_keys_max = 1'000'000;  // Beyond these the oldest are forgotten before their time.
  // The most a single step does before it asks to be called again: jobs looked at by a listing, jobs moved by
  // advance().
  std::uint32_t steps_max = 1'000;
  std::uint32_t cache_jitter_permille = 100;  // Of a cached value's fresh time: shortened by up to so much, by chance.
  std::vector<std::string> cache_volatile{};  // Keys that begin with one of these are not written down.
  // What the cache can hold at all. A larger value is refused, or where a report sets it is not kept.
  std::uint64_t cache_record_bytes_max = UINT64_MAX;    // See cache_record_bytes_max() (model/cache_set.h).
  std::uint64_t cache_volatile_bytes_max = UINT64_MAX;  // Of a volatile one, as CacheValue::allocation_bytes() counts.
  bool measures_jobs = true;  // Keep JobStageFigures and TypeFigures. Off: to see what they cost.
  std::size_t flags_max = 1'000;
  std::uint32_t batches_max = kBatchesMaxDefault;  // Beyond these, those go before their time that are only kept.
  std::uint64_t batches_memory_max = kBatchesMemoryMaxDefault;  // Bytes of their callbacks and meta.
  Duration batch_kept = kBatchKeptDefault;                      // After the last of its callbacks has been decided.
};

// What comes in with every decision.
struct Context {
  Instant now{};             // Never less than in any call before.
  std::uint64_t chance = 0;  // Fresh random bits, for jitter.
};

// What a turn changed that somebody outside may be waiting for. Taken (and emptied) by the shard after each turn.
struct Happenings {
  std::vector<std::string> ready_queues;  // Got a job that can be leased (or were resumed), each once.
  std::vector<JobNumber> finished;        // Only jobs that watch() named.
};

// Picks flights by their keys, and by the tags of their specs as encode_cache_tags (model/cache_set.h) writes them.
using FlightFilter = std::function<bool(std::string_view key, BytesView tags)>;

// What of a job could not be read back from the disk.
enum class DamagedPart : std::uint8_t { payload, checkpoint };

struct EngineStatus {
  // Of what goes with jobs. Answers that are kept have a bound of their own, and go by time alone.
  std::uint64_t jobs_bytes() const { return memory_bytes - answers_bytes; }

  std::uint64_t jobs = 0;  // In any state.
  std::array<std::uint64_t, kJobStates> depth{};
  std::uint64_t queues = 0;
  std::uint64_t idempotency_keys = 0;
  std::uint64_t flights = 0;  // Jobs that compute a cached value, and hold its key.
  std::uint64_t flags = 0;
  std::uint64_t batches = 0;
  std::array<std::uint64_t, kAllBatchStates.size()> batches_in{};  // By BatchState: its parts.
  std::uint64_t batch_bytes = 0;    // Of their callbacks and meta, without those that are over.
  std::uint64_t held_back = 0;      // Ready jobs of types that a flag which is off gates, wherever they stand.
  std::uint64_t memory_bytes = 0;   // Of the tables, as far as they can be counted cheaply.
  std::uint64_t answers_bytes = 0;  // Of these, those of answers that are kept for repeated requests.
};

class Engine {
 public:
  explicit Engine(EngineOptions options);
  ~Engine();
  Engine(Engine const&) = delete;
  Engine& operator=(Engine const&) = delete;

  // --- Replay: every effect of the log in order, each with where it stands and the time of its batch.
  // Effects on jobs that are unknown are ignored: their first record went with a dropped segment, and if they live a
  // later snapshot brings them back. An effect that contradicts the state is log_corrupt.
  Result<> replay(Effect const& effect, EffectSink::Written at, Instant batch_at);
  // Call once when the log is at its end: puts the lines in order, checks the invariants, ends the leniency.
  void finish_replay(Instant now);
  // A log that is new: writes StoreCreated. After finish_replay, before anything else.
  void create_store(std::uint64_t salt, EffectSink& sink);
  // A log that was there: lengthens every lease by `down`.
  void resume(Duration down, Context const& context, EffectSink& sink);
  std::uint64_t salt() const;
  // Before anything else is written to a batch that will stand at `base`: the first of each segment says whose log it
  // is (keys are hashed with the salt) and which numbers were given out, since replay may begin with any segment.
  void begin_batch(Position base, EffectSink& sink);

  // --- Life.
  // Decides one command, applies its effects and writes them to `sink`; the reply names records by position.
  // Waiting (Lease.wait, GetJob.wait) is the caller's business: the answer is what holds now.
  // BulkJobs and PurgeQueue do a bounded part: `*again` is set (else cleared) when the command should be executed once
  // more, later, with the reply's `next` as its `before`, and the counts added up. ListJobs answers a shorter page with
  // `next` set instead.
  Reply execute(Command const& command, Context const& context, EffectSink& sink, bool* again);
  // Moves what is due: scheduled jobs become ready, leases end, jobs expire, what was kept long enough is forgotten.
  // steps_max at a time; true when there is more to do right now.
  bool advance(Context const& context, EffectSink& sink);
  // When advance() next has something to do. Nothing: never, as it stands.
  std::optional<Instant> next_due() const;

  // Writes a record that says only: the server is alive (see effect::Alive).
  void note_alive(EffectSink& sink);

  // --- For those who wait.
  // Is there a job that this lease request would get?
  bool has_ready(Lease const& request) const;
  // How many jobs of its queues could be leased just now.
  std::uint64_t count_ready(Lease const& request) const;
  // A job that is leased, as its lease was answered; of its spec only where it stands. Nothing where it is not.
  std::optional<LeasedJob> leased_job(JobNumber job) const;
  // Ends the lease of this token as if its time had run out: its worker is known to be gone. False, and nothing
  // happened, where the job is not leased under it (any more).
  bool end_lease(JobNumber job, LeaseToken token, Context const& context, EffectSink& sink);
  void watch(JobNumber job);  // Report its finishing in the happenings; counted, so unwatch as often.
  void unwatch(JobNumber job);
  Happenings take_happenings();

  // --- Flags.
  // As they are now, which may not be durable yet; and a number that is another one after each change.
  flags::FlagSetPtr const& flags() const;
  std::uint64_t flags_revision() const;

  // --- For the keeper of the log.
  // A job's line in the index. Nothing where there is none.
  std::optional<JobNumber> find(JobRef const& job) const;
  std::optional<JobView> view(JobNumber job) const;
  // The queue that a job is in, lent until the next call that is not const. Nothing where there is no such job.
  std::optional<std::string_view> queue_of(JobRef const& job) const;
  std::optional<QueueView> queue_view(std::string_view name) const;
  // Nothing where there is no batch of this id. Also during a replay.
  std::optional<BatchNumber> find_batch(std::string_view id) const;
  bool has_batch(BatchNumber number) const;
  // The queues that a batch's callbacks are for. Nothing where there is no such batch.
  std::optional<std::vector<std::string_view>> batch_queues(std::string_view id) const;
  // Every batch, in the order of numbers, into `out` (reused): for tests, the simulation and the doctor.
  void batch_views(std::vector<BatchView>& out) const;
  // The job that computes the cached value of this key just now. Nothing where none does.
  std::optional<JobNumber> flight_of(std::string_view cache_key) const;
  // Has a job begun to compute it that a put or a deletion of the key would overtake?
  bool is_being_computed(std::string_view cache_key) const;
  // Is it a flight that was overtaken (effect::FlightOvertaken)? False where there is no such job.
  bool is_overtaken(JobNumber job) const;
  // The flights under way whose keys begin with `prefix` and which `is_meant` picks are overtaken: all of them, as many
  // as are leased or have a checkpoint. So many were looked at.
  std::size_t overtake_flights(std::string_view prefix, FlightFilter const& is_meant, EffectSink& sink);
  // Writes down that a key has no value and no failure any more, which nobody has asked for: flights go on.
  void note_cached_gone(std::string_view cache_key, EffectSink& sink);
  // Is the record at `at` (of the segment that is to be dropped) one that something living still stands on? Then what
  // must be copied ahead. For jobs the caller composes the snapshot with the spec and history that it read from the
  // log (the history's progress is the view's); settings and the like are rewritten by the engine itself.
  // Calls that answer `copy_job` have changed nothing yet.
  enum class Survival : std::uint8_t { gone, copy_job, rewritten };
  Survival survive(Effect const& record, Position at, EffectSink& sink);
  // Writes and applies the copy. `spec` and `history` as bytes.
  void copy_ahead(JobNumber job, BytesView spec, BytesView history, JobCheckpoint const& checkpoint, EffectSink& sink);
  // --- For records that cannot be read back any more (docs/adr/0014).
  // A job that waits or is leased is dead, with the error `payload_damaged`. Where `part` is its checkpoint, it is
  // leased, and has none from then on: a retry by hand starts it without.
  void end_damaged(JobNumber job, DamagedPart part, Context const& context, EffectSink& sink);
  // What is known of a job's spec without its record: a spec whose payload is lost. Also of a job that has just gone.
  Bytes known_spec(JobNumber job) const;
  // Appends jobs whose spec stands from `from` to before `until`, newest first, from those older than `before` on, and
  // moves that. True: steps_max were looked at, and there are more.
  bool jobs_standing_in(Position from, Position until, JobNumber& before, std::vector<JobNumber>& out) const;
  // The store's own record and the settings of queues, where they stand there: written again, from memory.
  void rewrite_standing_in(Position from, Position until, EffectSink& sink);
  // The same of batches, from the one with the number `first` on, and of about bytes_max bytes. Where to go on; nothing
  // where there are no more.
  std::optional<BatchNumber> rewrite_batches_standing_in(Position from, Position until, BatchNumber first,
                                                         std::size_t bytes_max, EffectSink& sink);

  // Living things of any kind (jobs, queue settings, flags' changes, batches, remembered requests, the store's own
  // record) whose record stands in this segment: 0 means that it can go without being read.
  std::uint64_t live_records_in(std::uint32_t segment) const;
  // Bytes of the records that live, of whatever kind, over all segments.
  std::uint64_t live_bytes() const;

  // --- To look at.
  EngineStatus status() const;
  EngineOptions const& options() const;
  JobStageFigures const& job_stages() const;
  // By type, the first being all that have no line of their own (type_counts.h).
  std::vector<TypeFigures> const& types() const;
  // Every queue's view, in the order of names, into `out` (reused); for metrics and rates. Not bounded: one per queue.
  void queue_views(std::vector<QueueView>& out) const;
  // Recounts everything the slow way and compares: for tests and the simulation. An empty text means all is well.
  std::string check_invariants() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace workmill::engine
