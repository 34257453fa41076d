#include <algorithm>

#include "sim/checkers/model_detail.h"

// Deletions from the shared cache by tag and by prefix, which take several turns.
namespace workmill::sim {
namespace {

std::uint64_t newest_serial(ModelCached const& cached) {
  return std::max(cached.value ? cached.value->serial : 0, cached.failure ? cached.failure->serial : 0);
}

}  // namespace

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
bool Model::is_overtaken_next(ModelJob const& flight) {
  auto const* const overtaken = next<effect::FlightOvertaken>();
  if (overtaken == nullptr || overtaken->number != flight.number) return false;
  if (is_volatile(flight.cache_key)) return is_reached(flight, std::nullopt);
  Effect const* const behind = at_ + 1 < effects_.size() ? &effects_[at_ + 1] : nullptr;
  auto const* const stored = behind == nullptr ? nullptr : std::get_if<effect::CacheStored>(behind);
  auto const* const forgotten = behind == nullptr ? nullptr : std::get_if<effect::CacheForgotten>(behind);
  bool const is_of_other = (stored != nullptr && stored->key == flight.cache_key) ||
                           (forgotten != nullptr && forgotten->key == flight.cache_key);
  return !is_of_other || is_reached(flight, std::nullopt);
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

// Or deleted by itself, in this turn, in which somebody asks for it too. What is refused is not set.
bool Model::is_to_be_set(std::string const& key) const {
  auto const sets = [&](Report const& report) {
    auto const* const completed = std::get_if<Completed>(&report.outcome);
    return completed != nullptr &&
           std::ranges::find(completed->cache, key, &CacheEntrySet::key) != completed->cache.end();
  };
  if (computes_left(key).empty()) return false;
  return std::ranges::any_of(asked_now_, [&](Asked const& asked) {
    if (auto const* put = std::get_if<PutCache>(&asked.command)) {
      return put->key == key && has_cache_room(key, put->set);
    }
    if (auto const* forget = std::get_if<ForgetCached>(&asked.command)) return forget->key == key;
    if (auto const* batch = std::get_if<ReportBatch>(&asked.command)) return std::ranges::any_of(batch->reports, sets);
    auto const* const lease = std::get_if<Lease>(&asked.command);
    return lease != nullptr && std::ranges::any_of(lease->reports, sets);
  });
}

// Is it the deletion that has overtaken the flight of a volatile key? Nothing more is written of such a one, and
// whoever puts or deletes it in this turn may have, which makes a difference to who asks for it in between. Where the
// first who asks is told of the flight, and not to wait, it was not. Else it is likely where he is told of another, or
// has begun another (he may have been answered with what was put in this very turn); or where there is a value that the
// deletion cannot have missed, as it would what was put since its first part.
bool Model::is_reached(ModelJob const& flight, std::optional<std::uint64_t> over_since) {
  std::string const& key = flight.cache_key;
  if (!is_to_be_set(key)) return true;
  auto const found = cached_.find(key);
  bool const is_value = found != cached_.end() && found->second.value && !found->second.value->times.is_over(now_);
  auto const has_begun = [&](Bytes const& spec) {
    return std::ranges::any_of(effects_, [&](Effect const& effect) {
      auto const* const made = std::get_if<effect::JobEnqueued>(&effect);
      return made != nullptr && made->spec == spec;
    });
  };
  for (Asked const* const asked : computes_left(key)) {
    auto const& compute = std::get<ComputeCached>(asked->command);
    if (has_begun(compute.spec)) return guess(true);
    if (compute.quiet) continue;
    Reply const* const reply = replies_ == nullptr ? nullptr : find_reply(asked->cookie);
    auto const* const pending = reply == nullptr ? nullptr : std::get_if<CachePending>(reply);
    if (pending != nullptr) return pending->job != flight.number && guess(true);
    auto const* const cached = reply == nullptr ? nullptr : std::get_if<CachedReply>(reply);
    if (cached != nullptr && !cached->computed && !is_value) return guess(false);
    break;
  }
  return guess(over_since && is_value && found->second.value->is_sure(evicted_after_) &&
               found->second.value->serial <= *over_since);
}

// Of the key of an entry that is forgotten next. False: the next record is none such.
bool Model::take_overtaking(Bulk const& forget, std::optional<std::uint64_t> over_since) {
  auto const* const overtaken = next<effect::FlightOvertaken>();
  if (overtaken == nullptr) return false;
  ModelJob* const flight = find(JobRef{.number = overtaken->number, .text = {}});
  if (flight == nullptr || !flight->is_flight() || flight->is_overtaken || !flight->has_begun()) return false;
  auto const* const behind =
      at_ + 1 < effects_.size() ? std::get_if<effect::CacheForgotten>(&effects_[at_ + 1]) : nullptr;
  std::string const& key = flight->cache_key;
  auto const found = cached_.find(key);
  auto const& command = std::get<ForgetCachedBy>(forget.command);
  if (found != cached_.end() && !matches(key, found->second, command)) return false;
  if (is_volatile(key)) {
    bool const is_there =
        cached_value(key, now_) != nullptr || (command.tag.empty() && cached_failure(key, now_) != nullptr);
    if (!is_there || !is_reached(*flight, over_since)) return false;
  } else if (behind == nullptr || behind->key != key) {
    return false;
  }
  ++at_;
  overtake(*flight);
  // Which the later parts do to no flight but of what they find and delete.
  if (forget.parts > 1 && is_volatile(key)) cached_.erase(found);
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
    if (take_overtaking(forget, answer != nullptr ? std::optional{forget.serial} : std::nullopt)) continue;
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

}  // namespace workmill::sim
