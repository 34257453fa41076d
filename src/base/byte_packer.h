#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"

// ByteWriter for hot paths: the caller names an upper bound first, so that no write checks for room or grows the
// buffer. The bytes are the same.
namespace workmill {

inline constexpr std::size_t kVarintBytesMax = 10;  // ceil(64 / 7).

// The most bytes that `value` takes as length and content.
constexpr std::size_t packed_bytes_max(BytesView value) { return kVarintBytesMax + value.size(); }

// Writes forward from `at`. It knows no end: only append_packed makes one.
class BytePacker {
 public:
  explicit BytePacker(char* at) : at_(at) {}

  void u8(std::uint8_t value) { *at_++ = static_cast<char>(value); }
  void u32(std::uint32_t value) { fixed(value); }
  void u64(std::uint64_t value) { fixed(value); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) u8(static_cast<std::uint8_t>(value | 0x80));
    u8(static_cast<std::uint8_t>(value));
  }
  void zigzag(std::int64_t value) {
    varint((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
  }
  void bytes(BytesView value) {
    varint(value.size());
    raw(value);
  }
  void raw(BytesView value) {
    if (value.empty()) return;  // Its data() may be null, which memcpy must not see.
    std::memcpy(at_, value.data(), value.size());
    at_ += value.size();
  }
  char* at() const { return at_; }

 private:
  template <class T>
  void fixed(T value) {  // Little-endian; compilers make one store of it.
    for (std::size_t i = 0; i < sizeof(T); ++i) at_[i] = static_cast<char>((value >> (8 * i)) & 0xff);
    at_ += sizeof(T);
  }

  char* at_;
};

// Appends what `write(BytePacker&)` packs, `bytes_max` at most, to `out`. Returns how many bytes that were.
template <class Write>
std::size_t append_packed(Bytes& out, std::size_t bytes_max, Write&& write) {
  std::size_t const before = out.size();
  out.resize_and_overwrite(before + bytes_max, [&](char* data, std::size_t) {
    BytePacker packer{data + before};
    write(packer);
    auto const end = static_cast<std::size_t>(packer.at() - data);
    WM_ASSERT(end <= before + bytes_max);
    return end;
  });
  return out.size() - before;
}

}  // namespace workmill
