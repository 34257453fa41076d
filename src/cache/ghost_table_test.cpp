#include "cache/ghost_table.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace workmill::cache {
namespace {

TEST(GhostTable, SaysWhenAKeyWasUsedLastAndThatOnce) {
  GhostTable ghosts;
  EXPECT_EQ(ghosts.take(5), std::nullopt);
  ghosts.ensure(100);
  ghosts.add(mix64(1), 7, 9);

  EXPECT_EQ(ghosts.take(mix64(2)), std::nullopt);
  EXPECT_EQ(ghosts.take(mix64(1)), 7);
  EXPECT_EQ(ghosts.take(mix64(1)), std::nullopt);
}

TEST(GhostTable, TheOldestOfASetGivesWayAlsoWhenStampsGoRound) {
  GhostTable ghosts;
  ghosts.ensure(8);
  std::uint16_t const first = GhostTable::kStampMask - 3;
  for (std::uint16_t i = 0; i < 9; ++i) {  // One set of eight.
    auto const stamp = static_cast<std::uint16_t>((first + i) & GhostTable::kStampMask);
    ghosts.add(std::uint64_t{i + 1U} << 40, stamp, stamp);
  }

  EXPECT_EQ(ghosts.take(std::uint64_t{1} << 40), std::nullopt);
  for (std::uint64_t i = 2; i <= 9; ++i) EXPECT_TRUE(ghosts.take(i << 40)) << i;
}

TEST(GhostTable, TakesAtMostSixBytesForAnEntry) {
  GhostTable ghosts;
  for (std::size_t entries = 100; entries < 1'000'000; entries += entries / 7) {
    ghosts.ensure(entries);
    EXPECT_LE(ghosts.memory_bytes(), entries * 6);
  }
}

}  // namespace
}  // namespace workmill::cache
