#include "model/cache_set.h"

#include <algorithm>

#include "base/variant.h"
#include "sim/checkers/model_detail.h"

// The shared cache: what there is for a key, and the jobs that compute it.
namespace workmill::sim {
namespace {

constexpr Duration kComputeTimeMax{(1 << 24) - 1};

struct ComputeTime {
  Duration least{}, most{};
};

// As it is made now. What chance takes off its fresh time and what it took to compute it are still to be learnt.
ModelCached::Value value_of(CacheSet const& set, Instant now, std::uint32_t jitter_permille, ComputeTime const& took) {
  ModelCached::Value value;
  value.content_type = set.content_type;
  value.body = set.body;
  value.times = {.stored_at = now,
                 .fresh_until = now + set.fresh,
                 .stale_until = now + set.fresh + set.stale,
                 .compute_time = took.most,
                 .etag = cache_etag(set.content_type, set.body)};
  value.fresh_least = now + set.fresh - set.fresh * jitter_permille / 1'000;
  value.compute_least = took.least;
  value.compute_most = took.most;
  value.is_guessed = true;
  return value;
}

}  // namespace

// Not taken.
Reply const* Model::find_reply(shard::Cookie cookie) const {
  auto const found = replies_->find(cookie);
  return found == replies_->end() ? nullptr : &found->second;
}

bool Model::is_volatile(std::string const& key) const { return begins_with_any(key, options_.cache_volatile); }

ModelCached::Value* Model::cached_value(std::string const& key, Instant at) {
  auto const found = cached_.find(key);
  if (found == cached_.end() || !found->second.value || found->second.value->times.is_over(at)) return nullptr;
  return &*found->second.value;
}

ModelCached::Failure* Model::cached_failure(std::string const& key, Instant at) {
  auto const found = cached_.find(key);
  if (found == cached_.end() || !found->second.failure || at >= found->second.failure->said.until) return nullptr;
  return &*found->second.failure;
}

// ---- What changes it.

// Somebody puts or deletes it. A flight that may have read before is one no more.
bool Model::overtake(std::string const& key) {
  ModelJob* const flight = flight_of(key);
  if (flight == nullptr || !flight->has_begun()) return true;
  WM_SIM_STEP(take_for<effect::FlightOvertaken>(*flight, "an overtaking"));
  overtake(*flight);
  return true;
}

void Model::overtake(ModelJob& flight) {
  flight.is_overtaken = true;
  ++figures_[flight.state == JobState::leased ? Figure::cache_flight_overtaken : Figure::cache_checkpoint_overtaken];
}

// As docs/reference/cache.md has it.
bool Model::has_cache_room(std::string const& key, CacheSet const& set) const {
  if (is_volatile(key)) {
    auto const value = CacheValue::make(key, set.content_type, set.body);
    return value->allocation_bytes() <= cache::value_bytes_max(options_.cache_memory_bytes);
  }
  std::size_t bytes = 64 + key.size() + set.content_type.size() + set.body.size();
  for (std::string const& tag : set.tags) bytes += 1 + tag.size();
  return bytes <= options_.cache_disk_bytes;
}

bool Model::store_of_report(std::string const& key, CacheSet const& set, ModelJob const* by, Duration compute_most,
                            ReportResult& result) {
  if (has_cache_room(key, set)) return store(key, set, by, compute_most);
  ++figures_[Figure::cache_not_stored_too_large];
  // Of what was overtaken nothing is said: what took its place is there, or nothing. Else there is nothing, at once.
  bool const is_kept = by == nullptr || !by->is_overtaken;
  if (is_kept) result.not_stored.push_back(key);
  if (is_kept) WM_SIM_STEP(store(key, CacheSet{.content_type = set.content_type}, by, compute_most));
  if (by == nullptr) return true;
  ModelCached::Value made =
      value_of(set, now_, options_.cache_jitter_permille, {.least = Duration{1}, .most = compute_most});
  made.is_for_waiters = true;
  landed_[raw(by->number)] = std::move(made);
  return true;
}

bool Model::store(std::string const& key, CacheSet const& set, ModelJob const* by, Duration compute_most) {
  Duration const compute_least{by != nullptr ? 1 : 0};
  ModelCached::Value value =
      value_of(set, now_, options_.cache_jitter_permille, {.least = compute_least, .most = compute_most});
  value.evicted = evicted_before_;
  value.tags = set.tags;
  value.serial = ++cache_serial_;
  value.is_computed = by != nullptr;
  value.is_for_waiters = by != nullptr && by->is_overtaken;
  if (value.is_for_waiters) {
    landed_[raw(by->number)] = value;
    return true;
  }
  if (is_volatile(key)) {
    ++figures_[Figure::cache_stored_volatile];
  } else {
    auto const* written = take<effect::CacheStored>();
    if (written == nullptr) return false;
    WM_SIM_HOLD(written->key == key && !written->is_copy, "the value of {} is written down for {}", key, written->key);
    WM_SIM_HOLD(written->content_type == value.content_type && written->body == value.body,
                "another value of {} is written down than was put", key);
    Bytes tags;
    encode_cache_tags(set.tags, tags);
    WM_SIM_HOLD(written->tags == tags, "the value of {} is written down with other tags", key);
    CacheTimes const times{.stored_at = written->stored_at,
                           .fresh_until = written->fresh_until,
                           .stale_until = written->stale_until,
                           .compute_time = written->compute_time,
                           .etag = written->etag};
    WM_SIM_STEP(learn_times(key, value, times));
  }
  ModelCached& cached = cached_[key];
  if (cached.failure) ++figures_[Figure::cache_value_ends_failure];
  ++figures_[Figure::cache_stored];
  if (cached.value && cached.value->serial > serial_before_) ++figures_[Figure::cache_replaced_undurable];
  cached.failure.reset();
  cached.value = value;
  if (by != nullptr) landed_[raw(by->number)] = value;
  return true;
}

// Where the rules leave the server a choice, it must be a legal one.
bool Model::learn_times(std::string const& key, ModelCached::Value& value, CacheTimes const& times) {
  WM_SIM_HOLD(times.stored_at == value.times.stored_at && times.etag == value.times.etag,
              "the value of {} was stored at another time, or is another", key);
  WM_SIM_HOLD(times.stale_until == value.times.stale_until, "the value of {} counts until {} instead of {}", key,
              to_ms(times.stale_until), to_ms(value.times.stale_until));
  if (!value.is_guessed) {
    CacheTimes known = value.times;  // The index keeps a long compute time as the longest that it can.
    if (times.compute_time == kComputeTimeMax) known.compute_time = std::min(known.compute_time, kComputeTimeMax);
    WM_SIM_HOLD(times == known, "the value of {} is fresh until {} instead of {}, or took {} ms instead of {}", key,
                to_ms(times.fresh_until), to_ms(value.times.fresh_until), times.compute_time.count(),
                value.times.compute_time.count());
    return true;
  }
  WM_SIM_HOLD(times.fresh_until >= value.fresh_least && times.fresh_until <= value.times.fresh_until,
              "the value of {} is fresh until {}, not from {} to {}", key, to_ms(times.fresh_until),
              to_ms(value.fresh_least), to_ms(value.times.fresh_until));
  WM_SIM_HOLD(times.compute_time >= value.compute_least && times.compute_time <= value.compute_most,
              "the value of {} took {} ms, not {} to {}", key, times.compute_time.count(), value.compute_least.count(),
              value.compute_most.count());
  if (times.fresh_until < value.times.fresh_until) ++figures_[Figure::cache_jittered];
  value.times = times;
  value.is_guessed = false;
  return true;
}

bool Model::run(shard::Cookie cookie, PutCache const& command) {
  if (!has_cache_room(command.key, command.set)) {
    ++figures_[Figure::cache_refused_too_large];
    return expect_error(cookie, ErrorCode::payload_too_large);
  }
  outdate_fetches(command.key);
  WM_SIM_STEP(overtake(command.key));
  WM_SIM_STEP(store(command.key, command.set));
  CachedReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(!reply->computed && !reply->collapsed, "{} was put, and is said to have been computed", command.key);
  return compare_cached(command.key, *cached_.at(command.key).value, reply->value, reply->times, Instant{});
}

// A report counts, and its job is about to be completed.
bool Model::store_results(ModelJob const& job, Completed const& completed, ReportResult& result) {
  bool sets_own = false;
  // Of this attempt; the clock may have been behind when it was leased.
  Duration const most = std::max(now_ - job.leased_at, Duration{1});
  for (CacheEntrySet const& entry : completed.cache) {
    bool const is_own = job.is_flight() && entry.key == job.cache_key;
    sets_own = sets_own || is_own;
    if (!is_own) WM_SIM_STEP(overtake(entry.key));
    WM_SIM_STEP(store_of_report(entry.key, entry.set, is_own ? &job : nullptr, is_own ? most : Duration{0}, result));
    ++figures_[is_own ? Figure::cache_set_by_its_flight : Figure::cache_set_by_report];
  }
  if (!job.is_flight()) return true;
  ++figures_[Figure::cache_computed];
  if (sets_own) return true;
  CacheSet set{
      .content_type = completed.result_kind == PayloadKind::raw ? "application/octet-stream" : "application/json",
      .body = completed.result_kind == PayloadKind::none ? Bytes{"null"} : completed.result,
      .fresh = job.cache_fresh,
      .stale = job.cache_stale,
      .tags = job.cache_tags};
  return store_of_report(job.cache_key, set, &job, most, result);
}

// A job has just become dead.
bool Model::fail_flight(ModelJob const& job, ErrorClass error_class, std::string_view code, std::string_view message) {
  if (!job.is_flight() || job.is_overtaken || job.cache_error_for <= Duration{0}) return true;
  std::string const& key = job.cache_key;
  ModelCached::Failure failure;
  failure.evicted = evicted_before_;
  failure.serial = ++cache_serial_;
  failure.said = {
      .error_class = error_class, .code = Bytes{code}, .message = Bytes{message}, .until = now_ + job.cache_error_for};
  if (!is_volatile(key)) {
    auto const* written = take<effect::CacheFailed>();
    if (written == nullptr) return false;
    WM_SIM_HOLD(written->key == key && written->error_class == error_class && written->code == code &&
                    written->message == message && written->until == failure.said.until,
                "that {} could not be computed is written down wrongly", key);
  }
  ++figures_[Figure::cache_failure_remembered];
  if (cached_value(key, now_) != nullptr) ++figures_[Figure::cache_failure_beside_value];
  cached_[key].failure = std::move(failure);
  return true;
}

bool Model::run(shard::Cookie cookie, ForgetCached const& command) {
  std::string const& key = command.key;
  outdate_fetches(key);
  auto const* const value = cached_value(key, now_);
  auto const* const failure = cached_failure(key, now_);
  bool const was_there = value != nullptr || failure != nullptr;
  bool const was_sure = is_sure(value) || is_sure(failure);
  if (flight_of(key) != nullptr) ++figures_[Figure::cache_forgotten_in_flight];
  WM_SIM_STEP(overtake(key));
  auto const* const written = next<effect::CacheForgotten>();
  bool const is_written = written != nullptr && written->key == key;
  // From here on it must not be seen, though it was not to be found. What is over was not looked for.
  if (was_there) cached_.erase(key);
  if (replies_ == nullptr) {
    if (is_written) ++at_;
    return true;
  }
  Reply const* const reply = reply_to(cookie);
  WM_SIM_HOLD(reply != nullptr, "a request was not answered");
  if (holds<DoneReply>(*reply)) {
    bool const is_gone = gone_now_.contains(key);
    WM_SIM_HOLD(was_there || is_gone, "{} was deleted, and was not there", key);
    WM_SIM_HOLD(is_volatile(key) || is_written || is_gone, "{} was deleted, and that was not written down", key);
    if (is_written) ++at_;
    ++figures_[Figure::cache_forgotten];
    return true;
  }
  if (is_written) {  // As not all that is gone was written down before. Or a deletion by tag came by what is over.
    ++at_;
    gone_now_.insert(key);
  }
  WM_SIM_HOLD(holds<CacheMissed>(*reply), "who deletes {} got an answer of another kind", key);
  WM_SIM_HOLD(!was_sure, "{} is there, and was not deleted", key);
  return true;
}

}  // namespace workmill::sim
