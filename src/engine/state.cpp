#include "engine/state.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "base/assert.h"
#include "base/mutation.h"
#include "model/cache_set.h"

namespace workmill::engine {
namespace {

// How long a queue that is empty and set to nothing is kept, with its figures.
constexpr Duration kIdleQueueKept = std::chrono::hours{1};

Instant time_of(std::uint64_t in_time) { return created_at(JobNumber{in_time}); }

Hash128 hash_bytes(std::string_view text, std::uint64_t seed) {
  XXH128_hash_t const hash = XXH3_128bits_withSeed(text.data(), text.size(), seed);
  return {.high = hash.high64, .low = hash.low64};
}

bool keeps_key(UniqueWhile unique_while, JobState state) {
  if (WM_MUTATION(key_is_held_to_the_end)) return true;
  switch (unique_while) {
    case UniqueWhile::scheduled: return state == JobState::scheduled;
    case UniqueWhile::queued: return state == JobState::scheduled || state == JobState::ready;
    case UniqueWhile::unfinished: return !is_finished(state);
  }
  return false;
}

std::size_t at(JobState state) { return static_cast<std::size_t>(state); }

}  // namespace

State::State(EngineOptions const& options)
    : options_(options),
      ready_(slots_, queues_, names_),
      wheel_(slots_),
      retention_(slots_, queues_),
      idempotency_(options.idempotency_keys_max, segments_) {}

// --- To look at.

Hash128 State::hash_of(std::string_view text) const { return hash_bytes(text, salt_); }

Hash128 State::hash_of(std::string_view queue, std::string_view key) const {
  return hash_bytes(key, hash_bytes(queue, salt_).low);
}

JobIndex State::find_client_id(std::string_view id) const {
  auto const found = by_client_id_.find(id);
  return found == by_client_id_.end() ? kNone<JobIndex> : found->second;
}

JobIndex State::find(JobRef const& ref) const {
  if (ref.number) {
    JobIndex const found = by_number_.find(*ref.number);
    if (found != kNone<JobIndex> || by_client_id_.empty()) return found;
    // A client may bring an id that this store made once, for a job that it has forgotten since.
    JobIdCodec::Text const text = JobIdCodec{salt_}.encode(*ref.number);
    return find_client_id({text.data(), text.size()});
  }
  return find_client_id(ref.text);
}

// The oldest that holds it: more than one can, when a job was retried whose key had gone to another meanwhile.
JobIndex State::find_unique(std::string_view queue, std::string_view key, Instant at) const {
  if (by_unique_key_.empty()) return kNone<JobIndex>;
  Hash128 const hash = hash_of(queue, key);
  for (auto entry = by_unique_key_.lower_bound({hash, JobNumber{0}});
       entry != by_unique_key_.end() && entry->key == hash; ++entry) {
    JobIndex const job = find(entry->number);
    if (extra(slots_[job])->unique_until > at) return job;
  }
  return kNone<JobIndex>;
}

JobView State::view(JobIndex index) const {
  JobSlot const& slot = slots_[index];
  JobExtra const* const more = extra(slot);
  JobView view{.number = slot.number,
               .state = slot.state,
               .cancel_requested = slot.cancel_requested,
               .attempt = slot.attempt,
               .max_attempts = policy(slot).max_attempts,
               .spec_at = slot.spec_at,
               .spec_bytes = slot.spec_bytes,
               .event_at = slot.event_at};
  if (slot.state == JobState::scheduled || slot.state == JobState::ready) view.ready_at = slot.due;
  if (slot.state == JobState::leased) view.lease_expires_at = slot.due;
  if (is_finished(slot.state)) view.finished_at = slot.due;
  if (more) {
    view.client_id = more->client_id;
    view.log_at = more->log_at;
    view.checkpoint_at = more->checkpoint_at;
    view.progress = more->progress;
  }
  return view;
}

Bytes State::known_spec(JobIndex index) const {
  JobSlot const& slot = slots_[index];
  Lane const& lane = ready_.lane(slot.lane);
  Policy const& kept = policy(slot);
  JobSpecView spec;
  spec.type = names_.text(slot.type);
  spec.queue = queues_[lane.queue].name;
  spec.payload_kind = PayloadKind::lost;
  spec.priority = lane.priority;
  spec.group = names_.text(lane.group);
  spec.lease = kept.lease;
  spec.keep_result = kept.keep_result;
  spec.backoff = kept.backoff;
  spec.max_attempts = kept.max_attempts;
  if (JobExtra const* const more = extra(slot)) {
    spec.id = more->client_id;
    if (more->expires_at != kInstantMax) spec.expires_in = more->expires_at - created_at(slot.number);
    if (more->flight) {
      spec.cache_key = more->flight->key;
      spec.cache_fresh = more->flight->fresh;
      spec.cache_stale = more->flight->stale;
      spec.cache_error_for = more->flight->error_for;
      bool const are_tags = decode_cache_tags(more->flight->tags, spec.cache_tags);
      WM_ASSERT(are_tags);
    }
  }
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

QueueView State::queue_view(Queue const& queue) const {
  return {.name = queue.name,
          .settings = queue.settings,
          .depth = queue.depth,
          .oldest_ready_at = ready_.oldest_ready_at(queue),
          .counters = queue.counters};
}

JobIndex State::first_to_expire(Instant at) const {
  if (by_expiry_.empty() || by_expiry_.begin()->first > at) return kNone<JobIndex>;
  return find(by_expiry_.begin()->second);
}

QueueIndex State::first_idle_queue(Instant at) const {
  if (idle_checks_.empty() || idle_checks_.begin()->first > at) return kNone<QueueIndex>;
  QueueIndex const index = idle_checks_.begin()->second;
  Queue const& queue = queues_[index];
  return queue.is_forgettable() && queue.idle_since + kIdleQueueKept <= at ? index : kNone<QueueIndex>;
}

std::optional<Instant> State::next_due() const {
  std::optional<Instant> due = wheel_.next();
  auto const take = [&due](std::optional<Instant> other) {
    if (other && (!due || *other < *due)) due = other;
  };
  take(retention_.next());
  take(idempotency_.next());
  if (ready_.is_unsettled()) take(floor_);
  if (!by_expiry_.empty()) take(by_expiry_.begin()->first);
  if (!idle_checks_.empty()) take(idle_checks_.begin()->first);
  return due;
}

EngineStatus State::status() const {
  std::size_t const memory = slots_.memory_bytes() + extras_.memory_bytes() + by_number_.memory_bytes() +
                             names_.memory_bytes() + policies_.memory_bytes() + queues_.memory_bytes() +
                             ready_.memory_bytes() + retention_.memory_bytes() + idempotency_.memory_bytes() +
                             by_client_id_.capacity() * 25 + by_unique_key_.size() * 26 + by_expiry_.size() * 18 +
                             begun_flights_.size() * 26;
  return {.jobs = by_number_.size(),
          .depth = depth_,
          .queues = queues_.size(),
          .idempotency_keys = idempotency_.size(),
          .flights = flights_,
          .flags = flags_.size(),
          .held_back = ready_.held_back(),
          .memory_bytes = memory};
}

bool State::stands_on(Effect const& record, Position at) const {
  if (std::holds_alternative<effect::StoreCreated>(record)) return store_at_ == at;
  if (auto const* changed = std::get_if<effect::QueueChanged>(&record)) {
    QueueIndex const index = queues_.find(changed->name);
    return index != kNone<QueueIndex> && queues_[index].settings_at == at;
  }
  if (auto const* flag = std::get_if<effect::FlagChanged>(&record)) return flags_.stands_on(*flag, at);
  if (auto const* request = std::get_if<effect::RequestRemembered>(&record)) {
    // One whose time is up counts until it is dropped, which takes its steps.
    IdempotencyTable::Answer const* const kept = remembered(request->key, kInstantMin);
    return kept && kept->at == at;
  }
  return false;
}

// --- Making and unmaking jobs.

JobIndex State::make_job(JobNumber number, JobSpecView const& spec, Written w) {
  JobIndex const job = slots_.take();
  JobSlot& slot = slots_[job];
  slot.number = number;
  slot.order = std::to_underlying(number);
  slot.spec_at = w.at;
  slot.spec_bytes = w.bytes;
  segments_.add(w.at, w.bytes);
  by_number_.insert(number, job);
  attach(job, spec);
  if (!watches_.empty()) slot.is_watched = watches_.contains(number);
  return job;
}

JobExtra& State::ensure_extra(JobIndex job) {
  JobSlot& slot = slots_[job];
  if (slot.extra == kNone<ExtraIndex>) slot.extra = extras_.take();
  return extras_[slot.extra];
}

// What the spec says of a job: its place, its type, its policy, its names.
void State::attach(JobIndex job, JobSpecView const& spec) {
  JobSlot& slot = slots_[job];
  QueueIndex const queue = queues_.ensure(spec.queue);
  ++queues_[queue].jobs;
  slot.lane = ready_.take_lane(queue, spec.priority, spec.group);
  slot.type = names_.take(spec.type);
  slot.policy = policies_.take(policy_of(spec));
  if (spec.id.empty() && spec.unique_key.empty() && !spec.expires_in && spec.cache_key.empty()) return;

  JobExtra& more = ensure_extra(job);
  if (!spec.id.empty()) {
    more.client_id = spec.id;
    by_client_id_.emplace(more.client_id, job);
  }
  Instant const created = created_at(slot.number);
  if (!spec.unique_key.empty()) {
    more.has_unique_key = true;
    more.unique_key = hash_of(spec.queue, spec.unique_key);
    more.unique_while = spec.unique_while;
    more.unique_until = spec.unique_for ? created + *spec.unique_for : Instant::max();
  }
  // A flight is a unique job, whatever its queue: a queue always has a name, so its key meets no other's.
  if (!spec.cache_key.empty()) {
    more.has_unique_key = true;
    more.unique_key = hash_of({}, spec.cache_key);
    more.unique_while = UniqueWhile::unfinished;
    more.unique_until = Instant::max();
    more.flight = std::make_unique<Flight>(Flight{.key = Bytes{spec.cache_key},
                                                  .fresh = spec.cache_fresh,
                                                  .stale = spec.cache_stale,
                                                  .error_for = spec.cache_error_for,
                                                  .tags = {}});
    encode_cache_tags(spec.cache_tags, more.flight->tags);
  }
  if (spec.expires_in) more.expires_at = created + *spec.expires_in;
}

// The reverse. The job is in no list; what is not of the spec (progress, log lines) stays with its extra.
void State::detach(JobIndex job, Instant at) {
  JobSlot& slot = slots_[job];
  if (slot.extra != kNone<ExtraIndex>) {
    JobExtra& more = extras_[slot.extra];
    if (!more.client_id.empty()) by_client_id_.erase(more.client_id);
    drop_key(job, more);
    if (more.can_expire) by_expiry_.erase({more.expires_at, slot.number});
    more.client_id.clear();
    more.has_unique_key = more.can_expire = false;
    more.flight.reset();
    more.expires_at = kInstantMax;
  }
  QueueIndex const queue = ready_.lane(slot.lane).queue;
  names_.give(slot.type);
  policies_.give(slot.policy);
  ready_.give_lane(slot.lane);
  if (--queues_[queue].jobs == 0) note_idle(queue, at);
}

void State::move_record(JobIndex job, Written w) {
  JobSlot& slot = slots_[job];
  segments_.add(w.at, w.bytes);
  segments_.drop(slot.spec_at, slot.spec_bytes);
  slot.spec_at = slot.event_at = w.at;
  slot.spec_bytes = w.bytes;
  // The lines that were logged stand in the copy, too.
  if (slot.extra != kNone<ExtraIndex> && extras_[slot.extra].log_at && !WM_MUTATION(copy_loses_log_lines))
    extras_[slot.extra].log_at = w.at;
}

// Of a spec that is lost, the key is: a copy does not have it, so it is free from here on, whether or not an older
// record is still there at the next start. A flight's is known, and stands in the copy.
void State::release_key(JobIndex job) {
  JobSlot const& slot = slots_[job];
  if (slot.extra == kNone<ExtraIndex>) return;
  JobExtra& more = extras_[slot.extra];
  if (more.flight) return;
  drop_key(job, more);
  more.has_unique_key = false;
}

void State::drop_key(JobIndex job, JobExtra& extra) {
  if (!extra.holds_unique_key) return;
  by_unique_key_.erase({extra.unique_key, slots_[job].number});
  extra.holds_unique_key = false;
  if (!extra.flight) return;
  --flights_;
  index_flight(job, extra);
}

// Only what holds its key can be overtaken.
void State::index_flight(JobIndex job, JobExtra& extra) {
  JobSlot const& slot = slots_[job];
  Flight& flight = *extra.flight;
  bool const has_begun = extra.holds_unique_key && (slot.state == JobState::leased || extra.checkpoint_at);
  if (has_begun && !flight.has_begun) begun_flights_.emplace(flight.key, slot.number);
  if (!has_begun && flight.has_begun) begun_flights_.erase(flight.key);
  flight.has_begun = has_begun;
}

// --- Moving between states.

void State::leave(JobIndex job) {
  JobSlot const& slot = slots_[job];
  Lane const& lane = ready_.lane(slot.lane);
  --queues_[lane.queue].depth[at(slot.state)];
  --depth_[at(slot.state)];
  if (!is_live_) return;
  switch (slot.state) {
    case JobState::ready: {
      // What stood behind it, held back by jobs that are not leased now, may be at the front with it gone.
      QueueIndex const queue = lane.queue;
      bool const could_lease = queues_[queue].can_lease();
      ready_.remove(job);
      if (!could_lease && queues_[queue].can_lease()) announce(queue);
      return;
    }
    case JobState::scheduled:
    case JobState::leased: return wheel_.remove(job);
    case JobState::dead: return retention_.remove(job, lane.queue, true, options_.dead_kept);
    case JobState::completed:
    case JobState::cancelled:
      return retention_.remove(job, lane.queue, false, rounded_keep(policies_[slot.policy].keep_result));
  }
}

void State::enter(JobIndex job, JobState state) {
  JobSlot& slot = slots_[job];
  slot.state = state;
  ++queue_at(job).depth[at(state)];
  ++depth_[at(state)];
  if (is_live_) {
    link(job);
    if (state == JobState::ready) announce(ready_.lane(slot.lane).queue);
    if (slot.is_watched && is_finished(state)) finished_.push_back(slot.number);
  }
  if (slot.extra != kNone<ExtraIndex>) reindex(job);
}

void State::change(JobIndex job, JobState to, Instant due, std::uint64_t order) {
  WM_ASSERT(is_legal_move(slots_[job].state, to));
  leave(job);
  JobSlot& slot = slots_[job];
  slot.due = due;
  slot.order = order;
  if (to != JobState::leased && !WM_MUTATION(cancellation_sticks)) slot.cancel_requested = false;
  enter(job, to);
}

void State::link(JobIndex job) {
  JobSlot const& slot = slots_[job];
  QueueIndex const queue = ready_.lane(slot.lane).queue;
  switch (slot.state) {
    case JobState::ready: return ready_.push(job);
    case JobState::scheduled:
    case JobState::leased: return wheel_.insert(job);
    case JobState::dead: return retention_.add(job, queue, true, options_.dead_kept);
    case JobState::completed:
    case JobState::cancelled:
      return retention_.add(job, queue, false, rounded_keep(policies_[slot.policy].keep_result));
  }
}

// Which of the rarer indexes a job is in follows from what can be seen of it, so that a copy read back from the log
// ends up in the same.
void State::reindex(JobIndex job) {
  JobSlot const& slot = slots_[job];
  JobExtra& more = extras_[slot.extra];
  bool const is_overtaken = more.flight && more.flight->is_overtaken;
  bool const should_hold = more.has_unique_key && keeps_key(more.unique_while, slot.state) && !is_overtaken;
  if (should_hold && !more.holds_unique_key) index_unique(job, more);
  if (!should_hold) drop_key(job, more);
  if (more.flight) index_flight(job, more);

  // Only a job that was never leased expires. What was put in line again after its time (retried, released, changed)
  // has a new lease of life: the order tells since when it waits.
  bool const is_waiting = slot.attempt == 0 && (slot.state == JobState::scheduled || slot.state == JobState::ready);
  bool const should_expire = is_waiting && more.expires_at != kInstantMax && more.expires_at > time_of(slot.order);
  if (should_expire && !more.can_expire) by_expiry_.emplace(more.expires_at, slot.number);
  if (!should_expire && more.can_expire) by_expiry_.erase({more.expires_at, slot.number});
  more.can_expire = should_expire;
}

void State::index_unique(JobIndex job, JobExtra& extra) {
  JobNumber const number = slots_[job].number;
  // Those whose time was up when this job was made are in the way of later look-ups.
  Instant const now = created_at(number);
  for (auto entry = by_unique_key_.lower_bound({extra.unique_key, JobNumber{0}});
       entry != by_unique_key_.end() && entry->key == extra.unique_key;) {
    JobExtra& other = extras_[slots_[find(entry->number)].extra];
    if (other.unique_until > now) {
      ++entry;
      continue;
    }
    other.holds_unique_key = false;
    entry = by_unique_key_.erase(entry);
  }
  by_unique_key_.insert({extra.unique_key, number});
  extra.holds_unique_key = true;
  if (extra.flight) ++flights_;
}

void State::announce(QueueIndex index) {
  Queue& queue = queues_[index];
  if (queue.is_announced || queue.settings.paused) return;
  queue.is_announced = true;
  announced_.push_back(index);
}

void State::note_idle(QueueIndex index, Instant at) {
  Queue& queue = queues_[index];
  queue.idle_since = at;
  if (!is_live_ || queue.idle_check || !queue.is_forgettable()) return;
  queue.idle_check = at + kIdleQueueKept;
  idle_checks_.emplace(*queue.idle_check, index);
}

// --- Effects.

void State::apply(effect::StoreCreated const& e, Written w, Instant, JobIndex) {
  salt_ = e.salt;
  last_number_ = std::max(last_number_, std::to_underlying(e.last_number));
  last_order_ = std::max(last_order_, e.last_order);
  last_token_ = std::max(last_token_, std::to_underlying(e.last_token));
  flags_.apply(e);
  segments_.add(w.at, w.bytes);
  segments_.drop(store_at_, store_bytes_);
  store_at_ = w.at;
  store_bytes_ = w.bytes;
}

void State::apply(effect::ServerResumed const& e, Written, Instant, JobIndex) {
  if (depth_[at(JobState::leased)] == 0 || WM_MUTATION(restart_shortens_leases)) return;
  if (!is_live_) {
    by_number_.walk([&](JobNumber, JobIndex job) {
      if (slots_[job].state == JobState::leased) slots_[job].due += e.down;
    });
    return;
  }
  std::vector<JobIndex> leased;
  wheel_.walk([&](JobIndex job) {
    if (slots_[job].state == JobState::leased) leased.push_back(job);
  });
  for (JobIndex const job : leased) {
    wheel_.remove(job);
    slots_[job].due += e.down;
    wheel_.insert(job);
  }
}

void State::apply(effect::Alive const&, Written, Instant, JobIndex) {}  // It is the batch's time that counts.

void State::apply(effect::JobEnqueued const& e, JobSpecView const& spec, Written w, Instant) {
  JobIndex const job = make_job(e.number, spec, w);
  JobSlot& slot = slots_[job];
  slot.due = e.ready_at;
  slot.order = e.order;
  ++queue_at(job).counters.enqueued;
  if (is_measuring()) {
    ++types_.of(slot.type).enqueued;
    if (!e.scheduled) stage(JobStage::enqueued_to_ready).observe(e.ready_at - created_at(e.number));
  }
  enter(job, e.scheduled ? JobState::scheduled : JobState::ready);
}

void State::apply(effect::JobReady const& e, Written, Instant, JobIndex job) {
  if (slots_[job].attempt == 0 && is_measuring()) {
    stage(JobStage::enqueued_to_ready).observe(time_of(e.order) - created_at(e.number));
  }
  change(job, JobState::ready, time_of(e.order), e.order);
}

void State::apply(effect::JobLeased const& e, Written w, Instant, JobIndex job) {
  JobSlot& slot = slots_[job];
  if (is_live_) ready_.pass_turn(slot.lane);
  if (is_measuring()) stage(JobStage::ready_to_leased).observe(e.at - slot.due);
  ++slot.attempt;
  slot.event_at = w.at;
  if (slot.extra != kNone<ExtraIndex>) extras_[slot.extra].progress.reset();
  ++queue_at(job).counters.leased;
  change(job, JobState::leased, e.deadline, std::to_underlying(e.token));
}

void State::apply(effect::LeaseExtended const& e, Written, Instant, JobIndex job) {
  if (is_live_) wheel_.remove(job);
  slots_[job].due = e.deadline;
  if (is_live_) wheel_.insert(job);
}

void State::apply(effect::JobCompleted const& e, Written w, Instant, JobIndex job) {
  slots_[job].event_at = w.at;
  ++queue_at(job).counters.completed;
  if (is_measuring()) {
    note_attempt_over(slots_[job], e.at);
    ++types_.of(slots_[job].type).completed;
  }
  set_checkpoint(job, {});  // There is no next attempt.
  change(job, JobState::completed, e.at, std::to_underlying(e.number));
}

void State::apply(effect::JobFailed const& e, Written w, Instant, JobIndex job) {
  slots_[job].event_at = w.at;
  QueueCounters& counters = queue_at(job).counters;
  if (slots_[job].state == JobState::leased) {
    ++counters.failed;
    if (is_measuring()) {
      note_attempt_over(slots_[job], e.at);
      ++types_.of(slots_[job].type).failed;
    }
  }
  if (e.code == kLeaseExpired) ++counters.lease_expired;
  std::uint64_t order = std::to_underlying(e.number);
  Instant due = e.at;
  switch (e.next) {
    case JobState::ready: order = e.order; break;
    case JobState::scheduled: due = e.ready_at; break;
    case JobState::dead: ++counters.died; break;
    case JobState::cancelled: ++counters.cancelled; break;
    case JobState::leased:
    case JobState::completed: WM_ASSERT(false);
  }
  change(job, e.next, due, order);
}

// A token says when it was granted.
void State::note_attempt_over(JobSlot const& job, Instant at) {
  stage(JobStage::leased_to_done).observe(at - time_of(job.order));
}

void State::apply(effect::JobReleased const& e, Written, Instant, JobIndex job) {
  JobSlot& slot = slots_[job];
  WM_ASSERT(slot.attempt > 0);
  --slot.attempt;
  QueueCounters& counters = queue_at(job).counters;
  ++counters.released;
  if (e.next == JobState::cancelled) ++counters.cancelled;
  change(job, e.next, e.at, e.next == JobState::ready ? e.order : std::to_underlying(e.number));
}

void State::apply(effect::JobCancelled const& e, Written w, Instant, JobIndex job) {
  slots_[job].event_at = w.at;
  ++queue_at(job).counters.cancelled;
  change(job, JobState::cancelled, e.at, std::to_underlying(e.number));
}

void State::apply(effect::CancelRequested const&, Written, Instant, JobIndex job) {
  slots_[job].cancel_requested = true;
}

void State::apply(effect::JobRetried const& e, Written, Instant, JobIndex job) {
  slots_[job].attempt = 0;
  change(job, JobState::ready, time_of(e.order), e.order);
}

void State::apply(effect::ProgressMade const& e, Written, Instant, JobIndex job) {
  ensure_extra(job).progress = JobProgress{.percent = e.percent, .message = Bytes{e.message}};
}

void State::apply(effect::LinesLogged const&, Written w, Instant, JobIndex job) { ensure_extra(job).log_at = w.at; }

void State::apply(effect::JobForgotten const& e, Written, Instant at, JobIndex job) {
  leave(job);
  JobSlot const& slot = slots_[job];
  segments_.drop(slot.spec_at, slot.spec_bytes);
  by_number_.erase(e.number);
  if (slot.is_watched && !is_finished(slot.state)) finished_.push_back(slot.number);
  detach(job, at);
  if (slot.extra != kNone<ExtraIndex>) extras_.give(slot.extra);
  slots_.give(job);
}

void State::apply(effect::JobSnapshot const& e, JobSpecView const& spec, Written w, Instant at, JobIndex job) {
  Position const checkpoint_at = e.checkpoint.empty() && !e.checkpoint_lost ? Position{} : w.at;
  if (job != kNone<JobIndex>) {
    move_record(job, w);
    set_checkpoint(job, checkpoint_at);
  }
  if (job != kNone<JobIndex> && !e.patched) {
    if (spec.payload_kind == PayloadKind::lost) release_key(job);
    return;
  }

  bool keeps_place = false;
  if (job == kNone<JobIndex>) {
    job = make_job(e.number, spec, w);
    slots_[job].event_at = w.at;
    restore_history(job, e.history, w);
    set_checkpoint(job, checkpoint_at);
  } else {
    JobSlot const& slot = slots_[job];
    LaneIndex const lane = ready_.take_lane(queues_.ensure(spec.queue), spec.priority, spec.group);
    keeps_place =
        lane == slot.lane && slot.state == JobState::ready && e.state == JobState::ready && slot.order == e.order;
    NameIndex const type = names_.take(names_.text(slot.type));
    if (!keeps_place) leave(job);
    detach(job, at);
    attach(job, spec);
    // Counted twice until now, so that a lane that stays is not taken down in between; nor the name by which it counts
    // there.
    ready_.give_lane(lane);
    names_.give(type);
  }
  JobSlot& slot = slots_[job];
  slot.due = e.due;
  slot.order = e.state == JobState::leased ? std::to_underlying(e.token) : e.order;
  slot.attempt = static_cast<std::uint16_t>(e.attempt);
  slot.cancel_requested = e.cancel_requested;
  if (slot.extra != kNone<ExtraIndex> && extras_[slot.extra].flight) {
    extras_[slot.extra].flight->is_overtaken = e.is_overtaken && !WM_MUTATION(copy_loses_overtaking);
  }
  if (!keeps_place) return enter(job, e.state);
  if (slot.extra != kNone<ExtraIndex>) reindex(job);
}

void State::apply(effect::QueueChanged const& e, Written w, Instant at, JobIndex) {
  QueueIndex const index = queues_.ensure(e.name);
  Queue& queue = queues_[index];
  limited_queues_ -= queue.settings.max_depth ? 1U : 0U;
  // Defaults need no record once those that said otherwise are gone, and they go first.
  Position const stands_at = e.settings == QueueSettings{} ? Position{} : w.at;
  segments_.add(stands_at, w.bytes);
  segments_.drop(queue.settings_at, queue.settings_bytes);
  queue.settings = e.settings;
  queue.settings_at = stands_at;
  queue.settings_bytes = w.bytes;
  limited_queues_ += queue.settings.max_depth ? 1U : 0U;
  if (queue.jobs == 0) note_idle(index, at);
  if (is_live_ && queue.can_lease()) announce(index);
}

void State::apply(effect::QueueRemoved const& e, Written, Instant, JobIndex) {
  QueueIndex const index = queues_.find(e.name);
  if (index == kNone<QueueIndex>) return;
  Queue const& queue = queues_[index];
  limited_queues_ -= queue.settings.max_depth ? 1U : 0U;
  std::erase(announced_, index);
  if (queue.idle_check) idle_checks_.erase({*queue.idle_check, index});
  segments_.drop(queue.settings_at, queue.settings_bytes);
  retention_.remove_lines(index);
  queues_.remove(index);
}

void State::apply(effect::RequestRemembered const& e, Written w, Instant, JobIndex) {
  idempotency_.remember(
      hash_of(e.key),
      {.fingerprint = e.fingerprint, .until = e.until, .at = w.at, .bytes = w.bytes, .reply = Bytes{e.reply}});
}

void State::apply(effect::CheckpointMade const& e, Written w, Instant, JobIndex job) {
  if (WM_MUTATION(first_checkpoint_wins) && slots_[job].extra != kNone<ExtraIndex> &&
      extras_[slots_[job].extra].checkpoint_at)
    return;
  set_checkpoint(job, e.data.empty() ? Position{} : w.at);
}

void State::apply(effect::FlightOvertaken const&, Written, Instant, JobIndex job) {
  JobExtra& more = extras_[slots_[job].extra];
  more.flight->is_overtaken = true;
  drop_key(job, more);
}

void State::apply(effect::FlagChanged const& e, Written w, Instant, JobIndex) {
  std::uint64_t const before = flags_.revision();
  flags_.apply(e, w);
  if (flags_.revision() != before) set_gates();
}

void State::apply(effect::FlagRemoved const& e, Written, Instant, JobIndex) {
  std::uint64_t const before = flags_.revision();
  flags_.apply(e);
  if (flags_.revision() != before && !WM_MUTATION(removed_flag_keeps_its_gate)) set_gates();
}

// What the flags say of types of jobs holds at once. Whoever waits for a queue in which something was let through hears
// of it.
void State::set_gates() {
  std::vector<std::string> closed = flags::closed_types(*flags_.set());
  if (closed == closed_types_) return;
  closed_types_ = std::move(closed);
  ready_.set_closed(closed_types_);
  if (WM_MUTATION(opened_gate_tells_nobody)) return;
  queues_.walk({}, [this](QueueIndex index) {
    if (queues_[index].can_lease()) announce(index);
    return true;
  });
}

void State::set_checkpoint(JobIndex job, Position at) {
  if (at) {
    ensure_extra(job).checkpoint_at = at;
  } else if (slots_[job].extra != kNone<ExtraIndex>) {
    extras_[slots_[job].extra].checkpoint_at = {};
  }
}

void State::restore_history(JobIndex job, BytesView history, Written w) {
  if (history.empty()) return;
  auto decoded = decode_history(history);
  if (!decoded) return;
  if (decoded->progress) ensure_extra(job).progress = std::move(decoded->progress);
  if (!decoded->log_lines.empty()) ensure_extra(job).log_at = w.at;
}

void State::turn(Instant now, std::uint32_t steps_max) {
  note_time(now);
  ready_.settle(steps_max, [this](QueueIndex queue) { announce(queue); });
  wheel_.turn(now, steps_max);
  retention_.turn(now, steps_max);
  idempotency_.turn(now, steps_max);
  for (std::uint32_t step = 0; step < steps_max && !idle_checks_.empty(); ++step) {
    auto const [check_at, index] = *idle_checks_.begin();
    Queue& queue = queues_[index];
    bool const is_right = check_at == queue.idle_since + kIdleQueueKept;
    if (check_at > now || (is_right && queue.is_forgettable())) break;
    idle_checks_.erase(idle_checks_.begin());
    queue.idle_check.reset();
    note_idle(index, queue.idle_since);
  }
}

// --- Those who wait.

void State::watch(JobNumber number) {
  ++watches_[number];
  JobIndex const job = find(number);
  if (job != kNone<JobIndex>) slots_[job].is_watched = true;
}

void State::unwatch(JobNumber number) {
  auto const found = watches_.find(number);
  WM_ASSERT(found != watches_.end());
  if (--found->second > 0) return;
  watches_.erase(found);
  JobIndex const job = find(number);
  if (job != kNone<JobIndex>) slots_[job].is_watched = false;
}

Happenings State::take_happenings() {
  Happenings taken;
  taken.ready_queues.reserve(announced_.size());
  for (QueueIndex const index : announced_) {
    queues_[index].is_announced = false;
    if (queues_[index].can_lease()) taken.ready_queues.push_back(queues_[index].name);
  }
  announced_.clear();
  taken.finished.swap(finished_);
  return taken;
}

}  // namespace workmill::engine
