#include "model/retry_policy.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

namespace workmill {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kMiddle = std::uint64_t{1} << 63;
constexpr std::uint64_t kLowest = 0;
constexpr std::uint64_t kHighest = UINT64_MAX;

TEST(RetryPolicy, TheDefaultDoublesFromFifteenSecondsUpToAnHour) {
  Backoff const backoff{};

  EXPECT_EQ(backoff_after(backoff, 1, kMiddle), seconds{15});
  EXPECT_EQ(backoff_after(backoff, 2, kMiddle), seconds{30});
  EXPECT_EQ(backoff_after(backoff, 3, kMiddle), seconds{60});
  EXPECT_EQ(backoff_after(backoff, 8, kMiddle), seconds{1'920});
  EXPECT_EQ(backoff_after(backoff, 9, kMiddle), hours{1});
  EXPECT_EQ(backoff_after(backoff, 10'000, kMiddle), hours{1});
}

TEST(RetryPolicy, ChanceSpreadsTheWaitOverTheJitterAndBothEndsAreReached) {
  Backoff const backoff{.first = seconds{10}, .jitter_permille = 200};

  EXPECT_EQ(backoff_after(backoff, 1, kLowest), seconds{8});
  EXPECT_EQ(backoff_after(backoff, 1, kMiddle), seconds{10});
  EXPECT_EQ(backoff_after(backoff, 1, kHighest), seconds{12});
}

TEST(RetryPolicy, WithoutJitterChanceChangesNothing) {
  Backoff const backoff{.jitter_permille = 0};

  EXPECT_EQ(backoff_after(backoff, 2, kLowest), backoff_after(backoff, 2, kHighest));
}

TEST(RetryPolicy, FractionsOfAFactorCountToTheNearestMillisecond) {
  Backoff const backoff{.first = milliseconds{10}, .factor_permille = 1'100, .jitter_permille = 0};

  EXPECT_EQ(backoff_after(backoff, 2, 0), milliseconds{11});
  EXPECT_EQ(backoff_after(backoff, 3, 0), milliseconds{12});  // 12.1
  EXPECT_EQ(backoff_after(backoff, 8, 0), milliseconds{19});  // 19.487
  EXPECT_EQ(backoff_after(backoff, 9, 0), milliseconds{21});  // 21.435
}

TEST(RetryPolicy, NothingStaysNothing) {
  Backoff const backoff{.first = milliseconds{0}};

  EXPECT_EQ(backoff_after(backoff, 500, kHighest), milliseconds{0});
}

TEST(RetryPolicy, AFactorOfOneWaitsTheSameForEver) {
  Backoff const backoff{.first = seconds{3}, .factor_permille = 1'000, .jitter_permille = 0};

  EXPECT_EQ(backoff_after(backoff, 1, 0), seconds{3});
  EXPECT_EQ(backoff_after(backoff, 10'000, 0), seconds{3});
}

TEST(RetryPolicy, ValuesOutOfRangeCountAsTheNearestOnesInside) {
  Backoff const wild{
      .first = milliseconds{-5}, .factor_permille = 0, .cap = milliseconds::max(), .jitter_permille = 9'999};

  EXPECT_EQ(backoff_after(wild, 0, kHighest), milliseconds{0});
  EXPECT_EQ(backoff_after({.first = milliseconds::max(), .cap = milliseconds::max(), .jitter_permille = 0}, 3, 0),
            kDurationMax);
}

RC_GTEST_PROP(RetryPolicy, StaysWithinTheCapAndItsJitterAndNeverGoesBelowZero,
              (std::uint32_t attempt, std::uint64_t chance)) {
  Backoff const backoff{.first = milliseconds{*rc::gen::inRange<std::int64_t>(0, 1'000'000)},
                        .factor_permille = *rc::gen::inRange<std::uint32_t>(1'000, 100'001),
                        .cap = milliseconds{*rc::gen::inRange<std::int64_t>(1'000'000, 100'000'000)},
                        .jitter_permille = *rc::gen::inRange<std::uint32_t>(0, 1'001)};

  Duration const wait = backoff_after(backoff, attempt, chance);

  RC_ASSERT(wait >= Duration{0});
  RC_ASSERT(wait <= backoff.cap + backoff.cap * backoff.jitter_permille / 1'000);
}

// The model is long double arithmetic: not what every machine agrees on, but near.
RC_GTEST_PROP(RetryPolicy, GrowsAsThePowerOfItsFactor, ()) {
  Backoff const backoff{.first = milliseconds{*rc::gen::inRange<std::int64_t>(1, 100'000)},
                        .factor_permille = *rc::gen::inRange<std::uint32_t>(1'000, 5'000),
                        .cap = kDurationMax,
                        .jitter_permille = 0};
  auto const attempt = *rc::gen::inRange<std::uint32_t>(1, 2'000);

  auto const wait = static_cast<long double>(backoff_after(backoff, attempt, 0).count());

  long double const exact = static_cast<long double>(backoff.first.count()) *
                            std::pow(static_cast<long double>(backoff.factor_permille) / 1'000.0L, attempt - 1);
  long double const expected = std::min(exact, static_cast<long double>(kDurationMax.count()));
  RC_ASSERT(std::abs(wait - expected) <= 0.5L + expected * 1e-12L);
}

}  // namespace
}  // namespace workmill
