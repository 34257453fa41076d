#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using EnqueueTest = EngineTest;

TEST_F(EnqueueTest, AJobWithADelayIsScheduled) {
  auto const sent = enqueue({.type = "mail", .delay = seconds{30}});

  EXPECT_EQ(sent.state, JobState::scheduled);
  EXPECT_EQ(view(sent.number).ready_at, now + seconds{30});
  EXPECT_TRUE(lease().empty());
}

TEST_F(EnqueueTest, ATimeThatHasPassedIsNow) {
  EXPECT_EQ(enqueue({.type = "mail", .run_at = now - hours{1}}).state, JobState::ready);
}

TEST_F(EnqueueTest, NumbersGrowAlsoWithinOneMillisecond) {
  auto const first = enqueue({.type = "mail"});
  auto const second = enqueue({.type = "mail"});

  EXPECT_LT(first.number, second.number);
  EXPECT_EQ(created_at(second.number), now);
}

TEST_F(EnqueueTest, AnIdThatIsThereAlreadyAnswersThatJob) {
  auto const first = enqueue({.type = "mail", .id = "order-1"});
  auto const second = enqueue({.type = "other", .queue = "elsewhere", .id = "order-1"});

  EXPECT_EQ(second.number, first.number);
  EXPECT_TRUE(second.duplicate);
  EXPECT_EQ(second.client_id, "order-1");
  EXPECT_EQ(engine.status().jobs, 1U);
  EXPECT_EQ(queue().counters.duplicates, 1U);
}

TEST_F(EnqueueTest, AnIdOfTheStoresOwnAnswersItsJob) {
  auto const first = enqueue({.type = "mail"});
  auto const text = JobIdCodec{engine.salt()}.encode(first.number);

  auto const second = enqueue({.type = "mail", .id = {text.data(), text.size()}});

  EXPECT_TRUE(second.duplicate);
  EXPECT_EQ(second.number, first.number);
}

TEST_F(EnqueueTest, AnIdOfTheStoresOwnWhoseJobIsGoneCanBeBroughtAgain) {
  auto const first = enqueue({.type = "mail"});
  auto const text = JobIdCodec{engine.salt()}.encode(first.number);
  expect<DoneReply>(DeleteJob{.job = ref(first.number)});

  auto const second = enqueue({.type = "mail", .id = {text.data(), text.size()}});

  EXPECT_FALSE(second.duplicate);
  EXPECT_EQ(engine.find(ref(first.number)), second.number);
}

TEST_F(EnqueueTest, AnIdIsFreeAgainOnceItsJobIsForgotten) {
  auto const first = enqueue({.type = "mail", .id = "order-1"});
  expect<DoneReply>(DeleteJob{.job = ref(first.number)});

  EXPECT_FALSE(enqueue({.type = "mail", .id = "order-1"}).duplicate);
}

// --- Unique keys.

TEST_F(EnqueueTest, AUniqueKeyIsHeldPerQueue) {
  auto const first = enqueue({.type = "mail", .unique_key = "k"});

  EXPECT_TRUE(enqueue({.type = "mail", .unique_key = "k"}).duplicate);
  EXPECT_EQ(enqueue({.type = "mail", .unique_key = "k"}).number, first.number);
  EXPECT_FALSE(enqueue({.type = "mail", .queue = "other", .unique_key = "k"}).duplicate);
  EXPECT_FALSE(enqueue({.type = "mail", .unique_key = "l"}).duplicate);
}

TEST_F(EnqueueTest, WhileUnfinishedTheKeyIsHeldUntilTheJobIsCompleted) {
  enqueue({.type = "mail", .unique_key = "k"});
  auto const leased = lease_one();
  EXPECT_TRUE(enqueue({.type = "mail", .unique_key = "k"}).duplicate);
  report(leased, Completed{});

  EXPECT_FALSE(enqueue({.type = "mail", .unique_key = "k"}).duplicate);
}

TEST_F(EnqueueTest, WhileQueuedTheKeyIsFreeOnceTheJobIsLeased) {
  enqueue({.type = "mail", .unique_key = "k", .unique_while = UniqueWhile::queued});
  EXPECT_TRUE(enqueue({.type = "mail", .unique_key = "k", .unique_while = UniqueWhile::queued}).duplicate);
  lease_one();

  EXPECT_FALSE(enqueue({.type = "mail", .unique_key = "k", .unique_while = UniqueWhile::queued}).duplicate);
}

TEST_F(EnqueueTest, WhileScheduledTheKeyIsFreeOnceTheJobIsReady) {
  JobSpecView const spec{
      .type = "mail", .delay = seconds{5}, .unique_key = "k", .unique_while = UniqueWhile::scheduled};
  enqueue(spec);
  EXPECT_TRUE(enqueue(spec).duplicate);
  pass_and_advance(seconds{5});

  EXPECT_FALSE(enqueue(spec).duplicate);
}

TEST_F(EnqueueTest, AKeyIsFreeAfterItsTimeWhateverTheJobDoes) {
  JobSpecView const spec{.type = "mail", .unique_key = "k", .unique_for = minutes{1}};
  enqueue(spec);
  pass(seconds{59});
  EXPECT_TRUE(enqueue(spec).duplicate);
  pass(seconds{1});

  EXPECT_FALSE(enqueue(spec).duplicate);
  EXPECT_TRUE(enqueue(spec).duplicate);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(EnqueueTest, ARetriedJobSharesItsKeyWithTheOneThatTookIt) {
  auto const first = enqueue({.type = "mail", .unique_key = "k"});
  expect<DoneReply>(CancelJob{.job = ref(first.number)});
  auto const second = enqueue({.type = "mail", .unique_key = "k"});
  expect<DoneReply>(RetryJob{.job = ref(first.number)});

  expect<DoneReply>(DeleteJob{.job = ref(second.number)});

  EXPECT_EQ(enqueue({.type = "mail", .unique_key = "k"}).number, first.number);
  EXPECT_EQ(dump(*replay()), dump(engine));
}

// --- Many at once.

TEST_F(EnqueueTest, ABulkSeesItsOwnDuplicates) {
  auto const reply = expect<EnqueueReply>(
      Enqueue{.specs = {bytes({.type = "a", .unique_key = "k"}), bytes({.type = "b", .unique_key = "k"}),
                        bytes({.type = "c", .id = "x"}), bytes({.type = "d", .id = "x"})}});

  EXPECT_TRUE(reply.jobs.at(1).duplicate);
  EXPECT_EQ(reply.jobs.at(1).number, reply.jobs.at(0).number);
  EXPECT_TRUE(reply.jobs.at(3).duplicate);
  EXPECT_EQ(engine.status().jobs, 2U);
}

TEST_F(EnqueueTest, ABulkIsTakenWholeOrNotAtAll) {
  expect<QueueReply>(PatchQueue{.name = "small", .max_depth = 2});
  Enqueue bulk{.specs = {bytes({.type = "a"}), bytes({.type = "b", .queue = "small"}),
                         bytes({.type = "c", .queue = "small"}), bytes({.type = "d", .queue = "small"})}};

  EXPECT_EQ(expect_error(bulk), ErrorCode::queue_full);
  EXPECT_EQ(engine.status().jobs, 0U);
  bulk.specs.pop_back();
  EXPECT_EQ(expect<EnqueueReply>(bulk).jobs.size(), 3U);
}

TEST_F(EnqueueTest, DuplicatesNeedNoRoom) {
  expect<QueueReply>(PatchQueue{.name = "default", .max_depth = 1});
  enqueue({.type = "mail", .id = "x"});

  EXPECT_TRUE(enqueue({.type = "mail", .id = "x"}).duplicate);
  EXPECT_EQ(expect_error(Enqueue{.specs = {bytes({.type = "mail"})}}), ErrorCode::queue_full);
}

// --- Bounds.

TEST_F(EnqueueTest, ABoundedQueueCountsScheduledReadyAndLeased) {
  expect<QueueReply>(PatchQueue{.name = "default", .max_depth = 3});
  enqueue({.type = "mail", .delay = hours{1}});
  enqueue({.type = "mail"});
  enqueue({.type = "mail"});
  auto const leased = lease_one();
  EXPECT_EQ(expect_error(Enqueue{.specs = {bytes({.type = "mail"})}}), ErrorCode::queue_full);
  report(leased, Completed{});

  enqueue({.type = "mail"});
  EXPECT_EQ(expect_error(Enqueue{.specs = {bytes({.type = "mail"})}}), ErrorCode::queue_full);
}

TEST_F(EnqueueTest, AFullQueueCanDropItsOldestJobOfTheLowestPriority) {
  expect<QueueReply>(PatchQueue{.name = "default", .max_depth = 3, .when_full = WhenFull::drop_oldest});
  enqueue({.type = "high", .priority = 9});
  auto const dropped = enqueue({.type = "low", .priority = 1});
  enqueue({.type = "low too", .priority = 1});

  enqueue({.type = "new", .priority = 5});

  EXPECT_EQ(view(dropped.number).state, JobState::cancelled);
  EXPECT_EQ(queue().depth[static_cast<std::size_t>(JobState::ready)], 3U);
}

TEST_F(EnqueueTest, AFullQueueWithNothingToDropRefuses) {
  expect<QueueReply>(PatchQueue{.name = "default", .max_depth = 1, .when_full = WhenFull::drop_oldest});
  enqueue({.type = "mail"});
  lease_one();

  EXPECT_EQ(expect_error(Enqueue{.specs = {bytes({.type = "mail"})}}), ErrorCode::queue_full);
}

// --- Idempotency keys.

Enqueue with_key(Bytes spec, std::uint64_t fingerprint) {
  return {.specs = {std::move(spec)},
          .idempotency = Idempotency{.key = "POST /v1/jobs abc", .fingerprint = fingerprint}};
}

TEST_F(EnqueueTest, ARepeatedRequestGetsItsFirstAnswer) {
  auto const first = expect<EnqueueReply>(with_key(bytes({.type = "mail"}), 1));
  auto const again = expect<EnqueueReply>(with_key(bytes({.type = "mail"}), 1));

  EXPECT_TRUE(again.replayed);
  EXPECT_FALSE(first.replayed);
  EXPECT_EQ(again.jobs.at(0).number, first.jobs.at(0).number);
  EXPECT_FALSE(again.jobs.at(0).duplicate);
  EXPECT_EQ(engine.status().jobs, 1U);
}

TEST_F(EnqueueTest, AKeyWithAnotherRequestIsRefused) {
  expect<EnqueueReply>(with_key(bytes({.type = "mail"}), 1));

  EXPECT_EQ(expect_error(with_key(bytes({.type = "other"}), 2)), ErrorCode::idempotency_key_reused);
}

TEST_F(EnqueueTest, AnIdempotencyKeyIsForgottenAfterADay) {
  expect<EnqueueReply>(with_key(bytes({.type = "mail"}), 1));
  pass(hours{24} - Duration{1});
  EXPECT_TRUE(expect<EnqueueReply>(with_key(bytes({.type = "mail"}), 1)).replayed);
  pass(Duration{1});

  EXPECT_FALSE(expect<EnqueueReply>(with_key(bytes({.type = "other"}), 2)).replayed);
  pass_and_advance(hours{25});
  EXPECT_EQ(engine.status().idempotency_keys, 0U);
}

TEST_F(EnqueueTest, AnIdempotencyKeyOutlivesARestart) {
  auto const first = expect<EnqueueReply>(with_key(bytes({.type = "mail"}), 1));

  auto const again = replay();

  bool more = false;
  Reply const reply = again->execute(with_key(bytes({.type = "mail"}), 1), {.now = now, .chance = 1}, log, &more);
  EXPECT_TRUE(std::get<EnqueueReply>(reply).replayed);
  EXPECT_EQ(std::get<EnqueueReply>(reply).jobs.at(0).number, first.jobs.at(0).number);
}

class FewKeysTest : public EngineTest {
 protected:
  FewKeysTest() : EngineTest(EngineOptions{.idempotency_keys_max = 3}) {}
};

TEST_F(FewKeysTest, BeyondTheBoundTheOldestKeysAreForgotten) {
  for (std::string const key : {"a", "b", "c", "d"}) {
    pass(seconds{1});
    expect<EnqueueReply>(
        Enqueue{.specs = {bytes({.type = "mail"})}, .idempotency = Idempotency{.key = key, .fingerprint = 1}});
  }

  EXPECT_EQ(engine.status().idempotency_keys, 3U);
  EXPECT_FALSE(expect<EnqueueReply>(Enqueue{.specs = {bytes({.type = "mail"})},
                                            .idempotency = Idempotency{.key = "a", .fingerprint = 1}})
                   .replayed);
}

}  // namespace
}  // namespace workmill::engine
