#include "driver_script.h"

#include <optional>
#include <utility>

#include "driver_words.h"

namespace workmill::client::driver {
namespace {

std::unexpected<Error> thrown(Json const& what) {
  std::string const error_class = text_of(what, "class");
  Error error{.code = text_of(what, "code"),
              .error_class = error_class == "user"    ? ErrorClass::user
                             : error_class == "fatal" ? ErrorClass::fatal
                                                      : ErrorClass::retryable,
              .message = text_of(what, "message"),
              .retry_after = duration_of(what, "retry_in")};
  return std::unexpected(std::move(error));
}

// A value ends the script; nothing goes on.
Result<std::optional<Json>> act(std::string const& worker, Json::Array const& action, Json const& payload,
                                JobContext& context, Gates& gates) {
  std::string const& what = *action[0].as_string();
  auto const argument = [&](std::size_t i) { return i < action.size() ? action[i] : Json{}; };
  if (what == "return") return std::optional{argument(1)};
  if (what == "echo") return std::optional{payload.find("data") != nullptr ? *payload.find("data") : Json{}};
  auto const long_text = [&] { return std::string(static_cast<std::size_t>(argument(1).as_uint().value_or(0)), 'x'); };
  if (what == "return_long") return std::optional{Json{long_text()}};
  if (what == "return_attempt") return std::optional{Json{context.attempt()}};
  if (what == "return_batch") {
    if (!context.batch().empty()) return std::optional{Json{std::string{context.batch()}}};
    return std::nullopt;
  }
  if (what == "return_checkpoint") {
    auto saved = context.saved<Json>();
    if (!saved) return std::unexpected(saved.error());
    return *std::move(saved);
  }
  if (what == "fail_until") {
    if (context.attempt() < static_cast<unsigned>(argument(1).as_uint().value_or(0))) {
      return retry_later("not_yet", "in a later attempt");
    }
  } else if (what == "throw") {
    return thrown(argument(1));
  } else if (what == "throw_long") {
    return retry_later("long", long_text());
  } else if (what == "progress_long") {
    context.progress(50, long_text());
  } else if (what == "progress") {
    context.progress(static_cast<int>(argument(1).as_int().value_or(0)), *argument(2).as_string());
  } else if (what == "log") {
    for (std::size_t i = 1; i < action.size(); ++i) context.log(*action[i].as_string());
  } else if (what == "cache") {
    Json const entry = argument(1);
    std::string const key = text_of(entry, "key");
    auto const set = entry.find("value_base64") != nullptr
                         ? context.cache(key, bytes_of(entry), cache_options(entry))
                         : context.cache(key, *entry.find("value"), cache_options(entry));
    if (!set) return std::unexpected(set.error());
  } else if (what == "checkpoint") {
    if (auto const saved = context.checkpoint(argument(1)); !saved) return std::unexpected(saved.error());
    say({{"event", "checkpointed"}, {"worker", worker}, {"id", std::string{context.id()}}});
  } else if (what == "hold" || what == "hold_first") {
    if (what == "hold_first" && context.attempt() > 1) return std::nullopt;
    Json const gate = argument(1);
    if (!gates.pass(*gate.as_string(), context.stop_token())) return context.cancelled_error();
  }
  return std::nullopt;
}

}  // namespace

Result<Json> run_script(std::string const& worker, Json const& payload, JobContext& context, Gates& gates) {
  std::string const id{context.id()};
  say({{"event", "started"},
       {"worker", worker},
       {"id", id},
       {"type", std::string{context.type()}},
       {"attempt", context.attempt()}});
  std::string how = "returned";
  Result<Json> result = Json{};
  for (Json const& action : *payload.find("do")->as_array()) {
    auto step = act(worker, *action.as_array(), payload, context, gates);
    if (!step) {
      how = step.error().code == "cancelled" ? "cancelled" : "raised";
      result = std::unexpected(step.error());
      break;
    }
    if (*step) {
      result = **std::move(step);
      break;
    }
  }
  say({{"event", "ended"}, {"worker", worker}, {"id", id}, {"attempt", context.attempt()}, {"how", how}});
  return result;
}

}  // namespace workmill::client::driver
