#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"

// What answers about the cache say in their heads, and what conditional requests ask. Pure; fuzzed.
namespace workmill::http {

// A strong entity tag (RFC 9110, 8.8.3), of 16 hex digits: "\"00f067aa0ba902b7\"".
void append_etag(std::uint64_t etag, std::string& out);

// Does an If-None-Match name this tag? A list of tags, strong or weak, or `*`, which names any; compared weakly, as
// RFC 9110, 13.1.2, has it. From where the list cannot be understood on, it names nothing: so the answer is a whole
// one.
bool names_etag(std::string_view if_none_match, std::uint64_t etag);

// Where a value has come from.
enum class Origin : std::uint8_t {
  hit,        // It was there, fresh or stale.
  computed,   // Its job has just ended, and this request began it,
  collapsed,  // or another one did.
};
// "ETag: …\r\nAge: …\r\nCache-Control: no-cache\r\nCache-Status: …\r\n" of a value (RFC 9111, 5.1; RFC 9211). `ttl`, of
// a hit, is what is left of its fresh time, rounded down: below 0 where it is stale.
struct ValueLines {
  std::uint64_t etag = 0;
  Instant stored_at{};
  Instant fresh_until{};
  Origin origin{};
  bool is_stored = true;  // Computed: whoever asks next finds it.
};
void append_value_lines(ValueLines const& value, Instant now, std::string& out);

// The line of the answer that there is no value.
inline constexpr std::string_view kMissLines = "Cache-Control: no-cache\r\nCache-Status: workmill; fwd=uri-miss\r\n";

// Of the answer that it could not be computed: just now, or a while ago, and nobody has tried again since.
inline constexpr std::string_view kFailureLines =
    "Cache-Control: no-cache\r\nCache-Status: workmill; fwd=uri-miss; fwd-status=502\r\n";
inline constexpr std::string_view kRememberedFailureLines =
    "Cache-Control: no-cache\r\nCache-Status: workmill; fwd=uri-miss; fwd-status=502; detail=negative\r\n";

}  // namespace workmill::http
