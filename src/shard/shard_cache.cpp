#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "base/variant.h"
#include "model/cache_set.h"
#include "shard/shard_loop.h"

// Commands of the shared cache. What is in the index, I/O threads find themselves; here is what changes it, what starts
// a computation, and who waits for one.
namespace workmill::shard {
namespace {

using What = cache::Lookup::What;

constexpr std::size_t kGonePerStep = 8;
// Bytes of records that say so: as many as the turn before has written, as each value that is stored makes others give
// way; a little where that was little (CacheDeskOptions), and no more than fits beside the rest.
constexpr std::size_t kGoneBytesMax = std::size_t{8} << 20;

Error no_cache() { return {.code = ErrorCode::not_found, .message = "this server keeps no cache"}; }

// A flight that was ended by somebody: nothing is wrong with the value, and the next to ask begins another.
CacheFailure ended_by_hand(Instant now) {
  return {.error_class = ErrorClass::retryable,
          .code = "cancelled",
          .message = "the job that was to compute it was cancelled or deleted",
          .until = now};
}

}  // namespace

Result<> ShardLoop::execute_cached(Request&& request) {
  Command& command = request.command;
  auto const* const compute = std::get_if<ComputeCached>(&command);
  if (!desk_) {
    if (compute == nullptr || !compute->quiet) answer(request.port, request.cookie, no_cache());
    return {};
  }
  if (fetches_first(request)) return {};
  if (compute != nullptr) return compute_cached(std::move(request));
  if (holds<ReadCached>(command)) return read_cached(std::move(request));
  if (holds<PutCache>(command)) return put_cached(std::move(request));
  auto const& forget = std::get<ForgetCached>(command);
  outdate_fetches(forget.key);
  bool const is_there = desk_->look(forget.key, now_).what != What::absent;
  // A record of what is not there may still be in the log, as long as not all that gave way was written down.
  if (!is_there && !desk_->has_gone() && !engine_.is_being_computed(forget.key)) {
    answer(request.port, request.cookie, CacheMissed{});
    return {};
  }
  bool again = false;
  Reply done = engine_.execute(command, context(), batch_, &again);
  answer(request.port, request.cookie, is_there ? std::move(done) : Reply{CacheMissed{}});
  return {};
}

// Before what a turn was asked: whoever deletes a key that is not there any more finds that written down. That ends all
// that stands before it in the log, so what has been remembered of a failure since then is written again.
void ShardLoop::write_gone() {
  std::size_t const bytes = std::clamp(last_batch_bytes_, desk_->options().gone_bytes_min, kGoneBytesMax);
  std::size_t const until = batch_.payload().size() + bytes;
  std::vector<std::string> keys;
  while (desk_->has_gone() && batch_.payload().size() < until) {
    keys.clear();
    desk_->take_gone(kGonePerStep, keys);
    for (std::string const& key : keys) {
      auto const failure = desk_->look(key, now_).failure;
      engine_.note_cached_gone(key, batch_);
      if (!failure) continue;
      batch_.write(effect::CacheFailed{.key = key,
                                       .error_class = failure->error_class,
                                       .code = failure->code,
                                       .message = failure->message,
                                       .until = failure->until});
    }
  }
}

// It needs nothing of the value before it: tags and budgets are counted in memory.
Result<> ShardLoop::put_cached(Request&& request) {
  std::string const& key = std::get<PutCache>(request.command).key;
  FetchLine* const line = outdate_fetches(key);
  bool again = false;
  Reply reply = engine_.execute(request.command, context(), batch_, &again);
  if (!holds<Error>(reply)) {
    auto made = desk_->made(key);
    WM_ASSERT(made.has_value());
    reply = CachedReply{.value = std::move(made->value), .times = made->times};
  } else if (line != nullptr) {
    forget_outdated(*line);
  }
  answer(request.port, request.cookie, std::move(reply));
  return {};
}

bool ShardLoop::fetches_first(Request& request) {
  auto const* const read = std::get_if<ReadCached>(&request.command);
  auto const* const compute = std::get_if<ComputeCached>(&request.command);
  bool const is_fetched = request.is_fetched && !WM_MUTATION(what_was_fetched_waits_again);
  if (is_fetched || (read == nullptr && (compute == nullptr || compute->quiet))) return false;
  std::string const& key = read != nullptr ? read->key : compute->key;
  if (fetching_requests_ >= Fetcher::kWaitingMax || desk_->look(key, now_).what != What::cold) return false;
  auto lines = fetching_.find(key);
  if (lines == fetching_.end() || lines->second.back().outdated) {
    auto fetch = desk_->fetch(key);
    if (!fetch) return false;
    if (!fetcher_ && options_.make_fetcher) fetcher_ = options_.make_fetcher();
    if (!fetcher_) fetcher_ = std::make_unique<FetchThread>(wake_);
    if (!fetcher_->begin(key, std::move(fetch))) return false;
    fetches_ += 1;
    lines = fetching_.try_emplace(key).first;
    lines->second.emplace_back();
  }
  fetcher_->note_waiting(request.cookie);
  fetching_requests_ += 1;
  fetching_until_ = std::min(fetching_until_, request.give_up_at);
  lines->second.back().requests.push_back(std::move(request));
  return true;
}

bool ShardLoop::forget_fetching(Port port, Cookie cookie) {
  auto const is_his = [&](Request const& request) { return request.port == port && request.cookie == cookie; };
  for (auto& [key, lines] : fetching_) {
    for (auto& [requests, outdated] : lines) {
      auto const found = std::ranges::find_if(requests, is_his);
      if (found == requests.end()) continue;
      requests.erase(found);
      fetching_requests_ -= 1;
      if (WM_MUTATION(who_hangs_up_takes_his_line_along)) fetching_requests_ -= std::exchange(requests, {}).size();
      given_up_ += 1;
      return true;
    }
  }
  return false;
}

ShardLoop::FetchLine* ShardLoop::outdate_fetches(std::string const& key) {
  auto const lines = fetching_.find(key);
  if (lines == fetching_.end() || lines->second.back().outdated) return nullptr;
  if (WM_MUTATION(changes_overtake_fetches)) return nullptr;
  FetchLine& line = lines->second.back();
  line.outdated = Outdated{.found = desk_->look(key, now_), .place = {}};
  if (line.outdated->found.what == What::cold) line.outdated->place = desk_->index().place(key);
  if (line.outdated->place) desk_->hold(*line.outdated->place);
  return &line;
}

void ShardLoop::forget_outdated(FetchLine& line) {
  if (line.outdated && line.outdated->place) desk_->release(*line.outdated->place);
  line.outdated.reset();
}

// As if he had been answered before the change. But no computation begins for a value that was stale by then: there is
// another now, or none is wanted. Who asks for a value and cannot be given that one is decided on what there is.
Result<> ShardLoop::answer_outdated(Request&& request, Outdated& outdated) {
  bool const is_read = holds<ReadCached>(request.command);
  std::string const& key =
      is_read ? std::get<ReadCached>(request.command).key : std::get<ComputeCached>(request.command).key;
  cache::Lookup& found = outdated.found;
  bool const is_over = found.times.is_over(std::max(now_, clock_.now()));
  if (outdated.place && !is_over && !std::exchange(outdated.is_read, true)) {
    auto const start = clock_.monotonic();
    WM_TRY(found.value, desk_->read_outdated(key, *outdated.place, found.times.etag));
    read_ns_ += static_cast<std::uint64_t>((clock_.monotonic() - start).count());
    if (found.value) answer_bytes_ += found.value->body().size();
  }
  if (found.value && !is_over) {
    answer(request.port, request.cookie, CachedReply{.value = found.value, .times = found.times});
  } else if (is_read) {
    answer(request.port, request.cookie, CacheMissed{});
  } else {
    return compute_cached(std::move(request));
  }
  return {};
}

Result<> ShardLoop::take_fetched() {
  fetcher_->take_done(fetched_);
  std::size_t done = 0;
  // Those that begin a flight write, as those of the inbox do.
  while (done < fetched_.size() && answer_bytes_ < kAnswerBytesPerTurn &&
         batch_.payload().size() < options_.batch_bytes) {
    WM_TRY_VOID(end_fetch(fetched_[done++]));
  }
  fetched_.erase(fetched_.begin(), fetched_.begin() + static_cast<std::ptrdiff_t>(done));
  return {};
}

Result<> ShardLoop::end_fetch(std::string const& key) {
  auto const lines = fetching_.find(key);
  WM_ASSERT(lines != fetching_.end());
  FetchLine line = std::move(lines->second.front());
  lines->second.pop_front();
  if (lines->second.empty()) fetching_.erase(lines);
  fetching_requests_ -= line.requests.size();
  // A value that is too large to stay in memory is read once for all of them.
  read_back_ = ReadBack{};
  for (Request& request : line.requests) {
    request.is_fetched = true;
    if (!is_given_up(request)) {
      WM_TRY_VOID(line.outdated ? answer_outdated(std::move(request), *line.outdated)
                                : execute_cached(std::move(request)));
    }
    if (WM_MUTATION(a_fetch_is_for_one)) break;
  }
  read_back_.reset();
  forget_outdated(line);
  return {};
}

// Those whose time is over are told so, whatever the disk does.
void ShardLoop::give_up_fetching() {
  fetching_until_ = kNever;
  for (auto& [key, lines] : fetching_) {
    for (auto& [requests, outdated] : lines) {
      fetching_requests_ -= std::erase_if(requests, [&](Request const& request) {
        return WM_MUTATION(given_up_fetches_answer_nobody) ? now_ >= request.give_up_at : is_given_up(request);
      });
      for (Request const& request : requests) fetching_until_ = std::min(fetching_until_, request.give_up_at);
    }
  }
}

Result<cache::Lookup> ShardLoop::look_cached(std::string_view key) {
  bool const shows_what_is_over = WM_MUTATION(fetched_values_do_not_end) && read_back_;
  auto found = desk_->look(key, shows_what_is_over ? kInstantMin : now_);
  if (found.what != What::cold) return found;
  if (read_back_ && read_back_->value && read_back_->etag == found.times.etag) {
    found.value = read_back_->value;
  } else {
    auto const start = clock_.monotonic();
    WM_TRY(found.value, desk_->read_cold(key, found.times.etag));
    read_ns_ += static_cast<std::uint64_t>((clock_.monotonic() - start).count());
    if (found.value) answer_bytes_ += found.value->body().size();
    if (read_back_) *read_back_ = {.etag = found.times.etag, .value = found.value};
  }
  found.what = found.value ? What::value : found.failure ? What::failed : What::absent;
  return found;
}

Result<> ShardLoop::read_cached(Request&& request) {
  WM_TRY(auto const found, look_cached(std::get<ReadCached>(request.command).key));
  if (found.what == What::value) {
    answer(request.port, request.cookie, CachedReply{.value = found.value, .times = found.times});
  } else {
    answer(request.port, request.cookie, CacheMissed{});
  }
  return {};
}

Result<JobNumber> ShardLoop::ensure_flight(ComputeCached& compute) {
  if (auto const flight = engine_.flight_of(compute.key)) return *flight;
  Command enqueue = Enqueue{};
  WM_TRY_VOID(admits(enqueue));
  std::get<Enqueue>(enqueue).specs.push_back(std::move(compute.spec));
  bool again = false;
  Reply reply = engine_.execute(enqueue, context(), batch_, &again);
  if (auto* error = std::get_if<Error>(&reply)) return std::unexpected(std::move(*error));
  return std::get<EnqueueReply>(reply).jobs.at(0).number;
}

Result<> ShardLoop::compute_cached(Request&& request) {
  auto& compute = std::get<ComputeCached>(request.command);
  if (compute.quiet) {
    auto const found = desk_->look(compute.key, now_);
    bool const has_value = found.what == What::value || found.what == What::cold;
    bool const is_newer = has_value && found.times.stored_at > compute.seen;
    if (WM_MUTATION(refreshes_do_not_begin)) return {};
    // Nobody hears of an error: who reads the key next asks again.
    if (!is_newer && !found.failure && !draining_) (void)ensure_flight(compute);
    return {};
  }
  WM_TRY(auto const found, look_cached(compute.key));
  // To read it back takes its time. Who asks for a value that was over by then is not sent away with nothing.
  bool const is_over = found.what == What::value && found.times.is_over(std::max(now_, clock_.now()));
  if (found.what == What::value && !is_over) {
    answer(request.port, request.cookie, CachedReply{.value = found.value, .times = found.times});
    bool const is_stale = !found.times.is_fresh(now_) && !WM_MUTATION(stale_values_begin_nothing);
    if (is_stale && !found.failure && !draining_) (void)ensure_flight(compute);
    return {};
  }
  if (found.failure) {
    answer(request.port, request.cookie, ComputeFailed{.failure = *found.failure, .remembered = true});
    return {};
  }
  bool const collapsed = engine_.flight_of(compute.key).has_value();
  auto const flight = ensure_flight(compute);
  if (!flight) {
    answer(request.port, request.cookie, flight.error());
    return {};
  }
  FlightWait wait{.job = *flight, .key = std::move(compute.key), .collapsed = collapsed};
  if (compute.wait <= Duration{0} || draining_ || take_gone(request) || waiters_.size() >= options_.waiters_max) {
    WM_TRY(auto reply, end_of_flight(wait));
    answer(request.port, request.cookie, std::move(reply));
    return {};
  }
  engine_.watch(*flight);
  waiters_.add({.port = request.port,
                .cookie = request.cookie,
                .deadline = std::min(now_ + compute.wait, request.give_up_at),
                .what = std::move(wait)});
  return {};
}

Result<Reply> ShardLoop::end_of_flight(FlightWait const& wait) {
  auto view = engine_.view(wait.job);
  if (view && !is_finished(view->state)) {
    // The wait is over before the flight is. Somebody may have put a value meanwhile.
    bool const is_unread = WM_MUTATION(ended_waits_read_no_disk) && desk_->look(wait.key, now_).what == What::cold;
    WM_TRY(auto const found, look_cached(wait.key));
    if (found.what != What::value || is_unread) {
      return Reply{CachePending{.job = wait.job, .client_id = std::move(view->client_id), .state = view->state}};
    }
    return Reply{CachedReply{.value = found.value, .times = found.times}};
  }
  // What has just been computed is answered however short its time is, and whatever was put or deleted since then.
  if (auto const* const made = desk_->landed(wait.job)) {
    return Reply{CachedReply{.value = made->value,
                             .times = made->times,
                             .computed = true,
                             .collapsed = wait.collapsed,
                             .stored = made->is_kept}};
  }
  WM_TRY(auto const found, look_cached(wait.key));
  if (found.what == What::value) return Reply{CachedReply{.value = found.value, .times = found.times}};
  if (WM_MUTATION(errors_bring_what_is_over)) {
    auto const over = desk_->look(wait.key, kInstantMin);
    if (over.value) return Reply{CachedReply{.value = over.value, .times = over.times}};
  }
  ComputeFailed failed{.failure = ended_by_hand(now_)};
  if (view && view->state == JobState::dead) {
    // What is remembered is this job's failing, if it may be remembered: else it is that of another, which came after.
    if (found.failure && !engine_.is_overtaken(wait.job)) return Reply{ComputeFailed{.failure = *found.failure}};
    WM_TRY(auto const damage, reader_.fill_over_damage(*view, engine_, now_));
    if (damage) note_damage(view->number, *damage);
    if (!view->history.errors.empty()) {
      JobError& error = view->history.errors.front();
      failed.failure.error_class = error.error_class;
      failed.failure.code = std::move(error.code);
      failed.failure.message = std::move(error.message);
    }
  }
  return Reply{std::move(failed)};
}

// All who wait for one flight are answered with the same value: it is looked up once, and all of a port are one answer.
Result<> ShardLoop::end_flight(std::vector<Waiters::Id> const& waiting) {
  std::optional<Reply> first;
  std::string key;  // Of `first`: one job computes one key.
  std::vector<AnsweredGroup> groups;
  std::vector<ToldGroup> told;
  for (Waiters::Id const id : waiting) {
    auto waiter = waiters_.take(id);
    WM_ASSERT(waiter.has_value());
    auto const* const flight = std::get_if<FlightWait>(&waiter->what);
    if (flight == nullptr) {
      WM_TRY_VOID(end_job_wait(std::move(*waiter), told));
      continue;
    }
    engine_.unwatch(flight->job);
    if (!first || key != flight->key) {
      WM_TRY(first, end_of_flight(*flight));
      key = flight->key;
      groups.clear();
    }
    if (joins_group(groups, *waiter, flight->collapsed)) continue;
    Reply reply = *first;
    if (auto* cached = std::get_if<CachedReply>(&reply); cached != nullptr && cached->computed) {
      cached->collapsed = flight->collapsed;
    }
    answer(waiter->port, waiter->cookie, std::move(reply));
  }
  return {};
}

// Thousands may wait for one job, and what is known of it be of megabytes: it is read once for all of a port who may
// see the same of it.
Result<> ShardLoop::end_job_wait(Waiter waiter, std::vector<ToldGroup>& told) {
  auto const group = std::ranges::find_if(
      told, [&](ToldGroup const& one) { return one.port == waiter.port && one.allowed == waiter.allowed; });
  if (group == told.end()) {
    told.push_back({.port = waiter.port, .allowed = waiter.allowed, .answer = pending_.size()});
    return end_waiting(std::move(waiter));
  }
  engine_.unwatch(std::get<JobWait>(waiter.what).job);
  pending_[group->answer].answer.also.push_back(waiter.cookie);
  return {};
}

// Whoever is answered the same, on the same port, is one answer. False: he is the first of his, and answered next.
bool ShardLoop::joins_group(std::vector<AnsweredGroup>& groups, Waiter const& waiter, bool collapsed) {
  auto const group = std::ranges::find_if(
      groups, [&](AnsweredGroup const& one) { return one.port == waiter.port && one.collapsed == collapsed; });
  if (group != groups.end()) {
    pending_[group->answer].answer.also.push_back(waiter.cookie);
    return true;
  }
  groups.push_back({.port = waiter.port, .collapsed = collapsed, .answer = pending_.size()});
  return false;
}

// Somebody has put a value in this turn: who waits for its key would be answered with it at once if he asked now. At
// the end of the turn, so that what was deleted behind it in the same turn is not answered. Whose own flight has ended
// was answered before, with what that made.
void ShardLoop::answer_with_stored() {
  for (std::string const* const key : desk_->stored_now()) {
    auto const waiting = waiters_.ids_for_key(*key);
    if (waiting.empty()) continue;
    auto const found = desk_->look(*key, now_);
    if (found.what != What::value || !found.times.is_fresh(now_) || WM_MUTATION(waiters_are_not_told_of_puts)) continue;
    std::vector<AnsweredGroup> groups;
    for (Waiters::Id const id : waiting) {
      auto const waiter = waiters_.take(id);
      WM_ASSERT(waiter.has_value());
      engine_.unwatch(std::get<FlightWait>(waiter->what).job);
      if (joins_group(groups, *waiter, false)) continue;
      answer(waiter->port, waiter->cookie, CachedReply{.value = found.value, .times = found.times});
    }
  }
}

// All at once: what is stored by one of them whose turn has not come need not be found by the values' tags. By tag are
// meant also those which compute anew what has the tag now.
void ShardLoop::overtake_flights(ForgetCachedBy& forget, Allowed const& allowed) {
  auto const is_meant = [&](std::string_view key, BytesView tags) {
    if (!allowed.has_key(key)) return false;
    if (forget.tag.empty() || has_cache_tag(tags, forget.tag)) return true;
    return desk_->has_tag(key, forget.tag, now_) && !WM_MUTATION(refreshes_are_meant_by_their_specs_only);
  };
  flight_looks_ += engine_.overtake_flights(forget.prefix, is_meant, batch_);
  forget.has_seen_flights = true;
}

Result<> ShardLoop::forget_cached_by(Unfinished& unfinished, bool& again) {
  auto& forget = std::get<ForgetCachedBy>(unfinished.request.command);
  if (!forget.has_seen_flights) {
    again = flight_looks_ >= engine_.options().steps_max;  // It has not begun then.
    if (again) return {};
    overtake_flights(forget, unfinished.request.allowed);
  }
  std::vector<std::string> keys;
  if (forget.cursor != CacheDesk::kAllFound) desk_->find_by(forget.tag, forget.prefix, now_, forget.cursor, keys);
  bool unused = false;
  for (std::string& key : keys) {
    if (!unfinished.request.allowed.has_key(key)) continue;  // Another's with the same tag.
    engine_.execute(ForgetCached{.key = std::move(key)}, context(), batch_, &unused);
    unfinished.count += 1;
  }
  // What gave way meanwhile, or before, is to be written down too before this is said to be done.
  again = forget.cursor != CacheDesk::kAllFound || desk_->has_gone();
  if (WM_MUTATION(deletion_ends_with_its_first_part)) again = false;
  return {};
}

void ShardLoop::fill_status_of_cache(StatusReply& reply) {
  auto const figures = desk_->index().figures();
  auto const& limits = desk_->index().options();
  CacheStatus& status = reply.cache.emplace_back();
  status.entries = figures.entries;
  status.flights = engine_.status().flights;
  status.memory_bytes = figures.memory_bytes;
  status.memory_bytes_max = limits.memory_bytes;
  status.disk_bytes = figures.disk_bytes;
  status.disk_bytes_max = limits.disk_bytes;
  status.evicted_from_memory = figures.evictions_memory;
  status.evicted_from_disk = figures.evictions_disk;
  status.expired = figures.expired;
  status.damaged = desk_->damaged();
  status.cold_reads = desk_->cold_reads();
  status.fetches = fetches_;
  reply.bounds.push_back({.name = "cache_fetches", .used = fetching_requests_, .limit = Fetcher::kWaitingMax});
  reply.bounds.push_back({.name = "cache_memory", .used = status.memory_bytes, .limit = status.memory_bytes_max});
  reply.bounds.push_back({.name = "cache_disk", .used = status.disk_bytes, .limit = status.disk_bytes_max});
}

}  // namespace workmill::shard
