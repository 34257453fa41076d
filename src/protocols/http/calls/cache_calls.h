#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/rng.h"
#include "base/time.h"
#include "model/cache_set.h"
#include "model/command.h"
#include "model/reply.h"
#include "protocols/http/calls/cache_heads.h"
#include "protocols/http/codec.h"
#include "protocols/http/exchange.h"
#include "protocols/http/gate.h"
#include "protocols/http/json/json_in.h"
#include "protocols/http/pages/status.h"
#include "protocols/http/router.h"
#include "service/service.h"
#include "telemetry/metrics.h"

// The calls of the cache. What is in memory is answered here, on the I/O thread, from the index that all threads share;
// everything else becomes a command for the shard. Knows no sockets. One for each I/O thread.
namespace workmill::http {

bool is_cache_route(Route route);

// How the calls that ask for a value went. Shared by all I/O threads.
struct CacheCounters {
  explicit CacheCounters(telemetry::Metrics& metrics);
  CacheCallFigures figures() const;

  telemetry::Counter& hit;
  telemetry::Counter& stale;
  telemetry::Counter& miss;       // GET and HEAD only.
  telemetry::Counter& computed;   // By a job that the call began,
  telemetry::Counter& coalesced;  // or that another one had begun.
  telemetry::Counter& failed;
  telemetry::Counter& pending;
  telemetry::Counter& refreshes;  // Values that were asked to be computed anew, stale or nearly so.
};

// Should a value that is still fresh be computed anew now, so that it is not missed by all at once when it goes stale?
// With a probability that grows as its end comes near, and the earlier the longer it takes to compute: XFetch of
// Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015, with their
// beta of 1. `chance`: drawn evenly from (0, 1].
bool wants_early_refresh(Instant now, CacheTimes const& times, double chance);

class CacheCalls {
 public:
  // All that is lent outlives it. `chance` decides on early refreshes.
  CacheCalls(service::Service& service, Clock const& clock, telemetry::Metrics& metrics, JsonIn& json_in, Rng chance);
  CacheCalls(CacheCalls const&) = delete;
  CacheCalls& operator=(CacheCalls const&) = delete;

  struct Call {
    Request const& request;
    Match const& match;
    Query const& query;
    Caller const& caller;
    TraceContext const& trace;  // Of the job, where one is to be sent.
  };
  // A whole answer. It lends from this object, until the next call of it, and from what it holds.
  struct Answer {
    int status = 200;
    std::string_view content_type;
    std::string_view body;
    std::string_view lines;  // Of its head.
    CacheValuePtr value;     // Whose body it is.
    // Of a body that is not sent, as HEAD asks for none, and was not read from the disk: its length.
    std::optional<std::size_t> body_bytes{};
  };

  // Whether a call that computes is answered from memory as things are, by what its head says: one that is not makes
  // work. So is one that is about to be refused for its key.
  bool can_answer(Match const& match, Allowed const& allowed, Exchange const& exchange);
  // For a request of one of the routes that was let in so far. A command, where the shard is to be asked; otherwise
  // `answer` is filled in. cache_miss and compute_failed are errors like others, and their lines are miss_lines()'s.
  Result<std::optional<Command>> plan(Call const& call, Exchange& exchange, Answer& answer);
  CacheCallFigures figures() const { return counters_.figures(); }
  // What the shard said to that command. An error where that is what it comes to.
  Result<> take(Exchange& exchange, Reply const& reply, Answer& answer);

 private:
  Result<std::optional<Command>> plan_get(Call const& call, Exchange& exchange, Answer& answer);
  Result<std::optional<Command>> plan_compute(Call const& call, Exchange& exchange, Answer& answer);
  Result<Command> plan_put(Call const& call);
  Result<Command> plan_forget(Call const& call);
  Result<Command> plan_forget_by(Call const& call);
  Result<std::string_view> key_of(Call const& call) { return key_of(call.match, call.caller.allowed()); }
  Result<std::string_view> key_of(Match const& match, Allowed const& allowed);
  void refresh(Call const& call, JobSpecView const& spec, CacheTimes const& times, Instant now);
  void answer_value(Exchange const& exchange, std::string_view if_none_match, CacheValuePtr value,
                    ValueLines const& lines, Instant now, Answer& answer);
  void answer_done(std::optional<std::uint64_t> etag, Answer& answer);
  Error failed(CacheFailure const& failure, bool remembered, Instant now, Exchange& exchange);
  Instant now_of(Exchange const& exchange);

  service::Service& service_;
  Clock const& clock_;
  CacheCounters counters_;
  JsonIn& json_in_;
  Rng chance_;
  std::string key_;    // Of the call under way, where it came encoded. Kept for its room.
  std::string lines_;  // Of the answer under way, likewise.
  std::string body_;
  std::chrono::nanoseconds round_{-1};  // The time by the clock, read once for all requests of a round.
  Instant round_now_{};
};

}  // namespace workmill::http
