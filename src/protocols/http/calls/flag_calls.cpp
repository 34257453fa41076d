#include "protocols/http/calls/flag_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/assert.h"
#include "base/json_writer.h"
#include "model/ids.h"

namespace workmill::http {
namespace {

constexpr std::string_view kEvaluationsHelp = "Evaluations of flags, by what decided.";

std::string_view label_of(flags::Reason reason) {
  switch (reason) {
    case flags::Reason::fixed: return "static";
    case flags::Reason::targeting_match: return "targeting_match";
    case flags::Reason::split: return "split";
    case flags::Reason::disabled: return "disabled";
    case flags::Reason::unknown: return "unknown";
  }
  return "";
}

Result<std::string> parse_key(std::string_view encoded) {
  std::string key;
  if (!append_percent_decoded(encoded, key) || !is_name(key)) {
    return fail_field(ErrorCode::invalid_field, "key", "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
  }
  return key;
}

// Of a page of a history: the version that it ended with. 0: the first page.
Result<std::uint64_t> parse_version_cursor(std::string_view text) {
  if (text.empty()) return std::uint64_t{0};
  std::uint64_t version = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error != std::errc{} || end != text.data() + text.size() || version == 0) {
    return fail_field(ErrorCode::invalid_field, "cursor", "is not one that this server gave out");
  }
  return version;
}

// RFC 9110, 13.1.2: a list of entity tags or `*`, compared weakly. Ours hold no comma.
bool names_etag(std::string_view list, std::string_view etag) {
  while (!list.empty()) {
    std::size_t const comma = std::min(list.find(','), list.size());
    std::string_view one = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (one.starts_with(' ') || one.starts_with('\t')) one.remove_prefix(1);
    while (one.ends_with(' ') || one.ends_with('\t')) one.remove_suffix(1);
    if (one == "*") return true;
    if (one.starts_with("W/")) one.remove_prefix(2);
    if (one == etag) return true;
  }
  return false;
}

std::string name_of(Caller const& caller) {
  return caller.token() != nullptr ? caller.token()->record.name : std::string{};
}

}  // namespace

bool is_flag_route(Route route) {
  switch (route) {
    case Route::list_flags:
    case Route::get_flag:
    case Route::set_flag:
    case Route::remove_flag:
    case Route::get_flag_history:
    case Route::evaluate_flag:
    case Route::evaluate_flags: return true;
    default: return false;
  }
}

bool is_ofrep_route(Route route) { return route == Route::evaluate_flag || route == Route::evaluate_flags; }

FlagCalls::FlagCalls(service::Service& service, telemetry::Metrics& metrics)
    : service_(service),
      failed_(metrics.counter("workmill_flag_evaluations_total", kEvaluationsHelp, {{"reason", "error"}})) {
  for (std::size_t i = 0; i < evaluations_.size(); ++i) {
    evaluations_[i] = &metrics.counter("workmill_flag_evaluations_total", kEvaluationsHelp,
                                       {{"reason", label_of(static_cast<flags::Reason>(i))}});
  }
}

Result<std::optional<Command>> FlagCalls::plan(Call const& call, Answer& answer) {
  body_.clear();
  lines_.clear();
  switch (call.match.route) {
    case Route::evaluate_flag: {
      std::string key;
      if (!append_percent_decoded(call.match.parameter, key)) key = call.match.parameter;
      evaluate(key, call.request.body, answer);
      break;
    }
    case Route::evaluate_flags: evaluate_all(call.request.body, call.request.if_none_match, answer); break;
    case Route::list_flags: append_flags_page(service_.flags(), call.after, call.limit, body_); break;
    case Route::get_flag: {
      WM_TRY(std::string const key, parse_key(call.match.parameter));
      flags::FlagEntry const* const entry = service_.flags().find(key);
      if (entry == nullptr) return fail(ErrorCode::not_found, "there is no flag " + key);
      append_flag(*entry, body_);
      break;
    }
    case Route::set_flag: {
      WM_TRY(std::string key, parse_key(call.match.parameter));
      WM_TRY(FlagsIn::Definition const parsed, flags_in_.parse_definition(call.request.body, key));
      SetFlag set{.key = std::move(key), .definition = {}, .version = parsed.version, .by = name_of(call.caller)};
      flags::encode_flag(parsed.flag, set.definition);
      return std::optional<Command>{std::move(set)};
    }
    case Route::remove_flag: {
      WM_TRY(std::string key, parse_key(call.match.parameter));
      return std::optional<Command>{RemoveFlag{.key = std::move(key), .by = name_of(call.caller)}};
    }
    case Route::get_flag_history: {
      WM_TRY(std::string key, parse_key(call.match.parameter));
      WM_TRY(std::uint64_t const before, parse_version_cursor(call.after));
      return std::optional<Command>{GetFlagHistory{.key = std::move(key), .limit = call.limit, .before = before}};
    }
    default: WM_ASSERT(false);
  }
  answer.body = body_;
  answer.lines = lines_;
  return std::optional<Command>{};
}

void FlagCalls::evaluate(std::string_view key, std::string_view body, Answer& answer) {
  flags::FlagEntry const* const entry = service_.flags().find(key);
  if (entry == nullptr) return refuse(404, key, "FLAG_NOT_FOUND", "there is no such flag", answer);
  flags::Context context;
  std::string_view text;
  if (auto const bad = flags_in_.parse_context(body, context, text)) {
    return refuse(400, key, bad->code, bad->details, answer);
  }
  flags::Evaluation const evaluation = flags::evaluate(key, entry->flag, context);
  count(evaluation.reason);
  JsonWriter json{body_};
  append_evaluation(*entry, evaluation, json);
}

// The tag is of the flags and of who asks: the same with another context is another answer.
void FlagCalls::evaluate_all(std::string_view body, std::string_view if_none_match, Answer& answer) {
  flags::Context context;
  std::string_view text;
  if (auto const bad = flags_in_.parse_context(body, context, text)) {
    return refuse(400, {}, bad->code, bad->details, answer);
  }
  flags::FlagSet const& set = service_.flags();
  std::string const etag = fmt::format("\"{:016x}\"", flags::fingerprint_of(text, set.fingerprint()));
  lines_.append("ETag: ").append(etag).append("\r\nCache-Control: no-cache\r\n");
  if (names_etag(if_none_match, etag)) {
    answer.status = 304;
    return;
  }
  JsonWriter json{body_};
  json.begin_object().key("flags").begin_array();
  for (flags::FlagEntryPtr const& entry : set.entries()) {
    flags::Evaluation const evaluation = flags::evaluate(entry->key, entry->flag, context);
    count(evaluation.reason);
    append_evaluation(*entry, evaluation, json);
  }
  json.end_array().key("metadata").begin_object().end_object().end_object();
}

// `key`: none for all flags together.
void FlagCalls::refuse(int status, std::string_view key, std::string_view code, std::string_view details,
                       Answer& answer) {
  failed_.add();
  answer.status = status;
  JsonWriter json{body_};
  json.begin_object();
  if (!key.empty()) json.member("key", key);
  json.key("errorCode").plain(code).member("errorDetails", details).end_object();
}

void FlagCalls::append(FlagReply const& reply, std::string& out) {
  auto const entry =
      flags::make_entry(reply.key, reply.newest.definition, reply.newest.version, reply.newest.at, reply.newest.by);
  WM_ASSERT(entry.has_value());  // The engine has read it.
  append_flag(**entry, out);
}

void FlagCalls::append(FlagHistoryReply const& reply, std::string& out) { append_flag_history(reply, out); }

}  // namespace workmill::http
