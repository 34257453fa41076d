#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using JobsTest = EngineTest;

// --- Cancel.

TEST_F(JobsTest, AJobThatWaitsIsCancelledAtOnce) {
  for (Duration const delay : {Duration{0}, Duration{hours{1}}}) {
    auto const sent = enqueue({.type = "a", .delay = delay});
    expect<DoneReply>(CancelJob{.job = ref(sent.number)});

    EXPECT_EQ(view(sent.number).state, JobState::cancelled);
  }
  EXPECT_TRUE(lease().empty());
}

TEST_F(JobsTest, ALeasedJobStaysLeasedUntilItsWorkerSaysMore) {
  auto const sent = enqueue({.type = "a"});
  lease_one();
  expect<DoneReply>(CancelJob{.job = ref(sent.number)});
  EXPECT_EQ(view(sent.number).state, JobState::leased);
  pass_and_advance(seconds{61});

  EXPECT_EQ(view(sent.number).state, JobState::cancelled);
}

TEST_F(JobsTest, CancellingTwiceIsDoneOnce) {
  auto const sent = enqueue({.type = "a"});
  expect<DoneReply>(CancelJob{.job = ref(sent.number)});
  auto const records = log.records.size();

  expect<DoneReply>(CancelJob{.job = ref(sent.number)});
  EXPECT_EQ(log.records.size(), records);
}

TEST_F(JobsTest, AFinishedJobCannotBeCancelled) {
  auto const sent = enqueue({.type = "a"});
  report(lease_one(), Completed{});

  EXPECT_EQ(expect_error(CancelJob{.job = ref(sent.number)}), ErrorCode::wrong_state);
}

// --- Retry.

TEST_F(JobsTest, ADeadJobIsRetriedWithItsAttemptsCountedAnew) {
  auto const sent = enqueue({.type = "a", .max_attempts = 1});
  report(lease_one(), Failed{});
  expect<DoneReply>(RetryJob{.job = ref(sent.number)});

  EXPECT_EQ(view(sent.number).state, JobState::ready);
  EXPECT_EQ(lease_one().attempt, 1U);
}

TEST_F(JobsTest, AScheduledJobIsRetriedNow) {
  auto const sent = enqueue({.type = "a", .delay = hours{1}});
  expect<DoneReply>(RetryJob{.job = ref(sent.number)});

  EXPECT_EQ(lease_one().number, sent.number);
}

TEST_F(JobsTest, ARetriedJobIsNoLongerAmongThoseToBeForgotten) {
  auto const sent = enqueue({.type = "a", .keep_result = minutes{1}});
  expect<DoneReply>(CancelJob{.job = ref(sent.number)});
  expect<DoneReply>(RetryJob{.job = ref(sent.number)});
  pass_and_advance(hours{1});

  EXPECT_EQ(view(sent.number).state, JobState::ready);
}

TEST_F(JobsTest, OnlyDeadCancelledAndScheduledJobsAreRetried) {
  auto const sent = enqueue({.type = "a"});
  EXPECT_EQ(expect_error(RetryJob{.job = ref(sent.number)}), ErrorCode::wrong_state);
  auto const leased = lease_one();
  EXPECT_EQ(expect_error(RetryJob{.job = ref(sent.number)}), ErrorCode::wrong_state);
  report(leased, Completed{});

  EXPECT_EQ(expect_error(RetryJob{.job = ref(sent.number)}), ErrorCode::wrong_state);
}

// --- Delete.

TEST_F(JobsTest, ADeletedJobIsGone) {
  auto const sent = enqueue({.type = "a"});
  expect<DoneReply>(DeleteJob{.job = ref(sent.number)});

  EXPECT_EQ(expect_error(GetJob{.job = ref(sent.number)}), ErrorCode::job_not_found);
  EXPECT_EQ(expect_error(GetJobLog{.job = ref(sent.number)}), ErrorCode::job_not_found);
  EXPECT_TRUE(lease().empty());
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(JobsTest, ALeasedJobCannotBeDeleted) {
  auto const sent = enqueue({.type = "a"});
  lease_one();

  EXPECT_EQ(expect_error(DeleteJob{.job = ref(sent.number)}), ErrorCode::job_leased);
}

TEST_F(JobsTest, WhatDoesNotExistIsNotFound) {
  JobRef const nobody{.number = {}, .text = "nobody"};
  EXPECT_EQ(expect_error(CancelJob{.job = nobody}), ErrorCode::job_not_found);
  EXPECT_EQ(expect_error(RetryJob{.job = nobody}), ErrorCode::job_not_found);
  EXPECT_EQ(expect_error(DeleteJob{.job = nobody}), ErrorCode::job_not_found);
  EXPECT_EQ(expect_error(PatchJob{.job = nobody}), ErrorCode::job_not_found);
  EXPECT_EQ(expect_error(GetJob{.job = nobody}), ErrorCode::job_not_found);
}

// --- Patch.

TEST_F(JobsTest, AChangedPriorityMovesTheJobToTheEndOfTheNewLine) {
  auto const first = enqueue({.type = "a", .priority = 9}).number;
  auto const moved = enqueue({.type = "b"}).number;
  expect<JobReply>(PatchJob{
      .job = ref(moved), .changes = {.priority = 9}, .new_spec = bytes({.type = "b", .priority = 9}), .history = ""});

  EXPECT_EQ(lease_one().number, first);
  EXPECT_EQ(lease_one().number, moved);
}

TEST_F(JobsTest, AChangeThatDoesNotMoveTheJobKeepsItsPlace) {
  auto const first = enqueue({.type = "a"}).number;
  enqueue({.type = "b"});
  pass(seconds{5});
  expect<JobReply>(PatchJob{.job = ref(first),
                            .changes = {.max_attempts = 3},
                            .new_spec = bytes({.type = "a", .max_attempts = 3}),
                            .history = ""});

  auto const leased = lease_one();
  EXPECT_EQ(leased.number, first);
  EXPECT_EQ(leased.max_attempts, 3U);
}

TEST_F(JobsTest, AChangedQueueTakesTheJobThere) {
  auto const sent = enqueue({.type = "a"}).number;
  auto const reply = expect<JobReply>(PatchJob{.job = ref(sent),
                                               .changes = {.queue = "other"},
                                               .new_spec = bytes({.type = "a", .queue = "other"}),
                                               .history = ""});

  EXPECT_EQ(reply.job.spec_at, log.records.back().written.at);
  EXPECT_TRUE(lease().empty());
  EXPECT_EQ(lease_one("other").number, sent);
}

TEST_F(JobsTest, AFullQueueTakesNoJobFromAnother) {
  expect<QueueReply>(PatchQueue{.name = "full", .max_depth = 0});
  auto const sent = enqueue({.type = "a"}).number;

  EXPECT_EQ(expect_error(PatchJob{.job = ref(sent),
                                  .changes = {.queue = "full"},
                                  .new_spec = bytes({.type = "a", .queue = "full"}),
                                  .history = ""}),
            ErrorCode::queue_full);
}

TEST_F(JobsTest, RunAtMovesAJobForwardsAndBack) {
  auto const sent = enqueue({.type = "a"}).number;
  Instant const later = now + hours{1};
  PatchJob patch{.job = ref(sent), .changes = {.run_at = later}, .new_spec = bytes({.type = "a", .run_at = later})};
  expect<JobReply>(patch);
  EXPECT_EQ(view(sent).state, JobState::scheduled);
  EXPECT_EQ(view(sent).ready_at, later);
  patch.changes.run_at = now;
  patch.new_spec = bytes({.type = "a", .run_at = now});
  expect<JobReply>(patch);

  EXPECT_EQ(lease_one().number, sent);
}

TEST_F(JobsTest, AChangedJobKeepsItsIdAndItsKey) {
  auto const sent = enqueue({.type = "a", .id = "x", .unique_key = "k"}).number;
  expect<JobReply>(PatchJob{.job = ref(sent),
                            .changes = {.queue = "b"},
                            .new_spec = bytes({.type = "a", .queue = "b", .id = "x", .unique_key = "k"})});

  EXPECT_TRUE(enqueue({.type = "a", .id = "x"}).duplicate);
  EXPECT_TRUE(enqueue({.type = "a", .queue = "b", .unique_key = "k"}).duplicate);
  EXPECT_FALSE(enqueue({.type = "a", .unique_key = "k"}).duplicate);
  EXPECT_EQ(dump(*replay()), dump(engine));
}

TEST_F(JobsTest, OnlyAJobThatWaitsCanBeChanged) {
  auto const sent = enqueue({.type = "a"}).number;
  auto const leased = lease_one();
  PatchJob const patch{.job = ref(sent), .changes = {.priority = 1}, .new_spec = bytes({.type = "a", .priority = 1})};
  EXPECT_EQ(expect_error(patch), ErrorCode::job_leased);
  report(leased, Completed{});

  EXPECT_EQ(expect_error(patch), ErrorCode::wrong_state);
}

// --- Those who wait.

TEST_F(JobsTest, AWatchedJobIsNamedWhenItFinishes) {
  auto const sent = enqueue({.type = "a"}).number;
  auto const other = enqueue({.type = "a"}).number;
  engine.watch(sent);
  report(lease_one(), Completed{});
  expect<DoneReply>(CancelJob{.job = ref(other)});

  EXPECT_THAT(engine.take_happenings().finished, ::testing::ElementsAre(sent));
  EXPECT_TRUE(engine.take_happenings().finished.empty());
}

TEST_F(JobsTest, AWatchedJobIsNamedWhenItIsDeleted) {
  auto const sent = enqueue({.type = "a"}).number;
  engine.watch(sent);
  expect<DoneReply>(DeleteJob{.job = ref(sent)});

  EXPECT_THAT(engine.take_happenings().finished, ::testing::ElementsAre(sent));
  engine.unwatch(sent);
}

TEST_F(JobsTest, AJobIsWatchedUntilTheLastWatcherLeaves) {
  auto const sent = enqueue({.type = "a"}).number;
  engine.watch(sent);
  engine.watch(sent);
  engine.unwatch(sent);
  report(lease_one(), Failed{.retry_in = Duration{0}});
  EXPECT_TRUE(engine.take_happenings().finished.empty());
  report(lease_one(), Completed{});

  EXPECT_EQ(engine.take_happenings().finished.size(), 1U);
}

TEST_F(JobsTest, AQueueThatGetsJobsIsNamedOnce) {
  enqueue({.type = "a"});
  enqueue({.type = "a"});
  enqueue({.type = "a", .queue = "b", .delay = hours{1}});

  EXPECT_THAT(engine.take_happenings().ready_queues, ::testing::ElementsAre("default"));
  pass_and_advance(hours{1});
  EXPECT_THAT(engine.take_happenings().ready_queues, ::testing::ElementsAre("b"));
}

TEST_F(JobsTest, AQueueThatIsResumedIsNamed) {
  expect<QueueReply>(PatchQueue{.name = "default", .paused = true});
  enqueue({.type = "a"});
  EXPECT_TRUE(engine.take_happenings().ready_queues.empty());
  expect<QueueReply>(PatchQueue{.name = "default", .paused = false});

  EXPECT_THAT(engine.take_happenings().ready_queues, ::testing::ElementsAre("default"));
}

}  // namespace
}  // namespace workmill::engine
