#pragma once
#include <cstddef>
#include <string_view>

// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
namespace workmill {

// The length of the sequence of two to four bytes that `text` begins with; 0 where it is none. An ASCII character is
// none: callers look at those first, as most text is made of them.
inline std::size_t utf8_sequence_bytes(std::string_view text) {
  auto const byte = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  auto const follows = [&](std::size_t i) { return (byte(i) & 0xc0) == 0x80; };
  unsigned const first = byte(0);
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    bool const overlong = first == 0xe0 && byte(1) < 0xa0;
    bool const surrogate = first == 0xed && byte(1) > 0x9f;
    return follows(1) && follows(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    bool const overlong = first == 0xf0 && byte(1) < 0x90;
    bool const too_large = first == 0xf4 && byte(1) > 0x8f;
    return follows(1) && follows(2) && follows(3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

// Is all of `text` UTF-8, and no character of it a control character (U+0000 to U+001F, U+007F to U+009F)?
inline bool is_printable_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    auto const first = static_cast<unsigned char>(text[at]);
    if (first < 0x20 || first == 0x7f) return false;
    if (first < 0x80) {
      ++at;
      continue;
    }
    std::size_t const bytes = utf8_sequence_bytes(text.substr(at));
    if (bytes == 0) return false;
    if (first == 0xc2 && static_cast<unsigned char>(text[at + 1]) < 0xa0) return false;
    at += bytes;
  }
  return true;
}

}  // namespace workmill
