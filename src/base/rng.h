#pragma once
#include <array>
#include <bit>
#include <cstdint>

#include "base/assert.h"

// The only source of chance: seeded by whoever makes it, and the same on every machine from then on, so that a
// simulation replays from its seed. Not for secrets. A value with one owner; not to be shared between threads.
namespace workmill {

// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): a strong mix of
// 64 bits, every output reached once.
constexpr std::uint64_t mix64(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// xoshiro256** (Blackman, Vigna: "Scrambled linear pseudorandom number generators", 2018).
class Rng {
 public:
  explicit constexpr Rng(std::uint64_t seed) {
    for (std::uint64_t& word : state_) {
      word = mix64(seed);
      seed += 0x9e3779b97f4a7c15;
    }
  }

  constexpr std::uint64_t next() {
    std::uint64_t const result = std::rotl(state_[1] * 5, 7) * 9;
    std::uint64_t const shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // 0 to n - 1, each as likely as the others. `n` > 0.
  constexpr std::uint64_t below(std::uint64_t n) {
    WM_ASSERT(n > 0);
    // Lemire's multiplication ("Fast random integer generation in an interval", 2019): the high half of next() * n
    // is the answer, and what would favour some answers is drawn again.
    __extension__ using Wide = unsigned __int128;
    Wide product = Wide{next()} * n;
    if (static_cast<std::uint64_t>(product) < n) {
      std::uint64_t const unfair = (0 - n) % n;  // 2^64 mod n.
      while (static_cast<std::uint64_t>(product) < unfair) product = Wide{next()} * n;
    }
    return static_cast<std::uint64_t>(product >> 64);
  }

  // True in so many cases of a thousand.
  constexpr bool chance(std::uint32_t permille) { return below(1'000) < permille; }

  // A generator of its own for some part, so that a draw more in one part does not change what the others draw.
  constexpr Rng fork() { return Rng{next()}; }

 private:
  std::array<std::uint64_t, 4> state_{};
};

}  // namespace workmill
