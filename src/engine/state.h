#pragma once
#include <absl/container/btree_map.h>
#include <absl/container/btree_set.h>
#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/batch_table.h"
#include "engine/engine.h"
#include "engine/flag_table.h"
#include "engine/idempotency_table.h"
#include "engine/intern.h"
#include "engine/job_slot.h"
#include "engine/number_index.h"
#include "engine/queue_table.h"
#include "engine/ready_queue.h"
#include "engine/retention.h"
#include "engine/timing_wheel.h"
#include "engine/type_counts.h"
#include "model/effect.h"
#include "model/figures.h"
#include "model/ids.h"
#include "model/job.h"
#include "model/segment_counts.h"

// All that one shard knows, and the only things that change it: apply() and replay(), one effect at a time, and
// turn(), which moves what has fallen due to where advance() finds it and changes nothing that anybody can see.
//
// Deciding (engine/commands/) gets a State const&. One owner, one thread.
namespace workmill::engine {

class State {
 public:
  explicit State(EngineOptions const& options);

  // --- To look at.
  EngineOptions const& options() const { return options_; }
  std::uint64_t salt() const { return salt_; }
  Position store_at() const { return store_at_; }
  effect::StoreCreated store() const {
    return {.salt = salt_,
            .last_number = JobNumber{last_number_},
            .last_order = last_order_,
            .last_token = LeaseToken{last_token_},
            .last_flag_version = flags_.removed_version()};
  }
  Instant floor() const { return floor_; }  // The latest time that an effect was of.

  JobIndex find(JobNumber number) const { return by_number_.find(number); }
  JobIndex find(JobRef const& ref) const;
  JobIndex find_client_id(std::string_view id) const;
  // The job that holds a key in a queue, where one does.
  JobIndex find_unique(std::string_view queue, std::string_view key, Instant at) const;
  // The job that computes the cached value of this key: one at most, which is not finished.
  JobIndex find_flight(std::string_view cache_key) const { return find_unique({}, cache_key, kInstantMax); }
  // Of flights, those that have read something: that are leased, or have a checkpoint to go on from. By their keys;
  // what is lent is good until the next effect.
  using BegunFlights = absl::btree_map<std::string_view, JobNumber>;
  BegunFlights const& begun_flights() const { return begun_flights_; }
  JobSlot const& job(JobIndex index) const { return slots_[index]; }
  JobExtra const* extra(JobSlot const& job) const {
    return job.extra == kNone<ExtraIndex> ? nullptr : &extras_[job.extra];
  }
  Flight const* flight(JobSlot const& job) const {
    JobExtra const* const more = extra(job);
    return more == nullptr ? nullptr : more->flight.get();
  }
  bool is_overtaken(JobSlot const& job) const {
    Flight const* const of = flight(job);
    return of != nullptr && of->is_overtaken;
  }
  Policy const& policy(JobSlot const& job) const { return policies_[job.policy]; }
  Lane const& lane(JobSlot const& job) const { return ready_.lane(job.lane); }
  JobIndex next_in_lane(JobSlot const& job) const { return job.next; }
  JobView view(JobIndex index) const;
  Bytes known_spec(JobIndex index) const;  // See Engine.

  QueueIndex find_queue(std::string_view name) const { return queues_.find(name); }
  Queue const& queue(QueueIndex index) const { return queues_[index]; }
  Queue const& queue_of(JobSlot const& job) const { return ready_.queue_of(job); }
  QueueView queue_view(Queue const& queue) const;
  QueueTable const& queues() const { return queues_; }
  NameTable const& names() const { return names_; }
  FlagTable const& flags() const { return flags_; }
  BatchTable const& batches() const { return batches_; }
  // By its id as a caller writes it: of one that this store made, in any case. Null: there is none.
  BatchTable::Batch const* find_batch(std::string_view id) const;
  // An id in the one spelling under which a batch is kept.
  std::string spelled(std::string_view batch_id) const;
  // The batch that a job is in. Null: in none, or it is gone.
  BatchTable::Batch const* batch_of(JobSlot const& job) const {
    return job.has_batch ? batches_.batch_of(job.number) : nullptr;
  }
  std::uint64_t limited_queues() const { return limited_queues_; }

  NumberIndex const& by_number() const { return by_number_; }
  ReadyQueue const& ready() const { return ready_; }
  TimingWheel const& wheel() const { return wheel_; }
  Retention const& retention() const { return retention_; }
  IdempotencyTable::Answer const* remembered(std::string_view key, Instant at) const {
    return idempotency_.find(hash_of(key), at);
  }
  JobIndex first_to_expire(Instant at) const;
  QueueIndex first_idle_queue(Instant at) const;

  JobNumber next_number(Instant at) const { return JobNumber{next_in_time(last_number_, at)}; }
  std::uint64_t next_order(Instant at) const { return next_in_time(last_order_, at); }
  LeaseToken next_token(Instant at) const { return LeaseToken{next_in_time(last_token_, at)}; }

  std::optional<Instant> next_due() const;
  EngineStatus status() const;
  JobStageFigures const& job_stages() const { return stages_; }
  std::vector<TypeFigures> const& types() const { return types_.lines(); }
  std::uint64_t live_records_in(std::uint32_t segment) const { return segments_.in(segment); }
  std::uint64_t live_bytes() const { return segments_.bytes(); }
  // Is this the record that the store's salt, a queue's settings, a batch or an answer stand on?
  bool stands_on(Effect const& record, Position at) const;
  std::string check_invariants() const;

  // --- To change it. `job` is where the effect's number is, when the caller knows; `at` the time of the batch.
  using Written = EffectSink::Written;
  void apply(effect::StoreCreated const& e, Written w, Instant at, JobIndex);
  void apply(effect::ServerResumed const& e, Written w, Instant at, JobIndex);
  void apply(effect::Alive const& e, Written w, Instant at, JobIndex);
  void apply(effect::JobEnqueued const& e, JobSpecView const& spec, Written w, Instant at);
  void apply(effect::JobReady const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobLeased const& e, Written w, Instant at, JobIndex job);
  void apply(effect::LeaseExtended const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobCompleted const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobFailed const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobReleased const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobCancelled const& e, Written w, Instant at, JobIndex job);
  void apply(effect::CancelRequested const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobRetried const& e, Written w, Instant at, JobIndex job);
  void apply(effect::ProgressMade const& e, Written w, Instant at, JobIndex job);
  void apply(effect::LinesLogged const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobForgotten const& e, Written w, Instant at, JobIndex job);
  void apply(effect::JobSnapshot const& e, JobSpecView const& spec, Written w, Instant at, JobIndex job);
  void apply(effect::QueueChanged const& e, Written w, Instant at, JobIndex);
  void apply(effect::QueueRemoved const& e, Written w, Instant at, JobIndex);
  void apply(effect::RequestRemembered const& e, Written w, Instant at, JobIndex);
  void apply(effect::CheckpointMade const& e, Written w, Instant at, JobIndex job);
  // What is cached is the shard's to keep. Of these only the time counts here.
  void apply(effect::CacheStored const&, Written, Instant, JobIndex) {}
  void apply(effect::CacheFailed const&, Written, Instant, JobIndex) {}
  void apply(effect::CacheForgotten const&, Written, Instant, JobIndex) {}

  void apply(effect::FlightOvertaken const& e, Written w, Instant at, JobIndex job);
  void apply(effect::FlagChanged const& e, Written w, Instant at, JobIndex);
  void apply(effect::FlagRemoved const& e, Written w, Instant at, JobIndex);
  void apply(effect::BatchMade const& e, Written w, Instant at, JobIndex);
  void apply(effect::BatchClosed const& e, Written w, Instant at, JobIndex);
  void apply(effect::BatchFired const& e, Written w, Instant at, JobIndex);
  void apply(effect::BatchForgotten const& e, Written w, Instant at, JobIndex);
  void apply(effect::BatchCopied const& e, Written w, Instant at, JobIndex);

  // What every effect, also one on a job that is unknown, says of the time and of the numbers given out.
  template <class E>
  void see(E const& e, Instant at) {
    note_time(at);
    if constexpr (requires { e.number; }) last_number_ = std::max(last_number_, std::to_underlying(e.number));
    if constexpr (requires { e.batch; }) last_number_ = std::max(last_number_, std::to_underlying(e.batch));
    if constexpr (requires { e.order; }) last_order_ = std::max(last_order_, e.order);
    if constexpr (requires { e.token; }) last_token_ = std::max(last_token_, std::to_underlying(e.token));
  }

  // One effect out of the log. log_corrupt where it contradicts the state; nothing happens where its job is unknown.
  Result<> replay(Effect const& effect, Written w, Instant at);
  void finish_replay(Instant now);

  void turn(Instant now, std::uint32_t steps_max);

  // --- What concerns those who wait, and figures; none of it is in the log.
  void watch(JobNumber number);
  void unwatch(JobNumber number);
  Happenings take_happenings();
  void count_duplicate(JobIndex job) { ++queue_at(job).counters.duplicates; }

 private:
  struct UniqueEntry {
    Hash128 key;
    JobNumber number;
    auto operator<=>(UniqueEntry const&) const = default;
  };

  Hash128 hash_of(std::string_view text) const;
  Hash128 hash_of(std::string_view queue, std::string_view key) const;
  Queue& queue_at(JobIndex job) { return queues_[ready_.lane(slots_[job].lane).queue]; }

  JobIndex make_job(JobNumber number, JobSpecView const& spec, Written w);
  void attach(JobIndex job, JobSpecView const& spec);
  void detach(JobIndex job, Instant at);
  void move_record(JobIndex job, Written w);
  void release_key(JobIndex job);
  JobExtra& ensure_extra(JobIndex job);
  // Out of the list and the figures of its state, and into those of another. Between the two its fields may change.
  void leave(JobIndex job);
  void enter(JobIndex job, JobState state);
  void change(JobIndex job, JobState to, Instant due, std::uint64_t order);
  void link(JobIndex job);
  void reindex(JobIndex job);
  void index_unique(JobIndex job, JobExtra& extra);
  void drop_key(JobIndex job, JobExtra& extra);
  void index_flight(JobIndex job, JobExtra& extra);
  void announce(QueueIndex index);
  void note_idle(QueueIndex index, Instant at);
  void set_gates();
  void restore_history(JobIndex job, BytesView history, Written w);
  void set_checkpoint(JobIndex job, Position at);

  bool is_measuring() const { return is_live_ && options_.measures_jobs; }
  MillisecondCounts& stage(JobStage stage) { return stages_[static_cast<std::size_t>(stage)]; }
  void note_attempt_over(JobSlot const& job, Instant at);

  void note_time(Instant at) { floor_ = std::max(floor_, at); }

  template <class E>
  Result<> replay_one(E const& e, Written w, Instant at);
  Result<> replay_one(effect::JobEnqueued const& e, Written w, Instant at);
  Result<> replay_one(effect::JobSnapshot const& e, Written w, Instant at);
  Result<> replay_one(effect::QueueRemoved const& e, Written w, Instant at);
  Result<> replay_one(effect::FlagChanged const& e, Written w, Instant at);
  Result<> replay_one(effect::FlightOvertaken const& e, Written w, Instant at);
  Result<> replay_one(effect::JobForgotten const& e, Written w, Instant at);
  Result<> replay_one(effect::BatchMade const& e, Written w, Instant at);
  Result<> replay_one(effect::BatchClosed const& e, Written w, Instant at);
  Result<> replay_one(effect::BatchFired const& e, Written w, Instant at);
  Result<> replay_one(effect::BatchCopied const& e, Written w, Instant at);

  EngineOptions options_;
  bool is_live_ = false;  // Not replaying: jobs are in the lists of their states.
  std::uint64_t salt_ = 0;
  Position store_at_{};
  std::uint32_t store_bytes_ = 0;
  Instant floor_{};
  std::uint64_t last_number_ = 0;
  std::uint64_t last_order_ = 0;
  std::uint64_t last_token_ = 0;

  SegmentCounts segments_;  // Of jobs' specs, queues' settings, answers, flags, batches, and the store's own record.
  JobSlots slots_;
  Slab<JobExtra, ExtraIndex, 256> extras_;
  NumberIndex by_number_;
  NameTable names_;
  PolicyTable policies_;
  QueueTable queues_;
  ReadyQueue ready_;
  TimingWheel wheel_;
  Retention retention_;
  IdempotencyTable idempotency_;
  FlagTable flags_{segments_};
  BatchTable batches_;
  std::vector<std::string> closed_types_;                         // As the flags have it.
  absl::flat_hash_map<std::string_view, JobIndex> by_client_id_;  // Borrows from the extras, which never move.
  absl::btree_set<UniqueEntry> by_unique_key_;
  BegunFlights begun_flights_;  // Borrows from the flights.
  absl::btree_set<std::pair<Instant, JobNumber>> by_expiry_;
  absl::btree_set<std::pair<Instant, QueueIndex>> idle_checks_;  // Guesses, put right by turn(), as in Retention.

  std::array<std::uint64_t, kJobStates> depth_{};
  std::uint64_t limited_queues_ = 0;  // That have a max_depth.
  std::uint64_t flights_ = 0;         // That hold their key.
  JobStageFigures stages_{};
  TypeCounts types_{names_};

  JobSpecView spec_;  // Reused, so that replay allocates nothing for a spec.
  absl::flat_hash_map<JobNumber, std::uint32_t> watches_;
  std::vector<QueueIndex> announced_;
  std::vector<JobNumber> finished_;
};

}  // namespace workmill::engine
