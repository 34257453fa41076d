#include <gmock/gmock.h>

#include <map>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::ElementsAre;
using LeaseTest = EngineTest;

std::vector<JobNumber> numbers(std::vector<LeasedJob> const& jobs) {
  std::vector<JobNumber> out;
  for (LeasedJob const& job : jobs) out.push_back(job.number);
  return out;
}

TEST_F(LeaseTest, JobsComeInTheOrderInWhichTheyWereSent) {
  auto const a = enqueue({.type = "a"}).number;
  auto const b = enqueue({.type = "b"}).number;
  auto const c = enqueue({.type = "c"}).number;

  EXPECT_THAT(numbers(lease({"default"}, 2)), ElementsAre(a, b));
  EXPECT_THAT(numbers(lease({"default"}, 2)), ElementsAre(c));
}

TEST_F(LeaseTest, HigherPrioritiesComeFirst) {
  auto const low = enqueue({.type = "a", .priority = 0}).number;
  auto const normal = enqueue({.type = "b"}).number;
  auto const high = enqueue({.type = "c", .priority = 9}).number;

  EXPECT_THAT(numbers(lease({"default"}, 10)), ElementsAre(high, normal, low));
}

TEST_F(LeaseTest, GroupsTakeTurns) {
  auto const noisy1 = enqueue({.type = "a", .group = "noisy"}).number;
  auto const noisy2 = enqueue({.type = "a", .group = "noisy"}).number;
  auto const noisy3 = enqueue({.type = "a", .group = "noisy"}).number;
  auto const quiet = enqueue({.type = "a", .group = "quiet"}).number;
  auto const without = enqueue({.type = "a"}).number;

  EXPECT_THAT(numbers(lease({"default"}, 2)), ElementsAre(noisy1, quiet));
  EXPECT_THAT(numbers(lease({"default"}, 10)), ElementsAre(without, noisy2, noisy3));
}

TEST_F(LeaseTest, QueuesAreServedInTheOrderOfPreference) {
  auto const b = enqueue({.type = "a", .queue = "b"}).number;
  auto const a = enqueue({.type = "a", .queue = "a"}).number;

  EXPECT_THAT(numbers(lease({"a", "b", "unknown"}, 10)), ElementsAre(a, b));
}

TEST_F(LeaseTest, WeightedQueuesShareByWeight) {
  for (int i = 0; i < 2'000; ++i) {
    enqueue({.type = "a", .queue = "heavy"});
    enqueue({.type = "a", .queue = "light"});
  }
  Lease const request{.queues = {{.name = "heavy", .weight = 3}, {.name = "light", .weight = 1}}, .max = 1'000};

  expect<LeaseReply>(request);

  auto const leased = static_cast<std::size_t>(JobState::leased);
  EXPECT_EQ(queue("heavy").depth[leased] + queue("light").depth[leased], 1'000U);
  EXPECT_NEAR(static_cast<double>(queue("heavy").depth[leased]), 750, 60);
}

TEST_F(LeaseTest, AWeightedQueueThatIsEmptyLeavesItsShareToOthers) {
  for (int i = 0; i < 10; ++i) enqueue({.type = "a", .queue = "light"});
  enqueue({.type = "a", .queue = "heavy"});
  Lease const request{.queues = {{.name = "heavy", .weight = 100}, {.name = "light", .weight = 1}}, .max = 100};

  EXPECT_EQ(expect<LeaseReply>(request).jobs.size(), 11U);
}

TEST_F(LeaseTest, AnUnknownQueueGivesNothingAndIsNotMade) {
  EXPECT_TRUE(lease({"unknown"}).empty());
  EXPECT_EQ(engine.status().queues, 0U);
}

TEST_F(LeaseTest, APausedQueueIsPassedOver) {
  enqueue({.type = "a"});
  expect<QueueReply>(PatchQueue{.name = "default", .paused = true});
  Lease const request{.queues = {{.name = "default"}}};
  EXPECT_FALSE(engine.has_ready(request));
  EXPECT_TRUE(lease().empty());

  expect<QueueReply>(PatchQueue{.name = "default", .paused = false});
  EXPECT_TRUE(engine.has_ready(request));
  EXPECT_EQ(lease().size(), 1U);
}

TEST_F(LeaseTest, TheRequestsLeaseGoesBeforeTheJobsOwnBeforeTheDefault) {
  enqueue({.type = "a"});
  enqueue({.type = "a", .lease = seconds{5}});
  enqueue({.type = "a", .lease = seconds{5}});

  EXPECT_EQ(lease_one().lease_expires_at, now + seconds{60});
  EXPECT_EQ(lease_one().lease_expires_at, now + seconds{5});
  EXPECT_EQ(lease({"default"}, 1, seconds{7}).at(0).lease_expires_at, now + seconds{7});
}

TEST_F(LeaseTest, ItNamesTheRecordOfTheSpec) {
  auto const sent = enqueue({.type = "a", .max_attempts = 7});
  auto const at = log.records.back().written;

  auto const leased = lease_one();

  EXPECT_EQ(leased.number, sent.number);
  EXPECT_EQ(leased.spec_at, at.at);
  EXPECT_EQ(leased.spec_bytes, at.bytes);
  EXPECT_EQ(leased.max_attempts, 7U);
}

TEST_F(LeaseTest, ReportsThatComeAlongAreDecidedFirst) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  Lease request{.queues = {{.name = "default"}}};
  request.reports.push_back({.job = ref(sent.number), .lease = leased.token, .outcome = Released{}});

  auto const reply = expect<LeaseReply>(request);

  EXPECT_FALSE(reply.reports.at(0).error);
  EXPECT_EQ(reply.jobs.at(0).number, sent.number);
  EXPECT_EQ(reply.jobs.at(0).attempt, 1U);
  EXPECT_NE(reply.jobs.at(0).token, leased.token);
}

TEST_F(LeaseTest, ALeaseIsLengthenedByTheTimeThatTheServerWasAway) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  pass(hours{2});

  engine.resume(hours{2}, {.now = now, .chance = 1}, log);
  advance();

  EXPECT_EQ(view(sent.number).lease_expires_at, leased.lease_expires_at + hours{2});
  EXPECT_FALSE(report(leased, Completed{}).error);
  EXPECT_EQ(dump(*replay()), dump(engine));
}

TEST_F(LeaseTest, AJobsHistoryIsAChainOfItsEvents) {
  auto const sent = enqueue({.type = "a"});
  auto const first = lease_one();
  auto const leased_at = view(sent.number).event_at;
  report(first, Failed{.retry_in = Duration{0}});
  auto const failed_at = view(sent.number).event_at;
  lease_one();

  auto const& last = std::get<effect::JobLeased>(log.records.back().effect);
  EXPECT_EQ(last.previous, failed_at);
  auto const& failure = std::get<effect::JobFailed>(log.records.at(log.records.size() - 2).effect);
  EXPECT_EQ(failure.previous, leased_at);
  EXPECT_EQ(view(sent.number).event_at, log.records.back().written.at);
}

}  // namespace
}  // namespace workmill::engine
