#include <gmock/gmock.h>

#include <cstddef>
#include <string>

#include "engine/commands/batches_fixture_test.h"

// When the callbacks of a batch come, and as what.
namespace workmill::engine {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using ::testing::ElementsAre;

TEST_F(Batches, BothCallbacksComeOnceWhenAllJobsAreCompleted) {
  make();
  add();
  add();
  close();
  complete_one();
  EXPECT_THAT(called(), ElementsAre());

  complete_one();

  auto const batch = get();
  EXPECT_EQ(batch.jobs, (BatchCounts{.total = 2, .completed = 2}));
  EXPECT_EQ(batch.callback(kSuccess).state, CallbackState::enqueued);
  EXPECT_EQ(type_of(batch.callback(kSuccess).job), "good");
  EXPECT_EQ(type_of(batch.callback(kFinish).job), "over");
  EXPECT_THAT(called(), ElementsAre("good", "over"));
  pass_and_advance(minutes{1});
  EXPECT_THAT(called(), ElementsAre());
}

TEST_F(Batches, NothingComesWhileItIsOpen) {
  make();
  add();
  complete_one();
  pass_and_advance(days{10});
  EXPECT_THAT(called(), ElementsAre());
  EXPECT_EQ(state(kFinish), CallbackState::waiting);

  close();

  EXPECT_THAT(called(), ElementsAre("good", "over"));
}

TEST_F(Batches, AnEmptyOneCallsBackWhenItIsClosed) {
  make();
  EXPECT_EQ(close().closed_at, now);

  EXPECT_THAT(called(), ElementsAre("good", "over"));
}

TEST_F(Batches, ADeadJobLetsOnlyTheEndBeCalled) {
  make();
  add();
  add();
  close();
  complete_one();
  kill_one();

  EXPECT_THAT(called(), ElementsAre("over"));
  EXPECT_EQ(state(kSuccess), CallbackState::waiting);
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 2, .completed = 1, .dead = 1}));
}

TEST_F(Batches, ADeadJobThatIsRetriedAndCompletedMakesItASuccessAfterAll) {
  make();
  auto const job = add();
  close();
  kill_one();
  EXPECT_THAT(called(), ElementsAre("over"));

  expect<DoneReply>(RetryJob{ref(job)});
  advance();
  EXPECT_EQ(get().jobs.pending, 1U);
  complete_one();

  EXPECT_THAT(called(), ElementsAre("good"));
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 1, .completed = 1}));
}

TEST_F(Batches, ADeadJobThatDiesAgainCallsNobodyAgain) {
  make();
  auto const job = add();
  close();
  kill_one();
  EXPECT_THAT(called(), ElementsAre("over"));
  expect<DoneReply>(RetryJob{ref(job)});
  kill_one();

  EXPECT_THAT(called(), ElementsAre());
}

TEST_F(Batches, ACancelledJobHasEndedAndIsNoSuccess) {
  make();
  auto const job = add();
  close();
  expect<DoneReply>(CancelJob{ref(job)});
  advance();

  EXPECT_THAT(called(), ElementsAre("over"));
  EXPECT_EQ(get().jobs.cancelled, 1U);
  EXPECT_EQ(state(kSuccess), CallbackState::waiting);
  expect<DoneReply>(RetryJob{ref(job)});
  complete_one();
  EXPECT_THAT(called(), ElementsAre("good"));
}

TEST_F(Batches, AJobThatIsDeletedBeforeItWasCompletedEndsTheHopeOfSuccess) {
  make();
  auto const waiting = add();
  add();
  close();
  expect<DoneReply>(DeleteJob{ref(waiting)});
  advance();
  EXPECT_EQ(state(kSuccess), CallbackState::not_coming);
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 2, .pending = 1, .deleted = 1}));
  complete_one();

  EXPECT_THAT(called(), ElementsAre("over"));
}

TEST_F(Batches, ADeadJobThatIsGoneEndsTheHopeOfSuccess) {
  make();
  auto const job = add();
  close();
  kill_one();
  expect<DoneReply>(DeleteJob{ref(job)});
  advance();

  EXPECT_EQ(state(kSuccess), CallbackState::not_coming);
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 1, .dead = 1}));
}

TEST_F(Batches, ThatACompletedJobIsForgottenChangesNothing) {
  make();
  expect<EnqueueReply>(Enqueue{.specs = {bytes({.type = "t", .keep_result = Duration{0}, .batch = "b"})}});
  auto const deleted = add();
  complete_one();
  complete_one();
  expect<DoneReply>(DeleteJob{ref(deleted)});
  EXPECT_EQ(engine.status().jobs, 0U);

  EXPECT_EQ(close().jobs, (BatchCounts{.total = 2, .completed = 2}));
  EXPECT_THAT(called(), ElementsAre("good", "over"));
}

TEST_F(Batches, AJobThatWaitsForItsNextAttemptIsPending) {
  make();
  enqueue({.type = "t", .max_attempts = 2, .batch = "b"});
  close();
  report(lease_one(), Failed{});
  advance();
  EXPECT_EQ(get().jobs.pending, 1U);
  EXPECT_THAT(called(), ElementsAre());
}

TEST_F(Batches, AFullQueueTakesTheCallback) {
  expect<QueueReply>(PatchQueue{.name = "callbacks", .max_depth = std::optional<std::uint64_t>{1}});
  enqueue({.type = "first", .queue = "callbacks"});
  make();
  close();
  EXPECT_EQ(queue("callbacks").depth[static_cast<std::size_t>(JobState::ready)], 3U);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Batches, ACallbackMayWaitForATimeOfItsOwn) {
  expect<BatchReply>(
      MakeBatch{.id = "b", .on_finish = bytes({.type = "over", .queue = "callbacks", .delay = hours{1}})});
  pass(hours{5});
  close();
  EXPECT_THAT(called(), ElementsAre());
  pass_and_advance(hours{1});
  EXPECT_THAT(called(), ElementsAre("over"));
}

TEST_F(Batches, ACallbackIsOfTheTraceThatTheBatchWasMadeInUnlessItHasItsOwn) {
  std::string_view const own = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  std::string_view const of_request = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  expect<BatchReply>(MakeBatch{.id = "b",
                               .on_success = bytes({.type = "good", .traceparent = own}),
                               .on_finish = bytes({.type = "over"}),
                               .traceparent = std::string{of_request},
                               .tracestate = "v=1"});
  auto const batch = close();

  EXPECT_EQ(spec_of(batch.callback(kSuccess).job).traceparent, own);
  EXPECT_EQ(spec_of(batch.callback(kSuccess).job).tracestate, "");
  EXPECT_EQ(spec_of(batch.callback(kFinish).job).traceparent, of_request);
  EXPECT_EQ(spec_of(batch.callback(kFinish).job).tracestate, "v=1");
}

TEST_F(Batches, OfManyThatAreDueATurnEnqueuesSoManyBytesOfCallbacks) {
  std::string const payload = '"' + std::string(60 * 1024, 'x') + '"';
  Bytes const large =
      bytes({.type = "over", .queue = "callbacks", .payload_kind = PayloadKind::json, .payload = payload});
  for (int i = 0; i < 40; ++i) {
    expect<BatchReply>(MakeBatch{.id = std::to_string(i), .on_finish = large});
    expect<BatchReply>(CloseBatch{.id = std::to_string(i)});
  }
  log.at = now;
  for (bool more = true; more;) {
    auto const begin = log.records.size();
    more = engine.advance({.now = now, .chance = 1}, log);
    std::size_t bytes = 0;
    for (auto i = begin; i < log.records.size(); ++i) {
      if (auto const* made = std::get_if<effect::JobEnqueued>(&log.records[i].effect)) bytes += made->spec.size();
    }
    EXPECT_GT(bytes, 0U);
    EXPECT_LE(bytes, std::size_t{1200} << 10);
  }
  EXPECT_EQ(lease({"callbacks"}, 100).size(), 40U);
}

}  // namespace
}  // namespace workmill::engine
