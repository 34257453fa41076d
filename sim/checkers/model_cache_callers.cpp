#include <algorithm>

#include "base/variant.h"
#include "sim/checkers/model_detail.h"

// Whoever asks for a cached value: by way of the shard, or in the index.
namespace workmill::sim {
namespace {

std::string text_of(BytesView bytes) { return std::string{bytes}; }

}  // namespace

// ---- Whoever asks.

// Its record is next, perhaps behind those of a job that made room for it, and of what was forgotten by that.
bool Model::begins_flight(Bytes const& spec) const {
  for (std::size_t i = at_; i < effects_.size() && i < at_ + 4; ++i) {
    if (auto const* made = std::get_if<effect::JobEnqueued>(&effects_[i])) return made->spec == spec;
    if (!holds<effect::JobCancelled>(effects_[i]) && !holds<effect::JobForgotten>(effects_[i])) return false;
  }
  return false;
}

bool Model::run(shard::Cookie cookie, ComputeCached const& command) {
  std::string const& key = command.key;
  ModelCached::Value const* const value = cached_value(key, now_);
  ModelCached::Failure const* const failure = cached_failure(key, now_);
  ModelJob* flight = flight_of(key);
  // A value that is answered is refreshed beside that when it is stale. A quiet one is for whoever has seen the value.
  bool const is_good = value != nullptr && (command.quiet ? value->times.stored_at > command.seen
                                                          : !value->is_guessed && value->times.is_fresh(now_));
  bool const begins = begins_flight(command.spec);
  if (begins) {
    WM_SIM_HOLD(flight == nullptr, "a second job computes {}", key);
    WM_SIM_HOLD(!is_good || !is_sure(value), "a job computes {}, which is there", key);
    WM_SIM_HOLD(!is_sure(failure), "a job computes {}, and that it failed is remembered", key);
    WM_SIM_HOLD(!command.quiet || !is_draining_, "a job refreshes {} during a drain", key);
    EnqueuedJob made;
    WM_SIM_STEP(enqueue_one(command.spec, made));
    flight = find(JobRef{.number = made.number, .text = {}});
    ++figures_[Figure::cache_flights];
    if (command.quiet) ++figures_[Figure::cache_refreshed];
    if (command.quiet && value == nullptr) ++figures_[Figure::cache_refreshed_too_late];
  } else {
    bool const must = flight == nullptr && !is_good && failure == nullptr && !is_disk_low_ && !is_draining_ &&
                      (value == nullptr || !value->is_guessed) && has_room({command.spec});
    WM_SIM_HOLD(!must, "nobody computes {}", key);
    if (command.quiet && flight != nullptr) ++figures_[Figure::cache_refresh_in_flight];
  }
  if (command.quiet) return true;
  if (replies_ == nullptr) {
    if (command.wait > Duration{0}) ++maybe_waiting_;
    return true;
  }
  return answer_compute(cookie, command, flight, begins);
}

bool Model::answer_compute(shard::Cookie cookie, ComputeCached const& command, ModelJob* flight, bool has_begun) {
  std::string const& key = command.key;
  ModelCached::Value* const value = cached_value(key, now_);
  ModelCached::Failure const* const failure = cached_failure(key, now_);
  Reply const* const reply = find_reply(cookie);
  auto const* const cached = reply == nullptr ? nullptr : std::get_if<CachedReply>(reply);
  auto const* const failed = reply == nullptr ? nullptr : std::get_if<ComputeFailed>(reply);
  auto const* const error = reply == nullptr ? nullptr : std::get_if<Error>(reply);
  // At once, or when what it waits for has happened later in this turn?
  // Where the value may be gone by now, another one was put after it: it had gone, and he waited.
  bool const is_shown = cached != nullptr && !cached->computed && value != nullptr &&
                        (is_sure(value) || may_have_been_told(*value, *cached));
  bool const is_told = failed != nullptr && failed->remembered;
  if (is_shown || is_told || error != nullptr) ++replies_taken_;
  if (is_shown) {
    WM_SIM_HOLD(!cached->collapsed, "{} was there, and is said to have been computed", key);
    WM_SIM_STEP(compare_cached(key, *value, cached->value, cached->times, now_));
    WM_SIM_HOLD(!has_begun || !value->times.is_fresh(now_), "a job computes {}, which is fresh", key);
    ++figures_[has_begun ? Figure::cache_answered_stale : Figure::cache_answered_by_shard];
    return true;
  }
  WM_SIM_HOLD(!is_sure(value), "{} is there, and whoever asked for it was not answered with it", key);
  if (is_told) {
    WM_SIM_HOLD(failure != nullptr && !has_begun, "{} failed at once, and nothing is remembered", key);
    ++figures_[Figure::cache_failure_told];
    return compare_failure(key, failure->said, failed->failure);
  }
  WM_SIM_HOLD(has_begun || !is_sure(failure), "that {} failed is remembered, and was not told", key);
  if (error != nullptr) {
    bool const is_full = error->code == ErrorCode::queue_full && !has_room({command.spec});
    bool const is_low = error->code == ErrorCode::disk_full && is_disk_low_;
    WM_SIM_HOLD(flight == nullptr && (is_full || is_low), "whoever asked for {} was refused: {}", key,
                describe(*error));
    ++figures_[is_full ? Figure::cache_flight_refused : Figure::cache_flight_refused_disk_low];
    return true;
  }
  WM_SIM_HOLD(flight != nullptr, "nobody computes {}, and somebody waits for it", key);
  if (!has_begun) ++figures_[Figure::cache_collapsed];
  if (!has_begun && flight->attempt > 1) ++figures_[Figure::cache_collapsed_on_retry];
  bool waits = command.wait > Duration{0} && !is_draining_ && !gone_.contains(cookie);
  if (waits && waiters_.size() >= options_.waiters_max) {
    ++figures_[Figure::cache_waiters_full];
    waits = false;
  }
  if (!waits) {
    ++replies_taken_;
    WM_SIM_HOLD(reply != nullptr, "whoever does not wait for {} was not answered", key);
    return compare_pending(*reply, *flight);
  }
  waiters_.emplace(cookie, Waiter{.lease = {},
                                  .reports = {},
                                  .job = flight->number,
                                  .deadline = std::min(now_ + command.wait, give_up_at_),
                                  .cache_key = key,
                                  .has_begun_it = has_begun});
  return true;
}

bool Model::compare_pending(Reply const& reply, ModelJob const& flight) {
  auto const* pending = std::get_if<CachePending>(&reply);
  WM_SIM_HOLD(pending != nullptr, "whoever waited for {} in vain got an answer of another kind", flight.cache_key);
  WM_SIM_HOLD(pending->job == flight.number && pending->state == flight.state && pending->client_id == flight.client_id,
              "whoever waited for {} in vain is told of job {:x} ({}) instead of {:x} ({})", flight.cache_key,
              raw(pending->job), to_string(pending->state), raw(flight.number), to_string(flight.state));
  ++figures_[Figure::cache_pending];
  return true;
}

// An attempt has failed that others could follow. Where nobody waits for what was overtaken, none does. In a turn in
// which nobody was answered it may not be known who waits: `next` is what was made of it.
bool Model::is_given_up_for_nobody(ModelJob const& job, JobState next) const {
  if (!job.is_overtaken) return false;
  bool is_unsure = maybe_waiting_ > 0;
  for (auto const& [cookie, waiter] : waiters_) {
    if (waiter.lease || waiter.job != job.number) continue;
    if (waiter.is_sure) return false;
    is_unsure = true;
  }
  return !is_unsure || next == JobState::cancelled;
}

// The job has ended, or the wait.
bool Model::end_flight_wait(shard::Cookie cookie, Waiter const& waiter) {
  Reply const* const reply = reply_to(cookie);
  if (replies_ == nullptr) return true;
  std::string const& key = waiter.cache_key;
  WM_SIM_HOLD(reply != nullptr, "whoever waits for {} was not answered when its job ended", key);
  ModelJob const* const job = find(raw(waiter.job));
  ModelCached::Value* const value = cached_value(key, now_);
  auto const* const cached = std::get_if<CachedReply>(reply);
  if (job != nullptr && job->is_unfinished()) {  // Its wait is over. Or it has ended and is in line again.
    if (cached == nullptr) {
      WM_SIM_HOLD(!is_sure(value), "{} is there, and whoever waited was not answered with it", key);
      return compare_pending(*reply, *job);
    }
    WM_SIM_HOLD(value != nullptr && !cached->computed, "{} is not there, and whoever waited was answered with it", key);
    ++figures_[Figure::cache_put_while_waiting];
    return compare_cached(key, *value, cached->value, cached->times, now_);
  }
  auto const ended = ended_flights_.find(raw(waiter.job));
  bool const is_made = ended != ended_flights_.end() && ended->second == JobState::completed;
  if (cached != nullptr && (is_made || cached->computed)) {
    auto const made = landed_.find(raw(waiter.job));
    WM_SIM_HOLD(made != landed_.end(), "{} was not computed by its flight, and was answered", key);
    WM_SIM_HOLD(cached->computed && cached->collapsed == !waiter.has_begun_it,
                "{} was computed for somebody, and he is told another thing", key);
    bool const is_over_at_once = made->second.times.stale_until <= made->second.times.stored_at;
    WM_SIM_HOLD(cached->stored == (!is_over_at_once && !made->second.is_for_waiters),
                "whether {} is kept is told wrongly to who has waited for it", key);
    ++figures_[waiter.has_begun_it ? Figure::cache_waiter_answered : Figure::cache_collapsed_answered];
    if (is_over_at_once) ++figures_[Figure::cache_made_for_waiters_only];
    if (made->second.is_for_waiters) ++figures_[Figure::cache_overtaken_answered];
    WM_SIM_STEP(compare_cached(key, made->second, cached->value, cached->times, Instant{}));
    if (value != nullptr && value->serial == made->second.serial) {  // Which may have been deleted behind it.
      value->times = made->second.times;
      value->is_guessed = made->second.is_guessed;
    }
    return true;
  }
  WM_SIM_HOLD(!is_made, "{} was computed, and whoever waited for it did not get it", key);
  if (cached != nullptr) {
    WM_SIM_HOLD(value != nullptr, "{} could not be computed and is not there, and was answered", key);
    ++figures_[Figure::cache_stale_on_error];
    return compare_cached(key, *value, cached->value, cached->times, now_);
  }
  WM_SIM_HOLD(!is_sure(value), "{} is there, and whoever waited for it was not answered with it", key);
  auto const* failed = std::get_if<ComputeFailed>(reply);
  WM_SIM_HOLD(failed != nullptr && !failed->remembered, "whoever waited for {} got an answer of another kind", key);
  ++figures_[Figure::cache_waiter_failed];
  CacheFailure const& said = failed->failure;
  if (job != nullptr && job->state == JobState::dead && !job->errors.empty()) {
    // What is remembered is his own job's failing, but for one that was overtaken.
    ModelCached::Failure const* const failure = job->is_overtaken ? nullptr : cached_failure(key, now_);
    if (failure != nullptr && said == failure->said) return true;
    WM_SIM_HOLD(!is_sure(failure), "that {} failed is remembered, and is told otherwise to who has waited", key);
    bool const is_another_remembered = job->is_overtaken && cached_failure(key, now_) != nullptr;
    if (is_another_remembered) ++figures_[Figure::cache_overtaken_failed_after_next];
    JobError const& error = job->errors.front();
    bool const is_unreadable = said.code == "payload_damaged" && may_be_damaged(raw(job->number));
    WM_SIM_HOLD(is_unreadable ||
                    (said.error_class == error.error_class && said.code == error.code && said.message == error.message),
                "whoever waited for {} is told '{}' instead of '{}'", key, said.code, error.code);
  } else {
    WM_SIM_HOLD(said.error_class == ErrorClass::retryable, "{} was cancelled, and that is told to be final", key);
    ++figures_[Figure::cache_flight_taken_away];
  }
  WM_SIM_HOLD(said.until <= now_, "whoever waited for {} is told that its failing is remembered", key);
  return true;
}

// What was put in this turn, by whomever, and is there at its end and fresh, is for all who wait for its key. Their own
// flights have not ended.
bool Model::answer_with_stored() {
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    auto const& [cookie, waits] = *waiter;
    ModelCached::Value* const value = waits.cache_key.empty() ? nullptr : cached_value(waits.cache_key, now_);
    bool const is_due = value != nullptr && value->serial > serial_before_ && value->fresh_least > now_;
    // Whether it is still there nobody can tell where a deletion goes by in parts, of volatile keys. If it is not, he
    // waits on, or his time is over in this very turn.
    Reply const* const told = replies_ == nullptr ? nullptr : find_reply(cookie);
    bool const is_shown = told != nullptr && holds<CachedReply>(*told);
    bool const is_unsure = is_due && !is_sure(value) && !is_shown;
    if (is_unsure) waiter->second.is_sure = false;
    if (!is_due || is_unsure) {
      ++waiter;
      continue;
    }
    Reply const* const reply = reply_to(cookie);
    if (replies_ != nullptr) {
      auto const* const cached = reply == nullptr ? nullptr : std::get_if<CachedReply>(reply);
      WM_SIM_HOLD(cached != nullptr, "{} was put, and whoever waited for it was not answered with it", waits.cache_key);
      WM_SIM_HOLD(!cached->computed && !cached->collapsed, "{} was put, and is said to have been computed",
                  waits.cache_key);
      WM_SIM_STEP(compare_cached(waits.cache_key, *value, cached->value, cached->times, now_));
    }
    ++figures_[value->is_computed ? Figure::cache_answered_by_next_flight : Figure::cache_answered_as_stored];
    waiter = waiters_.erase(waiter);
  }
  return true;
}

bool Model::run(shard::Cookie cookie, ReadCached const& command) {
  ModelCached::Value* const value = cached_value(command.key, now_);
  Reply const* const reply = reply_to(cookie);
  if (replies_ == nullptr) return true;
  WM_SIM_HOLD(reply != nullptr, "a request was not answered");
  if (auto const* cached = std::get_if<CachedReply>(reply)) {
    WM_SIM_HOLD(value != nullptr, "{} was read, and is not there", command.key);
    ++figures_[Figure::cache_cold_read];
    return compare_cached(command.key, *value, cached->value, cached->times, now_);
  }
  WM_SIM_HOLD(holds<CacheMissed>(*reply), "who reads {} got an answer of another kind", command.key);
  WM_SIM_HOLD(!is_sure(value), "{} is there, and cannot be read", command.key);
  ++figures_[Figure::cache_cold_missed];
  return true;
}

// ---- Whoever looks into the index.

bool Model::saw(CacheSeen const& seen) {
  using What = cache::Lookup::What;
  std::string const& key = seen.key;
  auto const& found = seen.found;
  ModelCached::Value* const value = cached_value(key, seen.at);
  ModelCached::Failure const* const failure = cached_failure(key, seen.at);
  bool const is_value_sure = value != nullptr && value->is_sure(seen.evicted);
  bool const is_failure_sure = failure != nullptr && failure->is_sure(seen.evicted);
  switch (found.what) {
    case What::value:
      ++figures_[found.times.is_fresh(seen.at) ? Figure::cache_seen_fresh : Figure::cache_seen_stale];
      WM_SIM_HOLD(value != nullptr, "{} was shown, and is not there", key);
      if (value->is_of_earlier_life) ++figures_[Figure::cache_seen_after_restart];
      WM_SIM_STEP(compare_cached(key, *value, found.value, found.times, seen.at));
      break;
    case What::cold:
      ++figures_[Figure::cache_seen_cold];
      WM_SIM_HOLD(value != nullptr, "{} was shown as cold, and is not there", key);
      WM_SIM_HOLD(!is_volatile(key), "{} is volatile, and was shown as cold", key);
      WM_SIM_STEP(learn_times(key, *value, found.times));
      break;
    case What::failed:
    case What::absent:
      WM_SIM_HOLD(!is_value_sure, "{} is there, and was not shown", key);
      if (value != nullptr) ++figures_[Figure::cache_evicted_missed];
      if (auto const known = cached_.find(key); known != cached_.end() && known->second.value && value == nullptr) {
        ++figures_[Figure::cache_over_missed];
      }
      break;
  }
  if (found.failure) {
    WM_SIM_HOLD(failure != nullptr, "that {} failed was shown, and is not so", key);
    WM_SIM_STEP(compare_failure(key, failure->said, *found.failure));
    ++figures_[Figure::cache_failure_seen];
    if (failure->is_of_earlier_life) ++figures_[Figure::cache_failure_seen_after_restart];
  } else {
    WM_SIM_HOLD(!is_failure_sure, "that {} failed is remembered, and was not shown", key);
  }
  return true;
}

bool Model::compare_cached(std::string const& key, ModelCached::Value& value, CacheValuePtr const& shown,
                           CacheTimes const& times, Instant at) {
  WM_SIM_HOLD(static_cast<bool>(shown), "nothing was shown as the value of {}", key);
  WM_SIM_HOLD(at == Instant{} || !times.is_over(at), "{} was shown {} ms after it was over", key,
              (at - times.stale_until).count());
  WM_SIM_HOLD(shown->key() == key && shown->content_type() == value.content_type && shown->body() == value.body,
              "another value of {} was shown than was put last: '{}' instead of '{}'", key,
              text_of(shown->body()).substr(0, 20), value.body.substr(0, 20));
  return learn_times(key, value, times);
}

bool Model::compare_failure(std::string const& key, CacheFailure const& wanted, CacheFailure const& got) {
  WM_SIM_HOLD(got == wanted, "that {} failed is told as '{}' until {} instead of '{}' until {}", key, got.code,
              to_ms(got.until), wanted.code, to_ms(wanted.until));
  return true;
}

bool Model::compare_cache(std::span<std::string const> keys, std::function<CacheSeen(std::string const&)> const& look) {
  for (std::string const& key : keys) WM_SIM_STEP(saw(look(key)));
  for (auto const& [key, cached] : cached_) WM_SIM_STEP(saw(look(key)));
  return true;
}

}  // namespace workmill::sim
