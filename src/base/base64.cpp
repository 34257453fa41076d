#include "base/base64.h"

#include <array>
#include <cstdint>

namespace workmill {
namespace {

constexpr std::string_view kStandard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrlSafe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

constexpr std::uint8_t kNoDigit = 0xff;  // Every digit is below 64, so digits may be or-ed and tested once.

constexpr std::array<std::uint8_t, 256> make_values(std::string_view alphabet) {
  std::array<std::uint8_t, 256> values{};
  values.fill(kNoDigit);
  for (std::size_t i = 0; i < alphabet.size(); ++i) {
    values[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}
constexpr std::array<std::uint8_t, 256> kStandardValues = make_values(kStandard);
constexpr std::array<std::uint8_t, 256> kUrlSafeValues = make_values(kUrlSafe);

std::uint32_t byte_at(BytesView bytes, std::size_t at) { return static_cast<unsigned char>(bytes[at]); }

// Four digits for every three bytes; two or three for what is left over at the end.
void append_digits(BytesView bytes, std::string_view alphabet, std::string& out) {
  std::size_t const before = out.size();
  std::size_t const left_over = bytes.size() % 3;
  std::size_t const size = before + bytes.size() / 3 * 4 + (left_over == 0 ? 0 : left_over + 1);
  out.resize_and_overwrite(size, [&](char* data, std::size_t) {  // GCC 12 hands in the capacity, not the size.
    char* at = data + before;
    std::size_t i = 0;
    for (; i + 3 <= bytes.size(); i += 3) {
      std::uint32_t const group = byte_at(bytes, i) << 16 | byte_at(bytes, i + 1) << 8 | byte_at(bytes, i + 2);
      *at++ = alphabet[group >> 18];
      *at++ = alphabet[group >> 12 & 63];
      *at++ = alphabet[group >> 6 & 63];
      *at++ = alphabet[group & 63];
    }
    if (left_over != 0) {
      std::uint32_t const group = byte_at(bytes, i) << 16 | (left_over == 2 ? byte_at(bytes, i + 1) << 8 : 0U);
      *at++ = alphabet[group >> 18];
      *at++ = alphabet[group >> 12 & 63];
      if (left_over == 2) *at++ = alphabet[group >> 6 & 63];
    }
    return size;
  });
}

// The reverse of append_digits; `text` has no padding.
bool decode_digits(std::string_view text, std::array<std::uint8_t, 256> const& values, Bytes& out) {
  std::size_t const left_over = text.size() % 4;
  if (left_over == 1) return false;
  std::size_t const before = out.size();
  std::size_t const size = before + text.size() / 4 * 3 + (left_over == 0 ? 0 : left_over - 1);
  std::uint32_t seen = 0;
  auto const digit = [&](std::size_t at) -> std::uint32_t {
    std::uint8_t const value = values[static_cast<unsigned char>(text[at])];
    seen |= value;
    return value & 63U;
  };
  out.resize_and_overwrite(size, [&](char* data, std::size_t) {
    char* at = data + before;
    std::size_t i = 0;
    for (; i + 4 <= text.size(); i += 4) {
      std::uint32_t const group = digit(i) << 18 | digit(i + 1) << 12 | digit(i + 2) << 6 | digit(i + 3);
      *at++ = static_cast<char>(group >> 16);
      *at++ = static_cast<char>(group >> 8 & 0xff);
      *at++ = static_cast<char>(group & 0xff);
    }
    if (left_over != 0) {
      std::uint32_t const group = digit(i) << 18 | digit(i + 1) << 12 | (left_over == 3 ? digit(i + 2) << 6 : 0U);
      *at++ = static_cast<char>(group >> 16);
      if (left_over == 3) *at++ = static_cast<char>(group >> 8 & 0xff);
      std::uint32_t const unused = left_over == 3 ? group & 0xff : group & 0xffff;
      if (unused != 0) seen = kNoDigit;
    }
    return size;
  });
  if (seen < 64) return true;
  out.resize(before);
  return false;
}

}  // namespace

void append_base64(BytesView bytes, std::string& out) {
  append_digits(bytes, kStandard, out);
  if (std::size_t const left_over = bytes.size() % 3; left_over != 0) out.append(3 - left_over, '=');
}

bool decode_base64(std::string_view text, Bytes& out) {
  if (text.size() % 4 != 0) return false;
  std::size_t const padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  return decode_digits(text.substr(0, text.size() - padding), kStandardValues, out);
}

std::string base64url(BytesView bytes) {
  std::string text;
  append_digits(bytes, kUrlSafe, text);
  return text;
}

std::optional<Bytes> decode_base64url(std::string_view text) {
  Bytes bytes;
  if (!decode_digits(text, kUrlSafeValues, bytes)) return std::nullopt;
  return bytes;
}

}  // namespace workmill
