#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using AdvanceTest = EngineTest;

TEST_F(AdvanceTest, ScheduledJobsBecomeReadyInTheOrderOfTheirTimes) {
  auto const later = enqueue({.type = "a", .delay = seconds{20}}).number;
  auto const sooner = enqueue({.type = "a", .delay = seconds{10}}).number;
  EXPECT_LE(*engine.next_due(), now + seconds{10});
  pass_and_advance(seconds{9});
  EXPECT_TRUE(lease().empty());
  pass_and_advance(seconds{11});

  EXPECT_EQ(lease_one().number, sooner);
  EXPECT_EQ(lease_one().number, later);
}

TEST_F(AdvanceTest, ALeaseThatRunsOutPutsTheJobAtTheEndOfItsLine) {
  auto const first = enqueue({.type = "a"}).number;
  auto const second = enqueue({.type = "a"}).number;
  lease_one();
  pass_and_advance(seconds{60});

  EXPECT_EQ(view(first).state, JobState::ready);
  EXPECT_EQ(view(first).attempt, 1U);
  EXPECT_EQ(lease_one().number, second);
  EXPECT_EQ(lease_one().attempt, 2U);
  EXPECT_EQ(queue().counters.lease_expired, 1U);
}

TEST_F(AdvanceTest, ALeaseThatRunsOutOnTheLastAttemptIsTheEnd) {
  auto const sent = enqueue({.type = "a", .max_attempts = 1}).number;
  lease_one();
  pass_and_advance(seconds{60});

  EXPECT_EQ(view(sent).state, JobState::dead);
  auto const& failed = std::get<effect::JobFailed>(log.records.back().effect);
  EXPECT_EQ(failed.code, "lease_expired");
  EXPECT_EQ(failed.error_class, ErrorClass::retryable);
}

TEST_F(AdvanceTest, AJobThatIsNotLeasedInTimeIsDead) {
  auto const ready = enqueue({.type = "a", .expires_in = minutes{1}}).number;
  auto const scheduled = enqueue({.type = "a", .delay = hours{1}, .expires_in = minutes{1}}).number;
  pass_and_advance(minutes{1});

  EXPECT_EQ(view(ready).state, JobState::dead);
  EXPECT_EQ(view(scheduled).state, JobState::dead);
  EXPECT_EQ(std::get<effect::JobFailed>(log.records.back().effect).code, "expired");
  EXPECT_TRUE(lease().empty());
}

TEST_F(AdvanceTest, AJobThatWasLeasedInTimeDoesNotExpire) {
  auto const sent = enqueue({.type = "a", .expires_in = minutes{1}}).number;
  auto const leased = lease_one();
  pass_and_advance(seconds{59});
  report(leased, Failed{.retry_in = seconds{30}});
  pass_and_advance(minutes{5});

  EXPECT_EQ(view(sent).state, JobState::ready);
}

TEST_F(AdvanceTest, AnExpiredJobThatIsRetriedDoesNotExpireAgain) {
  auto const sent = enqueue({.type = "a", .expires_in = minutes{1}}).number;
  pass_and_advance(minutes{2});
  expect<DoneReply>(RetryJob{.job = ref(sent)});
  pass_and_advance(minutes{5});

  EXPECT_EQ(view(sent).state, JobState::ready);
  EXPECT_EQ(dump(*replay()), dump(engine));
}

TEST_F(AdvanceTest, NothingToDoIsNeverDue) {
  EXPECT_EQ(engine.next_due(), std::nullopt);
  enqueue({.type = "a"});

  EXPECT_EQ(engine.next_due(), std::nullopt);
}

TEST_F(AdvanceTest, AClockThatGoesBackStandsStill) {
  auto const first = enqueue({.type = "a"});
  now -= hours{5};
  auto const second = enqueue({.type = "a", .delay = seconds{1}});

  EXPECT_LT(first.number, second.number);
  EXPECT_EQ(view(second.number).ready_at, now + hours{5} + seconds{1});
}

class SmallStepsTest : public EngineTest {
 protected:
  SmallStepsTest() : EngineTest(EngineOptions{.steps_max = 10}) {}
};

TEST_F(SmallStepsTest, AThousandLeasesThatEndAtOnceAreEndedInSteps) {
  for (int i = 0; i < 100; ++i) enqueue({.type = "a"});
  lease({"default"}, 100);
  pass(minutes{2});

  int steps = 0;
  for (bool more = true; more; ++steps) {
    auto const before = log.records.size();
    more = engine.advance({.now = now, .chance = 1}, log);
    EXPECT_LE(log.records.size() - before, 10U);
  }
  EXPECT_GE(steps, 10);
  EXPECT_EQ(queue().depth[static_cast<std::size_t>(JobState::ready)], 100U);
}

TEST_F(SmallStepsTest, AJumpOverYearsIsAFewSteps) {
  for (int i = 0; i < 5; ++i) enqueue({.type = "a", .delay = days{1 + 700 * i}});
  pass(days{36'000});

  int steps = 0;
  while (engine.advance({.now = now, .chance = 1}, log)) ++steps;
  EXPECT_LT(steps, 50);
  EXPECT_EQ(lease({"default"}, 10).size(), 5U);
}

// --- The oldest segment goes.

class SurvivalTest : public EngineTest {
 protected:
  // Copies ahead what lives in the oldest segments, as the keeper of the log does.
  void trim(std::uint32_t up_to) {
    auto const count = log.records.size();
    log.start_segment();
    for (std::size_t i = 0; i < count; ++i) {
      ListLog::Record const record = log.records[i];
      if (record.written.at.segment > up_to) continue;
      if (engine.survive(record.effect, record.written.at, log) != Engine::Survival::copy_job) continue;
      if (auto const* sent = std::get_if<effect::JobEnqueued>(&record.effect)) copy(sent->number, sent->spec);
      if (auto const* sent = std::get_if<effect::JobSnapshot>(&record.effect)) copy(sent->number, sent->spec);
    }
    for (std::uint32_t segment = 0; segment <= up_to; ++segment) EXPECT_EQ(engine.live_records_in(segment), 0U);
    EXPECT_EQ(engine.check_invariants(), "");
  }
  void copy(JobNumber number, BytesView spec) {
    JobHistory history;
    history.progress = view(number).progress;
    if (view(number).log_at) history.log_lines = {"x"};
    Bytes encoded;
    encode_history(history, encoded);
    engine.copy_ahead(number, spec, encoded, checkpoint(number), log);
  }
};

TEST_F(SurvivalTest, WhatLivesIsThereWhenTheOldestSegmentsAreGone) {
  expect<QueueReply>(PatchQueue{.name = "default", .max_depth = 1'000});
  for (int i = 0; i < 50; ++i) enqueue({.type = "a", .group = i % 2 == 0 ? "g" : ""});
  enqueue({.type = "a", .id = "x", .expires_in = hours{1}, .unique_key = "k"});
  auto const jobs = lease({"default"}, 20);
  for (std::size_t i = 0; i < 5; ++i) report(jobs[i], Completed{});
  report(jobs[6], Progress{.percent = 5, .message = "m"});
  report(jobs[7], Failed{});
  report(jobs[8], Checkpoint{"8"});
  report(jobs[9], Checkpoint{"9"});
  report(jobs[9], Failed{});
  expect<EnqueueReply>(
      Enqueue{.specs = {bytes({.type = "b"})}, .idempotency = Idempotency{.key = "i", .fingerprint = 3}});
  auto const up_to = log.segment();
  pass(seconds{1});

  trim(up_to);

  auto const again = replay(up_to + 1);
  EXPECT_EQ(dump(*again), dump(engine));
  EXPECT_EQ(again->check_invariants(), "");
  EXPECT_EQ(again->salt(), engine.salt());
  EXPECT_EQ(again->status().idempotency_keys, 1U);
  EXPECT_EQ(checkpoint(jobs[8].number).data, "8");
  EXPECT_EQ(checkpoint(jobs[9].number).data, "9");
}

TEST_F(SurvivalTest, ACopiedJobKeepsItsPlaceInLineAndItsLease) {
  auto const first = enqueue({.type = "a"}).number;
  auto const second = enqueue({.type = "a"}).number;
  auto const held = lease_one();
  enqueue({.type = "a"});
  auto const up_to = log.segment();

  trim(up_to);

  EXPECT_FALSE(report(held, Extend{.by = seconds{60}}).error);
  EXPECT_EQ(lease_one().number, second);
  EXPECT_EQ(held.number, first);
  EXPECT_EQ(view(first).spec_at, view(first).event_at);
}

TEST_F(SurvivalTest, WhatIsOverIsNotCopied) {
  auto const sent = enqueue({.type = "a"});
  expect<DoneReply>(DeleteJob{.job = ref(sent.number)});
  expect<QueueReply>(PatchQueue{.name = "q", .paused = true});
  expect<QueueReply>(PatchQueue{.name = "q", .paused = false});

  int live = 0;
  auto const count = log.records.size();
  for (std::size_t i = 0; i < count; ++i) {
    ListLog::Record const record = log.records[i];
    if (engine.survive(record.effect, record.written.at, log) != Engine::Survival::gone) ++live;
  }
  EXPECT_EQ(live, 1);  // The store's own record.
}

// --- Logs that contradict themselves.

TEST(EngineReplay, ALogThatContradictsItselfIsRefused) {
  Bytes spec;
  encode_spec({.type = "a"}, spec);
  auto const replayed = [](std::vector<Effect> const& effects) {
    Engine engine{EngineOptions{}};
    std::uint32_t offset = 0;
    for (Effect const& effect : effects) {
      auto const result = engine.replay(effect, {.at = {.segment = 1, .offset = offset += 10}, .bytes = 10}, Instant{});
      if (!result) return result.error().code;
    }
    return ErrorCode{};
  };
  effect::JobEnqueued const sent{.number = JobNumber{7}, .order = 7, .spec = spec};

  EXPECT_EQ(replayed({sent, sent}), ErrorCode::log_corrupt);
  EXPECT_EQ(replayed({sent, effect::JobCompleted{.number = JobNumber{7}}}), ErrorCode::log_corrupt);
  EXPECT_EQ(replayed({sent, effect::JobReady{.number = JobNumber{7}}}), ErrorCode::log_corrupt);
  EXPECT_EQ(replayed({sent, effect::JobLeased{.number = JobNumber{7}}, effect::JobForgotten{.number = JobNumber{7}}}),
            ErrorCode::log_corrupt);
  EXPECT_EQ(replayed({effect::JobEnqueued{.number = JobNumber{7}, .spec = "\xff"}}), ErrorCode::log_corrupt);
  EXPECT_EQ(replayed({effect::JobCompleted{.number = JobNumber{8}}, sent}), ErrorCode{});
}

}  // namespace
}  // namespace workmill::engine
