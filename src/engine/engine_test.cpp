#include "engine/engine.h"

#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

TEST_F(EngineTest, AJobGoesThrough) {
  auto const sent = enqueue({.type = "mail"});
  EXPECT_EQ(sent.state, JobState::ready);

  auto const leased = lease_one();
  EXPECT_EQ(leased.number, sent.number);
  EXPECT_EQ(leased.attempt, 1U);
  EXPECT_EQ(leased.lease_expires_at, now + kLeaseDefault);

  EXPECT_FALSE(report(leased, Completed{}).error);
  EXPECT_EQ(view(sent.number).state, JobState::completed);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(EngineTest, WhatComesOutOfTheLogIsWhatWasThere) {
  for (int i = 0; i < 50; ++i) enqueue({.type = "mail"});
  enqueue({.type = "later", .delay = hours{1}});
  auto const jobs = lease({"default"}, 20);
  for (std::size_t i = 0; i < 10; ++i) report(jobs[i], Completed{});
  for (std::size_t i = 10; i < 15; ++i) report(jobs[i], Failed{});
  pass_and_advance(seconds{70});

  auto const again = replay();

  EXPECT_EQ(dump(*again), dump(engine));
  EXPECT_EQ(again->check_invariants(), "");
}

}  // namespace
}  // namespace workmill::engine
