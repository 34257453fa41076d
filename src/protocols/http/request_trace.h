#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/reply.h"
#include "protocols/http/codec.h"
#include "protocols/http/router.h"
#include "service/service.h"
#include "telemetry/tracer.h"

// The spans of a request that is sampled: the request itself, and what it does with messages: `send QUEUE` where it
// enqueues, `receive QUEUE` where it leases. Made for each such request, and kept in its Exchange; on its I/O thread.
namespace workmill::http {

// The messages that a request sends or asks for.
struct MessageTrace {
  telemetry::TraceContext context{};
  std::string queue{};  // Empty where there are several.
  std::string worker{};
  std::string type{};
  std::size_t jobs = 0;
  std::size_t payload_bytes = 0;
};

class RequestTrace {
 public:
  // `own` is the context of the request's span; `parent` that of whoever sent it. `received_at` by the monotonic clock.
  RequestTrace(telemetry::TraceContext const& own, std::optional<telemetry::TraceContext> const& parent,
               std::string_view tracestate, Request const& request, std::chrono::nanoseconds received_at);

  telemetry::TraceContext const& own() const { return own_; }
  std::string_view tracestate() const { return tracestate_; }

  // The context that is stored with the jobs of this request: that of its `send` span.
  telemetry::TraceContext const& begin_send(Rng& chance);
  // What was sent, each spec as encode_spec wrote it.
  void set_sent(std::span<Bytes const> specs);
  // What is asked for, and the context of the `receive` span.
  void begin_receive(std::vector<QueueChoice> const& queues, std::string_view worker, Rng& chance);

  // The request is answered, or (status 0) its client has gone: emits its spans. `route` null: its path was unknown.
  // `reply` null: the answer did not come from the shard. `error_code` where it is an error.
  void finish(RouteEntry const* route, int status, std::string_view error_code, Reply const* reply,
              service::Service const& service, telemetry::Tracer& tracer) const;

 private:
  telemetry::Span child(telemetry::Span const& request, MessageTrace const& message, std::string_view operation,
                        telemetry::SpanKind kind) const;
  telemetry::Span send_span(telemetry::Span const& request, Reply const* reply, service::Service const& service) const;
  telemetry::Span receive_span(telemetry::Span const& request, Reply const* reply) const;

  telemetry::TraceContext own_;
  std::optional<telemetry::SpanId> parent_;
  std::string tracestate_;
  std::string_view method_;
  std::string path_;
  std::chrono::nanoseconds received_at_;
  std::optional<MessageTrace> sent_;   // Of a request that enqueues.
  std::optional<MessageTrace> asked_;  // Of one that leases.
};

}  // namespace workmill::http
