#include "model/ids.h"

#include <bit>
#include <cstddef>
#include <utility>

#include "base/assert.h"
#include "base/digits.h"
#include "base/rng.h"

namespace workmill {
namespace {

// A UUID as two words:
//   high   48 bits of ms | version 7 (4) | counter, upper 12
//   low    variant 2 (2) | counter, lower 8 | shard (10) | check (44)
constexpr std::uint64_t kVersion = 0x7;
constexpr std::uint64_t kVariant = 0x2;
constexpr int kShardBits = 10;
constexpr int kCheckBits = 44;
constexpr std::uint64_t kCounterMask = (std::uint64_t{1} << kCounterBits) - 1;
constexpr std::uint64_t kShardMask = (std::uint64_t{1} << kShardBits) - 1;
constexpr std::uint64_t kCheckMask = (std::uint64_t{1} << kCheckBits) - 1;
constexpr std::uint64_t kMsMask = (std::uint64_t{1} << (64 - kCounterBits)) - 1;

// Where the two digits of each byte stand; the others are hyphens.
constexpr std::array<std::uint8_t, 16> kByteAt{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
constexpr std::array<std::uint8_t, 4> kHyphenAt{8, 13, 18, 23};

struct SipState {
  std::uint64_t a, b, c, d;

  constexpr void round() {
    a += b;
    b = std::rotl(b, 13) ^ a;
    a = std::rotl(a, 32);
    c += d;
    d = std::rotl(d, 16) ^ c;
    a += d;
    d = std::rotl(d, 21) ^ a;
    c += b;
    b = std::rotl(b, 17) ^ c;
    c = std::rotl(c, 32);
  }
  constexpr void take(std::uint64_t word) {
    d ^= word;
    round();
    round();
    a ^= word;
  }
};

// SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) of a ten byte message, little-endian: a
// word and two bytes. Keyed, so that who knows some ids can neither forge another nor find the salt, which a mere
// mixing function would give away.
constexpr std::uint64_t siphash(std::uint64_t key0, std::uint64_t key1, std::uint64_t word, std::uint16_t tail) {
  SipState state{key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d, key0 ^ 0x6c7967656e657261,
                 key1 ^ 0x7465646279746573};
  state.take(word);
  state.take((std::uint64_t{10} << 56) | tail);
  state.c ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.a ^ state.b ^ state.c ^ state.d;
}
// The vector of length 10 from the paper's reference implementation: key 00 to 0f, message 00 to 09.
static_assert(siphash(0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x0706050403020100, 0x0908) == 0x7a5dbbc594ddb9f3);

std::uint64_t check_of(std::uint64_t number, ShardId shard, std::uint64_t salt) {
  return siphash(salt, mix64(salt), number, std::to_underlying(shard)) & kCheckMask;
}

constexpr std::array<bool, 256> make_name_table() {
  std::array<bool, 256> legal{};
  constexpr std::string_view kLegal = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";
  for (char const c : kLegal) legal[static_cast<unsigned char>(c)] = true;
  return legal;
}
constexpr std::array<bool, 256> kNameTable = make_name_table();

}  // namespace

JobIdCodec::JobIdCodec(std::uint64_t salt, ShardId shard) : salt_(salt), shard_(shard) {
  WM_ASSERT(std::to_underlying(shard) <= kShardMask);
}

JobIdCodec::Text JobIdCodec::encode(JobNumber job) const {
  std::uint64_t const number = std::to_underlying(job);
  std::uint64_t const counter = number & kCounterMask;
  std::uint64_t const shard = std::to_underlying(shard_);
  std::uint64_t const high = (number >> kCounterBits) << 16 | kVersion << 12 | counter >> 8;
  std::uint64_t const low =
      kVariant << 62 | (counter & 0xff) << 54 | shard << kCheckBits | check_of(number, shard_, salt_);

  Text text;
  for (std::uint8_t const at : kHyphenAt) text[at] = '-';
  for (std::size_t i = 0; i < 8; ++i) {
    put_hex_byte(&text[kByteAt[i]], static_cast<std::uint8_t>(high >> (56 - 8 * i)));
    put_hex_byte(&text[kByteAt[i + 8]], static_cast<std::uint8_t>(low >> (56 - 8 * i)));
  }
  return text;
}

std::optional<JobNumber> JobIdCodec::decode(std::string_view text) const {
  if (text.size() != std::tuple_size_v<Text>) return std::nullopt;
  for (std::uint8_t const at : kHyphenAt) {
    if (text[at] != '-') return std::nullopt;
  }
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  std::uint8_t seen = 0;
  auto const take = [&](std::uint64_t& word, std::size_t at) {
    std::uint8_t const upper = hex_value(text[at]);
    std::uint8_t const lower = hex_value(text[at + 1]);
    seen = static_cast<std::uint8_t>(seen | upper | lower);
    word = word << 8 | static_cast<std::uint64_t>(upper & 0xf) << 4 | (lower & 0xf);
  };
  for (std::size_t i = 0; i < 8; ++i) {
    take(high, kByteAt[i]);
    take(low, kByteAt[i + 8]);
  }
  if (seen > 0xf) return std::nullopt;

  std::uint64_t const ms = high >> 16;
  bool const is_v7 = (high >> 12 & 0xf) == kVersion && low >> 62 == kVariant;
  bool const is_our_shard = (low >> kCheckBits & kShardMask) == std::to_underlying(shard_);
  if (!is_v7 || !is_our_shard || ms > kMsMask) return std::nullopt;
  std::uint64_t const counter = (high & 0xfff) << 8 | (low >> 54 & 0xff);
  std::uint64_t const number = ms << kCounterBits | counter;
  if ((low & kCheckMask) != check_of(number, shard_, salt_)) return std::nullopt;
  return JobNumber{number};
}

std::string format_token(LeaseToken token) {
  std::uint64_t const value = std::to_underlying(token);
  std::string text(16, '\0');
  for (std::size_t i = 0; i < 8; ++i) put_hex_byte(&text[2 * i], static_cast<std::uint8_t>(value >> (56 - 8 * i)));
  return text;
}

std::optional<LeaseToken> parse_token(std::string_view text) {
  if (text.size() != 16) return std::nullopt;
  std::uint64_t value = 0;
  for (char const c : text) {
    std::uint8_t const digit = hex_value(c);
    if (digit == kNotHex || (c >= 'A' && c <= 'F')) return std::nullopt;
    value = value << 4 | digit;
  }
  return LeaseToken{value};
}

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > kNameBytesMax) return false;
  bool legal = true;
  for (char const c : text) legal &= kNameTable[static_cast<unsigned char>(c)];
  return legal;
}

}  // namespace workmill
