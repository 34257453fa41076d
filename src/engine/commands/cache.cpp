#include <algorithm>
#include <string_view>
#include <utility>

#include "base/mutation.h"
#include "base/rng.h"
#include "engine/commands/decide.h"
#include "model/cache_set.h"

// What is stored in the shared cache, and forgotten. The engine keeps none of it: it decides and writes down, and the
// shard keeps what stands there (shard/cache_desk.h). So it also does not know what there is: that is asked before.
namespace workmill::engine {
namespace {

// A part of `fresh` to take off, up to the jitter, so that what was stored together is not over together. `nth` of the
// stores of one decision.
Duration draw_jitter(Duration fresh, std::uint64_t nth, State const& state, Context const& context) {
  // Windows are a year at most and the jitter a thousandth's multiple below 1,000: there is no overflow.
  auto const span = fresh.count() * static_cast<std::int64_t>(state.options().cache_jitter_permille) / 1'000;
  if (span <= 0) return Duration{0};
  Rng chance{mix64(context.chance + nth)};
  return Duration{static_cast<std::int64_t>(chance.below(static_cast<std::uint64_t>(span) + 1))};
}

bool is_volatile(std::string_view key, State const& state) {
  return begins_with_any(key, state.options().cache_volatile);
}

template <class E>
void write(E const& effect, State const& state, Effects& out) {
  if (is_volatile(effect.key, state)) {
    out.show(effect);
  } else {
    out.emit(effect);
  }
}

// Can the cache hold it, if it holds nothing else?
bool has_room(std::string_view key, std::string_view content_type, BytesView body, BytesView tags, State const& state) {
  EngineOptions const& options = state.options();
  if (WM_MUTATION(keeps_what_no_budget_holds)) return true;
  if (is_volatile(key, state)) {
    return CacheValue::allocation_bytes_of(key, content_type, body) <= options.cache_volatile_bytes_max;
  }
  return cache_record_bytes_max(key, content_type, body, tags) <= options.cache_record_bytes_max;
}

struct Windows {
  Duration fresh;
  Duration stale;
};

// `of`: the flight that has computed it, and 0 where none has; `since`: when its attempt began.
struct Origin {
  JobNumber of{};
  Instant since{};
  bool is_overtaken = false;
};

// False: it is to be stored, and the cache can never hold it. Who waits for it gets it, and what was there before goes
// all the same, as that is older: it is written down as a value of nothing that is over at once.
bool store(std::string_view key, std::string_view content_type, BytesView body, BytesView tags, Windows const& windows,
           Origin const& origin, std::uint64_t nth, State const& state, Context const& context, Effects& out) {
  bool const is_computed = origin.of != JobNumber{};
  Duration const jitter = draw_jitter(windows.fresh, nth, state, context);
  effect::CacheStored const stored{
      .key = key,
      .content_type = content_type,
      .body = body,
      .tags = tags,
      .stored_at = context.now,
      .fresh_until = context.now + windows.fresh - (WM_MUTATION(jitter_lengthens) ? -jitter : jitter),
      .stale_until = context.now + windows.fresh + windows.stale,
      // A millisecond at least, as 0 says that no job made it.
      .compute_time = is_computed ? std::max(context.now - origin.since, Duration{1}) : Duration{0},
      .etag = cache_etag(content_type, body)};
  bool const is_current = !origin.is_overtaken || WM_MUTATION(overtaken_results_are_stored);
  bool const has_room = engine::has_room(key, content_type, body, tags, state);
  if (is_current && has_room) write(stored, state, out);
  if (is_current && !has_room) {
    write(effect::CacheStored{.key = key,
                              .content_type = content_type,
                              .stored_at = context.now,
                              .fresh_until = context.now,
                              .stale_until = context.now,
                              .compute_time = stored.compute_time,
                              .etag = cache_etag(content_type, {})},
          state, out);
  }
  if (is_computed) out.landed(origin.of, stored, is_current && has_room);
  return has_room || !is_current;
}

bool store(std::string_view key, CacheSet const& set, BytesView tags, Origin const& origin, std::uint64_t nth,
           State const& state, Context const& context, Effects& out) {
  return store(key, set.content_type, set.body, tags, {.fresh = set.fresh, .stale = set.stale}, origin, nth, state,
               context, out);
}

Bytes encoded_tags(CacheSet const& set) {
  Bytes tags;
  encode_cache_tags(set.tags, tags);
  return tags;
}

// Somebody puts or deletes the key. A computation that is under way may have read what is not so any more.
void overtake(std::string_view key, State const& state, Effects& out) {
  auto const begun = state.begun_flights().find(key);
  if (begun == state.begun_flights().end()) return;
  JobNumber const number = begun->second;
  out.emit(effect::FlightOvertaken{.number = number}, state.find(number));
}

std::string_view content_type_of(PayloadKind kind) {
  return kind == PayloadKind::raw ? "application/octet-stream" : "application/json";
}

}  // namespace

Reply decide(PutCache const& command, State const& state, Context const& context, Effects& out) {
  Bytes const tags = encoded_tags(command.set);
  if (!has_room(command.key, command.set.content_type, command.set.body, tags, state)) {
    return Error{.code = ErrorCode::payload_too_large,
                 .message =
                     "the cache can never hold it: it is larger than a budget (cache_disk; for volatile keys "
                     "half of cache_memory)",
                 .field = "value"};
  }
  overtake(command.key, state, out);
  store(command.key, command.set, tags, {}, 0, state, context, out);
  return DoneReply{};
}

Reply decide(ForgetCached const& command, State const& state, Context const&, Effects& out) {
  overtake(command.key, state, out);
  note_cached_gone(command.key, state, out);
  return DoneReply{};
}

void note_cached_gone(std::string_view key, State const& state, Effects& out) {
  write(effect::CacheForgotten{.key = key}, state, out);
}

std::size_t overtake_flights(std::string_view prefix, FlightFilter const& is_meant, State const& state, Effects& out) {
  auto const& begun = state.begun_flights();
  std::vector<JobNumber> meant;  // An effect may take a flight out of what is walked.
  std::size_t looked_at = 0;
  for (auto next = begun.lower_bound(prefix); next != begun.end() && next->first.starts_with(prefix); ++next) {
    ++looked_at;
    JobSlot const& job = state.job(state.find(next->second));
    if (is_meant(next->first, state.flight(job)->tags)) meant.push_back(next->second);
  }
  for (JobNumber const number : meant) out.emit(effect::FlightOvertaken{.number = number}, state.find(number));
  return looked_at;
}

std::vector<std::string> store_results(JobSlot const& job, Completed const& completed, State const& state,
                                       Context const& context, Effects& out) {
  Flight const* const flight = state.flight(job);
  Origin own;
  if (flight != nullptr) {  // Of this attempt: a token says when it was granted.
    own = {.of = job.number, .since = created_at(JobNumber{job.order}), .is_overtaken = flight->is_overtaken};
  }
  std::vector<std::string> not_stored;
  std::uint64_t nth = 0;
  bool sets_own = false;
  for (CacheEntrySet const& entry : completed.cache) {
    bool const is_own = flight != nullptr && entry.key == flight->key;
    sets_own |= is_own;
    if (!is_own) overtake(entry.key, state, out);
    Bytes const tags = encoded_tags(entry.set);
    bool const is_stored = store(entry.key, entry.set, tags, is_own ? own : Origin{}, nth++, state, context, out);
    if (!is_stored) not_stored.push_back(entry.key);
  }
  if (flight == nullptr || sets_own || WM_MUTATION(flight_result_is_lost)) return not_stored;
  bool const is_none = completed.result_kind == PayloadKind::none;
  bool const is_stored = store(flight->key, content_type_of(completed.result_kind),
                               is_none ? BytesView{"null"} : BytesView{completed.result}, flight->tags,
                               {.fresh = flight->fresh, .stale = flight->stale}, own, nth, state, context, out);
  if (!is_stored) not_stored.emplace_back(flight->key);
  return not_stored;
}

// Who waits is in no log. What is made of it is: the state that the failure leaves behind.
bool is_for_nobody(JobSlot const& job, State const& state) {
  return state.is_overtaken(job) && !job.is_watched && !WM_MUTATION(overtaken_flights_are_retried_for_nobody);
}

void note_flight_failed(JobSlot const& job, effect::JobFailed const& failed, State const& state, Context const& context,
                        Effects& out) {
  if (failed.next != JobState::dead || WM_MUTATION(failures_are_not_remembered)) return;
  Flight const* const flight = state.flight(job);
  if (flight == nullptr || flight->is_overtaken || flight->error_for <= Duration{0}) return;
  write(effect::CacheFailed{.key = flight->key,
                            .error_class = failed.error_class,
                            .code = failed.code,
                            .message = failed.message,
                            .until = context.now + flight->error_for},
        state, out);
}

}  // namespace workmill::engine
