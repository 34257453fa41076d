#include "base/rng.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <limits>

#include "base/digits.h"

namespace workmill {
namespace {

// Known answers keep the sequence fixed for good: saved seeds of the simulator stay worth something.
TEST(Rng, TheSeedingMixIsSplitMix64) {
  EXPECT_EQ(mix64(0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(mix64(0x9e3779b97f4a7c15), 0x6e789e6aa1b965f4u);
}

TEST(Rng, ASeedGivesTheSameNumbersForEver) {
  Rng rng{42};
  std::array<std::uint64_t, 4> drawn{};
  for (auto& value : drawn) value = rng.next();

  EXPECT_EQ(drawn, (std::array<std::uint64_t, 4>{0x15780b2e0c2ec716, 0x6104d9866d113a7e, 0xae17533239e499a1,
                                                 0xecb8ad4703b360a1}));
}

TEST(Rng, AForkLeavesTheParentWhereOneDrawWould) {
  Rng parent{1};
  Rng twin{1};
  Rng child = parent.fork();
  twin.next();

  for (int i = 0; i < 100; ++i) child.next();  // However much the child draws.

  EXPECT_EQ(parent.next(), twin.next());
}

TEST(Rng, ChanceIsNeverAtZeroAndAlwaysAtAThousand) {
  Rng rng{7};
  for (int i = 0; i < 1'000; ++i) {
    EXPECT_FALSE(rng.chance(0));
    EXPECT_TRUE(rng.chance(1'000));
  }
}

TEST(Rng, SmallRangesAreFilledEvenly) {
  Rng rng{3};
  std::array<int, 6> counts{};
  for (int i = 0; i < 60'000; ++i) ++counts[rng.below(6)];

  for (int const count : counts) EXPECT_NEAR(count, 10'000, 400);  // Four standard deviations; the seed is fixed.
}

// Two thirds of 2^64: without the second draw the lower half of the answers would come up twice as often.
TEST(Rng, LargeRangesAreNotBiased) {
  Rng rng{5};
  std::uint64_t const n = std::numeric_limits<std::uint64_t>::max() / 3 * 2;
  int lower = 0;
  for (int i = 0; i < 40'000; ++i) lower += rng.below(n) < n / 2 ? 1 : 0;

  EXPECT_NEAR(lower, 20'000, 400);
}

RC_GTEST_PROP(Rng, BelowStaysBelow, (std::uint64_t seed, std::uint64_t limit)) {
  RC_PRE(limit > 0);
  Rng rng{seed};
  Rng again{seed};
  for (int i = 0; i < 20; ++i) {
    std::uint64_t const drawn = rng.below(limit);
    RC_ASSERT(drawn < limit);
    RC_ASSERT(again.below(limit) == drawn);
  }
}

RC_GTEST_PROP(Digits, AHexByteIsReadBackInEitherCase, (std::uint8_t value)) {
  std::array<char, 2> text{};
  put_hex_byte(text.data(), value);
  RC_ASSERT((hex_value(text[0]) << 4 | hex_value(text[1])) == value);
}

TEST(Digits, OnlyHexDigitsHaveAValue) {
  int legal = 0;
  for (int c = 0; c < 256; ++c) legal += hex_value(static_cast<char>(c)) != kNotHex ? 1 : 0;

  EXPECT_EQ(legal, 22);
  EXPECT_EQ(hex_value('F'), 15);
  EXPECT_EQ(hex_value('f'), 15);
  EXPECT_EQ(hex_value('g'), kNotHex);
}

}  // namespace
}  // namespace workmill
