#include <gtest/gtest.h>

#include "shard/shard_fixture_test.h"

// Requests that nobody wants any more when their turn comes.
namespace workmill::shard {
namespace {

using GiveUpTest = ShardTest;

TEST_F(GiveUpTest, WhatComesToItsTurnTooLateIsNotDecided) {
  Cookie const late = 101;
  Instant const soon = clock_.now() + Duration{5};
  ASSERT_TRUE(loop_->submit({.port = 0, .cookie = late, .command = enqueue({spec_of_job("a")}), .give_up_at = soon}));

  clock_.advance(Duration{5});
  turn();

  EXPECT_EQ(take<Error>(late).code, ErrorCode::deadline_exceeded);
  EXPECT_TRUE(ask<LeaseReply>(lease()).jobs.empty());
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).given_up, 1U);
}

TEST_F(GiveUpTest, WhatComesInTimeIsDecided) {
  Cookie const asked = 101;
  Instant const soon = clock_.now() + Duration{5};
  ASSERT_TRUE(loop_->submit({.port = 0, .cookie = asked, .command = enqueue({spec_of_job("a")}), .give_up_at = soon}));

  clock_.advance(Duration{4});
  turn();

  EXPECT_EQ(take<EnqueueReply>(asked).jobs.size(), 1U);
}

TEST_F(GiveUpTest, AWaitEndsWhenItsClientGivesUp) {
  Cookie const waiting = 101;
  Instant const soon = clock_.now() + Duration{50};
  ASSERT_TRUE(loop_->submit(
      {.port = 0, .cookie = waiting, .command = lease("default", 1, std::chrono::minutes{1}), .give_up_at = soon}));
  turn();
  EXPECT_FALSE(answered(waiting));

  clock_.advance(Duration{50});
  turn();

  EXPECT_TRUE(take<LeaseReply>(waiting).jobs.empty());
}

TEST_F(GiveUpTest, AJobOfAClientThatLeftBeforeItsTurnIsNotTaken) {
  Cookie const gone = submit(enqueue({spec_of_job("a")}));
  Cookie const stays = submit(enqueue({spec_of_job("b")}));
  loop_->abandon(0, gone);

  turn();

  EXPECT_FALSE(answered(gone));
  EXPECT_EQ(take<EnqueueReply>(stays).jobs.size(), 1U);
  EXPECT_EQ(ask<LeaseReply>(lease("default", 10)).jobs.size(), 1U);
}

TEST_F(GiveUpTest, AReportCountsThoughItsWorkerHasLeft) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1U);
  Cookie const gone = submit(ReportBatch{.reports = {completed(leased.jobs[0])}});
  loop_->abandon(0, gone);

  turn();

  auto const job = ask<JobReply>(GetJob{.job = {.number = leased.jobs[0].number, .text = {}}, .wait = {}});
  EXPECT_EQ(job.job.state, JobState::completed);
}

TEST_F(GiveUpTest, WhoLeavesAfterTheTurnHasNoSayInLaterOnes) {
  Cookie const gone = submit(enqueue({spec_of_job("a")}));
  turn();
  loop_->abandon(0, gone);
  ASSERT_TRUE(loop_->submit({.port = 0, .cookie = gone, .command = enqueue({spec_of_job("b")})}));

  turn();

  EXPECT_EQ(take<EnqueueReply>(gone).jobs.size(), 1U);
  EXPECT_EQ(ask<LeaseReply>(lease("default", 10)).jobs.size(), 2U);
}

}  // namespace
}  // namespace workmill::shard
