#include "service/attempts.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace workmill::service {
namespace {

using std::chrono::seconds;

constexpr ClientKey kZero{0}, kOne{1}, kTwo{2};

TEST(Attempts, TheFirstFewAreRefusedLikeAnyOther) {
  Attempts attempts;

  for (std::uint32_t i = 0; i < Attempts::kFree; ++i)
    EXPECT_EQ(attempts.failed(kOne, seconds{i}).verdict, Attempts::Verdict::refused);

  EXPECT_EQ(attempts.failed(kOne, seconds{10}).verdict, Attempts::Verdict::newly_locked);
  EXPECT_EQ(attempts.failed(kOne, seconds{10}).verdict, Attempts::Verdict::locked_out);
}

TEST(Attempts, EachFurtherOneDoublesTheWaitUpToABound) {
  Attempts attempts;
  Attempts::Time now = seconds{1};
  for (std::uint32_t i = 0; i < Attempts::kFree; ++i) attempts.failed(kOne, now);

  seconds expected = Attempts::kFirstWait;
  for (int i = 0; i < 20; ++i) {
    seconds const wait = attempts.failed(kOne, now).wait;
    EXPECT_EQ(wait, expected);
    expected = std::min(expected * 2, Attempts::kLongestWait);
    now += wait;
  }
}

TEST(Attempts, TryingWhileLockedOutMakesItNoLonger) {
  Attempts attempts;
  for (std::uint32_t i = 0; i <= Attempts::kFree + 3; ++i) attempts.failed(kOne, seconds{i});
  auto const first = attempts.failed(kOne, seconds{100});

  auto const second = attempts.failed(kOne, seconds{101});

  EXPECT_EQ(second.wait, first.wait - seconds{1});
}

TEST(Attempts, OneAddressDoesNotLockOutAnother) {
  Attempts attempts;
  for (int i = 0; i < 50; ++i) attempts.failed(kOne, seconds{0});

  EXPECT_EQ(attempts.failed(kTwo, seconds{0}).verdict, Attempts::Verdict::refused);
}

TEST(Attempts, AreForgottenAfterAWhileOfQuiet) {
  Attempts attempts;
  for (int i = 0; i < 50; ++i) attempts.failed(kOne, seconds{0});

  EXPECT_EQ(attempts.failed(kOne, Attempts::kForgottenAfter + seconds{0}).verdict, Attempts::Verdict::refused);
}

TEST(Attempts, TheTableStaysBoundedAndKeepsWhoIsBusiest) {
  Attempts attempts;
  for (int i = 0; i < 50; ++i) attempts.failed(kZero, seconds{0});
  for (std::uint64_t client = 1; client < 3 * Attempts::kClientsMax; ++client) {
    attempts.failed(ClientKey{client}, seconds{1});
    if (client % 1'000 == 0) attempts.failed(kZero, seconds{1});
  }

  EXPECT_EQ(attempts.size(), Attempts::kClientsMax);
  EXPECT_NE(attempts.failed(kZero, seconds{2}).verdict, Attempts::Verdict::refused);
}

}  // namespace
}  // namespace workmill::service
