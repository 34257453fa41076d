#include "protocols/http/request_values.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "model/command.h"
#include "telemetry/cpu_profiler.h"

namespace {

using namespace workmill;
using namespace workmill::http;

// What is refused says in which field, or that the body is of a kind that is not taken.
template <class T>
bool is_refusal(Result<T> const& result) {
  return !result &&
         (result.error().code == ErrorCode::invalid_field || result.error().code == ErrorCode::unsupported_media_type);
}

void read_headers(std::string_view text) {
  if (auto const key = parse_idempotency_key(text)) {
    WM_ASSERT(!key->empty() && key->size() <= 255);
    std::string quoted = "\"";  // The same key as the draft standard writes it.
    for (char const c : *key) {
      if (c == '"' || c == '\\') quoted.push_back('\\');
      quoted.push_back(c);
    }
    quoted.push_back('"');
    auto const again = parse_idempotency_key(quoted);
    WM_ASSERT(again && *again == *key);
  } else {
    WM_ASSERT(is_refusal(key));
  }
  if (auto const timeout = parse_request_timeout(text)) {
    WM_ASSERT(*timeout >= Duration{1} && *timeout <= std::chrono::hours{24});
  } else {
    WM_ASSERT(is_refusal(timeout));
  }
  if (is_tracestate(text)) WM_ASSERT(text.size() <= kTracestateBytesMax);
  if (auto const name = parse_name("queue", text)) {
    WM_ASSERT(is_name(*name));
  } else {
    WM_ASSERT(is_refusal(name));
  }
  // However the bytes lie in memory.
  std::string const moved = std::string{"x"}.append(text);
  WM_ASSERT(fingerprint(text) == fingerprint(std::string_view{moved}.substr(1)));
}

// Lines are the headers that say where a request comes from and what its body is.
void read_heads(std::string_view text) {
  std::array<std::string_view, 6> lines;
  for (std::string_view& line : lines) {
    line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  Request request;
  request.content_type = lines[0];
  request.origin = lines[1];
  request.sec_fetch_site = lines[2];
  request.content_encoding = lines[3];
  if (!lines[4].empty()) request.if_none_match = lines[4];
  request.has_if_match = lines[5].starts_with('m');
  request.has_if_unmodified_since = lines[5].ends_with('u');
  WM_ASSERT(equals_ignoring_case(lines[0], lines[1]) == equals_ignoring_case(lines[1], lines[0]));

  auto const body = check_body(request);
  WM_ASSERT(body || is_refusal(body));
  // No page of the web has a browser send what it sends without asking.
  bool const is_json = equals_ignoring_case(request.content_type.substr(0, 16), "application/json");
  if (body && !request.origin.empty()) WM_ASSERT(is_from_web_page(request) && is_json);
  if (body && !request.content_encoding.empty()) WM_ASSERT(request.content_encoding == "identity");
  for (Method const method : {Method::get, Method::post, Method::put, Method::remove}) {
    request.method = method;
    auto const conditions = check_conditions(request, Route::create_jobs);
    WM_ASSERT(conditions || is_refusal(conditions));
    bool const has_any = request.has_if_match || request.has_if_unmodified_since;
    if (conditions) WM_ASSERT(!has_any && (method == Method::get || request.if_none_match.data() == nullptr));
  }
}

void read_query(std::string_view text) {
  auto const query = Query::parse(text, "limit wait seconds state");
  if (!query) return;
  auto const limit = parse_limit(*query);
  WM_ASSERT(limit ? *limit >= 1 && *limit <= 1'000 : is_refusal(limit));
  auto const wait = parse_wait(*query);
  WM_ASSERT(wait ? *wait >= Duration{0} && *wait <= kWaitMax : is_refusal(wait));
  auto const seconds = parse_profile_seconds(*query);
  WM_ASSERT(seconds ? *seconds >= std::chrono::seconds{1} && *seconds <= telemetry::CpuProfiler::kLongest
                    : is_refusal(seconds));
  auto const state = parse_state(*query);
  WM_ASSERT(state || is_refusal(state));
  if (state && *state) WM_ASSERT(to_string(**state) == query->get("state"));
}

}  // namespace

// The same text as each header that is read as a value, as the heads of a request, and as its query.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text{reinterpret_cast<char const*>(data), size};
  read_headers(text);
  read_heads(text);
  read_query(text);
  return 0;
}
