#include "telemetry/recent_peak.h"

#include <gtest/gtest.h>

namespace workmill::telemetry {
namespace {

TEST(RecentPeak, IsTheLargestOfTheLastMinute) {
  RecentPeak peak;
  std::uint32_t second = 1'000;
  EXPECT_EQ(peak.read(second), 0U);

  peak.note(7);
  peak.note(9);
  peak.note(8);

  for (; second <= 1'030; ++second) EXPECT_EQ(peak.read(second), 9U) << second;
  peak.note(3);
  for (; second <= 1'060; ++second) EXPECT_EQ(peak.read(second), 9U) << second;
  for (; second <= 1'090; ++second) EXPECT_EQ(peak.read(second), 3U) << second;
  EXPECT_EQ(peak.read(second), 0U);
}

TEST(RecentPeak, ShowsWhatWasNotedWhileNobodyLooked) {
  RecentPeak peak;
  peak.note(5);

  EXPECT_EQ(peak.read(100'000), 5U);
}

}  // namespace
}  // namespace workmill::telemetry
