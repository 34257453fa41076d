#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "model/command.h"
#include "model/reply.h"
#include "protocols/http/calls/cache_calls.h"
#include "protocols/http/calls/flag_calls.h"
#include "protocols/http/codec.h"
#include "protocols/http/exchange.h"
#include "protocols/http/gate.h"
#include "protocols/http/json/json_in.h"
#include "protocols/http/json/json_out.h"
#include "protocols/http/limits.h"
#include "protocols/http/pages/status.h"
#include "protocols/http/response.h"
#include "service/service.h"
#include "service/token_store.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/stage_times.h"
#include "telemetry/thread_times.h"
#include "telemetry/tracer.h"

// What each call of the API does: a request becomes a command for the shard or an answer at once, and a reply becomes a
// response. Knows no sockets. One for each I/O thread.
namespace workmill::http {

class Endpoints {
 public:
  // All that is lent outlives it. `chance` is for trace ids and the like. `tracer` null: no request has spans, and the
  // trace of a job is handed on as it came.
  Endpoints(service::Service& service, service::TokenStore const& tokens, Clock const& clock, HttpCounters& counters,
            telemetry::Metrics& metrics, telemetry::Logger& logger, Rng chance, telemetry::Tracer* tracer = nullptr);
  Endpoints(Endpoints const&) = delete;
  Endpoints& operator=(Endpoints const&) = delete;

  // Who is let in; nobody is refused before this was called. Outlives the endpoints.
  void set_admission(service::Admission& admission) { admission_ = &admission; }
  // Origins whose web pages may read answers. None at first.
  void set_cors_origins(std::vector<std::string> origins) { cors_origins_ = std::move(origins); }

  // Looks at a request of which the head is there and the body is not. True where it is let in so far. Else
  // `exchange.text` is the response, and the body need not be taken; begin() would refuse it too.
  bool judge_head(Request const& request, Exchange& exchange, Caller& caller);
  // What came of a profile that the session had to ask for.
  void answer_profile(Exchange& exchange, Result<std::string> const& profile);
  // For a request that is whole, whether judge_head() has seen its head or not. Fills in `exchange`, and `caller`,
  // which is its connection's. The command, where the shard is to be asked, with `caller.allowed()`; otherwise
  // `exchange.text` is the response.
  std::optional<Command> begin(Request const& request, Exchange& exchange, Caller& caller);

  // Appends the response to `out`, counts it, and logs it where it is an error.
  void answer(Exchange& exchange, Reply const& reply, std::string& out);
  void answer(Exchange& exchange, Error const& error, std::string& out);

  // For a worker stream: whether its caller may still go on, and what its jobs' traces look like.
  Result<> still_holds(Caller& caller, Access access, std::chrono::nanoseconds now);
  // Since it was asked last. Then those who were let in may have to go.
  bool have_tokens_changed() { return gate_.have_tokens_changed(); }
  AttemptContext attempts() const;
  std::string trace_id(Exchange const& exchange);

  // Instead of an answer, where the client has gone before there was one.
  void abandon(Exchange const& exchange);

  // Called by this thread's server, which knows them: for /v1/status.
  void set_front_end(std::vector<Fullness> bounds) { front_end_bounds_ = std::move(bounds); }

  // For /v1/status, where there are any. Both outlive this.
  void set_stage_times(telemetry::StageTimes const& stages) { stages_ = &stages; }
  void set_thread_times(telemetry::ThreadTimes const& threads) { threads_ = &threads; }

 private:
  struct Page {  // An answer that needs nobody.
    int status = 200;
    std::string_view content_type;
    std::string_view body;
    std::string_view extra;
    std::optional<std::size_t> length{};  // ResponseHead::length.
  };

  void note_head(Request const& request, Exchange& exchange);
  Result<> judge_whole_head(Request const& request, Exchange& exchange, Caller& caller);
  service::Priority priority(Match const& found, Exchange const& exchange, Caller const& caller);
  Result<> admit(service::Admission::Verdict verdict, Exchange& exchange);
  static Shown shown_of(Request const& request, Exchange const& exchange);
  Result<> let_in(Shown const& shown, std::optional<Access> access, Exchange& exchange, Caller& caller);
  Result<Match> judge(Request const& request, Exchange& exchange, Caller& caller);
  Result<> check_patience(Exchange const& exchange) const;
  Result<std::optional<Command>> plan(Request const& request, Exchange& exchange, Caller& caller);
  Result<Command> plan_command(Request const& request, Match const& found, Query const& query, Exchange& exchange,
                               Caller const& caller);
  Result<Command> plan_enqueue(Request const& request, Exchange& exchange, Caller const& caller);
  Result<Command> plan_make_batch(Request const& request, Exchange const& exchange, Caller const& caller);
  static Result<std::optional<Idempotency>> idempotency_of(Request const& request, std::string_view call,
                                                           Caller const& caller);
  static TraceContext trace_of(Request const& request, Exchange const& exchange, telemetry::Traceparent& room);
  Result<Command> plan_list(Query const& query);
  static Result<Command> plan_list_batches(Query const& query);
  Result<std::optional<Command>> plan_cached(CacheCalls::Call const& call, Exchange& exchange);
  void answer_cached(Exchange& exchange, Reply const& reply, std::string& out);
  Result<std::optional<Command>> plan_flag(Request const& request, Match const& found, Query const& query,
                                           Exchange& exchange, Caller const& caller);
  Result<JobRef> parse_job(std::string_view encoded);
  static Result<std::string> parse_batch(std::string_view encoded);
  Result<> answer_tokens(Query const& query, Exchange& exchange);
  bool answer_at_once(Request const& request, Query const& query, Exchange& exchange);
  void answer_health(Request const& request, bool verbose, service::Hindrances hindered, Exchange& exchange);
  void answer_page(Exchange& exchange, Page const& page) { answer_page(exchange, page, exchange.text); }
  void answer_page(Exchange const& exchange, Page const& page, std::string& out);
  void answer_packed(Exchange const& exchange, ResponseHead head, Reply const& reply, std::string& out);
  FrontEndFigures front_end() const;
  void append_body(Exchange const& exchange, Reply const& reply, std::string& out);
  Result<> answer_upgrade(Request const& request, Exchange& exchange);
  void note_origin(std::string_view origin, Exchange& exchange) const;
  void begin_trace(Request const& request, Exchange& exchange);
  void end_trace(Exchange const& exchange, int status, std::string_view error_code, Reply const* reply);

  service::Service& service_;
  service::TokenStore const& tokens_;
  Clock const& clock_;
  HttpCounters& counters_;
  telemetry::Metrics& metrics_;
  telemetry::Logger& logger_;
  telemetry::Logger& audit_log_;
  Rng chance_;
  telemetry::Tracer* const tracer_;
  Gate gate_;
  service::Admission* admission_ = nullptr;
  ResponseWriter writer_;
  JsonIn json_in_;
  CacheCalls cache_calls_;
  FlagCalls flag_calls_;
  std::vector<Fullness> front_end_bounds_;
  telemetry::StageTimes const* stages_ = nullptr;
  telemetry::ThreadTimes const* threads_ = nullptr;
  std::vector<std::string> cors_origins_;
};

}  // namespace workmill::http
