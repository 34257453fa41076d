#include "engine/idempotency_table.h"

#include <gtest/gtest.h>

namespace workmill::engine {
namespace {

constexpr Hash128 key(std::uint64_t n) { return {.high = n, .low = n}; }
IdempotencyTable::Answer answer(std::int64_t until, std::uint32_t offset) {
  return {.fingerprint = 1,
          .until = instant_from_ms(until),
          .at = {.segment = 1, .offset = offset},
          .bytes = 10,
          .reply = "r"};
}

TEST(IdempotencyTable, BeyondTheBoundTheOldestGoes) {
  SegmentCounts segments;
  IdempotencyTable table{2, segments};
  table.finish_replay(instant_from_ms(0));

  for (std::uint32_t n = 1; n <= 3; ++n) table.remember(key(n), answer(100 + n, n));

  EXPECT_EQ(table.find(key(1), instant_from_ms(50)), nullptr);
  EXPECT_NE(table.find(key(2), instant_from_ms(50)), nullptr);
  EXPECT_NE(table.find(key(3), instant_from_ms(50)), nullptr);
}

// Answers that were copied ahead come back behind younger ones.
TEST(IdempotencyTable, AfterReplayTheOldestHaveGoneInWhateverOrderTheyCame) {
  SegmentCounts segments;
  IdempotencyTable table{2, segments};

  table.remember(key(2), answer(102, 2));
  table.remember(key(1), answer(101, 1));
  table.remember(key(3), answer(103, 3));
  table.finish_replay(instant_from_ms(50));

  EXPECT_EQ(table.size(), 2u);
  EXPECT_EQ(table.find(key(1), instant_from_ms(50)), nullptr);
  EXPECT_NE(table.find(key(2), instant_from_ms(50)), nullptr);
  EXPECT_NE(table.find(key(3), instant_from_ms(50)), nullptr);
}

TEST(IdempotencyTable, WhatIsOverIsNotFoundAndIsDroppedInSteps) {
  SegmentCounts segments;
  IdempotencyTable table{10, segments};
  table.finish_replay(instant_from_ms(0));
  for (std::uint32_t n = 1; n <= 3; ++n) table.remember(key(n), answer(100, n));

  table.turn(instant_from_ms(100), 2);

  EXPECT_EQ(table.find(key(3), instant_from_ms(100)), nullptr);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(segments.in(1), 1u);
  EXPECT_EQ(segments.bytes(), 10u);
}

}  // namespace
}  // namespace workmill::engine
