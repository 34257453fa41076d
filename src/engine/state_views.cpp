#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/variant.h"
#include "engine/state.h"
#include "model/cache_set.h"

// What can be looked at and looked up in a state.
namespace workmill::engine {
namespace {

Hash128 hash_bytes(std::string_view text, std::uint64_t seed) {
  XXH128_hash_t const hash = XXH3_128bits_withSeed(text.data(), text.size(), seed);
  return {.high = hash.high64, .low = hash.low64};
}

}  // namespace

Hash128 State::hash_of(std::string_view text) const { return hash_bytes(text, salt_); }

Hash128 State::hash_of(std::string_view queue, std::string_view key) const {
  return hash_bytes(key, hash_bytes(queue, salt_).low);
}

JobIndex State::find_client_id(std::string_view id) const {
  auto const found = by_client_id_.find(id);
  return found == by_client_id_.end() ? kNone<JobIndex> : found->second;
}

std::string State::spelled(std::string_view batch_id) const {
  JobIdCodec const codec{salt_};
  auto const number = codec.decode(batch_id);
  if (!number) return std::string{batch_id};
  JobIdCodec::Text const text = codec.encode(*number);
  return {text.data(), text.size()};
}

BatchTable::Batch const* State::find_batch(std::string_view id) const {
  if (batches_.size() == 0) return nullptr;
  BatchTable::Batch const* const found = batches_.find(id);
  return found != nullptr ? found : batches_.find(spelled(id));
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
  if (BatchTable::Batch const* const batch = batch_of(slot)) spec.batch = batch->id;
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
  if (ready_.is_unsettled() || batches_.first_due() != BatchTable::kNoBatch) take(floor_);
  take(batches_.next_to_go());
  if (!by_expiry_.empty()) take(by_expiry_.begin()->first);
  if (!idle_checks_.empty()) take(idle_checks_.begin()->first);
  return due;
}

EngineStatus State::status() const {
  std::size_t const memory = slots_.memory_bytes() + extras_.memory_bytes() + by_number_.memory_bytes() +
                             names_.memory_bytes() + policies_.memory_bytes() + queues_.memory_bytes() +
                             ready_.memory_bytes() + retention_.memory_bytes() + idempotency_.memory_bytes() +
                             by_client_id_.capacity() * 25 + by_unique_key_.size() * 26 + by_expiry_.size() * 18 +
                             begun_flights_.size() * 26 + batches_.memory_bytes();
  return {.jobs = by_number_.size(),
          .depth = depth_,
          .queues = queues_.size(),
          .idempotency_keys = idempotency_.size(),
          .flights = flights_,
          .flags = flags_.size(),
          .batches = batches_.size(),
          .batches_in = {batches_.count(BatchState::open), batches_.count(BatchState::closed),
                         batches_.count(BatchState::over)},
          .batch_bytes = batches_.needed_bytes(),
          .held_back = ready_.held_back(),
          .memory_bytes = memory,
          .answers_bytes = idempotency_.memory_bytes()};
}

bool State::stands_on(Effect const& record, Position at) const {
  if (holds<effect::StoreCreated>(record)) return store_at_ == at;
  if (auto const* changed = std::get_if<effect::QueueChanged>(&record)) {
    QueueIndex const index = queues_.find(changed->name);
    return index != kNone<QueueIndex> && queues_[index].settings_at == at;
  }
  if (auto const* flag = std::get_if<effect::FlagChanged>(&record)) return flags_.stands_on(*flag, at);
  if (auto const* made = std::get_if<effect::BatchMade>(&record)) return batches_.stands_on(made->batch, at);
  if (auto const* copied = std::get_if<effect::BatchCopied>(&record)) return batches_.stands_on(copied->batch, at);
  if (auto const* request = std::get_if<effect::RequestRemembered>(&record)) {
    // One whose time is up counts until it is dropped, which takes its steps.
    IdempotencyTable::Answer const* const kept = remembered(request->key, kInstantMin);
    return kept && kept->at == at;
  }
  return false;
}

}  // namespace workmill::engine
