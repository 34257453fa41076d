#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// Bytes, and the little-endian codec that everything binary of ours is written in.
//
// Values only. A ByteReader borrows what it reads for the length of a call. No exceptions, no allocation but the
// growth of the buffer that a ByteWriter appends to.
namespace workmill {

using Bytes = std::string;           // Owned bytes. A string, for its small-buffer storage and its free moves.
using BytesView = std::string_view;  // Bytes lent for one call.

// Appends to a buffer that somebody else owns.
class ByteWriter {
 public:
  explicit ByteWriter(Bytes& out) : out_(out) {}

  void u8(std::uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void u16(std::uint16_t value) { fixed(value); }
  void u32(std::uint32_t value) { fixed(value); }
  void u64(std::uint64_t value) { fixed(value); }
  void varint(std::uint64_t value) {  // LEB128, 1 to 10 bytes. Most of ours take one.
    if (value < 0x80) {
      u8(static_cast<std::uint8_t>(value));
    } else {
      long_varint(value);
    }
  }
  void zigzag(std::int64_t value);  // Signed, as a varint.
  void bytes(BytesView value);      // Length as a varint, then the bytes.
  void raw(BytesView value) { out_.append(value); }
  std::size_t size() const { return out_.size(); }

 private:
  template <class T>
  void fixed(T value) {
    char buffer[sizeof(T)];
    for (std::size_t i = 0; i < sizeof(T); ++i) buffer[i] = static_cast<char>((value >> (8 * i)) & 0xff);
    out_.append(buffer, sizeof(T));
  }
  void long_varint(std::uint64_t value);

  Bytes& out_;
};

// Reads what a ByteWriter wrote, from bytes that may be damaged or hostile: the first read past the end (or a varint
// longer than it need be) makes ok() false for good, and every read after it answers zero or empty. Check ok() once,
// at the end.
class ByteReader {
 public:
  explicit ByteReader(BytesView in) : in_(in) {}

  std::uint8_t u8() { return fixed<std::uint8_t>(); }
  std::uint16_t u16() { return fixed<std::uint16_t>(); }
  std::uint32_t u32() { return fixed<std::uint32_t>(); }
  std::uint64_t u64() { return fixed<std::uint64_t>(); }
  std::uint64_t varint() {
    if (in_.empty() || static_cast<unsigned char>(in_.front()) >= 0x80) return long_varint();
    return u8();
  }
  std::int64_t zigzag();
  BytesView bytes();                 // Borrowed from the input.
  BytesView raw(std::size_t count);  // Borrowed from the input.
  std::size_t remaining() const { return in_.size(); }
  bool ok() const { return ok_; }
  bool done() const { return ok_ && in_.empty(); }

 private:
  template <class T>
  T fixed() {
    if (in_.size() < sizeof(T)) {
      fail();
      return 0;
    }
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value | (static_cast<T>(static_cast<unsigned char>(in_[i])) << (8 * i)));
    }
    in_.remove_prefix(sizeof(T));
    return value;
  }
  std::uint64_t long_varint();
  void fail() {
    ok_ = false;
    in_ = {};
  }

  BytesView in_;
  bool ok_ = true;
};

}  // namespace workmill
