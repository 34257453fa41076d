#include "protocols/http/calls/endpoints.h"

#include <algorithm>
#include <utility>

#include "protocols/http/gzip.h"
#include "protocols/http/json/json_out.h"
#include "protocols/http/request_values.h"

namespace workmill::http {

Endpoints::Endpoints(service::Service& service, service::TokenStore const& tokens, Clock const& clock,
                     HttpCounters& counters, telemetry::Metrics& metrics, telemetry::Logger& logger, Rng chance,
                     telemetry::Tracer* tracer)
    : service_(service),
      tokens_(tokens),
      clock_(clock),
      counters_(counters),
      metrics_(metrics),
      logger_(logger),
      audit_log_(logger.of(telemetry::LogComponent::audit)),
      chance_(chance),
      tracer_(tracer),
      gate_(tokens, metrics, logger),
      json_in_(service),
      cache_calls_(service, clock, metrics, json_in_, chance_.fork()),
      flag_calls_(service, metrics) {}

bool Endpoints::judge_head(Request const& request, Exchange& exchange, Caller& caller) {
  note_head(request, exchange);
  auto const judged = judge_whole_head(request, exchange, caller);
  if (!judged) answer(exchange, judged.error(), exchange.text);
  return judged.has_value();
}

Result<> Endpoints::judge_whole_head(Request const& request, Exchange& exchange, Caller& caller) {
  // Answered to everybody; but for a body there must be as good a reason.
  if (request.method == Method::options) return let_in(shown_of(request, exchange), std::nullopt, exchange, caller);
  WM_TRY(Match const found, judge(request, exchange, caller));
  if (admission_ == nullptr) return {};
  return admit(admission_->check(exchange.client, priority(found, exchange, caller), exchange.received_at), exchange);
}

// By the head: whoever asks for a value that is not in memory makes work, and may be refused before his body is looked
// at. Where the value goes between this look and the one that answers, he has been let in all the same.
service::Priority Endpoints::priority(Match const& found, Exchange const& exchange, Caller const& caller) {
  bool const computes =
      found.route == Route::compute_cached && !cache_calls_.can_answer(found, caller.allowed(), exchange);
  return computes ? service::Priority::load : priority_of(found.route);
}

Result<> Endpoints::admit(service::Admission::Verdict verdict, Exchange& exchange) {
  using enum service::Admission::Verdict;
  if (verdict == admitted) return {};
  exchange.is_refused = true;
  exchange.retry_after = admission_->retry_after_seconds();
  if (verdict == over_share) {
    exchange.share = admission_->share_per_second();
    counters_.refused_share.add();
    return fail(ErrorCode::too_many_requests, "the server is busy, and this client has had its share of it");
  }
  counters_.refused_limit.add();
  return fail(ErrorCode::overloaded, "the server has more to do than it can");
}

std::optional<Command> Endpoints::begin(Request const& request, Exchange& exchange, Caller& caller) {
  note_head(request, exchange);
  auto command = plan(request, exchange, caller);
  if (!command) {
    answer(exchange, command.error(), exchange.text);
    return std::nullopt;
  }
  return *std::move(command);
}

void Endpoints::note_head(Request const& request, Exchange& exchange) {
  exchange.is_http_1_0 = request.is_http_1_0;
  exchange.is_head = request.method == Method::head;
  if (!request.traceparent.empty()) exchange.trace = telemetry::parse_traceparent(request.traceparent);
  if (!cors_origins_.empty()) note_origin(request.origin, exchange);
  if (tracer_ != nullptr) begin_trace(request, exchange);
}

void Endpoints::note_origin(std::string_view origin, Exchange& exchange) const {
  // Whoever keeps an answer is to know that another origin gets another one, also where this one was told nothing.
  exchange.cors = "Vary: Origin\r\n";
  exchange.is_from_known_origin = std::ranges::find(cors_origins_, origin) != cors_origins_.end();
  if (!exchange.is_from_known_origin) return;
  exchange.cors.append("Access-Control-Allow-Origin: ").append(origin);
  exchange.cors.append(
      "\r\nAccess-Control-Expose-Headers: Age, Cache-Status, ETag, Idempotent-Replayed, Location, RateLimit, "
      "RateLimit-Policy, Retry-After, WWW-Authenticate\r\n");
}

// A request whose body comes later goes through here twice; what was begun the first time is forgotten.
void Endpoints::begin_trace(Request const& request, Exchange& exchange) {
  auto const own = tracer_->begin(exchange.trace, chance_);
  if (!own) return;
  bool const has_state = exchange.trace && is_tracestate(request.tracestate);
  exchange.spans = std::make_unique<RequestTrace>(
      *own, exchange.trace, has_state ? request.tracestate : std::string_view{}, request, exchange.received_at);
  exchange.trace = *own;
}

void Endpoints::end_trace(Exchange const& exchange, int status, std::string_view error_code, Reply const* reply) {
  RouteEntry const* const route = exchange.is_routed ? &entry_of(exchange.route) : nullptr;
  exchange.spans->finish(route, status, error_code, reply, service_, *tracer_);
}

// OFREP has a header of its own for a key, beside the one that all of HTTP has, which counts where both are there.
Shown Endpoints::shown_of(Request const& request, Exchange const& exchange) {
  bool const is_ofrep = exchange.is_routed && is_ofrep_route(exchange.route);
  if (!is_ofrep || request.authorization.data() != nullptr) return {.header = request.authorization};
  return {.header = request.api_key, .as = Shown::As::api_key};
}

// All that can be said by a request's head alone, the cheapest first: every request goes through here, before its body
// is looked at, and one whose body comes later goes through here twice.
Result<Match> Endpoints::judge(Request const& request, Exchange& exchange, Caller& caller) {
  auto const found = match(request.method, request.path);
  if (found) {
    exchange.route = found->route;
    exchange.is_routed = true;
  }
  // Ahead of what there is at a path: that is not for strangers to try out.
  auto const access = found ? std::optional{found->access} : std::nullopt;
  auto admitted = let_in(shown_of(request, exchange), access, exchange, caller);
  // Also of one that is not allowed it; but not of strangers, who could fill the log.
  bool const is_known = admitted || admitted.error().code == ErrorCode::forbidden;
  if (found && is_known) exchange.audit = make_audit_note(found->access, target_of(*found), caller);
  if (!admitted) return std::unexpected(std::move(admitted).error());
  if (!found && found.error().code == ErrorCode::method_not_allowed) exchange.allow = allowed_methods(request.path);
  if (found) WM_TRY_VOID(check_conditions(request, found->route));
  return found;
}

Result<> Endpoints::let_in(Shown const& shown, std::optional<Access> access, Exchange& exchange, Caller& caller) {
  Gate::Moment const moment{.now = service_.now(), .monotonic = exchange.received_at};
  auto admitted = gate_.admit(shown, access, moment, caller);
  exchange.client = caller.client();
  if (caller.locked_out() > std::chrono::seconds::zero()) {
    exchange.retry_after = static_cast<std::uint32_t>(caller.locked_out().count());
    exchange.keep_alive = false;  // Each further attempt costs a connection.
  }
  // Strangers are not traced: they could fill the queue of those who are let in.
  bool const is_known = admitted || admitted.error().code == ErrorCode::forbidden;
  if (!is_known || (tokens_.is_on() && access == Access::open)) exchange.spans.reset();
  return admitted;
}

Result<std::optional<Command>> Endpoints::plan(Request const& request, Exchange& exchange, Caller& caller) {
  if (request.method == Method::options) {
    if (tokens_.is_on()) exchange.spans.reset();  // Of a stranger, perhaps.
    std::string const allowed = allowed_methods(request.path);
    if (allowed.empty()) return fail(ErrorCode::not_found, "there is nothing at this path");
    std::string extra = "Allow: " + allowed + "\r\n";
    if (exchange.is_from_known_origin) {  // What a browser asks before it sends a request of a page: it may.
      extra.append("Access-Control-Allow-Methods: ").append(allowed);
      extra.append("\r\nAccess-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, If-None-Match, ");
      extra.append("Request-Timeout, traceparent, tracestate");
      if (request.path.starts_with("/ofrep/")) extra.append(", X-API-Key");
      extra.append("\r\nAccess-Control-Max-Age: 600\r\n");
    }
    Page const page{.status = 204, .content_type = {}, .body = {}, .extra = extra};
    answer_page(exchange, page);
    return std::nullopt;
  }
  WM_TRY(Match const found, judge(request, exchange, caller));
  if (admission_ != nullptr) {
    auto const verdict = admission_->enter(exchange.client, priority(found, exchange, caller), exchange.received_at);
    exchange.is_counted = verdict == service::Admission::Verdict::admitted;
    WM_TRY_VOID(admit(verdict, exchange));
  }
  if (request.request_timeout.data() != nullptr) {
    WM_TRY(Duration const patience, parse_request_timeout(request.request_timeout));
    // By the clock itself: the service's time is that of its last turn, which is long ago where nothing happens.
    exchange.give_up_at = exchange.head_at.value_or(clock_.now()) + patience;
  }
  WM_TRY(Query const query, Query::parse(request.query, found.query_names));
  if (is_cache_route(found.route)) {
    WM_TRY_VOID(check_patience(exchange));
    telemetry::Traceparent room;
    TraceContext const trace =
        found.route == Route::compute_cached ? trace_of(request, exchange, room) : TraceContext{};
    return plan_cached({.request = request, .match = found, .query = query, .caller = caller, .trace = trace},
                       exchange);
  }
  if (is_flag_route(found.route)) return plan_flag(request, found, query, exchange, caller);
  if (found.route == Route::list_tokens) {
    WM_TRY_VOID(answer_tokens(query, exchange));
    return std::nullopt;
  }
  if (found.route == Route::worker_stream) {
    WM_TRY_VOID(answer_upgrade(request, exchange));
    return std::nullopt;
  }
  if (answer_at_once(request, query, exchange)) return std::nullopt;
  if (found.route == Route::cpu_profile) {
    WM_TRY(exchange.profile_for, parse_profile_seconds(query));
    exchange.waits = true;
    return std::nullopt;
  }
  WM_TRY_VOID(check_patience(exchange));
  WM_TRY(Command command, plan_command(request, found, query, exchange, caller));
  return command;
}

// What came in too slowly for its own client needs no look at what it wants.
Result<> Endpoints::check_patience(Exchange const& exchange) const {
  if (!exchange.head_at || clock_.now() < exchange.give_up_at) return {};
  return fail(ErrorCode::deadline_exceeded, "its time was over before it had come in: nothing was done");
}

Result<Command> Endpoints::plan_command(Request const& request, Match const& found, Query const& query,
                                        Exchange& exchange, Caller const& caller) {
  switch (found.route) {
    case Route::create_jobs: return plan_enqueue(request, exchange, caller);
    case Route::lease_jobs: {
      WM_TRY_VOID(check_body(request));
      WM_TRY(Lease lease, json_in_.parse_lease(request.body));
      exchange.waits = lease.wait > Duration::zero();
      if (exchange.spans) exchange.spans->begin_receive(lease.queues, lease.worker, chance_);
      exchange.reported = reported_jobs(lease.reports, caller.allowed());
      return lease;
    }
    case Route::report_jobs: {
      WM_TRY_VOID(check_body(request));
      WM_TRY(ReportBatch batch, json_in_.parse_reports(request.body));
      exchange.reported = reported_jobs(batch.reports, caller.allowed());
      return batch;
    }
    case Route::get_job: {
      WM_TRY(JobRef job, parse_job(found.parameter));
      WM_TRY(Duration const wait, parse_wait(query));
      exchange.waits = wait > Duration::zero();
      return GetJob{.job = std::move(job), .wait = wait};
    }
    case Route::list_jobs: return plan_list(query);
    case Route::cancel_job: {
      WM_TRY(JobRef job, parse_job(found.parameter));
      return CancelJob{std::move(job)};
    }
    case Route::retry_job: {
      WM_TRY(JobRef job, parse_job(found.parameter));
      return RetryJob{std::move(job)};
    }
    case Route::patch_job: {
      WM_TRY(JobRef job, parse_job(found.parameter));
      WM_TRY_VOID(check_body(request));
      WM_TRY(JobChanges changes, json_in_.parse_patch_job(request.body));
      if (exchange.audit) exchange.audit->changes = describe_changes(changes);
      return PatchJob{
          .job = std::move(job), .changes = std::move(changes), .new_spec = {}, .history = {}, .checkpoint = {}};
    }
    case Route::delete_job: {
      WM_TRY(JobRef job, parse_job(found.parameter));
      return DeleteJob{std::move(job)};
    }
    case Route::bulk_jobs: {
      if (exchange.audit) exchange.audit->target = kBodyRefused;
      WM_TRY_VOID(check_body(request));
      WM_TRY(BulkJobs bulk, json_in_.parse_bulk_jobs(request.body));
      if (exchange.audit) exchange.audit->target = describe_bulk(bulk);
      return bulk;
    }
    case Route::get_job_log: {
      WM_TRY(JobRef job, parse_job(found.parameter));
      return GetJobLog{std::move(job)};
    }
    case Route::list_queues: {
      WM_TRY(std::uint32_t const limit, parse_limit(query));
      ListQueues list{.limit = limit, .after = {}};
      if (query.has("cursor")) {
        WM_TRY(list.after, parse_queues_cursor(query.get("cursor")));
      }
      return list;
    }
    case Route::get_queue: {
      WM_TRY(std::string name, parse_name("queue", found.parameter));
      return GetQueue{std::move(name)};
    }
    case Route::patch_queue: {
      WM_TRY(std::string name, parse_name("queue", found.parameter));
      WM_TRY_VOID(check_body(request));
      WM_TRY(PatchQueue patch, json_in_.parse_patch_queue(request.body));
      if (exchange.audit) exchange.audit->changes = describe_changes(patch);
      patch.name = std::move(name);
      return patch;
    }
    case Route::purge_queue: {
      WM_TRY(std::string name, parse_name("queue", found.parameter));
      WM_TRY(auto const state, parse_state(query));
      if (exchange.audit && state) exchange.audit->target.append(" state=").append(workmill::to_string(*state));
      return PurgeQueue{.name = std::move(name), .state = state};
    }
    case Route::create_batch: return plan_make_batch(request, exchange, caller);
    case Route::list_batches: return plan_list_batches(query);
    case Route::get_batch: {
      WM_TRY(std::string id, parse_batch(found.parameter));
      return GetBatch{std::move(id)};
    }
    case Route::close_batch: {
      WM_TRY(std::string id, parse_batch(found.parameter));
      return CloseBatch{std::move(id)};
    }
    case Route::delete_batch: {
      WM_TRY(std::string id, parse_batch(found.parameter));
      return ForgetBatch{std::move(id)};
    }
    case Route::metrics:
      exchange.metrics_format = telemetry::choose_format(request.accept);
      exchange.gzip = accepts_gzip(request.accept_encoding);
      return GetStatus{.with_queues = true};
    case Route::heap:
    case Route::status: return GetStatus{.with_queues = false};
    case Route::get_cached:
    case Route::compute_cached:
    case Route::put_cached:
    case Route::forget_cached:
    case Route::forget_cached_by:
    case Route::worker_stream:
    case Route::healthz:
    case Route::livez:
    case Route::readyz:
    case Route::cpu_profile:
    case Route::list_tokens:
    case Route::list_flags:
    case Route::get_flag:
    case Route::set_flag:
    case Route::remove_flag:
    case Route::get_flag_history:
    case Route::evaluate_flag:
    case Route::evaluate_flags:
    case Route::openapi:
    case Route::home: break;
  }
  return fail(ErrorCode::internal, "a route without a command");
}

// What is in memory is answered before the shard hears of it.
Result<std::optional<Command>> Endpoints::plan_cached(CacheCalls::Call const& call, Exchange& exchange) {
  CacheCalls::Answer answer;
  WM_TRY(auto command, cache_calls_.plan(call, exchange, answer));
  if (!command) {
    answer_page(exchange, {.status = answer.status,
                           .content_type = answer.content_type,
                           .body = answer.body,
                           .extra = answer.lines,
                           .length = answer.body_bytes});
    return std::nullopt;
  }
  return command;
}

Result<std::optional<Command>> Endpoints::plan_flag(Request const& request, Match const& found, Query const& query,
                                                    Exchange& exchange, Caller const& caller) {
  if (request.method == Method::post || request.method == Method::put) WM_TRY_VOID(check_body(request));
  WM_TRY(std::uint32_t const limit, parse_limit(query));
  std::string after;
  if (query.has("cursor")) {
    WM_TRY(after, parse_queues_cursor(query.get("cursor")));
  }
  FlagCalls::Answer answer;
  FlagCalls::Call const call{.request = request, .match = found, .limit = limit, .after = after, .caller = caller};
  WM_TRY(auto command, flag_calls_.plan(call, answer));
  if (command) {
    auto const* const set = std::get_if<SetFlag>(&*command);
    if (exchange.audit && set != nullptr) exchange.audit->changes = describe_changes(*set);
    return command;
  }
  Page page{.status = answer.status, .content_type = content_type::kJson, .body = answer.body, .extra = {}};
  page.extra = answer.lines;
  answer_page(exchange, page);
  return command;
}

Result<Command> Endpoints::plan_enqueue(Request const& request, Exchange& exchange, Caller const& caller) {
  WM_TRY_VOID(check_body(request));
  WM_TRY(auto idempotency, idempotency_of(request, "POST /v1/jobs ", caller));
  telemetry::Traceparent room;
  TraceContext trace;
  if (exchange.spans) {
    room = telemetry::format_traceparent(exchange.spans->begin_send(chance_));
    trace = {.traceparent = {room.data(), room.size()}, .tracestate = exchange.spans->tracestate()};
  } else {
    trace = trace_of(request, exchange, room);
  }
  WM_TRY(JsonIn::EnqueueRequest parsed, json_in_.parse_enqueue(request.body, trace));
  exchange.is_bulk = parsed.bulk;
  if (exchange.spans) exchange.spans->set_sent(parsed.command.specs);
  parsed.command.idempotency = std::move(idempotency);
  return std::move(parsed.command);
}

// What the request is to be known by, where it has a key. `call`: each has keys of its own.
Result<std::optional<Idempotency>> Endpoints::idempotency_of(Request const& request, std::string_view call,
                                                             Caller const& caller) {
  if (request.idempotency_key.data() == nullptr) return std::optional<Idempotency>{};
  WM_TRY(std::string const key, parse_idempotency_key(request.idempotency_key));
  std::string scoped{call};
  scoped.append(key);
  // A key is its caller's own, and by name, so that it is still his after his token was exchanged. A line break is in
  // no key that came over the wire.
  if (caller.token() != nullptr) scoped.append("\n").append(caller.token()->record.name);
  return std::optional{Idempotency{.key = std::move(scoped), .fingerprint = fingerprint(request.body)}};
}

// Nothing is sent yet, so there is no span of that: the callbacks' attempts stand beneath the request.
Result<Command> Endpoints::plan_make_batch(Request const& request, Exchange const& exchange, Caller const& caller) {
  WM_TRY_VOID(check_body(request));
  WM_TRY(auto idempotency, idempotency_of(request, "POST /v1/batches ", caller));
  WM_TRY(MakeBatch make, json_in_.parse_make_batch(request.body));
  telemetry::Traceparent room;
  TraceContext const trace = trace_of(request, exchange, room);
  make.traceparent = trace.traceparent;
  make.tracestate = trace.tracestate;
  make.idempotency = std::move(idempotency);
  return make;
}

// Of the jobs that come by a request, where that does not say itself that it sends them. `room`: for its text.
TraceContext Endpoints::trace_of(Request const& request, Exchange const& exchange, telemetry::Traceparent& room) {
  if (!exchange.trace) return {};
  room = telemetry::format_traceparent(*exchange.trace);  // As version 00, whatever version it came as.
  return {.traceparent = {room.data(), room.size()},
          .tracestate = is_tracestate(request.tracestate) ? request.tracestate : std::string_view{}};
}

Result<Command> Endpoints::plan_list(Query const& query) {
  ListJobs list;
  WM_TRY(list.filter.state, parse_state(query));
  list.filter.queue = query.get("queue");
  list.filter.type = query.get("type");
  list.filter.tag = query.get("tag");
  list.filter.group = query.get("group");
  list.filter.batch = query.get("batch");
  list.filter.text = query.get("q");
  WM_TRY(list.limit, parse_limit(query));
  if (query.has("cursor")) {
    WM_TRY(JobNumber const before, parse_jobs_cursor(query.get("cursor")));
    list.before = before;
  }
  return list;
}

Result<Command> Endpoints::plan_list_batches(Query const& query) {
  ListBatches list;
  WM_TRY(list.state, parse_batch_state(query));
  WM_TRY(list.limit, parse_limit(query));
  if (query.has("cursor")) {
    WM_TRY(BatchNumber const before, parse_batches_cursor(query.get("cursor")));
    list.before = before;
  }
  return list;
}

// An id that no job can have is an id of no job.
Result<JobRef> Endpoints::parse_job(std::string_view encoded) {
  std::string id;
  if (!append_percent_decoded(encoded, id) || !is_name(id)) {
    return fail(ErrorCode::job_not_found, "no job can have this id: ids are 1 to 128 of A-Z a-z 0-9 . _ : -");
  }
  return service_.job_ref(id);
}

Result<std::string> Endpoints::parse_batch(std::string_view encoded) {
  std::string id;
  if (!append_percent_decoded(encoded, id) || !is_name(id)) {
    return fail(ErrorCode::batch_not_found, "no batch can have this id: ids are 1 to 128 of A-Z a-z 0-9 . _ : -");
  }
  return id;
}

Result<> Endpoints::still_holds(Caller& caller, Access access, std::chrono::nanoseconds now) {
  Gate::Moment const moment{.now = service_.now(), .monotonic = now};
  return gate_.still_holds(access, moment, caller);
}

AttemptContext Endpoints::attempts() const {
  return tracer_ != nullptr ? AttemptContext::own_span : AttemptContext::as_stored;
}

std::string Endpoints::trace_id(Exchange const& exchange) {
  auto const context = exchange.trace ? *exchange.trace : telemetry::start_trace(chance_, telemetry::Sampling::off);
  auto const text = telemetry::format_trace_id(context);
  return {text.data(), text.size()};
}

}  // namespace workmill::http
