#include "protocols/http/calls/cache_calls.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/assert.h"
#include "base/json_writer.h"
#include "base/variant.h"
#include "protocols/http/request_values.h"
#include "protocols/http/response.h"
#include "protocols/http/session.h"

namespace workmill::http {
namespace {

// Of every value but JSON and plain bytes, which no browser runs: what a worker has computed from who knows what is
// shown by it as a page of no origin, and not as one of ours.
constexpr std::string_view kForeignLines =
    "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; sandbox\r\n";

// Nobody waits for a refresh, and so it is never answered. The last slot, as whatever the server asks on its own
// behalf: no connection has it.
constexpr service::Cookie kNoConnection = ~service::Cookie{0}
                                          << (CookieParts::kSequenceBits + CookieParts::kGenerationBits);

bool is_inert(std::string_view type) { return type == content_type::kJson || type == content_type::kBytes; }

telemetry::Counter& requests(telemetry::Metrics& metrics, std::string_view result) {
  return metrics.counter("workmill_cache_requests_total", "Calls for a cached value, by what came of them.",
                         {{"result", result}});
}

Result<Duration> parse_window(Query const& query, std::string_view name, Duration by_default) {
  if (!query.has(name)) return by_default;
  auto window = parse_duration(query.get(name));
  if (!window) return fail_field(ErrorCode::invalid_field, std::string{name}, std::move(window).error().message);
  return *window;
}

std::vector<std::string> split_tags(std::string_view list) {
  std::vector<std::string> tags;
  while (!list.empty() && tags.size() <= kCacheTagsMax) {
    std::size_t const comma = std::min(list.find(','), list.size());
    tags.emplace_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return tags;
}

CacheNote& note_of(Exchange& exchange) {
  if (!exchange.cache) exchange.cache = std::make_unique<CacheNote>();
  return *exchange.cache;
}

ValueLines lines_of_hit(CacheTimes const& times) {
  return {.etag = times.etag, .stored_at = times.stored_at, .fresh_until = times.fresh_until, .origin = Origin::hit};
}

}  // namespace

bool is_cache_route(Route route) {
  switch (route) {
    case Route::get_cached:
    case Route::compute_cached:
    case Route::put_cached:
    case Route::forget_cached:
    case Route::forget_cached_by: return true;
    default: return false;
  }
}

CacheCounters::CacheCounters(telemetry::Metrics& metrics)
    : hit(requests(metrics, "hit")),
      stale(requests(metrics, "stale")),
      miss(requests(metrics, "miss")),
      computed(requests(metrics, "computed")),
      coalesced(requests(metrics, "coalesced")),
      failed(requests(metrics, "failed")),
      pending(requests(metrics, "pending")),
      refreshes(metrics.counter("workmill_cache_refreshes_total",
                                "Values that were asked to be computed anew, stale or nearly so.")) {}

CacheCallFigures CacheCounters::figures() const {
  return {.hit = hit.value(),
          .stale = stale.value(),
          .miss = miss.value(),
          .computed = computed.value(),
          .coalesced = coalesced.value(),
          .failed = failed.value(),
          .pending = pending.value()};
}

bool wants_early_refresh(Instant now, CacheTimes const& times, double chance) {
  WM_ASSERT(chance > 0 && chance <= 1);
  if (times.compute_time <= Duration{0}) return false;  // Nobody knows how long it takes.
  auto const ahead = -std::log(chance) * static_cast<double>(times.compute_time.count());
  return ahead >= static_cast<double>((times.fresh_until - now).count());
}

CacheCalls::CacheCalls(service::Service& service, Clock const& clock, telemetry::Metrics& metrics, JsonIn& json_in,
                       Rng chance)
    : service_(service), clock_(clock), counters_(metrics), json_in_(json_in), chance_(chance) {}

Result<std::optional<Command>> CacheCalls::plan(Call const& call, Exchange& exchange, Answer& answer) {
  switch (call.match.route) {
    case Route::get_cached: return plan_get(call, exchange, answer);
    case Route::compute_cached: return plan_compute(call, exchange, answer);
    case Route::put_cached: return plan_put(call);
    case Route::forget_cached: return plan_forget(call);
    case Route::forget_cached_by: return plan_forget_by(call);
    default: break;
  }
  return fail(ErrorCode::internal, "a route that is not the cache's");
}

// The service's own time is that of its last turn, which is long ago where nothing happens.
Instant CacheCalls::now_of(Exchange const& exchange) {
  if (std::exchange(round_, exchange.received_at) != exchange.received_at) round_now_ = clock_.now();
  return round_now_;
}

// Lent by the request, or from `key_`.
Result<std::string_view> CacheCalls::key_of(Match const& match, Allowed const& allowed) {
  std::string_view const parameter = match.parameter;
  std::string_view key = parameter;
  if (parameter.find('%') != std::string_view::npos) {
    key_.clear();
    if (!append_percent_decoded(parameter, key_)) {
      return fail_field(ErrorCode::invalid_field, "key", "has a % that is not followed by two hex digits");
    }
    key = key_;
  }
  if (!is_cache_key(key)) return fail_field(ErrorCode::invalid_field, "key", std::string{kBadCacheKey});
  // The shard looks again; but what is in memory is answered without it. Who is limited to queues alone gets this far
  // only to compute, which he may.
  if (!allowed.may_compute(key)) {
    return fail_field(ErrorCode::forbidden, "key", "the token is limited to other keys of the cache");
  }
  return key;
}

bool CacheCalls::can_answer(Match const& match, Allowed const& allowed, Exchange const& exchange) {
  auto const key = key_of(match, allowed);
  cache::Cache const* const cache = service_.cache();
  return !key || (cache != nullptr && cache->can_answer(*key, now_of(exchange)));
}

// ---- GET, HEAD

Result<std::optional<Command>> CacheCalls::plan_get(Call const& call, Exchange& exchange, Answer& answer) {
  WM_TRY(std::string_view const key, key_of(call));
  cache::Cache const* const cache = service_.cache();
  Instant const now = now_of(exchange);
  cache::Lookup found = cache != nullptr ? cache->find(key, now) : cache::Lookup{};
  switch (found.what) {
    case cache::Lookup::What::value:
      answer_value(exchange, call.request.if_none_match, std::move(found.value), lines_of_hit(found.times), now,
                   answer);
      return std::nullopt;
    case cache::Lookup::What::cold:
      // Who does not want the body does not wait for the disk. What is lost there, he is not told.
      if (exchange.is_head || names_etag(call.request.if_none_match, found.times.etag)) {
        answer_value(exchange, call.request.if_none_match, std::move(found.head), lines_of_hit(found.times), now,
                     answer);
        return std::nullopt;
      }
      if (!call.request.if_none_match.empty()) note_of(exchange).if_none_match = call.request.if_none_match;
      exchange.reads_disk = true;
      return ReadCached{.key = std::string{key}};
    case cache::Lookup::What::failed:
    case cache::Lookup::What::absent: break;
  }
  counters_.miss.add();
  return fail(ErrorCode::cache_miss, "nothing is kept under this key");
}

// ---- POST

Result<std::optional<Command>> CacheCalls::plan_compute(Call const& call, Exchange& exchange, Answer& answer) {
  WM_TRY(std::string_view const key, key_of(call));
  WM_TRY_VOID(check_body(call.request));
  WM_TRY(JsonIn::ComputeRequest const asked, json_in_.parse_compute(call.request.body, key, call.trace));
  if (!call.caller.allowed().has_queue(asked.spec->queue)) {
    return fail_field(ErrorCode::forbidden, "job.queue", "the token is limited to other queues");
  }
  cache::Cache* const cache = service_.cache();
  Instant const now = now_of(exchange);
  cache::Lookup found = cache != nullptr ? cache->find(key, now) : cache::Lookup{};
  bool const has_failed = found.failure && found.failure->until > now;
  switch (found.what) {
    case cache::Lookup::What::value: {
      double const chance = static_cast<double>((chance_.next() >> 11) + 1) * 0x1p-53;
      bool const wants_refresh = !found.times.is_fresh(now) || wants_early_refresh(now, found.times, chance);
      if (wants_refresh && !has_failed) refresh(call, *asked.spec, found.times, now);
      answer_value(exchange, {}, std::move(found.value), lines_of_hit(found.times), now, answer);
      return std::nullopt;
    }
    case cache::Lookup::What::failed:
      if (has_failed) return std::unexpected(failed(*found.failure, true, now, exchange));
      [[fallthrough]];
    case cache::Lookup::What::absent:
    case cache::Lookup::What::cold: break;  // The disk is to be read.
  }
  exchange.waits = asked.wait > Duration{0};
  ComputeCached command{.key = std::string{key}, .spec = {}, .wait = asked.wait};
  encode_spec(*asked.spec, command.spec);
  return command;
}

// One caller of many wins, and none waits for it. Where it comes to nothing, another may win soon.
void CacheCalls::refresh(Call const& call, JobSpecView const& spec, CacheTimes const& times, Instant now) {
  if (service_.readiness() != service::Readiness::ready) return;
  if (!service_.cache()->claim_refresh(spec.cache_key, now)) return;
  ComputeCached command{
      .key = std::string{spec.cache_key}, .spec = {}, .wait = {}, .quiet = true, .seen = times.stored_at};
  encode_spec(spec, command.spec);
  bool const taken =
      service_.submit(kNoConnection, std::move(command), service::kNever, call.caller.allowed()).has_value();
  if (taken) counters_.refreshes.add();
}

// ---- PUT, DELETE

Result<Command> CacheCalls::plan_put(Call const& call) {
  WM_TRY(std::string_view const key, key_of(call));
  Request const& request = call.request;
  if (!request.content_encoding.empty() && request.content_encoding != "identity") {
    return fail(ErrorCode::unsupported_media_type,
                "values are kept as they come, without an encoding beside: let the Content-Type tell of it");
  }
  CacheSet set;
  set.content_type = request.content_type.empty() ? content_type::kBytes : request.content_type;
  WM_TRY(set.fresh, parse_window(call.query, "fresh", kFreshDefault));
  WM_TRY(set.stale, parse_window(call.query, "stale", Duration{0}));
  set.tags = split_tags(call.query.get("tags"));
  set.body = request.body;
  WM_TRY_VOID(check_cache_set(set));
  return PutCache{.key = std::string{key}, .set = std::move(set)};
}

Result<Command> CacheCalls::plan_forget(Call const& call) {
  WM_TRY(std::string_view const key, key_of(call));
  return ForgetCached{.key = std::string{key}};
}

Result<Command> CacheCalls::plan_forget_by(Call const& call) {
  std::string_view const tag = call.query.get("tag");
  std::string_view const prefix = call.query.get("prefix");
  if (call.query.has("tag") == call.query.has("prefix")) {
    return fail_field(ErrorCode::missing_field, "tag", "say which values: either tag or prefix");
  }
  if (call.query.has("tag") && !is_name(tag)) {
    return fail_field(ErrorCode::invalid_field, "tag", "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
  }
  if (call.query.has("prefix") && !is_cache_key(prefix)) {
    return fail_field(ErrorCode::invalid_field, "prefix", std::string{kBadCacheKey});
  }
  return ForgetCachedBy{.tag = std::string{tag}, .prefix = std::string{prefix}};
}

// ---- What the shard says

Result<> CacheCalls::take(Exchange& exchange, Reply const& reply, Answer& answer) {
  Instant const now = clock_.now();
  if (auto const* cached = std::get_if<CachedReply>(&reply)) {
    if (exchange.route == Route::put_cached) {
      answer_done(cached->times.etag, answer);
      return {};
    }
    // It was not over when the shard looked. What was just computed is for those who waited, however short its time is.
    if (!cached->computed && cached->times.is_over(now)) {
      counters_.miss.add();
      if (exchange.route == Route::get_cached) return fail(ErrorCode::cache_miss, "nothing is kept under this key");
      return fail(ErrorCode::overloaded, "the value was over before it could be answered: ask again");
    }
    Origin const origin = cached->collapsed ? Origin::collapsed : cached->computed ? Origin::computed : Origin::hit;
    std::string_view const condition = exchange.cache ? exchange.cache->if_none_match : std::string_view{};
    ValueLines const lines{.etag = cached->times.etag,
                           .stored_at = cached->times.stored_at,
                           .fresh_until = cached->times.fresh_until,
                           .origin = origin,
                           .is_stored = cached->stored};
    answer_value(exchange, condition, cached->value, lines, now, answer);
    return {};
  }
  if (auto const* pending = std::get_if<CachePending>(&reply)) {
    counters_.pending.add();
    body_.clear();
    JsonWriter json{body_};
    std::string id;
    service_.append_id(pending->job, pending->client_id, id);
    json.begin_object().member("job_id", id).member("state", to_string(pending->state)).end_object();
    lines_.assign("Location: /v1/jobs/").append(id).append("\r\n").append(kMissLines);
    answer = {.status = 202, .content_type = content_type::kJson, .body = body_, .lines = lines_, .value = {}};
    return {};
  }
  if (auto const* failure = std::get_if<ComputeFailed>(&reply)) {
    return std::unexpected(failed(failure->failure, failure->remembered, now, exchange));
  }
  if (holds<CacheMissed>(reply)) {
    if (exchange.route == Route::get_cached) counters_.miss.add();
    return fail(ErrorCode::cache_miss, "nothing is kept under this key");
  }
  auto const* const count = std::get_if<CountReply>(&reply);
  if (count != nullptr && exchange.route == Route::forget_cached_by) {
    body_.clear();
    JsonWriter{body_}.begin_object().member("count", count->count).end_object();
    answer = {.status = 200, .content_type = content_type::kJson, .body = body_, .lines = {}, .value = {}};
    return {};
  }
  answer_done(std::nullopt, answer);
  return {};
}

void CacheCalls::answer_done(std::optional<std::uint64_t> etag, Answer& answer) {
  lines_.clear();
  if (etag) {
    lines_.append("ETag: ");
    append_etag(*etag, lines_);
    lines_.append("\r\n");
  }
  answer = {.status = 204, .content_type = {}, .body = {}, .lines = lines_, .value = {}};
}

void CacheCalls::answer_value(Exchange const& exchange, std::string_view if_none_match, CacheValuePtr value,
                              ValueLines const& lines, Instant now, Answer& answer) {
  switch (lines.origin) {
    case Origin::hit: (now < lines.fresh_until ? counters_.hit : counters_.stale).add(); break;
    case Origin::computed: counters_.computed.add(); break;
    case Origin::collapsed: counters_.coalesced.add(); break;
  }
  lines_.clear();
  append_value_lines(lines, now, lines_);
  bool const is_known = !if_none_match.empty() && exchange.route == Route::get_cached;
  answer.status = is_known && names_etag(if_none_match, lines.etag) ? 304 : 200;
  answer.content_type = value->content_type();
  answer.body = value->body();
  answer.body_bytes = value->has_body() ? std::nullopt : std::optional{value->body_bytes()};
  if (!is_inert(answer.content_type)) lines_.append(kForeignLines);
  answer.lines = lines_;
  answer.value = std::move(value);
}

Error CacheCalls::failed(CacheFailure const& failure, bool remembered, Instant now, Exchange& exchange) {
  counters_.failed.add();
  if (failure.error_class == ErrorClass::retryable) {
    auto const left = std::chrono::ceil<std::chrono::seconds>(failure.until - now);
    exchange.retry_after = static_cast<std::uint32_t>(std::max<std::int64_t>(left.count(), 1));
  }
  CacheNote& note = note_of(exchange);
  note.failure = failure;
  note.is_remembered = remembered;
  return {.code = ErrorCode::compute_failed, .message = std::string{failure.code}.append(": ").append(failure.message)};
}

}  // namespace workmill::http
