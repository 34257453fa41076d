#include "base/bytes.h"

#include <cstddef>

namespace workmill {
namespace {

constexpr std::size_t kVarintBytesMax = 10;  // ceil(64 / 7).

// Small negative numbers become small varints: 0, -1, 1, -2 … are written as 0, 1, 2, 3 …
constexpr std::uint64_t fold_sign(std::int64_t value) {
  return (static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63);
}
constexpr std::int64_t unfold_sign(std::uint64_t value) {
  return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

}  // namespace

void ByteWriter::long_varint(std::uint64_t value) {
  char buffer[kVarintBytesMax];
  std::size_t size = 0;
  for (; value >= 0x80; value >>= 7) buffer[size++] = static_cast<char>((value & 0x7f) | 0x80);
  buffer[size++] = static_cast<char>(value);
  out_.append(buffer, size);
}

void ByteWriter::zigzag(std::int64_t value) { varint(fold_sign(value)); }

void ByteWriter::bytes(BytesView value) {
  varint(value.size());
  out_.append(value);
}

std::uint64_t ByteReader::long_varint() {
  std::uint64_t value = 0;
  std::size_t const limit = in_.size() < kVarintBytesMax ? in_.size() : kVarintBytesMax;
  for (std::size_t i = 0; i < limit; ++i) {
    auto const byte = static_cast<unsigned char>(in_[i]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
    if (byte & 0x80) continue;
    // Each value has one spelling: the tenth byte has one bit of the 64 left, and only a lone byte may be zero.
    bool const overflows = i == kVarintBytesMax - 1 && byte > 1;
    bool const padded = i > 0 && byte == 0;
    if (overflows || padded) break;
    in_.remove_prefix(i + 1);
    return value;
  }
  fail();
  return 0;
}

std::int64_t ByteReader::zigzag() { return unfold_sign(varint()); }

BytesView ByteReader::bytes() {
  std::uint64_t const size = varint();
  if (size > in_.size()) {  // Compared as 64 bits, before any narrowing.
    fail();
    return {};
  }
  return raw(static_cast<std::size_t>(size));
}

BytesView ByteReader::raw(std::size_t count) {
  if (count > in_.size()) {
    fail();
    return {};
  }
  BytesView const taken = in_.substr(0, count);
  in_.remove_prefix(count);
  return taken;
}

}  // namespace workmill
