#include <fmt/format.h>

#include <array>
#include <map>
#include <utility>

#include "engine/state.h"

// The slow way to the same figures: for tests and the simulation.
namespace workmill::engine {

std::string State::check_invariants() const {
  struct Counted {
    std::array<std::uint64_t, kJobStates> depth{};
    std::uint64_t jobs = 0;
  };
  std::map<QueueIndex, Counted> by_queue;
  std::map<std::uint32_t, std::uint64_t> by_segment;
  std::array<std::uint64_t, kJobStates> depth{};
  std::uint64_t bytes = 0, client_ids = 0, unique_keys = 0, expiries = 0, extras = 0, flights = 0, begun_flights = 0,
                naming_batches = 0;
  std::string wrong;
  auto const check = [&wrong](bool holds, std::string_view what, std::uint64_t which) {
    if (!holds && wrong.empty()) wrong = fmt::format("{} ({:x})", what, which);
  };

  by_number_.walk([&](JobNumber number, JobIndex index) {
    auto const n = std::to_underlying(number);
    JobSlot const& job = slots_[index];
    check(job.number == number, "a number leads to another job's slot", n);
    auto const s = static_cast<std::size_t>(job.state);
    ++depth[s];
    Counted& counted = by_queue[ready_.lane(job.lane).queue];
    ++counted.depth[s];
    ++counted.jobs;
    ++by_segment[job.spec_at.segment];
    bytes += job.spec_bytes;
    check(n <= last_number_, "a number was never given out", n);
    check(!job.event_at || job.event_at >= job.spec_at, "an event stands before the spec", n);
    check(!job.cancel_requested || job.state == JobState::leased, "a cancellation is asked for of a job not leased", n);
    check(job.attempt > 0 || (job.state != JobState::leased && job.state != JobState::completed),
          "an attempt without number", n);
    check(watches_.contains(number) == job.is_watched, "a watch is marked wrongly", n);
    naming_batches += job.has_batch ? 1U : 0U;
    JobExtra const* const more = extra(job);
    if (!more) return;
    ++extras;
    check(!more->checkpoint_at || more->checkpoint_at >= job.spec_at, "a checkpoint stands before the spec", n);
    check(!more->checkpoint_at || job.state != JobState::completed, "a completed job has a checkpoint", n);
    if (!more->client_id.empty()) {
      ++client_ids;
      check(find_client_id(more->client_id) == index, "a client's id leads to another job", n);
    }
    if (more->holds_unique_key) {
      ++unique_keys;
      flights += more->flight ? 1U : 0U;
      // Of the keys of flights, as those of others may be held by several.
      auto const first = by_unique_key_.lower_bound({more->unique_key, JobNumber{0}});
      check(!more->flight || (first != by_unique_key_.end() && first->number == number),
            "two jobs compute one cached value", n);
      check(by_unique_key_.contains({more->unique_key, number}), "a unique key is not in its index", n);
    }
    if (more->flight) {
      Flight const& flight = *more->flight;
      check(!flight.is_overtaken || !more->holds_unique_key, "what was overtaken holds its key", n);
      bool const has_begun = more->holds_unique_key && (job.state == JobState::leased || more->checkpoint_at);
      check(flight.has_begun == has_begun, "that a flight has begun is noted wrongly", n);
      auto const begun = begun_flights_.find(flight.key);
      check(!has_begun || (begun != begun_flights_.end() && begun->second == number),
            "a flight that has begun is not in its index", n);
      begun_flights += has_begun ? 1U : 0U;
    }
    if (more->can_expire) {
      ++expiries;
      check(by_expiry_.contains({more->expires_at, number}), "an expiry is not in its index", n);
    }
  });
  std::map<BatchNumber, std::array<std::uint64_t, kJobStates>> by_batch;
  std::uint64_t in_batches = 0;
  batches_.walk_jobs([&](JobNumber number, BatchNumber batch) {
    ++in_batches;
    JobIndex const index = find(number);
    check(index != kNone<JobIndex> && slots_[index].has_batch, "a job in a batch does not know it",
          std::to_underlying(number));
    if (index != kNone<JobIndex>) ++by_batch[batch][static_cast<std::size_t>(slots_[index].state)];
  });
  check(in_batches == naming_batches, "jobs that know a batch are in none", in_batches);
  check(depth == depth_, "the depths are wrong", 0);
  check(slots_.size() == by_number_.size(), "slots were lost", slots_.size());
  check(extras == extras_.size(), "extras were lost", extras_.size());
  check(client_ids == by_client_id_.size(), "the index of clients' ids is wrong", by_client_id_.size());
  check(unique_keys == by_unique_key_.size(), "the index of unique keys is wrong", by_unique_key_.size());
  check(flights == flights_, "flights is wrong", flights_);
  check(begun_flights == begun_flights_.size(), "the index of flights that have begun is wrong", begun_flights_.size());
  check(expiries == by_expiry_.size(), "the index of expiries is wrong", by_expiry_.size());
  if (!is_live_) return wrong;

  std::uint64_t records_live = by_number_.size();
  auto const count_record = [&](Position at, std::uint32_t record_bytes) {
    if (!at) return;
    ++by_segment[at.segment];
    ++records_live;
    bytes += record_bytes;
  };
  count_record(store_at_, store_bytes_);
  flags_.walk([&](std::string_view, FlagTable::Changes const& changes) {
    for (FlagTable::Change const& change : changes) count_record(change.stands_at, change.bytes);
  });
  batches_.walk([&](BatchTable::Batch const& batch) {
    auto const n = std::to_underlying(batch.number);
    count_record(batch.stands_at, batch.bytes);
    check(batch.present == by_batch[batch.number], "a batch counts its jobs wrongly", n);
    check(n <= last_number_, "a batch's number was never given out", n);
    check(find_batch(batch.id) == &batch, "a batch's id leads to another one", n);
    bool is_due = false, waits = false;
    for (CallbackKind const kind : kAllCallbackKinds) {
      is_due |= batch.is_due_for(kind);
      waits |= batch.state_of(kind) == CallbackState::waiting;
      BatchTable::Callback const& callback = batch.callback(kind);
      bool const may_come = batch.state_of(kind) == CallbackState::waiting;
      check(callback.spec.empty() != may_come, "a callback that may come has no job, or one that may not has", n);
    }
    check(batch.is_due == is_due, "that a callback is due is noted wrongly", n);
    bool const is_over = batch.closed_at && !waits && batch.pending() == 0;
    check(batch.keep_until.has_value() == is_over, "that a batch is over is noted wrongly", n);
  });
  std::string const lists = batches_.check();
  check(lists.empty(), lists, 0);
  check(closed_types_ == flags::closed_types(*flags_.set()), "the gates are not what the flags say", 0);
  idempotency_.walk([&](IdempotencyTable::Answer const& answer) { count_record(answer.at, answer.bytes); });

  std::uint64_t in_wheel = 0;
  wheel_.walk([&](JobIndex index) {
    JobSlot const& job = slots_[index];
    ++in_wheel;
    check(job.state == JobState::scheduled || job.state == JobState::leased,
          "a job in the wheel does not wait for a time", std::to_underlying(job.number));
  });
  check(in_wheel ==
            depth[static_cast<std::size_t>(JobState::scheduled)] + depth[static_cast<std::size_t>(JobState::leased)],
        "the wheel does not hold the scheduled and the leased", in_wheel);

  std::uint64_t limited = 0;
  queues_.walk({}, [&](QueueIndex index) {
    Queue const& queue = queues_[index];
    Counted const& counted = by_queue[index];
    check(queue.depth == counted.depth && queue.jobs == counted.jobs, "a queue's depths are wrong",
          std::to_underlying(index));
    limited += queue.settings.max_depth ? 1U : 0U;
    count_record(queue.settings_at, queue.settings_bytes);
    std::uint64_t kept = 0, dead = 0;
    retention_.walk(queue, [&](JobIndex job, bool is_dead, Duration keep) {
      JobSlot const& slot = slots_[job];
      ++(is_dead ? dead : kept);
      check(is_finished(slot.state) && (slot.state == JobState::dead) == is_dead, "a kept job is not finished",
            std::to_underlying(slot.number));
      check(is_dead || keep == rounded_keep(policy(slot).keep_result), "a job is kept for the wrong time",
            std::to_underlying(slot.number));
    });
    check(kept == queue.kept() && dead == queue.depth_in(JobState::dead), "the lines do not hold the finished", kept);
    return true;
  });
  std::string const lines = ready_.check([this](QueueIndex index) { return queues_[index].depth_in(JobState::ready); });
  check(lines.empty(), lines, 0);
  check(limited == limited_queues_, "limited_queues is wrong", limited);
  for (auto const& [segment, records] : by_segment) {
    check(live_records_in(segment) == records, "live_records_in is wrong", segment);
  }
  check(records_live == segments_.total(), "records in segments were lost", segments_.total());
  check(bytes == live_bytes(), "live_bytes is wrong", bytes);
  return wrong;
}

}  // namespace workmill::engine
