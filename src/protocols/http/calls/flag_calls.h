#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "flags/evaluation.h"
#include "model/command.h"
#include "model/reply.h"
#include "protocols/http/codec.h"
#include "protocols/http/gate.h"
#include "protocols/http/json/flags_json.h"
#include "protocols/http/router.h"
#include "service/service.h"
#include "telemetry/metrics.h"

// The calls of flags: their definitions, and OpenFeature's remote evaluation protocol (OFREP), in which any OpenFeature
// SDK asks. What only looks is answered here, on the I/O thread, from the set that all threads share; changes and the
// history become commands for the shard. Knows no sockets. One for each I/O thread.
namespace workmill::http {

bool is_flag_route(Route route);
// Of them those that evaluate, as OpenFeature's protocol has them.
bool is_ofrep_route(Route route);

class FlagCalls {
 public:
  // All that is lent outlives it.
  FlagCalls(service::Service& service, telemetry::Metrics& metrics);
  FlagCalls(FlagCalls const&) = delete;
  FlagCalls& operator=(FlagCalls const&) = delete;

  struct Call {
    Request const& request;
    Match const& match;
    std::uint32_t limit;     // Of list_flags and get_flag_history,
    std::string_view after;  // which go on behind this key or version.
    Caller const& caller;
  };
  // A whole answer. Lent until the next call.
  struct Answer {
    int status = 200;
    std::string_view body{};
    std::string_view lines{};  // Of its head.
  };
  // For a request of one of the routes that was let in, and whose body may be looked at. A command, where the shard is
  // to be asked; otherwise `answer` is filled in. Errors are those of the native API; what OFREP calls an error is an
  // answer.
  Result<std::optional<Command>> plan(Call const& call, Answer& answer);
  // The shard's answers to set_flag and get_flag_history, as JSON.
  static void append(FlagReply const& reply, std::string& out);
  static void append(FlagHistoryReply const& reply, std::string& out);

 private:
  void evaluate(std::string_view key, std::string_view body, Answer& answer);
  void evaluate_all(std::string_view body, std::string_view if_none_match, Answer& answer);
  void refuse(int status, std::string_view key, std::string_view code, std::string_view details, Answer& answer);
  void count(flags::Reason reason) { evaluations_[static_cast<std::size_t>(reason)]->add(); }

  service::Service& service_;
  FlagsIn flags_in_;
  std::array<telemetry::Counter*, flags::kReasons> evaluations_{};
  telemetry::Counter& failed_;
  std::string body_;   // Of the answer under way,
  std::string lines_;  // likewise. Kept for their room.
};

}  // namespace workmill::http
