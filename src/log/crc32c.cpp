#include "log/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace workmill::log {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // 0x1edc6f41, reflected.

using Table = std::array<std::uint32_t, 256>;

// Slicing by eight: kTables[k][b] is what byte b does to the checksum k bytes further on.
constexpr std::array<Table, 8> make_tables() {
  std::array<Table, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::uint32_t const before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}
constexpr std::array<Table, 8> kTables = make_tables();

std::uint64_t load64(char const* from) {  // Little-endian, like the machines that this is fast on.
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Both take and give the checksum without its two inversions.
std::uint32_t extend_by_table(std::uint32_t crc, char const* data, std::size_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    std::array<std::uint8_t, 8> byte;
    std::memcpy(byte.data(), data, 8);
    crc = kTables[7][byte[0] ^ (crc & 0xff)] ^ kTables[6][byte[1] ^ ((crc >> 8) & 0xff)] ^
          kTables[5][byte[2] ^ ((crc >> 16) & 0xff)] ^ kTables[4][byte[3] ^ (crc >> 24)] ^ kTables[3][byte[4]] ^
          kTables[2][byte[5]] ^ kTables[1][byte[6]] ^ kTables[0][byte[7]];
  }
  for (; size > 0; ++data, --size) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<std::uint8_t>(*data)) & 0xff];
  return crc;
}

#if defined(__x86_64__)

// What a checksum becomes when `kBytes` zero bytes follow: linear, so four tables of one byte each add up to it.
template <std::size_t kBytes>
struct ZerosAfter {
  constexpr ZerosAfter() {
    std::array<std::uint32_t, 32> of_bit{};
    for (std::size_t bit = 0; bit < 32; ++bit) {
      std::uint32_t crc = std::uint32_t{1} << bit;
      for (std::size_t i = 0; i < kBytes; ++i) crc = (crc >> 8) ^ kTables[0][crc & 0xff];
      of_bit[bit] = crc;
    }
    for (std::size_t k = 0; k < 4; ++k) {
      for (std::size_t byte = 0; byte < 256; ++byte) {
        for (std::size_t bit = 0; bit < 8; ++bit) {
          if (((byte >> bit) & 1) != 0) tables[k][byte] ^= of_bit[8 * k + bit];
        }
      }
    }
  }
  std::uint32_t operator()(std::uint32_t crc) const {
    return tables[0][crc & 0xff] ^ tables[1][(crc >> 8) & 0xff] ^ tables[2][(crc >> 16) & 0xff] ^ tables[3][crc >> 24];
  }
  std::array<Table, 4> tables{};
};

template <std::size_t kStream>
__attribute__((target("sse4.2"))) std::uint64_t extend_three_streams(std::uint64_t crc, char const*& data,
                                                                     std::size_t& size) {
  static ZerosAfter<kStream> const kShift;
  for (; size >= 3 * kStream; data += 3 * kStream, size -= 3 * kStream) {
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    for (std::size_t i = 0; i < kStream; i += 8) {
      crc = _mm_crc32_u64(crc, load64(data + i));
      second = _mm_crc32_u64(second, load64(data + kStream + i));
      third = _mm_crc32_u64(third, load64(data + 2 * kStream + i));
    }
    crc = kShift(static_cast<std::uint32_t>(crc)) ^ second;
    crc = kShift(static_cast<std::uint32_t>(crc)) ^ third;
  }
  return crc;
}

__attribute__((target("sse4.2"))) std::uint32_t extend_by_instruction(std::uint32_t before, char const* data,
                                                                      std::size_t size) {
  std::uint64_t crc = before;
  crc = extend_three_streams<2048>(crc, data, size);
  crc = extend_three_streams<256>(crc, data, size);
  for (; size >= 8; data += 8, size -= 8) crc = _mm_crc32_u64(crc, load64(data));
  auto short_crc = static_cast<std::uint32_t>(crc);
  for (; size > 0; ++data, --size) short_crc = _mm_crc32_u8(short_crc, static_cast<std::uint8_t>(*data));
  return short_crc;
}

std::uint32_t extend(std::uint32_t crc, char const* data, std::size_t size) {
  static bool const kHasInstruction = __builtin_cpu_supports("sse4.2") != 0;
  return kHasInstruction ? extend_by_instruction(crc, data, size) : extend_by_table(crc, data, size);
}

#else

std::uint32_t extend(std::uint32_t crc, char const* data, std::size_t size) { return extend_by_table(crc, data, size); }

#endif

}  // namespace

std::uint32_t crc32c(BytesView data, std::uint32_t before) { return ~extend(~before, data.data(), data.size()); }

std::uint32_t crc32c_portable(BytesView data, std::uint32_t before) {
  return ~extend_by_table(~before, data.data(), data.size());
}

}  // namespace workmill::log
