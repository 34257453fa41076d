#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

// Tables that turn numbers into text and back: a look-up a byte, no division, no branch. For hot codecs (ids, times).
namespace workmill {
namespace digits {

constexpr std::array<char, 200> make_decimal_pairs() {
  std::array<char, 200> pairs{};
  for (std::size_t i = 0; i < 100; ++i) {
    pairs[2 * i] = static_cast<char>('0' + i / 10);
    pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
  }
  return pairs;
}
constexpr std::array<char, 512> make_hex_pairs() {
  constexpr char kHex[] = "0123456789abcdef";
  std::array<char, 512> pairs{};
  for (std::size_t i = 0; i < 256; ++i) {
    pairs[2 * i] = kHex[i / 16];
    pairs[2 * i + 1] = kHex[i % 16];
  }
  return pairs;
}
constexpr std::array<std::uint8_t, 256> make_hex_values() {
  std::array<std::uint8_t, 256> values{};
  values.fill(0xff);
  for (std::uint8_t i = 0; i < 10; ++i) values[static_cast<std::size_t>('0' + i)] = i;
  for (std::uint8_t i = 0; i < 6; ++i) {
    values[static_cast<std::size_t>('a' + i)] = static_cast<std::uint8_t>(10 + i);
    values[static_cast<std::size_t>('A' + i)] = static_cast<std::uint8_t>(10 + i);
  }
  return values;
}

inline constexpr std::array<char, 200> kDecimalPairs = make_decimal_pairs();
inline constexpr std::array<char, 512> kHexPairs = make_hex_pairs();
inline constexpr std::array<std::uint8_t, 256> kHexValues = make_hex_values();

}  // namespace digits

inline constexpr std::uint8_t kNotHex = 0xff;  // Every legal value is below 16, so values may be or-ed and tested once.

// `value` below 100.
inline void put_two_digits(char* out, std::uint32_t value) {
  std::memcpy(out, &digits::kDecimalPairs[std::size_t{2} * value], 2);
}
// Two lower-case digits.
inline void put_hex_byte(char* out, std::uint8_t value) {
  std::memcpy(out, &digits::kHexPairs[std::size_t{2} * value], 2);
}
// 0 to 15, or kNotHex. Lower or upper case.
constexpr std::uint8_t hex_value(char c) { return digits::kHexValues[static_cast<unsigned char>(c)]; }

}  // namespace workmill
