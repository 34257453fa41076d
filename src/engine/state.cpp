#include "engine/state.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"

namespace workmill::engine {
namespace {

bool keeps_key(UniqueWhile unique_while, JobState state) {
  if (WM_MUTATION(key_is_held_to_the_end)) return true;
  switch (unique_while) {
    case UniqueWhile::scheduled: return state == JobState::scheduled;
    case UniqueWhile::queued: return state == JobState::scheduled || state == JobState::ready;
    case UniqueWhile::unfinished: return !is_finished(state);
  }
  return false;
}

}  // namespace

State::State(EngineOptions const& options)
    : options_(options),
      ready_(slots_, queues_, names_),
      wheel_(slots_),
      retention_(slots_, queues_),
      idempotency_(options.idempotency_keys_max, segments_),
      batches_(options, segments_, floor_) {}

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
  if (!spec.batch.empty()) {
    slot.has_batch = true;
    batches_.join(number, is_live_ ? std::string_view{find_batch(spec.batch)->id} : spec.batch);
  }
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
    more.unique_key = hash_of(WM_MUTATION(flights_are_one_a_queue) ? spec.queue : BytesView{}, spec.cache_key);
    more.unique_while = WM_MUTATION(leased_flights_let_others_begin) ? UniqueWhile::queued : UniqueWhile::unfinished;
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
  if (more.flight && !WM_MUTATION(lost_flight_frees_its_key)) return;
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
  --queues_[lane.queue].depth[std::to_underlying(slot.state)];
  --depth_[std::to_underlying(slot.state)];
  if (!is_live_) return;
  if (slot.has_batch) batches_.leave(slot.number, slot.state);
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
  ++queue_at(job).depth[std::to_underlying(state)];
  ++depth_[std::to_underlying(state)];
  if (is_live_) {
    link(job);
    if (state == JobState::ready) announce(ready_.lane(slot.lane).queue);
    if (slot.is_watched && is_finished(state)) finished_.push_back(slot.number);
    if (slot.has_batch) batches_.enter(slot.number, state);
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
