#include "telemetry/otlp_retry.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace workmill::telemetry {
namespace {

using std::chrono::seconds;

TEST(OtlpRetry, OnlyWhatMayPassIsTriedAgain) {
  for (long const status : {0L, 429L, 502L, 503L, 504L}) EXPECT_EQ(judge_otlp_status(status), OtlpVerdict::retry);
  for (long const status : {200L, 202L}) EXPECT_EQ(judge_otlp_status(status), OtlpVerdict::accepted);
  for (long const status : {301L, 400L, 401L, 404L, 413L, 500L, 501L}) {
    EXPECT_EQ(judge_otlp_status(status), OtlpVerdict::refused) << status;
  }
}

TEST(OtlpRetry, ABatchIsGivenUpAfterSoManyAttempts) {
  Rng chance{1};

  EXPECT_TRUE(otlp_wait({.attempts_max = 3}, 2, {}, chance));
  EXPECT_FALSE(otlp_wait({.attempts_max = 3}, 3, {}, chance));
}

TEST(OtlpRetry, WhatTheReceiverSaysIsTheLeastAndIsBounded) {
  Rng chance{1};
  OtlpBackoff const backoff;

  EXPECT_EQ(otlp_wait(backoff, 1, seconds{60}, chance), seconds{60});
  EXPECT_EQ(otlp_wait(backoff, 1, seconds{86'400}, chance), backoff.retry_after_max);
  EXPECT_GE(*otlp_wait(backoff, 1, seconds{0}, chance), Duration{500});
}

RC_GTEST_PROP(OtlpRetry, WaitsDoubleWithinTheirBounds, (std::uint64_t seed)) {
  Rng chance{seed};
  OtlpBackoff const backoff{.attempts_max = 100};
  Duration whole = backoff.first;
  for (std::uint32_t failed = 1; failed < 20; ++failed) {
    auto const wait = otlp_wait(backoff, failed, {}, chance);
    RC_ASSERT(wait.has_value());
    RC_ASSERT(*wait >= whole / 2);
    RC_ASSERT(*wait <= whole);
    whole = std::min(whole * 2, backoff.most);
  }
}

}  // namespace
}  // namespace workmill::telemetry
