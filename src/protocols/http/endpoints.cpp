#include "protocols/http/endpoints.h"

#include <algorithm>
#include <utility>

#include "base/json_writer.h"
#include "protocols/http/gzip.h"
#include "protocols/http/heap_page.h"
#include "protocols/http/json_out.h"
#include "protocols/http/metrics_page.h"
#include "protocols/http/openapi.h"
#include "protocols/http/problem.h"
#include "protocols/http/request_values.h"
#include "protocols/http/websocket.h"

namespace workmill::http {
namespace {

constexpr std::string_view kHome = "Workmill " WM_VERSION
                                   ": runs background jobs, and keeps what they compute.\n\n"
                                   "  POST /v1/jobs       send a job\n"
                                   "  POST /v1/leases     take jobs to work on\n"
                                   "  POST /v1/reports    say what became of them\n"
                                   "  GET  /v1/worker     both as a WebSocket: jobs as they come, reports in batches\n"
                                   "  GET  /v1/queues     see what is waiting\n"
                                   "  GET  /openapi.json  all calls, for programs\n"
                                   "  GET  /metrics       for Prometheus\n";

}  // namespace

Endpoints::Endpoints(service::Service& service, service::TokenStore const& tokens, Clock const& clock,
                     HttpCounters& counters, telemetry::Metrics& metrics, telemetry::Logger& logger, Rng chance,
                     telemetry::Tracer* tracer)
    : service_(service),
      tokens_(tokens),
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
  Result<> judged;
  if (request.method == Method::options) {  // Answered to everybody; but for a body there must be as good a reason.
    judged = let_in(request, std::nullopt, exchange, caller);
  } else if (auto found = judge(request, exchange, caller); !found) {
    judged = std::unexpected(std::move(found).error());
  }
  if (!judged) {
    answer(exchange, judged.error(), exchange.text);
    return false;
  }
  if (admission_ == nullptr || request.method == Method::options) return true;
  auto const verdict = admission_->check(exchange.client, priority_of(exchange.route), exchange.received_at);
  auto const admitted = admit(verdict, exchange);
  if (!admitted) answer(exchange, admitted.error(), exchange.text);
  return admitted.has_value();
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
  if (!cors_origins_.empty() && !request.origin.empty()) {
    auto const known = std::find(cors_origins_.begin(), cors_origins_.end(), request.origin);
    if (known != cors_origins_.end()) {
      exchange.cors = "Access-Control-Allow-Origin: " + *known +
                      "\r\nVary: Origin\r\nAccess-Control-Expose-Headers: Age, Cache-Status, ETag, "
                      "Idempotent-Replayed, Location, Retry-After, WWW-Authenticate\r\n";
    }
  }
  if (tracer_ != nullptr) begin_trace(request, exchange);
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
  auto admitted = let_in(request, access, exchange, caller);
  // Also of one that is not allowed it; but not of strangers, who could fill the log.
  bool const is_known = admitted || admitted.error().code == ErrorCode::forbidden;
  if (found && is_known) exchange.audit = make_audit_note(found->access, found->parameter, caller);
  if (!admitted) return std::unexpected(std::move(admitted).error());
  if (!found && found.error().code == ErrorCode::method_not_allowed) exchange.allow = allowed_methods(request.path);
  if (found) WM_TRY_VOID(check_conditions(request, found->route));
  return found;
}

Result<> Endpoints::let_in(Request const& request, std::optional<Access> access, Exchange& exchange, Caller& caller) {
  Gate::Moment const moment{.now = service_.now(), .monotonic = exchange.received_at};
  auto admitted = gate_.admit(request.authorization, access, moment, caller);
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
    if (!exchange.cors.empty()) {  // What a browser asks before it sends a request of a page: it may.
      extra.append("Access-Control-Allow-Methods: ").append(allowed);
      extra.append("\r\nAccess-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, If-None-Match, ");
      extra.append("Request-Timeout, traceparent, tracestate\r\nAccess-Control-Max-Age: 600\r\n");
    }
    Page const page{.status = 204, .content_type = {}, .body = {}, .extra = extra};
    answer_page(exchange, page);
    return std::nullopt;
  }
  WM_TRY(Match const found, judge(request, exchange, caller));
  if (admission_ != nullptr) {
    auto const verdict = admission_->enter(exchange.client, priority_of(exchange.route), exchange.received_at);
    exchange.is_counted = verdict == service::Admission::Verdict::admitted;
    WM_TRY_VOID(admit(verdict, exchange));
  }
  if (request.request_timeout.data() != nullptr) {
    WM_TRY(exchange.give_up_after, parse_request_timeout(request.request_timeout));
  }
  WM_TRY(Query const query, Query::parse(request.query, found.query_names));
  if (is_cache_route(found.route)) {
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
  WM_TRY(Command command, plan_command(request, found, query, exchange, caller));
  return command;
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
      return PatchJob{
          .job = std::move(job), .changes = std::move(changes), .new_spec = {}, .history = {}, .checkpoint = {}};
    }
    case Route::delete_job: {
      WM_TRY(JobRef job, parse_job(found.parameter));
      return DeleteJob{std::move(job)};
    }
    case Route::bulk_jobs: {
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
      patch.name = std::move(name);
      return patch;
    }
    case Route::purge_queue: {
      WM_TRY(std::string name, parse_name("queue", found.parameter));
      WM_TRY(auto const state, parse_state(query));
      return PurgeQueue{.name = std::move(name), .state = state};
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
    answer_page(
        exchange,
        {.status = answer.status, .content_type = answer.content_type, .body = answer.body, .extra = answer.lines});
    return std::nullopt;
  }
  if (exchange.is_load && admission_ != nullptr) {
    WM_TRY_VOID(admit(admission_->check(exchange.client, service::Priority::load, exchange.received_at), exchange));
  }
  return command;
}

void Endpoints::answer_cached(Exchange& exchange, Reply const& reply, std::string& out) {
  CacheCalls::Answer taken;
  if (auto const done = cache_calls_.take(exchange, reply, taken); !done) return answer(exchange, done.error(), out);
  answer_page(exchange,
              {.status = taken.status, .content_type = taken.content_type, .body = taken.body, .extra = taken.lines},
              out);
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
  if (command) return command;
  Page page{.status = answer.status, .content_type = content_type::kJson, .body = answer.body, .extra = {}};
  page.extra = answer.lines;
  answer_page(exchange, page);
  return command;
}

Result<Command> Endpoints::plan_enqueue(Request const& request, Exchange& exchange, Caller const& caller) {
  WM_TRY_VOID(check_body(request));
  std::optional<Idempotency> idempotency;
  if (request.idempotency_key.data() != nullptr) {
    WM_TRY(std::string key, parse_idempotency_key(request.idempotency_key));
    std::string scoped = "POST /v1/jobs " + key;
    // A key is its caller's own, and by name, so that it is still his after his token was exchanged. A line break is in
    // no key that came over the wire.
    if (caller.token() != nullptr) scoped.append("\n").append(caller.token()->record.name);
    idempotency = Idempotency{.key = std::move(scoped), .fingerprint = fingerprint(request.body)};
  }
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
  list.filter.text = query.get("q");
  WM_TRY(list.limit, parse_limit(query));
  if (query.has("cursor")) {
    WM_TRY(JobNumber const before, parse_jobs_cursor(query.get("cursor")));
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

bool Endpoints::answer_at_once(Request const& request, Query const& query, Exchange& exchange) {
  switch (exchange.route) {
    case Route::healthz:
    case Route::livez: answer_health(request, query.has("verbose"), service::Readiness::ready, exchange); return true;
    case Route::readyz: answer_health(request, query.has("verbose"), service_.readiness(), exchange); return true;
    case Route::openapi:
      answer_page(exchange,
                  {.status = 200, .content_type = content_type::kJson, .body = openapi_document(), .extra = {}});
      return true;
    case Route::home:
      answer_page(exchange, {.status = 200, .content_type = content_type::kText, .body = kHome, .extra = {}});
      return true;
    default: return false;
  }
}

// Who may come in, and when each was used last: known to this process, not written down.
Result<> Endpoints::answer_tokens(Query const& query, Exchange& exchange) {
  WM_TRY(std::uint32_t const limit, parse_limit(query));
  std::string after;
  if (query.has("cursor")) {
    WM_TRY(after, parse_queues_cursor(query.get("cursor")));
  }
  std::string body;
  append_tokens_page(tokens_.list(), after, limit, body);
  answer_page(exchange, {.status = 200, .content_type = content_type::kJson, .body = body, .extra = {}});
  return {};
}

// Programs look at the status; the text is for people, and the JSON for those who ask for it.
void Endpoints::answer_health(Request const& request, bool verbose, service::Readiness readiness, Exchange& exchange) {
  bool const is_ready = readiness == service::Readiness::ready;
  std::string_view const name = to_string(readiness);
  std::string_view type = content_type::kText;
  std::string body;
  if (request.accept.find("application/health+json") != std::string_view::npos) {
    type = "application/health+json";
    JsonWriter json{body};
    json.begin_object().member("status", is_ready ? "pass" : "fail").member("version", WM_VERSION);
    if (!is_ready) json.member("output", name);
    json.end_object();
  } else if (verbose && exchange.route == Route::readyz) {
    using enum service::Readiness;
    for (auto const& [check, bad] : {std::pair{"recovered", recovering}, {"disk", disk_full}, {"serving", draining}}) {
      body.append(readiness == bad ? "[-]" : "[+]").append(check).append(readiness == bad ? " failed\n" : " ok\n");
    }
    body.append(is_ready ? "readyz check passed\n" : "readyz check failed\n");
  } else {
    body.append(is_ready ? "ok" : name).append("\n");
  }
  answer_page(exchange, {.status = is_ready ? 200 : 503, .content_type = type, .body = body, .extra = {}});
}

void Endpoints::answer_page(Exchange const& exchange, Page const& page, std::string& out) {
  writer_.set_now(service_.now());
  ResponseHead head = exchange.head(page.status);
  head.content_type = page.content_type;
  head.extra = page.extra;
  writer_.write(head, page.body, out);
  counters_.count(exchange.is_routed, exchange.route, page.status);
  if (exchange.spans) end_trace(exchange, page.status, {}, nullptr);
  if (exchange.audit) {
    write_audit(audit_log_, *exchange.audit, exchange.route, {.status = page.status, .code = {}}, trace_id(exchange));
  }
}

void Endpoints::answer(Exchange& exchange, Reply const& reply, std::string& out) {
  if (auto const* error = std::get_if<Error>(&reply)) return answer(exchange, *error, out);
  if (is_cache_route(exchange.route)) return answer_cached(exchange, reply, out);
  writer_.set_now(service_.now());
  ResponseHead head = exchange.head(exchange.route == Route::create_jobs ? 201 : 200);
  if (exchange.route == Route::metrics) {
    head.content_type = telemetry::content_type(exchange.metrics_format);
    head.extra = "Vary: Accept, Accept-Encoding\r\n";
  }
  auto const* enqueued = std::get_if<EnqueueReply>(&reply);
  if (enqueued != nullptr && enqueued->replayed) head.extra = "Idempotent-Replayed: true\r\n";
  if (exchange.gzip) {
    answer_packed(exchange, head, reply, out);
  } else {
    writer_.begin(head, out);
    append_body(exchange, reply, out);
    writer_.end(out);
  }
  counters_.count(exchange.is_routed, exchange.route, head.status);
  if (exchange.spans) end_trace(exchange, head.status, {}, &reply);
  if (exchange.audit) {
    auto const* const counted = std::get_if<CountReply>(&reply);
    write_audit(audit_log_, *exchange.audit, exchange.route,
                {.status = head.status, .code = {}, .count = counted ? std::optional{counted->count} : std::nullopt},
                trace_id(exchange));
  }
}

void Endpoints::abandon(Exchange const& exchange) {
  if (exchange.spans) end_trace(exchange, 0, "client_gone", nullptr);
  if (exchange.audit) write_audit(audit_log_, *exchange.audit, exchange.route, {}, trace_id(exchange));
}

FrontEndFigures Endpoints::front_end() const {
  return {.bounds = front_end_bounds_,
          .stages = stages_,
          .threads = threads_,
          .connections = counters_.accepted.value(),
          .requests = counters_.answered(),
          .refused = counters_.refused.value(),
          .cache = cache_calls_.figures()};
}

void Endpoints::answer_packed(Exchange const& exchange, ResponseHead head, Reply const& reply, std::string& out) {
  std::string plain;
  std::string packed;
  append_body(exchange, reply, plain);
  std::string const extra = std::string{head.extra}.append("Content-Encoding: gzip\r\n");
  if (append_gzip(plain, packed)) head.extra = extra;
  writer_.write(head, packed.empty() ? plain : packed, out);
}

void Endpoints::answer_profile(Exchange& exchange, Result<std::string> const& profile) {
  if (!profile) return answer(exchange, profile.error(), exchange.text);
  answer_page(exchange, {.status = 200,
                         .content_type = "application/octet-stream",
                         .body = *profile,
                         .extra = "Content-Disposition: attachment; filename=\"workmill.prof\"\r\n"});
}

void Endpoints::append_body(Exchange const& exchange, Reply const& reply, std::string& out) {
  struct Body {
    Endpoints& endpoints;
    Exchange const& exchange;
    std::string& out;

    void operator()(Error const&) {}  // Answered as a problem, and not here.
    void operator()(EnqueueReply const& it) { append_enqueue_reply(it, exchange.is_bulk, endpoints.service_, out); }
    void operator()(LeaseReply const& it) {
      append_lease_reply(it, exchange.reported, !exchange.reported.empty(), endpoints.service_,
                         endpoints.trace_id(exchange), endpoints.attempts(), out);
    }
    void operator()(ReportsReply const& it) {
      append_reports_reply(it, exchange.reported, endpoints.service_, endpoints.trace_id(exchange), out);
    }
    void operator()(JobReply const& it) { append_job(it.job, endpoints.service_, out); }
    void operator()(JobsReply const& it) { append_jobs_page(it, endpoints.service_, out); }
    void operator()(JobLogReply const& it) { append_job_log(it, out); }
    void operator()(CountReply const& it) { append_count(it, out); }
    void operator()(QueueReply const& it) { append_queue(it.queue, out); }
    void operator()(QueuesReply const& it) { append_queues_page(it, out); }
    void operator()(DoneReply const&) { append_done(out); }
    void operator()(FlagReply const& it) { FlagCalls::append(it, out); }
    void operator()(FlagHistoryReply const& it) { FlagCalls::append(it, out); }
    // What a worker stream is sent goes another way.
    void operator()(StreamOpened const&) {}
    void operator()(StreamJobs const&) {}
    void operator()(StreamCancel const&) {}
    void operator()(StreamDrained const&) {}
    void operator()(StreamEnded const&) {}
    // What is cached is answered by its own routes.
    void operator()(CachedReply const&) {}
    void operator()(CachePending const&) {}
    void operator()(ComputeFailed const&) {}
    void operator()(CacheMissed const&) {}
    void operator()(StatusReply const& it) {
      if (exchange.route == Route::heap) {
        append_heap(it, endpoints.front_end_bounds_, out);
      } else if (exchange.route == Route::metrics) {
        append_metrics(it, endpoints.service_.now(), endpoints.metrics_, exchange.metrics_format, out);
      } else {
        append_status(it, endpoints.front_end(), endpoints.service_, out);
      }
    }
  };
  std::visit(Body{*this, exchange, out}, reply);
}

void Endpoints::answer(Exchange& exchange, Error const& error, std::string& out) {
  int const status = status_of(error.code);
  std::string const trace = trace_id(exchange);
  std::string extra;
  CacheFailure const* const failure =
      error.code == ErrorCode::compute_failed && exchange.cache ? &exchange.cache->failure : nullptr;
  bool const may_retry = failure == nullptr || failure->error_class == ErrorClass::retryable;
  auto const known = static_cast<std::uint64_t>(may_retry ? std::max(retry_after_seconds(error.code), 0) : 0);
  if (std::uint64_t const base = exchange.retry_after > 0 ? exchange.retry_after : known; base > 0) {
    // Drawn from a span, so that those who were refused together do not come back together. What is remembered of a
    // failure has an end that is known: from then on they are served by one computation, however many come at once.
    std::uint64_t const span = failure != nullptr ? base / 10 : base;
    std::string const seconds = std::to_string(base + chance_.below(span + 1));
    extra.append("Retry-After: ").append(seconds).append("\r\n");
    if (exchange.share > 0) {
      extra.append("RateLimit-Policy: \"share\";q=").append(std::to_string(exchange.share)).append(";w=1\r\n");
      extra.append("RateLimit: \"share\";r=0;t=").append(seconds).append("\r\n");
    }
  }
  if (error.code == ErrorCode::unauthorized) extra.append("WWW-Authenticate: Bearer realm=\"workmill\"\r\n");
  if (error.code == ErrorCode::upgrade_required) {
    extra.append("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
  }
  if (error.code == ErrorCode::cache_miss) extra.append(kMissLines);
  if (failure != nullptr) extra.append(exchange.cache->is_remembered ? kRememberedFailureLines : kFailureLines);
  if (!exchange.allow.empty()) extra.append("Allow: ").append(exchange.allow).append("\r\n");

  writer_.set_now(service_.now());
  ResponseHead head = exchange.head(status);
  head.content_type = content_type::kProblem;
  head.extra = extra;
  writer_.begin(head, out);
  JsonWriter json{out};
  append_problem(error, trace, json, {.cause = failure});
  writer_.end(out);
  counters_.count(exchange.is_routed, exchange.route, status);
  if (exchange.spans) end_trace(exchange, status, to_string(error.code), nullptr);
  if (status == 413 || status == 429 || status == 431 || status == 503) counters_.refused.add();
  if (exchange.audit) {
    write_audit(audit_log_, *exchange.audit, exchange.route, {.status = status, .code = to_string(error.code)}, trace);
  }

  // What clients get wrong is theirs to know; what we get wrong is for whoever runs us.
  bool const is_ours = class_of(error.code) == ErrorClass::fatal && error.code != ErrorCode::lease_lost;
  auto const level = is_ours ? telemetry::LogLevel::error : telemetry::LogLevel::debug;
  telemetry::SpanIdText span{};
  if (exchange.spans) span = telemetry::format_span_id(exchange.spans->own());
  logger_.log(level, "a request was answered with an error",
              {{"route", exchange.is_routed ? to_string(exchange.route) : std::string_view{"none"}},
               {"status", status},
               {"error", describe(error)},
               {"trace_id", trace},
               {"span_id", exchange.spans ? std::optional{std::string_view{span.data(), span.size()}} : std::nullopt}});
}

// RFC 6455, 4.2. A browser opens a WebSocket from any page to any site without asking: so a page of an origin that is
// not known here is refused, as its other requests are by what they look like (see check_body).
Result<> Endpoints::answer_upgrade(Request const& request, Exchange& exchange) {
  if (request.is_http_1_0 || request.method != Method::get || !request.wants_upgrade ||
      !equals_ignoring_case(request.upgrade, "websocket")) {
    return fail(ErrorCode::upgrade_required, "this is a WebSocket: ask for the upgrade to one");
  }
  if (request.websocket_version != "13") {
    return fail(ErrorCode::upgrade_required, "of the versions of WebSocket only 13 is known");
  }
  if (is_from_web_page(request) && exchange.cors.empty()) {
    return fail(ErrorCode::forbidden, "web pages of this origin may not open a worker stream");
  }
  std::string const accept = websocket::accept_of(request.websocket_key);
  if (accept.empty()) return fail(ErrorCode::malformed_request, "Sec-WebSocket-Key is not 16 bytes in base64");
  if (!request.body.empty()) return fail(ErrorCode::malformed_request, "a request to upgrade has no body");
  if (service_.readiness() == service::Readiness::draining) {
    return fail(ErrorCode::shutting_down, "the server is shutting down");
  }
  if (service_.streams_full()) return fail(ErrorCode::overloaded, "as many worker streams are open as may be");
  exchange.is_upgrade = true;
  exchange.text.append("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
  exchange.text.append("Sec-WebSocket-Accept: ").append(accept).append("\r\n").append(exchange.cors).append("\r\n");
  counters_.upgraded.add();
  if (exchange.spans) end_trace(exchange, 101, {}, nullptr);
  return {};
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
