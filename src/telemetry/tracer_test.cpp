#include "telemetry/tracer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <thread>
#include <vector>

#include "telemetry/job_trace.h"

namespace workmill::telemetry {
namespace {

class TurnedClock final : public Clock {
 public:
  Instant now() const override { return wall; }
  std::chrono::nanoseconds monotonic() const override { return time; }

  Instant wall = instant_from_ms(1'800'000'000'000);
  std::chrono::nanoseconds time{5'000'000'000};
};

TraceContext context_with(std::uint8_t flags) {
  Rng chance{1};
  TraceContext context = start_trace(chance, Sampling::off);
  context.flags = flags;
  return context;
}

TEST(Tracer, ARequestOfATraceDoesAsItsTraceWasDecided) {
  TurnedClock const clock;
  Rng chance{7};
  Tracer none{clock, 0};
  Tracer all{clock, 1};
  TraceContext const sampled = context_with(TraceContext::kSampled | TraceContext::kRandomTraceId);
  TraceContext const unsampled = context_with(TraceContext::kRandomTraceId);

  auto const own = none.begin(sampled, chance);

  ASSERT_TRUE(own);
  EXPECT_EQ(own->trace_id, sampled.trace_id);
  EXPECT_NE(own->parent_id, sampled.parent_id);
  EXPECT_EQ(own->flags, sampled.flags);
  EXPECT_FALSE(all.begin(unsampled, chance));
}

TEST(Tracer, WithoutATraceTheRatioDecides) {
  TurnedClock const clock;
  Rng chance{7};
  Tracer tracer{clock, 0};
  EXPECT_FALSE(tracer.begin(std::nullopt, chance));

  tracer.set_ratio(1);
  auto const root = tracer.begin(std::nullopt, chance);
  ASSERT_TRUE(root);
  EXPECT_EQ(root->flags, TraceContext::kSampled | TraceContext::kRandomTraceId);

  tracer.set_ratio(0.25);
  int sampled = 0;
  for (int i = 0; i < 10'000; ++i) sampled += tracer.begin(std::nullopt, chance) ? 1 : 0;
  EXPECT_GT(sampled, 2'300);
  EXPECT_LT(sampled, 2'700);
}

TEST(Tracer, WhatFindsNoRoomIsDroppedAndCounted) {
  TurnedClock const clock;
  Tracer tracer{clock, 1, 2};

  for (int i = 0; i < 5; ++i) tracer.emit(Span{});

  TraceFigures const figures = tracer.figures();
  EXPECT_EQ(figures.sampled, 5u);
  EXPECT_EQ(figures.dropped, 3u);
  EXPECT_EQ(figures.queued, 2u);
  EXPECT_EQ(figures.queue_spans_max, 2u);
}

TEST(Tracer, TimesAreOfTheWallClockAndFollowItWhereItIsSet) {
  TurnedClock clock;
  Tracer tracer{clock, 1};
  EXPECT_EQ(tracer.unix_ns(clock.time + std::chrono::nanoseconds{42}), 1'800'000'000'000'000'042);

  clock.time += std::chrono::seconds{1};
  clock.wall += Duration{1'002};  // Two milliseconds are within what the clocks may differ.
  tracer.adjust_clock();
  EXPECT_EQ(tracer.now_ns(), 1'800'000'001'000'000'000);

  clock.wall += std::chrono::hours{1};
  tracer.adjust_clock();
  EXPECT_EQ(tracer.now_ns(), 1'800'003'601'002'000'000);
}

TEST(Tracer, ASpanDoesNotEndBeforeItBegins) {
  TurnedClock const clock;
  Tracer tracer{clock, 1};
  Span span;
  span.start_ns = 10;
  span.end_ns = 5;

  tracer.emit(std::move(span));

  std::vector<Span> got;
  tracer.spans().receive_batch(got, 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].end_ns, 10);
}

TEST(Tracer, ManyThreadsMayEmitAtOnce) {
  TurnedClock const clock;
  Tracer tracer{clock, 1, 10'000};
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&tracer] {
        for (int j = 0; j < 500; ++j) tracer.emit(Span{});
      });
    }
  }
  EXPECT_EQ(tracer.figures().queued, 2'000u);
}

// Every attempt has a span of its own, and whoever asks gets the same.
RC_GTEST_PROP(JobTrace, AttemptsOfATraceHaveSpansOfTheirOwn, (std::uint64_t seed, std::uint64_t lease)) {
  Rng chance{seed};
  TraceContext const creation = start_trace(chance, Sampling::on);

  TraceContext const attempt = attempt_context(creation, LeaseToken{lease});

  RC_ASSERT(attempt == attempt_context(creation, LeaseToken{lease}));
  RC_ASSERT(attempt.trace_id == creation.trace_id);
  RC_ASSERT(attempt.flags == creation.flags);
  RC_ASSERT(attempt.parent_id != (std::array<std::uint8_t, 8>{}));
  RC_ASSERT(attempt.parent_id != creation.parent_id);
  RC_ASSERT(attempt.parent_id != attempt_context(creation, LeaseToken{lease + 1}).parent_id);
  RC_ASSERT(report_context(attempt).parent_id != attempt.parent_id);
}

}  // namespace
}  // namespace workmill::telemetry
