#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;

class BulkTest : public EngineTest {
 protected:
  BulkTest() : EngineTest(EngineOptions{.steps_max = 7}) {}
};

TEST_F(BulkTest, ManyAreDoneInBoundedParts) {
  for (int i = 0; i < 20; ++i) enqueue({.type = "a"});

  bool again = false;
  Reply const reply = engine.execute(BulkJobs{.action = BulkAction::cancel}, {.now = now, .chance = 1}, log, &again);

  EXPECT_TRUE(again);
  EXPECT_EQ(std::get<CountReply>(reply).count, 7U);
  EXPECT_EQ(count(BulkJobs{.action = BulkAction::cancel, .before = std::get<CountReply>(reply).next}), 13U);
}

TEST_F(BulkTest, TheFilterChooses) {
  enqueue({.type = "a"});
  enqueue({.type = "b"});
  enqueue({.type = "a", .queue = "other"});
  enqueue({.type = "a", .group = "g"});
  auto const delayed = enqueue({.type = "a", .delay = hours{1}});

  auto const remove = [](JobFilter filter) {
    return BulkJobs{.action = BulkAction::remove, .filter = std::move(filter)};
  };
  EXPECT_EQ(count(remove({.state = JobState::scheduled, .type = "a"})), 1U);
  EXPECT_FALSE(engine.view(delayed.number));
  EXPECT_EQ(count(remove({.group = "g"})), 1U);
  EXPECT_EQ(count(remove({.queue = "other", .type = "b"})), 0U);
  EXPECT_EQ(count(remove({.type = "nothing"})), 0U);
  EXPECT_EQ(count(remove({.queue = "default", .type = "a"})), 1U);
  EXPECT_EQ(count(remove({})), 2U);
}

TEST_F(BulkTest, WhatAJobsStateDoesNotAllowIsNotCounted) {
  enqueue({.type = "a"});
  lease_one();
  enqueue({.type = "a"});

  EXPECT_EQ(count(BulkJobs{.action = BulkAction::retry}), 0U);
  EXPECT_EQ(count(BulkJobs{.action = BulkAction::remove}), 1U);
  EXPECT_EQ(count(BulkJobs{.action = BulkAction::cancel}), 1U);
}

TEST_F(BulkTest, DeadJobsAreRetriedTogether) {
  for (int i = 0; i < 10; ++i) {
    enqueue({.type = "a"});
    report(lease_one(), Failed{.error_class = ErrorClass::fatal});
  }

  EXPECT_EQ(count(BulkJobs{.action = BulkAction::retry, .filter = {.state = JobState::dead}}), 10U);
  EXPECT_EQ(lease({"default"}, 100).size(), 10U);
}

TEST_F(BulkTest, TagsAreNotForTheEngineToJudge) {
  EXPECT_EQ(expect_error(BulkJobs{.action = BulkAction::remove, .filter = {.tag = "nightly"}}),
            ErrorCode::invalid_field);
}

TEST_F(BulkTest, APurgeSparesTheLeasedAndOtherQueues) {
  for (int i = 0; i < 20; ++i) enqueue({.type = "a"});
  enqueue({.type = "a", .queue = "other"});
  lease({"default"}, 3);

  EXPECT_EQ(count(PurgeQueue{.name = "default"}), 17U);
  EXPECT_EQ(engine.status().jobs, 4U);
}

TEST_F(BulkTest, APurgeOfOneStateSparesTheOthers) {
  enqueue({.type = "a"});
  enqueue({.type = "a", .delay = hours{1}});

  EXPECT_EQ(count(PurgeQueue{.name = "default", .state = JobState::scheduled}), 1U);
  EXPECT_EQ(lease().size(), 1U);
}

TEST_F(BulkTest, APurgeOfAnUnknownQueueSaysSo) {
  EXPECT_EQ(expect_error(PurgeQueue{.name = "unknown"}), ErrorCode::not_found);
}

// --- Lists.

TEST_F(BulkTest, AListGoesFromTheNewestToTheOldestPageByPage) {
  std::vector<JobNumber> sent;
  for (int i = 0; i < 5; ++i) sent.push_back(enqueue({.type = "a"}).number);

  auto const first = expect<JobsReply>(ListJobs{.filter = {}, .limit = 3, .before = {}});
  ASSERT_EQ(first.jobs.size(), 3U);
  EXPECT_EQ(first.jobs[0].number, sent[4]);
  EXPECT_EQ(first.next, sent[2]);
  auto const rest = expect<JobsReply>(ListJobs{.filter = {}, .limit = 3, .before = first.next});

  ASSERT_EQ(rest.jobs.size(), 2U);
  EXPECT_EQ(rest.jobs[1].number, sent[0]);
  EXPECT_FALSE(rest.next);
}

TEST_F(BulkTest, AListLooksAtSoManyJobsAndNoMore) {
  auto const oldest = enqueue({.type = "needle"}).number;
  for (int i = 0; i < 10; ++i) enqueue({.type = "hay"});

  auto const first = expect<JobsReply>(ListJobs{.filter = {.type = "needle"}, .limit = 1, .before = {}});
  EXPECT_TRUE(first.jobs.empty());
  ASSERT_TRUE(first.next);
  auto const second = expect<JobsReply>(ListJobs{.filter = {.type = "needle"}, .limit = 1, .before = first.next});

  ASSERT_EQ(second.jobs.size(), 1U);
  EXPECT_EQ(second.jobs[0].number, oldest);
}

TEST_F(BulkTest, AListOfWhatNoJobHasIsEmptyAtOnce) {
  enqueue({.type = "a"});

  for (JobFilter const& filter : {JobFilter{.type = "b"}, JobFilter{.group = "g"}, JobFilter{.queue = "q"}}) {
    auto const page = expect<JobsReply>(ListJobs{.filter = filter, .limit = 50, .before = {}});
    EXPECT_TRUE(page.jobs.empty());
    EXPECT_FALSE(page.next);
  }
}

}  // namespace
}  // namespace workmill::engine
