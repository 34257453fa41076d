#include "shard/access.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/variant.h"
#include "model/job.h"
#include "shard/shard_fixture_test.h"

// A caller who is limited to the queue "mine", beside jobs in "mine" and in "foreign".
namespace workmill::shard {
namespace {

class Limited : public ShardTest {
 protected:
  void SetUp() override {
    ShardTest::SetUp();
    mine_ = put("mine");
    foreign_ = put("foreign");
  }

  JobRef put(std::string_view queue, std::string_view id = {}) {
    auto const reply = ask(enqueue({spec(queue, id)}));
    return {.number = std::get<EnqueueReply>(reply).jobs.at(0).number, .text = {}};
  }
  static Bytes spec(std::string_view queue, std::string_view id = {}) {
    JobSpecView view;
    view.type = "t";
    view.queue = queue;
    view.id = id;
    Bytes bytes;
    encode_spec(view, bytes);
    return bytes;
  }
  static Bytes of_batch(std::string_view batch, std::string_view id = {}) {
    Bytes bytes;
    encode_spec({.type = "t", .queue = "mine", .id = id, .batch = batch}, bytes);
    return bytes;
  }
  Reply ask(Command command, Allowed allowed = {}) {
    Cookie const cookie = submit(std::move(command), std::move(allowed));
    for (int i = 0; i < 1'000 && !answered(cookie); ++i) turn();
    return std::move(answers_.at(cookie));
  }
  Reply ask_limited(Command command) { return ask(std::move(command), mine_only_); }

  // The very answer to an id that never was.
  void expect_no_job(Reply const& reply) {
    auto const* error = std::get_if<Error>(&reply);
    ASSERT_NE(error, nullptr);
    auto const unknown = ask(GetJob{.job = {.number = {}, .text = "never-was"}, .wait = {}});
    EXPECT_EQ(*error, std::get<Error>(unknown));
  }
  static void expect_forbidden(Reply const& reply) {
    auto const* error = std::get_if<Error>(&reply);
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->code, ErrorCode::forbidden);
  }
  static Report caching(Report report, std::vector<std::string> const& keys) {
    for (auto const& key : keys) {
      std::get<Completed>(report.outcome).cache.push_back({.key = key, .set = {.content_type = "x", .body = "v"}});
    }
    return report;
  }
  void expect_forbidden_to_cache(Report report, std::vector<std::string> const& keys, Allowed const& allowed) {
    report = caching(std::move(report), keys);
    expect_forbidden(ask(ReportBatch{.reports = {report}}, allowed));
    Lease again = lease("mine");
    again.reports = {report};
    expect_forbidden(ask(std::move(again), allowed));
  }
  JobState state(JobRef const& job) { return std::get<JobReply>(ask(GetJob{.job = job, .wait = {}})).job.state; }

  Allowed const mine_only_{.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"mine", "mine.too"})};
  JobRef mine_, foreign_;
};

TEST_F(Limited, SeesAndChangesJobsOfItsOwnQueues) {
  EXPECT_TRUE(holds<JobReply>(ask_limited(GetJob{.job = mine_, .wait = {}})));
  EXPECT_TRUE(holds<JobLogReply>(ask_limited(GetJobLog{mine_})));
  PatchJob patch{.job = mine_, .changes = {.queue = "mine.too"}, .new_spec = {}, .history = {}};
  EXPECT_TRUE(holds<JobReply>(ask_limited(std::move(patch))));
  EXPECT_TRUE(holds<DoneReply>(ask_limited(CancelJob{mine_})));
  EXPECT_TRUE(holds<DoneReply>(ask_limited(RetryJob{mine_})));
  EXPECT_TRUE(holds<DoneReply>(ask_limited(DeleteJob{mine_})));
}

TEST_F(Limited, FindsNoJobWhereOneOfAnotherQueueIs) {
  expect_no_job(ask_limited(GetJob{.job = foreign_, .wait = {}}));
  expect_no_job(ask_limited(GetJobLog{foreign_}));
  expect_no_job(ask_limited(CancelJob{foreign_}));
  expect_no_job(ask_limited(RetryJob{foreign_}));
  expect_no_job(ask_limited(DeleteJob{foreign_}));
  expect_no_job(ask_limited(PatchJob{.job = foreign_, .changes = {.priority = 1}, .new_spec = {}, .history = {}}));

  EXPECT_EQ(state(foreign_), JobState::ready);
}

TEST_F(Limited, MakesBatchesThatCallBackItsOwnQueues) {
  EXPECT_TRUE(holds<BatchReply>(ask_limited(MakeBatch{.id = "own", .on_finish = spec("mine")})));
  EXPECT_TRUE(holds<BatchReply>(ask_limited(GetBatch{.id = "own"})));
  EXPECT_TRUE(holds<BatchReply>(ask_limited(CloseBatch{.id = "own"})));
  EXPECT_TRUE(holds<DoneReply>(ask_limited(ForgetBatch{.id = "own"})));
  expect_forbidden(ask_limited(MakeBatch{.on_success = spec("mine"), .on_finish = spec("foreign")}));
}

TEST_F(Limited, FindsNoBatchThatCallsBackAnotherQueue) {
  ask(MakeBatch{.id = "theirs", .on_success = spec("mine"), .on_finish = spec("foreign")});
  auto const unknown = std::get<Error>(ask(GetBatch{.id = "never-was"}));

  EXPECT_EQ(std::get<Error>(ask_limited(GetBatch{.id = "theirs"})), unknown);
  EXPECT_EQ(std::get<Error>(ask_limited(CloseBatch{.id = "theirs"})), unknown);
  EXPECT_EQ(std::get<Error>(ask_limited(ForgetBatch{.id = "theirs"})), unknown);
  expect_forbidden(ask_limited(MakeBatch{.id = "theirs", .on_finish = spec("mine")}));

  auto const refused = std::get<Error>(ask_limited(enqueue({of_batch("theirs")})));
  EXPECT_EQ(refused, std::get<Error>(ask_limited(enqueue({of_batch("never-was")}))));
  EXPECT_EQ(refused.code, ErrorCode::batch_not_found);
  EXPECT_EQ(std::get<BatchReply>(ask(GetBatch{.id = "theirs"})).batch.jobs.total, 0U);
}

TEST_F(Limited, ChoosesNoJobsByABatchThatCallsBackAnotherQueue) {
  ask(MakeBatch{.id = "theirs", .on_finish = spec("foreign")});
  auto const refused = [this](Command command) { return std::get<Error>(ask_limited(std::move(command))); };
  auto const list = [](std::string id) { return ListJobs{.filter = {.batch = std::move(id)}}; };
  auto const bulk = [](std::string id, std::string tag) {
    return BulkJobs{.action = BulkAction::retry, .filter = {.tag = std::move(tag), .batch = std::move(id)}};
  };

  EXPECT_EQ(refused(list("theirs")).code, ErrorCode::batch_not_found);
  EXPECT_EQ(refused(list("theirs")), refused(list("never-was")));
  EXPECT_EQ(refused(bulk("theirs", "")).code, ErrorCode::batch_not_found);
  EXPECT_EQ(refused(bulk("theirs", "")), refused(bulk("never-was", "")));
  EXPECT_EQ(refused(bulk("theirs", "tag")), refused(bulk("never-was", "")));
}

// Of a job that is there already it makes no difference what batch it names: neither one of others, nor none.
TEST_F(Limited, LearnsOfNoBatchByAJobThatIsThereAlready) {
  ask(MakeBatch{.id = "theirs", .on_finish = spec("foreign")});
  auto const job = put("mine", "my-id");
  for (std::string_view const batch : {"theirs", "never-was"}) {
    auto const again = ask_limited(enqueue({of_batch(batch, "my-id")}));
    ASSERT_TRUE(holds<EnqueueReply>(again)) << batch;
    EXPECT_EQ(std::get<EnqueueReply>(again).jobs[0].number, *job.number);
  }
  EXPECT_EQ(std::get<BatchReply>(ask(GetBatch{.id = "theirs"})).batch.jobs.total, 0U);
}

TEST_F(Limited, DoesNotMoveAJobIntoAnotherQueue) {
  PatchJob patch{.job = mine_, .changes = {.queue = "foreign"}, .new_spec = {}, .history = {}};

  expect_forbidden(ask_limited(std::move(patch)));
}

TEST_F(Limited, EnqueuesInItsOwnQueuesOnlyAllOrNone) {
  EXPECT_TRUE(holds<EnqueueReply>(ask_limited(enqueue({spec("mine")}))));
  expect_forbidden(ask_limited(enqueue({spec("mine", "first-of-two"), spec("foreign")})));

  expect_no_job(ask(GetJob{.job = {.number = {}, .text = "first-of-two"}, .wait = {}}));
}

TEST_F(Limited, LearnsOfAForeignJobWithTheSameIdOnlyThatTheIdIsNotToBeHad) {
  put("foreign", "their-id");
  put("mine", "my-id");

  expect_forbidden(ask_limited(enqueue({spec("mine", "their-id")})));
  auto const again = ask_limited(enqueue({spec("mine", "my-id")}));
  ASSERT_TRUE(holds<EnqueueReply>(again));
  EXPECT_TRUE(std::get<EnqueueReply>(again).jobs[0].duplicate);
}

TEST_F(Limited, LeasesFromItsOwnQueuesOnly) {
  expect_forbidden(ask_limited(lease("foreign")));
  Lease both = lease("mine", 10);
  both.queues.push_back({.name = "foreign", .weight = 0});
  expect_forbidden(ask_limited(std::move(both)));
  EXPECT_EQ(std::get<LeaseReply>(ask_limited(lease("mine", 10))).jobs.size(), 1U);
}

TEST_F(Limited, ReportsOnForeignJobsAsOnJobsThatNeverWereAndOnItsOwnBesideThem) {
  auto const mine = std::get<LeaseReply>(ask(lease("mine"))).jobs.at(0);
  auto const foreign = std::get<LeaseReply>(ask(lease("foreign"))).jobs.at(0);

  auto const reply = ask_limited(ReportBatch{{completed(foreign), completed(mine)}});

  auto const& reports = std::get<ReportsReply>(reply).reports;
  ASSERT_EQ(reports.size(), 2U);
  ASSERT_TRUE(reports[0].error);
  EXPECT_EQ(reports[0].error->code, ErrorCode::job_not_found);
  EXPECT_FALSE(reports[1].error);
  EXPECT_EQ(state(foreign_), JobState::leased);
}

TEST_F(Limited, ListsAndCountsItsOwnJobsOnly) {
  auto const page = ask_limited(ListJobs{});
  ASSERT_EQ(std::get<JobsReply>(page).jobs.size(), 1U);
  EXPECT_EQ(std::get<JobsReply>(page).jobs[0].number, *mine_.number);
  expect_forbidden(ask_limited(ListJobs{.filter = {.queue = "foreign"}}));
  expect_forbidden(ask_limited(BulkJobs{.action = BulkAction::remove, .filter = {.queue = "foreign"}, .before = {}}));

  auto const count = ask_limited(BulkJobs{.action = BulkAction::remove, .filter = {}, .before = {}});

  EXPECT_EQ(std::get<CountReply>(count).count, 1U);
  EXPECT_EQ(state(foreign_), JobState::ready);
}

TEST_F(Limited, ABulkActionByTagLeavesForeignJobsAlone) {
  JobSpecView view;
  view.type = "t";
  view.tags = {"same"};
  std::vector<Bytes> specs(2);
  view.queue = "mine";
  encode_spec(view, specs[0]);
  view.queue = "foreign";
  encode_spec(view, specs[1]);
  ask(enqueue(specs));

  auto const count = ask_limited(BulkJobs{.action = BulkAction::cancel, .filter = {.tag = "same"}, .before = {}});

  EXPECT_EQ(std::get<CountReply>(count).count, 1U);
}

TEST_F(Limited, SeesItsOwnQueuesOnlyPageByPage) {
  put("mine.too");

  auto const first = std::get<QueuesReply>(ask_limited(ListQueues{.limit = 1, .after = {}}));
  ASSERT_EQ(first.queues.size(), 1U);
  EXPECT_EQ(first.queues[0].name, "mine");
  ASSERT_TRUE(first.next);
  auto const second = std::get<QueuesReply>(ask_limited(ListQueues{.limit = 1, .after = *first.next}));
  ASSERT_EQ(second.queues.size(), 1U);
  EXPECT_EQ(second.queues[0].name, "mine.too");
  EXPECT_FALSE(second.next);
  expect_forbidden(ask_limited(GetQueue{"foreign"}));
  expect_forbidden(ask_limited(GetQueue{"nowhere"}));
}

TEST_F(Limited, ChangesAndPurgesItsOwnQueuesOnly) {
  expect_forbidden(ask_limited(PatchQueue{.name = "foreign", .paused = true}));
  expect_forbidden(ask_limited(PurgeQueue{.name = "foreign"}));
  EXPECT_TRUE(holds<QueueReply>(ask_limited(PatchQueue{.name = "mine", .paused = true})));
  EXPECT_EQ(std::get<CountReply>(ask_limited(PurgeQueue{.name = "mine"})).count, 1U);
}

TEST_F(Limited, GetsNoFiguresOfTheWholeServer) { expect_forbidden(ask_limited(GetStatus{})); }

TEST_F(Limited, WhoWaitsForAJobThatMovesAwayIsNotShownWhereItWent) {
  Cookie const waiting = submit(GetJob{.job = mine_, .wait = std::chrono::seconds{10}}, mine_only_);
  turn();
  ask(PatchJob{.job = mine_, .changes = {.queue = "foreign"}, .new_spec = {}, .history = {}});

  clock_.advance(std::chrono::seconds{11});
  turn();

  expect_no_job(answers_.at(waiting));
}

TEST_F(Limited, SetsNoKeysOfTheCacheByItsReports) {
  auto const leased = std::get<LeaseReply>(ask_limited(lease("mine"))).jobs.at(0);
  expect_forbidden_to_cache(completed(leased), {"k"}, mine_only_);

  EXPECT_EQ(state(mine_), JobState::leased);
}

TEST_F(Limited, SetsByItsReportsTheKeysThatBeginWithItsPrefixes) {
  Allowed const keyed{.queues = mine_only_.queues,
                      .keys = std::make_shared<CacheKeySet const>(std::vector<std::string>{"k:"})};
  auto const leased = std::get<LeaseReply>(ask(lease("mine"), keyed)).jobs.at(0);
  expect_forbidden_to_cache(completed(leased), {"k:1", "other"}, keyed);

  ask(ReportBatch{.reports = {caching(completed(leased), {"k:1", "k:2"})}}, keyed);

  EXPECT_EQ(state(mine_), JobState::completed);
}

TEST_F(Limited, ToKeysAloneMayTouchEveryQueue) {
  Allowed const keyed{.queues = {}, .keys = std::make_shared<CacheKeySet const>(std::vector<std::string>{"k:"})};

  EXPECT_TRUE(holds<JobReply>(ask(GetJob{.job = foreign_, .wait = {}}, keyed)));
  EXPECT_EQ(std::get<QueuesReply>(ask(ListQueues{.limit = 10, .after = {}}, keyed)).queues.size(), 2U);
  EXPECT_TRUE(holds<StatusReply>(ask(GetStatus{}, keyed)));
  auto const leased = std::get<LeaseReply>(ask(lease("foreign"), keyed)).jobs.at(0);
  expect_forbidden_to_cache(completed(leased), {"other"}, keyed);
}

}  // namespace
}  // namespace workmill::shard
