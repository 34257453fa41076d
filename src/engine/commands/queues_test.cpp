#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using QueuesTest = EngineTest;

TEST_F(QueuesTest, AQueueIsMadeByItsFirstJob) {
  EXPECT_EQ(expect_error(GetQueue{.name = "default"}), ErrorCode::not_found);
  enqueue({.type = "a"});

  EXPECT_EQ(queue().settings, QueueSettings{});
}

TEST_F(QueuesTest, AQueueIsMadeByItsSettings) {
  expect<QueueReply>(PatchQueue{.name = "q", .paused = true});

  EXPECT_TRUE(queue("q").settings.paused);
}

TEST_F(QueuesTest, ChangesAddUp) {
  expect<QueueReply>(PatchQueue{.name = "q", .paused = true});
  expect<QueueReply>(PatchQueue{.name = "q", .max_depth = 5});
  EXPECT_TRUE(queue("q").settings.paused);
  EXPECT_EQ(queue("q").settings.max_depth, 5U);
  std::optional<std::uint64_t> const lifted;
  expect<QueueReply>(PatchQueue{.name = "q", .max_depth = lifted});

  EXPECT_EQ(queue("q").settings.max_depth, std::nullopt);
}

TEST_F(QueuesTest, AChangeThatChangesNothingWritesNothing) {
  expect<QueueReply>(PatchQueue{.name = "q", .paused = true});
  auto const records = log.records.size();
  expect<QueueReply>(PatchQueue{.name = "q", .paused = true});

  EXPECT_EQ(log.records.size(), records);
}

TEST_F(QueuesTest, ItCountsWhatHappens) {
  enqueue({.type = "a", .max_attempts = 1});
  enqueue({.type = "b"});
  enqueue({.type = "c"});
  auto const jobs = lease({"default"}, 3);
  report(jobs[0], Failed{});
  report(jobs[1], Completed{});
  report(jobs[2], Released{});

  QueueCounters const counters = queue().counters;
  EXPECT_EQ(counters,
            (QueueCounters{.enqueued = 3, .leased = 3, .completed = 1, .failed = 1, .died = 1, .released = 1}));
  EXPECT_EQ(queue().depth, (std::array<std::uint64_t, 6>{0, 1, 0, 1, 1, 0}));
}

TEST_F(QueuesTest, TheOldestReadyJobIsFoundAcrossPriorities) {
  enqueue({.type = "a", .priority = 1});
  Instant const oldest = now;
  pass(minutes{5});
  enqueue({.type = "b", .priority = 9});
  EXPECT_EQ(queue().oldest_ready_at, oldest);
  lease({"default"}, 2);

  EXPECT_EQ(queue().oldest_ready_at, std::nullopt);
}

TEST_F(QueuesTest, TheyAreListedByNamePageByPage) {
  for (std::string_view const name : {"c", "a", "b"}) enqueue({.type = "t", .queue = name});

  auto const first = expect<QueuesReply>(ListQueues{.limit = 2});
  ASSERT_EQ(first.queues.size(), 2U);
  EXPECT_EQ(first.queues[0].name, "a");
  EXPECT_EQ(first.next, "b");
  auto const rest = expect<QueuesReply>(ListQueues{.limit = 2, .after = *first.next});

  ASSERT_EQ(rest.queues.size(), 1U);
  EXPECT_EQ(rest.queues[0].name, "c");
  EXPECT_EQ(rest.next, std::nullopt);
}

TEST_F(QueuesTest, AnEmptyQueueWithoutSettingsIsForgottenAfterAWhile) {
  enqueue({.type = "a", .queue = "brief", .keep_result = Duration{0}});
  enqueue({.type = "a", .queue = "set", .keep_result = Duration{0}});
  expect<QueueReply>(PatchQueue{.name = "set", .max_depth = 5});
  report(lease_one("brief"), Completed{});
  report(lease_one("set"), Completed{});
  pass_and_advance(minutes{59});
  EXPECT_EQ(engine.status().queues, 2U);
  pass_and_advance(minutes{1});

  EXPECT_EQ(expect_error(GetQueue{.name = "brief"}), ErrorCode::not_found);
  EXPECT_EQ(queue("set").settings.max_depth, 5U);
}

TEST_F(QueuesTest, AQueueInUseIsNotForgotten) {
  for (int i = 0; i < 10; ++i) {
    enqueue({.type = "a", .keep_result = Duration{0}});
    report(lease_one(), Completed{});
    pass_and_advance(minutes{40});
    EXPECT_EQ(engine.status().queues, 1U);
  }
  pass_and_advance(hours{2});

  EXPECT_EQ(engine.status().queues, 0U);
  EXPECT_EQ(engine.next_due(), std::nullopt);
}

}  // namespace
}  // namespace workmill::engine
