#include "model/cache_set.h"

#include <algorithm>

#include "sim/checkers/model_detail.h"

// The shared cache: what may be shown for a key, and the jobs that compute it.
namespace workmill::sim {
namespace {

constexpr Duration kComputeTimeMax{(1 << 24) - 1};

std::string text_of(BytesView bytes) { return std::string{bytes}; }

std::uint64_t newest_serial(ModelCached const& cached) {
  return std::max(cached.value ? cached.value->serial : 0, cached.failure ? cached.failure->serial : 0);
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

bool Model::store(std::string const& key, CacheSet const& set, ModelJob const* by, Duration compute_most) {
  Duration const compute_least{by != nullptr ? 1 : 0};
  ModelCached::Value value;
  value.evicted = evicted_before_;
  value.content_type = set.content_type;
  value.body = set.body;
  value.tags = set.tags;
  value.serial = ++cache_serial_;
  value.times = {.stored_at = now_,
                 .fresh_until = now_ + set.fresh,
                 .stale_until = now_ + set.fresh + set.stale,
                 .compute_time = compute_most,
                 .etag = cache_etag(set.content_type, set.body)};
  value.fresh_least = now_ + set.fresh - set.fresh * options_.cache_jitter_permille / 1'000;
  value.compute_least = compute_least;
  value.compute_most = compute_most;
  value.is_guessed = true;
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
  WM_SIM_STEP(overtake(command.key));
  WM_SIM_STEP(store(command.key, command.set));
  CachedReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(!reply->computed && !reply->collapsed, "{} was put, and is said to have been computed", command.key);
  return compare_cached(command.key, *cached_.at(command.key).value, reply->value, reply->times, Instant{});
}

// A report counts, and its job is about to be completed.
bool Model::store_results(ModelJob const& job, Completed const& completed) {
  bool sets_own = false;
  // Of this attempt; the clock may have been behind when it was leased.
  Duration const most = std::max(now_ - job.leased_at, Duration{1});
  for (CacheEntrySet const& entry : completed.cache) {
    bool const is_own = job.is_flight() && entry.key == job.cache_key;
    sets_own = sets_own || is_own;
    if (!is_own) WM_SIM_STEP(overtake(entry.key));
    WM_SIM_STEP(store(entry.key, entry.set, is_own ? &job : nullptr, is_own ? most : Duration{0}));
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
  return store(job.cache_key, set, &job, most);
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
  if (std::holds_alternative<DoneReply>(*reply)) {
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
  WM_SIM_HOLD(std::holds_alternative<CacheMissed>(*reply), "who deletes {} got an answer of another kind", key);
  WM_SIM_HOLD(!was_sure, "{} is there, and was not deleted", key);
  return true;
}

// ---- By tag and prefix, in parts.

bool Model::run(shard::Cookie cookie, ForgetCachedBy const& command) {
  Bulk forget{.cookie = cookie, .command = command, .count = 0, .serial = cache_serial_};
  for (auto const& [number, job] : jobs_) {
    bool const is_begun = job.is_flight() && !job.is_overtaken && job.state == JobState::leased;
    if (is_begun && says_tag(job, command)) forget.flights.emplace(number, job.token);
  }
  return forget_part(std::move(forget));
}

// Its own spec, that is: whatever it computes anew.
bool Model::says_tag(ModelJob const& flight, ForgetCachedBy const& forget) {
  if (forget.tag.empty()) return flight.cache_key.starts_with(forget.prefix);
  return std::ranges::find(flight.cache_tags, forget.tag) != flight.cache_tags.end();
}

// By tag those are meant too whose key has a value with the tag. It may have gone, and then they are not.
bool Model::is_meant(ModelJob const& flight, ForgetCachedBy const& forget) {
  if (says_tag(flight, forget)) return true;
  auto const* const value = cached_value(flight.cache_key, now_);
  if (forget.tag.empty() || value == nullptr || std::ranges::find(value->tags, forget.tag) == value->tags.end()) {
    return false;
  }
  bool const is_meant = is_sure(value) || is_overtaken_next(flight);
  if (is_meant) ++figures_[Figure::cache_refresh_overtaken_by_tag];
  return is_meant;
}

// By this deletion, and not by whoever else may do it in this turn: then what is put or deleted stands behind.
bool Model::is_overtaken_next(ModelJob const& flight) const {
  auto const* const overtaken = next<effect::FlightOvertaken>();
  if (overtaken == nullptr || overtaken->number != flight.number) return false;
  if (is_volatile(flight.cache_key)) return is_reached(flight, false);
  Effect const* const behind = at_ + 1 < effects_.size() ? &effects_[at_ + 1] : nullptr;
  auto const* const stored = behind == nullptr ? nullptr : std::get_if<effect::CacheStored>(behind);
  auto const* const forgotten = behind == nullptr ? nullptr : std::get_if<effect::CacheForgotten>(behind);
  bool const is_of_other = (stored != nullptr && stored->key == flight.cache_key) ||
                           (forgotten != nullptr && forgotten->key == flight.cache_key);
  return !is_of_other || is_reached(flight, false);
}

// Of the flights that have begun, in the order of their keys. Beyond so many a turn, a deletion begins in a later one.
bool Model::overtake_begun(Bulk& forget) {
  auto& command = std::get<ForgetCachedBy>(forget.command);
  if (command.has_seen_flights || flight_looks_ >= options_.steps_max) return true;
  command.has_seen_flights = true;
  std::map<std::string, ModelJob*> begun;
  for (auto& [number, job] : jobs_) {
    bool const is_there = job.is_flight() && !job.is_overtaken && job.has_begun();
    if (is_there && job.cache_key.starts_with(command.prefix)) begun.emplace(job.cache_key, &job);
  }
  flight_looks_ += begun.size();
  for (auto const& [key, flight] : begun) {
    if (!is_meant(*flight, command)) continue;
    WM_SIM_STEP(take_for<effect::FlightOvertaken>(*flight, "an overtaking"));
    overtake(*flight);
    ++figures_[Figure::cache_overtaken_by];
  }
  return true;
}

// Or deleted by itself, in this turn, in which somebody asks for it too.
bool Model::is_to_be_set(std::string const& key) const {
  auto const sets = [&](Report const& report) {
    auto const* const completed = std::get_if<Completed>(&report.outcome);
    return completed != nullptr &&
           std::ranges::find(completed->cache, key, &CacheEntrySet::key) != completed->cache.end();
  };
  auto const asks = [&](Asked const& asked) {
    auto const* const compute = std::get_if<ComputeCached>(&asked.command);
    return compute != nullptr && compute->key == key;
  };
  if (std::ranges::none_of(asked_now_, asks)) return false;
  return std::ranges::any_of(asked_now_, [&](Asked const& asked) {
    if (auto const* put = std::get_if<PutCache>(&asked.command)) return put->key == key;
    if (auto const* forget = std::get_if<ForgetCached>(&asked.command)) return forget->key == key;
    if (auto const* batch = std::get_if<ReportBatch>(&asked.command)) return std::ranges::any_of(batch->reports, sets);
    auto const* const lease = std::get_if<Lease>(&asked.command);
    return lease != nullptr && std::ranges::any_of(lease->reports, sets);
  });
}

// Is it the deletion that has overtaken the flight of a volatile key? Nothing more is written of such a one, and
// whoever puts or deletes it in this turn may have, which makes a difference to who asks for it in between. It was the
// deletion where the next who asks is told of another job; or where there is a value that it cannot have missed; or
// nobody else can have done it.
bool Model::is_reached(ModelJob const& flight, bool is_over) const {
  std::string const& key = flight.cache_key;
  for (Asked const& asked : asked_now_) {
    auto const* const compute = std::get_if<ComputeCached>(&asked.command);
    if (compute == nullptr || compute->key != key || compute->quiet) continue;
    Reply const* const reply = replies_ == nullptr ? nullptr : find_reply(asked.cookie);
    auto const* const pending = reply == nullptr ? nullptr : std::get_if<CachePending>(reply);
    if (pending != nullptr) return pending->job != flight.number;
    break;
  }
  auto const found = cached_.find(key);
  bool const is_there = found != cached_.end() && found->second.value && !found->second.value->times.is_over(now_) &&
                        found->second.value->is_sure(evicted_after_);
  return (is_over && is_there) || !is_to_be_set(key);
}

// Of the key of an entry that is forgotten next. False: the next record is none such.
bool Model::take_overtaking(ForgetCachedBy const& forget, bool is_over) {
  auto const* const overtaken = next<effect::FlightOvertaken>();
  if (overtaken == nullptr) return false;
  ModelJob* const flight = find(JobRef{.number = overtaken->number, .text = {}});
  if (flight == nullptr || !flight->is_flight() || flight->is_overtaken || !flight->has_begun()) return false;
  auto const* const behind =
      at_ + 1 < effects_.size() ? std::get_if<effect::CacheForgotten>(&effects_[at_ + 1]) : nullptr;
  auto const found = cached_.find(flight->cache_key);
  bool const is_of_entry = is_volatile(flight->cache_key) ? is_reached(*flight, is_over)
                                                          : behind != nullptr && behind->key == flight->cache_key;
  if (!is_of_entry || (found != cached_.end() && !matches(found->first, found->second, forget))) return false;
  ++at_;
  overtake(*flight);
  return true;
}

// All that were leased when the deletion began, and still are.
bool Model::are_overtaken(Bulk const& forget) {
  for (auto const& [number, token] : forget.flights) {
    ModelJob const* const job = find(number);
    bool const is_same = job != nullptr && job->state == JobState::leased && job->token == token;
    WM_SIM_HOLD(!is_same || job->is_overtaken, "job {:x} computes {}, which was deleted meanwhile", number,
                job->cache_key);
  }
  return true;
}

bool Model::matches(std::string const& key, ModelCached const& cached, ForgetCachedBy const& forget) const {
  if (forget.tag.empty()) return key.starts_with(forget.prefix);
  return cached.value && std::ranges::find(cached.value->tags, forget.tag) != cached.value->tags.end();
}

// What was there at the beginning must be forgotten at the end; of what has come meanwhile nobody knows. Of volatile
// keys nothing is written. Whether it is over is known by its answer: where nobody is answered, turn() finds out.
bool Model::forget_part(Bulk forget) {
  WM_SIM_STEP(overtake_begun(forget));
  auto const& command = std::get<ForgetCachedBy>(forget.command);
  if (!command.has_seen_flights) {
    ++figures_[Figure::cache_deletion_begun_later];
    bulks_.push_back(std::move(forget));
    return true;
  }
  // Nobody deletes a single key while this is under way. But what was evicted may stand behind.
  auto const answer = replies_ == nullptr ? nullptr : find_reply(forget.cookie);
  auto const* const counted = answer == nullptr ? nullptr : std::get_if<CountReply>(answer);
  if (++forget.parts == 2) ++figures_[Figure::cache_forgotten_in_parts];
  while (true) {
    if (take_overtaking(command, answer != nullptr)) continue;
    auto const* const forgotten = next<effect::CacheForgotten>();
    if (forgotten == nullptr || (counted != nullptr && forget.count == counted->count)) break;
    auto const found = cached_.find(std::string{forgotten->key});
    if (found != cached_.end() && !matches(found->first, found->second, command)) break;
    ++at_;
    ++forget.count;
    if (found == cached_.end()) continue;  // It was over when it was deleted, and has not been swept.
    ++figures_[Figure::cache_forgotten_by];
    if (newest_serial(found->second) > forget.serial) ++figures_[Figure::cache_put_before_a_part];
    cached_.erase(found);
  }
  forget.unsure += gone_now_.size();
  bool const is_over = answer != nullptr;
  if (is_over) WM_SIM_STEP(are_overtaken(forget));
  WM_SIM_STEP(forget_rest(forget, is_over));
  if (!is_over) {
    bulks_.push_back(std::move(forget));
    return true;
  }
  CountReply const* reply = nullptr;
  WM_SIM_STEP(expect(forget.cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD((reply->count >= forget.count && reply->count <= forget.count + forget.unsure) ||
                  !options_.cache_volatile.empty(),
              "{} were forgotten, and {} written down", reply->count, forget.count);
  return true;
}

// Of those that are meant, and of which no record says that they are gone.
bool Model::forget_rest(Bulk const& forget, bool is_over) {
  auto const& command = std::get<ForgetCachedBy>(forget.command);
  auto const may_be_gone = [](ModelCached& cached) {
    if (cached.value) cached.value->may_be_gone = true;
    if (cached.failure) cached.failure->may_be_gone = true;
  };
  for (auto entry = cached_.begin(); entry != cached_.end();) {
    auto const next_entry = std::next(entry);
    auto& [key, cached] = *entry;
    bool const was_there = newest_serial(cached) <= forget.serial;
    bool const is_shown = cached.value && !cached.value->times.is_over(now_);
    bool const is_told = cached.failure && now_ < cached.failure->said.until;
    bool const is_sure = (!cached.value || cached.value->is_sure(evicted_after_)) &&
                         (!cached.failure || cached.failure->is_sure(evicted_after_));
    if (!matches(key, cached, command)) {
      // Not meant.
    } else if (!command.tag.empty() && !is_shown) {
      // Tags are those of the value, and go with it. What is over may still have them, and what is remembered beside it
      // goes along.
      if (cached.failure) cached.failure->may_be_gone = true;
    } else if (!is_over || !was_there) {
      if (is_volatile(key)) may_be_gone(cached);
      if (is_over) ++figures_[Figure::cache_put_behind_a_part];
    } else if (!is_shown && !is_told) {
      may_be_gone(cached);  // What is over is left to be swept, and may be copied before.
    } else {
      // Its record may have been taken for that of what had to make room: take_evictions() could not tell.
      WM_SIM_HOLD(is_volatile(key) || !is_sure || gone_now_.contains(key),
                  "{} ({}) was to be forgotten with all of its {}, and was not", key,
                  is_shown ? "a value" : "a failure", command.tag.empty() ? "prefix" : "tag");
      if (!command.tag.empty() && cached.failure && !cached.value->is_sure(evicted_after_)) {
        // Where the value had gone before, what is remembered has no tag and stays.
        cached.value.reset();
        cached.failure->may_be_gone = true;
      } else {
        cached_.erase(entry);
      }
    }
    entry = next_entry;
  }
  return true;
}

// ---- Whoever asks.

// Its record is next, perhaps behind those of a job that made room for it, and of what was forgotten by that.
bool Model::begins_flight(Bytes const& spec) const {
  for (std::size_t i = at_; i < effects_.size() && i < at_ + 4; ++i) {
    if (auto const* made = std::get_if<effect::JobEnqueued>(&effects_[i])) return made->spec == spec;
    if (!std::holds_alternative<effect::JobCancelled>(effects_[i]) &&
        !std::holds_alternative<effect::JobForgotten>(effects_[i]))
      return false;
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
                        (is_sure(value) || (cached->value && cached->value->body() == value->body));
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
                                  .deadline = now_ + command.wait,
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
      WM_SIM_HOLD(!is_sure(value) || options_.cache_is_small,
                  "{} is there, and whoever waited was not answered with it", key);
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
  WM_SIM_HOLD(std::holds_alternative<CacheMissed>(*reply), "who reads {} got an answer of another kind", command.key);
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

// ---- What becomes of it besides.

// The value goes. What is remembered of a failure stays.
void Model::damage_cached(std::string const& key) {
  auto const found = cached_.find(key);
  if (found != cached_.end() && found->second.value) found->second.value->may_be_gone = true;
}

// Of the life before, `evicted` entries had been evicted by its end. What was not among them, has to be there.
void Model::restart_cache(std::uint64_t evicted) {
  for (auto entry = cached_.begin(); entry != cached_.end();) {
    auto& [key, cached] = *entry;
    if (is_volatile(key)) {
      ++figures_[Figure::cache_volatile_lost];
      entry = cached_.erase(entry);
      continue;
    }
    auto const go_on = [evicted](ModelCached::Kept& kept) {
      kept.may_be_gone = !kept.is_sure(evicted);
      kept.evicted = 0;
      kept.is_of_earlier_life = true;
    };
    if (cached.value) go_on(*cached.value);
    if (cached.failure) go_on(*cached.failure);
    ++entry;
  }
}

// By somebody in this turn.
bool Model::is_to_be_deleted(std::string const& key, std::span<Asked const> asked) const {
  auto const found = cached_.find(key);
  auto const deletes = [&](Command const& command) {
    if (auto const* one = std::get_if<ForgetCached>(&command)) return one->key == key;
    auto const* many = std::get_if<ForgetCachedBy>(&command);
    return many != nullptr && found != cached_.end() && matches(key, found->second, *many);
  };
  return std::ranges::any_of(asked, deletes, &Asked::command) || std::ranges::any_of(bulks_, deletes, &Bulk::command);
}

// What had to go to make room, or was damaged, is written down as gone before anything is decided. Where the first to
// ask deletes such a key, nobody can say whose record it is: it is as good for both. What is there for sure has not
// gone, so its record is that of a deletion. But a failure may have been remembered since its key has gone: then it is
// written once more.
bool Model::take_evictions(std::span<Asked const> asked) {
  gone_now_.clear();
  while (auto const* gone = next<effect::CacheForgotten>()) {
    std::string key{gone->key};
    auto const found = cached_.find(key);
    bool const is_value_sure = is_sure(cached_value(key, now_));
    bool const is_failure_kept = !is_value_sure && cached_failure(key, now_) != nullptr && is_written_again(key);
    if (is_value_sure || (is_sure(cached_failure(key, now_)) && !is_failure_kept)) break;
    ++at_;
    ++figures_[Figure::cache_eviction_written];
    if (is_failure_kept) {
      ++at_;
      ++figures_[Figure::cache_failure_written_again];
      found->second.value.reset();
    } else if (found != cached_.end() && !is_to_be_deleted(key, asked)) {
      cached_.erase(found);
    }
    gone_now_.insert(std::move(key));
  }
  return true;
}

// Right behind the next record.
bool Model::is_written_again(std::string const& key) {
  if (at_ + 1 >= effects_.size()) return false;
  auto const* again = std::get_if<effect::CacheFailed>(&effects_[at_ + 1]);
  CacheFailure const& said = cached_failure(key, now_)->said;
  return again != nullptr && again->key == key && again->error_class == said.error_class && again->code == said.code &&
         again->message == said.message && again->until == said.until;
}

bool Model::take_cache_copy(effect::CacheStored const& copy) {
  std::string const key{copy.key};
  auto const found = cached_.find(key);
  WM_SIM_HOLD(copy.is_copy, "a value of {} that nobody put", key);
  WM_SIM_HOLD(found != cached_.end() && found->second.value, "{} was copied ahead, and is not there", key);
  ModelCached::Value const& value = *found->second.value;
  Bytes tags;
  encode_cache_tags(value.tags, tags);
  CacheTimes const times{.stored_at = copy.stored_at,
                         .fresh_until = copy.fresh_until,
                         .stale_until = copy.stale_until,
                         .compute_time = copy.compute_time,
                         .etag = copy.etag};
  WM_SIM_HOLD(
      copy.content_type == value.content_type && copy.body == value.body && copy.tags == tags && times == value.times,
      "the value of {} was copied ahead wrongly", key);
  ++figures_[Figure::cache_value_copied];
  return true;
}

bool Model::take_cache_copy(effect::CacheFailed const& copy) {
  std::string const key{copy.key};
  auto const found = cached_.find(key);
  WM_SIM_HOLD(found != cached_.end() && found->second.failure, "that {} failed was copied ahead, and is not so", key);
  CacheFailure const& said = found->second.failure->said;
  WM_SIM_HOLD(copy.error_class == said.error_class && copy.code == said.code && copy.message == said.message &&
                  copy.until == said.until,
              "that {} failed was copied ahead wrongly", key);
  ++figures_[Figure::cache_failure_copied];
  return true;
}

}  // namespace workmill::sim
