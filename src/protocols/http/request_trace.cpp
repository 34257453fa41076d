#include "protocols/http/request_trace.h"

#include <string>
#include <utility>
#include <variant>

#include "model/job.h"
#include "telemetry/job_trace.h"

namespace workmill::http {
namespace {

using telemetry::Span;
using telemetry::SpanKind;
namespace attribute = telemetry::attribute;

// Links of one `receive`: as many as other tracers keep.
constexpr std::size_t kLinksMax = 128;
constexpr std::size_t kPathBytesMax = 512;

}  // namespace

RequestTrace::RequestTrace(telemetry::TraceContext const& own, std::optional<telemetry::TraceContext> const& parent,
                           std::string_view tracestate, Request const& request, std::chrono::nanoseconds received_at)
    : own_(own),
      tracestate_(tracestate),
      method_(to_string(request.method)),
      path_(request.path.substr(0, kPathBytesMax)),
      received_at_(received_at) {
  if (parent) parent_ = parent->parent_id;
}

telemetry::TraceContext const& RequestTrace::begin_send(Rng& chance) {
  sent_.emplace();
  sent_->context = telemetry::continue_trace(own_, chance);
  return sent_->context;
}

void RequestTrace::set_sent(std::span<Bytes const> specs) {
  if (!sent_) return;
  sent_->jobs = specs.size();
  JobSpecView spec;
  bool is_first = true;
  for (Bytes const& bytes : specs) {
    if (!decode_spec(bytes, spec)) return;  // We have just encoded it.
    if (is_first) {
      sent_->queue = spec.queue;
      sent_->type = spec.type;
      sent_->payload_bytes = spec.payload.size();
    } else if (sent_->queue != spec.queue) {
      sent_->queue.clear();
      return;
    }
    is_first = false;
  }
}

void RequestTrace::begin_receive(std::vector<QueueChoice> const& queues, std::string_view worker, Rng& chance) {
  asked_.emplace();
  asked_->context = telemetry::continue_trace(own_, chance);
  if (queues.size() == 1) asked_->queue = queues.front().name;
  asked_->worker = worker;
}

void RequestTrace::finish(RouteEntry const* route, int status, std::string_view error_code, Reply const* reply,
                          service::Service const& service, telemetry::Tracer& tracer) const {
  Span span;
  span.context = own_;
  span.parent = parent_;
  span.tracestate = tracestate_;
  span.kind = SpanKind::server;
  span.start_ns = tracer.unix_ns(received_at_);
  span.end_ns = tracer.now_ns();
  // Methods that nobody knows are `_OTHER` in attributes and HTTP in names, or each would be a name of its own.
  bool const is_known = !method_.empty();
  span.name = is_known ? method_ : std::string_view{"HTTP"};
  if (route != nullptr) span.name.append(" ").append(route->pattern);
  span.add("http.request.method", is_known ? method_ : std::string_view{"_OTHER"});
  span.add("url.path", path_);
  if (route != nullptr) span.add("http.route", route->pattern);
  if (status > 0) span.add_number("http.response.status_code", static_cast<std::uint64_t>(status));
  if (status >= 500) {
    span.fail(error_code.empty() ? std::string_view{"_OTHER"} : error_code);
  } else if (!error_code.empty()) {
    span.add("error.type", error_code);  // What the client got wrong is no failure of the server.
  }
  if (sent_) {
    Span send = send_span(span, reply, service);
    if (!error_code.empty()) send.fail(error_code);
    tracer.emit(std::move(send));
  }
  if (asked_) {
    Span receive = receive_span(span, reply);
    if (!error_code.empty()) receive.fail(error_code);
    tracer.emit(std::move(receive));
  }
  tracer.emit(std::move(span));
}

Span RequestTrace::child(Span const& request, MessageTrace const& message, std::string_view operation,
                         SpanKind kind) const {
  Span span = telemetry::messaging_span(operation, operation, message.queue, kind);
  span.context = message.context;
  span.parent = own_.parent_id;
  span.tracestate = tracestate_;
  span.start_ns = request.start_ns;
  span.end_ns = request.end_ns;
  return span;
}

Span RequestTrace::send_span(Span const& request, Reply const* reply, service::Service const& service) const {
  Span span = child(request, *sent_, "send", SpanKind::producer);
  if (sent_->jobs > 1) span.add_number(attribute::kBatchCount, sent_->jobs);
  if (sent_->jobs == 1) {
    span.add(attribute::kJobType, sent_->type);
    span.add_number(attribute::kBodySize, sent_->payload_bytes);
  }
  auto const* const enqueued = reply != nullptr ? std::get_if<EnqueueReply>(reply) : nullptr;
  if (enqueued != nullptr && enqueued->jobs.size() == 1) {
    EnqueuedJob const& job = enqueued->jobs.front();
    std::string id;
    service.append_id(job.number, job.client_id, id);
    span.add(attribute::kMessageId, id);
    if (job.duplicate) span.add_flag("workmill.job.duplicate", true);
  }
  return span;
}

Span RequestTrace::receive_span(Span const& request, Reply const* reply) const {
  Span span = child(request, *asked_, "receive", SpanKind::client);
  if (!asked_->worker.empty()) span.add(attribute::kClientId, asked_->worker);
  auto const* const leased = reply != nullptr ? std::get_if<LeaseReply>(reply) : nullptr;
  if (leased == nullptr) return span;
  span.add_number(attribute::kBatchCount, leased->jobs.size());
  JobSpecView spec;
  for (LeasedJob const& job : leased->jobs) {
    if (span.links.size() == kLinksMax) break;
    if (!decode_spec(job.spec, spec) || spec.traceparent.empty()) continue;
    auto const creation = telemetry::parse_traceparent(spec.traceparent);
    if (creation && creation->is_sampled()) span.links.push_back(telemetry::attempt_context(*creation, job.token));
  }
  return span;
}

}  // namespace workmill::http
