#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/gzip.h"
#include "base/json_writer.h"
#include "protocols/http/calls/endpoints.h"
#include "protocols/http/json/json_out.h"
#include "protocols/http/openapi.h"
#include "protocols/http/pages/heap_page.h"
#include "protocols/http/pages/metrics_page.h"
#include "protocols/http/problem.h"
#include "protocols/http/request_values.h"
#include "protocols/http/stream/websocket.h"

// How the endpoints answer. What they make of a request is in endpoints.cpp.
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

// What /readyz looks at, by the names that it shows.
struct ReadyCheck {
  std::string_view name;
  bool service::Hindrances::* bad;
};
constexpr std::array<ReadyCheck, 3> kReadyChecks{{{"recovered", &service::Hindrances::recovering},
                                                  {"disk", &service::Hindrances::disk_full},
                                                  {"serving", &service::Hindrances::draining}}};

// `?exclude=disk`: that check is passed over; several with commas between.
Result<service::Hindrances> without_excluded(Query const& query, service::Hindrances hindered) {
  if (!query.has("exclude")) return hindered;
  std::string_view names = query.get("exclude");
  for (bool more = true; more;) {
    std::size_t const comma = names.find(',');
    more = comma != std::string_view::npos;
    auto const found = std::ranges::find(kReadyChecks, names.substr(0, comma), &ReadyCheck::name);
    if (found == kReadyChecks.end()) {
      return fail_field(ErrorCode::invalid_field, "exclude", "must be recovered, disk or serving, or several of them");
    }
    hindered.*found->bad = false;
    if (more) names.remove_prefix(comma + 1);
  }
  return hindered;
}

}  // namespace

bool Endpoints::answer_at_once(Request const& request, Query const& query, Exchange& exchange) {
  switch (exchange.route) {
    case Route::healthz:
    case Route::livez: answer_health(request, query.has("verbose"), {}, exchange); return true;
    case Route::readyz: {
      auto const hindered = without_excluded(query, service_.hindrances());
      if (hindered) {
        answer_health(request, query.has("verbose"), *hindered, exchange);
      } else {
        answer(exchange, hindered.error(), exchange.text);
      }
      return true;
    }
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
void Endpoints::answer_health(Request const& request, bool verbose, service::Hindrances hindered, Exchange& exchange) {
  service::Readiness const readiness = hindered.readiness();
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
    for (auto const& [check, bad] : kReadyChecks) {
      body.append(hindered.*bad ? "[-]" : "[+]").append(check).append(hindered.*bad ? " failed\n" : " ok\n");
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
  head.length = page.length;
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
  auto const* enqueued = std::get_if<EnqueueReply>(&reply);
  auto const* batch = std::get_if<BatchReply>(&reply);
  bool const is_replayed = (enqueued != nullptr && enqueued->replayed) || (batch != nullptr && batch->replayed);
  bool const is_made =
      exchange.route == Route::create_jobs || (batch != nullptr && (batch->created || batch->replayed));
  ResponseHead head = exchange.head(is_made ? 201 : 200);
  if (exchange.route == Route::metrics) {
    head.content_type = telemetry::content_type(exchange.metrics_format);
    head.extra = "Vary: Accept, Accept-Encoding\r\n";
  }
  if (auto const* done = std::get_if<ReportsReply>(&reply)) counters_.reports.count(done->reports);
  if (auto const* leased = std::get_if<LeaseReply>(&reply)) counters_.reports.count(leased->reports);
  if (is_replayed) head.extra = "Idempotent-Replayed: true\r\n";
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

void Endpoints::answer_cached(Exchange& exchange, Reply const& reply, std::string& out) {
  CacheCalls::Answer taken;
  if (auto const done = cache_calls_.take(exchange, reply, taken); !done) return answer(exchange, done.error(), out);
  answer_page(exchange,
              {.status = taken.status, .content_type = taken.content_type, .body = taken.body, .extra = taken.lines},
              out);
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
    void operator()(BatchReply const& it) { append_batch(it.batch, endpoints.service_, out); }
    void operator()(BatchesReply const& it) { append_batches_page(it, endpoints.service_, out); }
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
  if (is_from_web_page(request) && !exchange.is_from_known_origin) {
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

}  // namespace workmill::http
