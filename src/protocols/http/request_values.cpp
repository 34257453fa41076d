#include "protocols/http/request_values.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/bytes.h"
#include "base/rng.h"
#include "model/command.h"
#include "model/ids.h"
#include "telemetry/cpu_profiler.h"

namespace workmill::http {
namespace {

constexpr std::size_t kIdempotencyKeyBytesMax = 255;

bool is_json(std::string_view type) {
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ') || type.ends_with('\t')) type.remove_suffix(1);
  return equals_ignoring_case(type, "application/json");
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  auto const lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

// A Structured Field String as the draft standard has it ("…", with \" and \\ in it), or the bare text that many
// clients send.
Result<std::string> parse_idempotency_key(std::string_view text) {
  auto const refuse = [](std::string message) {
    return fail_field(ErrorCode::invalid_field, "Idempotency-Key", std::move(message));
  };
  std::string key;
  if (text.starts_with('"')) {
    if (text.size() < 2 || !text.ends_with('"')) return refuse("opens a quote that it does not close");
    text = text.substr(1, text.size() - 2);
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '"') return refuse("has a quote in its middle; write \\\"");
      if (text[i] == '\\') {
        ++i;
        if (i == text.size() || (text[i] != '"' && text[i] != '\\')) return refuse("has a stray \\");
      }
      key.push_back(text[i]);
    }
  } else {
    key = text;
  }
  if (key.empty() || key.size() > kIdempotencyKeyBytesMax) return refuse("must be 1 to 255 bytes long");
  bool const printable = std::all_of(key.begin(), key.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!printable) return refuse("must be printable ASCII");
  return key;
}

std::uint64_t fingerprint(std::string_view body) {
  std::uint64_t hash = mix64(body.size());
  for (; body.size() >= 8; body.remove_prefix(8)) {
    ByteReader word{body.substr(0, 8)};
    hash = mix64(hash ^ word.u64());
  }
  std::uint64_t rest = 0;
  for (char const byte : body) rest = rest << 8 | static_cast<unsigned char>(byte);
  return mix64(hash ^ rest);
}

Result<Duration> parse_request_timeout(std::string_view text) {
  constexpr double kSecondsMax = 86'400;
  double seconds = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (error != std::errc{} || end != text.data() + text.size() || !(seconds > 0 && seconds <= kSecondsMax)) {
    return fail_field(ErrorCode::invalid_field, "Request-Timeout", "must be seconds, more than 0 and at most 86400");
  }
  return Duration{static_cast<Duration::rep>(std::ceil(seconds * 1e3))};
}

// A bad one is dropped, and does not spoil the traceparent beside it.
bool is_tracestate(std::string_view text) {
  return text.size() <= kTracestateBytesMax &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

bool is_from_web_page(Request const& request) {
  std::string_view const site = request.sec_fetch_site;
  return !request.origin.empty() || !(site.empty() || site == "none" || site == "same-origin");
}

Result<> check_body(Request const& request) {
  if (!request.content_encoding.empty() && request.content_encoding != "identity") {
    return fail(ErrorCode::unsupported_media_type, "compressed bodies are not understood: send it as it is");
  }
  // A body is JSON whatever its type says, as `curl -d` says that it is a form. But a browser sends forms, plain text
  // and bodies of no type from any page to any site without asking; JSON it asks about first, and we do not answer
  // that. So no page can make its reader's browser enqueue jobs on a server of his own machine.
  if (is_from_web_page(request) && !is_json(request.content_type)) {
    return fail(ErrorCode::unsupported_media_type, "web pages send the body with Content-Type: application/json");
  }
  return {};
}

Result<> check_conditions(Request const& request, Route route) {
  auto const refused = [](std::string field) {
    return fail_field(ErrorCode::invalid_field, std::move(field),
                      "is a condition that this call does not keep to: nothing was done");
  };
  if (request.has_if_match) return refused("If-Match");
  if (request.has_if_unmodified_since) return refused("If-Unmodified-Since");
  // Of a GET it only saves sending what the client has. OFREP asks for its bulk evaluation by POST, and means that,
  // too.
  bool const reads = request.method == Method::get || request.method == Method::head || route == Route::evaluate_flags;
  if (!reads && request.if_none_match.data() != nullptr) return refused("If-None-Match");
  return {};
}

Result<std::uint32_t> parse_limit(Query const& query) {
  constexpr std::uint32_t kDefault = 50;
  constexpr std::uint32_t kMax = 1'000;
  std::string_view const text = query.get("limit");
  if (!query.has("limit")) return kDefault;
  std::uint32_t limit = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error != std::errc{} || end != text.data() + text.size() || limit < 1 || limit > kMax) {
    return fail_field(ErrorCode::invalid_field, "limit", "must be a whole number from 1 to 1000");
  }
  return limit;
}

Result<Duration> parse_wait(Query const& query) {
  if (!query.has("wait")) return Duration::zero();
  auto wait = parse_duration(query.get("wait"));
  if (!wait) return fail_field(ErrorCode::invalid_field, "wait", std::move(wait).error().message);
  if (*wait > kWaitMax)
    return fail_field(ErrorCode::invalid_field, "wait", "must be at most " + format_duration(kWaitMax));
  return *wait;
}

Result<Duration> parse_profile_seconds(Query const& query) {
  constexpr std::chrono::seconds kDefault{10};
  if (!query.has("seconds")) return Duration{kDefault};
  std::string_view const text = query.get("seconds");
  int seconds = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size() || seconds < 1 ||
      std::chrono::seconds{seconds} > telemetry::CpuProfiler::kLongest) {
    return fail_field(ErrorCode::invalid_field, "seconds", "must be a whole number from 1 to 60");
  }
  return Duration{std::chrono::seconds{seconds}};
}

Result<std::optional<JobState>> parse_state(Query const& query) {
  if (!query.has("state")) return std::nullopt;
  auto const state = parse_job_state(query.get("state"));
  if (!state) {
    return fail_field(ErrorCode::invalid_field, "state",
                      "must be scheduled, ready, leased, completed, dead or cancelled");
  }
  return state;
}

Result<std::optional<BatchState>> parse_batch_state(Query const& query) {
  if (!query.has("state")) return std::nullopt;
  auto const state = workmill::parse_batch_state(query.get("state"));
  if (!state) return fail_field(ErrorCode::invalid_field, "state", "must be open, closed or over");
  return state;
}

Result<std::string> parse_name(std::string_view field, std::string_view encoded) {
  std::string name;
  if (!append_percent_decoded(encoded, name) || !is_name(name)) {
    return fail_field(ErrorCode::invalid_field, std::string{field}, "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
  }
  return name;
}

}  // namespace workmill::http
