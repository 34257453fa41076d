#include "base/json_writer.h"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/digits.h"
#include "base/utf8.h"

namespace workmill {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the search for the first special byte counts from the low end");

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

constexpr std::uint64_t every_byte(std::uint8_t value) { return 0x0101010101010101ULL * value; }

// The high bit of each byte of `word` that cannot stand in a JSON string as it is, or that is not ASCII. The lowest
// such bit is exact; bits above it may be wrong, as borrows run upwards.
constexpr std::uint64_t special_bytes(std::uint64_t word) {
  auto const zero_bytes = [](std::uint64_t x) { return (x - every_byte(1)) & ~x; };
  std::uint64_t const quote = zero_bytes(word ^ every_byte('"'));
  std::uint64_t const backslash = zero_bytes(word ^ every_byte('\\'));
  std::uint64_t const control = (word - every_byte(0x20)) & ~word;
  return (quote | backslash | control | word) & every_byte(0x80);
}
constexpr bool is_special(char c) {
  auto const byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte >= 0x80 || byte == '"' || byte == '\\';
}

// Where the first special byte from `at` on stands, or the end.
std::size_t find_special(std::string_view text, std::size_t at) {
  for (; text.size() - at >= 8; at += 8) {
    std::uint64_t word;
    std::memcpy(&word, text.data() + at, sizeof word);
    std::uint64_t const special = special_bytes(word);
    if (special != 0) return at + static_cast<std::size_t>(std::countr_zero(special)) / 8;
  }
  while (at < text.size() && !is_special(text[at])) ++at;
  return at;
}

void append_escaped(char c, std::string& out) {
  switch (c) {
    case '"': out.append("\\\""); return;
    case '\\': out.append("\\\\"); return;
    case '\b': out.append("\\b"); return;
    case '\f': out.append("\\f"); return;
    case '\n': out.append("\\n"); return;
    case '\r': out.append("\\r"); return;
    case '\t': out.append("\\t"); return;
    default: break;
  }
  std::array<char, 6> unit{'\\', 'u', '0', '0', '0', '0'};
  put_hex_byte(&unit[4], static_cast<std::uint8_t>(c));
  out.append(unit.data(), unit.size());
}

template <class T>
void append_number(T number, std::string& out) {
  std::array<char, 32> buffer;  // The shortest text of a double has 24 characters at most.
  auto const end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  out.append(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
}

}  // namespace

void append_json_string(std::string_view text, std::string& out) {
  out.push_back('"');
  std::size_t copied = 0;
  for (std::size_t at = find_special(text, 0); at < text.size(); at = find_special(text, at)) {
    if (static_cast<unsigned char>(text[at]) >= 0x80) {
      if (std::size_t const length = utf8_sequence_bytes(text.substr(at)); length != 0) {
        at += length;
        continue;
      }
      out.append(text.substr(copied, at - copied)).append(kReplacement);
    } else {
      out.append(text.substr(copied, at - copied));
      append_escaped(text[at], out);
    }
    copied = ++at;
  }
  out.append(text.substr(copied));
  out.push_back('"');
}

JsonWriter& JsonWriter::key(std::string_view name) {
  // One growth of the string for the comma, the quotes and the colon together.
  std::size_t const before = out_.size();
  bool const comma = comma_due_;
  out_.resize_and_overwrite(before + name.size() + 4, [&](char* data, std::size_t) {
    char* at = data + before;
    if (comma) *at++ = ',';
    *at++ = '"';
    std::memcpy(at, name.data(), name.size());
    at += name.size();
    *at++ = '"';
    *at++ = ':';
    return static_cast<std::size_t>(at - data);
  });
  comma_due_ = false;
  return *this;
}

JsonWriter& JsonWriter::plain(std::string_view text) {
  separate();
  out_.push_back('"');
  out_.append(text);
  out_.push_back('"');
  return *this;
}

JsonWriter& JsonWriter::unsigned_number(std::uint64_t number) {
  separate();
  append_number(number, out_);
  return *this;
}

JsonWriter& JsonWriter::signed_number(std::int64_t number) {
  separate();
  append_number(number, out_);
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return null();
  separate();
  append_number(number, out_);
  return *this;
}

JsonWriter& JsonWriter::value(Instant at) {
  std::array<char, kRfc3339Bytes> text;
  format_rfc3339_to(at, text.data());
  return plain({text.data(), text.size()});
}

}  // namespace workmill
