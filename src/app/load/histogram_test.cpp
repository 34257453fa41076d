#include "app/load/histogram.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace workmill::app {
namespace {

TEST(Histogram, AnEmptyOneAnswersZero) {
  Histogram const histogram;
  EXPECT_EQ(histogram.permille(500), 0u);
  EXPECT_EQ(histogram.max(), 0u);
}

TEST(Histogram, TheLargestValueHasItsPlace) {
  Histogram histogram;
  histogram.add(~std::uint64_t{0});
  EXPECT_EQ(histogram.permille(1'000), ~std::uint64_t{0});
}

TEST(Histogram, TellsEachStepThatCountedSomethingOnce) {
  Histogram histogram;
  for (std::uint64_t const value : {1'000u, 3u, 3u}) histogram.add(value);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> steps;

  histogram.for_each([&](std::uint64_t up_to, std::uint64_t count) { steps.emplace_back(up_to, count); });

  EXPECT_EQ(steps, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{3, 2}, {1'007, 1}}));
}

// The model is a sorted list.
RC_GTEST_PROP(Histogram, APercentileIsWithinOneSixtyFourthOfTheTrueOne, (std::vector<std::uint64_t> values)) {
  RC_PRE(!values.empty());
  Histogram histogram;
  for (auto& value : values) {
    value >>= *rc::gen::inRange(0, 63);
    histogram.add(value);
  }
  std::sort(values.begin(), values.end());
  auto const permille = *rc::gen::inRange<unsigned>(1, 1'001);

  auto const found = histogram.permille(permille);

  auto const truth = values[(values.size() * permille + 999) / 1'000 - 1];
  RC_ASSERT(found >= truth);
  RC_ASSERT(found - truth <= truth / 64 + 1);
}

}  // namespace
}  // namespace workmill::app
