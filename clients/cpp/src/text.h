#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

// Text as the server takes it, so that what it would refuse is told before it is sent. Pure. Internal.
namespace workmill::client::detail {

// The length of the UTF-8 sequence at `at`, or 0 where there is none (RFC 3629).
inline std::size_t utf8_length(std::string_view text, std::size_t at) {
  auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(at + i < text.size() ? text[at + i] : 0); };
  auto const goes_on = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  unsigned char const first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return goes_on(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    bool const overlong = first == 0xE0 && byte(1) < 0xA0;
    bool const surrogate = first == 0xED && byte(1) > 0x9F;
    return goes_on(1) && goes_on(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    bool const overlong = first == 0xF0 && byte(1) < 0x90;
    bool const beyond = first == 0xF4 && byte(1) > 0x8F;
    return goes_on(1) && goes_on(2) && goes_on(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

// UTF-8 without control characters (U+0000 to U+001F, U+007F to U+009F).
inline bool is_printable_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    auto const first = static_cast<unsigned char>(text[at]);
    std::size_t const length = utf8_length(text, at);
    if (length == 0 || first < 0x20 || first == 0x7F) return false;
    if (first == 0xC2 && static_cast<unsigned char>(text[at + 1]) < 0xA0) return false;
    at += length;
  }
  return true;
}

// Visible ASCII and spaces: what may stand in a header without becoming another one.
inline bool is_printable_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

inline bool is_name_char(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == ':' || c == '-';
}
inline constexpr std::size_t kNameBytesMax = 128;
inline bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kNameBytesMax && std::all_of(text.begin(), text.end(), is_name_char);
}

// As a name that the server takes.
inline std::string as_name(std::string text) {
  text.resize(std::min(text.size(), kNameBytesMax));
  std::replace_if(text.begin(), text.end(), [](char c) { return !is_name_char(c); }, '_');
  return text.empty() ? "failed" : text;
}

// The beginning of a text, cut where a character ends.
inline std::string_view cut_text(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  while (end > 0 && bytes_max - end < 4 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

}  // namespace workmill::client::detail
