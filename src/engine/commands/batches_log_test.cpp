#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "base/variant.h"
#include "engine/commands/batches_fixture_test.h"

// What a replay, a copy and damage make of batches.
namespace workmill::engine {
namespace {

TEST_F(Batches, AReplayKnowsAllOfThem) {
  make("open");
  make("closed");
  make("done");
  make("dead");
  add("open");
  add("dead");
  kill_one();
  kill_one();
  add("closed");
  close("closed");
  close("dead");
  close("done");
  auto again = replay();
  EXPECT_EQ(again->check_invariants(), "");
  EXPECT_EQ(dump(*again), dump(engine));
  copied_and_replayed();
  copied_and_replayed();
}

TEST_F(Batches, ACallbackThatIsDueWhenTheServerDiesComesAfterItsStart) {
  make();
  expect<BatchReply>(CloseBatch{.id = "b"});

  auto const again = replay();
  EXPECT_EQ(again->next_due(), now);
  ListLog more;
  again->advance({.now = now, .chance = 1}, more);

  std::vector<BatchView> batches;
  again->batch_views(batches);
  ASSERT_EQ(batches.size(), 1U);
  EXPECT_EQ(batches[0].callback(kSuccess).state, CallbackState::enqueued);
  EXPECT_EQ(batches[0].callback(kFinish).state, CallbackState::enqueued);
  EXPECT_EQ(again->status().jobs, 2U);
}

// The batch's own record is copied ahead first, then something happens to its jobs, and their records go.
TEST_F(Batches, WhatHappensToItsJobsBetweenItsCopyAndTheirsIsCounted) {
  make();
  auto const deleted = add();
  auto const cancelled = add();
  auto const completed = add();
  std::uint32_t const up_to = log.segment();
  log.start_segment();
  for (std::size_t i = 0; i < 2; ++i) {  // The store's record and the batch's.
    ListLog::Record const record = log.records[i];
    EXPECT_EQ(engine.survive(record.effect, record.written.at, log), Engine::Survival::rewritten);
  }
  expect<DoneReply>(DeleteJob{ref(deleted)});
  expect<DoneReply>(CancelJob{ref(cancelled)});
  auto const end = log.records.size();
  for (std::size_t i = 2; i < end; ++i) {
    ListLog::Record const record = log.records[i];
    if (record.written.at.segment > up_to) continue;
    if (engine.survive(record.effect, record.written.at, log) != Engine::Survival::copy_job) continue;
    auto const* sent = std::get_if<effect::JobEnqueued>(&record.effect);
    engine.copy_ahead(sent->number, sent->spec, {}, {}, log);
  }
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 3, .pending = 1, .cancelled = 1, .deleted = 1}));

  auto const again = replay(up_to + 1);

  EXPECT_EQ(again->check_invariants(), "");
  EXPECT_EQ(dump(*again), dump(engine));
  EXPECT_TRUE(again->view(completed).has_value());
}

TEST_F(Batches, WhatStoodInADamagedPartIsWrittenAgainFromMemory) {
  make();
  add();
  Position const end{log.segment() + 1, 0};
  log.start_segment();
  EXPECT_EQ(engine.rewrite_batches_standing_in(Position{1, 0}, end, BatchNumber{}, 1, log), std::nullopt);
  auto const& last = log.records.back().effect;
  ASSERT_TRUE(holds<effect::BatchCopied>(last));
  EXPECT_EQ(std::get<effect::BatchCopied>(last).id, "b");
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Batches, WhatStoodInADamagedPartIsWrittenAgainInParts) {
  for (std::string const id : {"a", "b", "c"}) make(id);
  Position const end{log.segment() + 1, 0};
  log.start_segment();
  auto const before = log.records.size();
  BatchNumber next{};
  for (int left = 2; left >= 0; --left) {
    auto const more = engine.rewrite_batches_standing_in(Position{1, 0}, end, next, 1, log);
    ASSERT_EQ(more.has_value(), left > 0);
    if (more) next = *more;
  }
  EXPECT_EQ(log.records.size(), before + 3);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Batches, AJobWhosePayloadIsLostIsStillInItsBatch) {
  make();
  auto const job = add();
  Bytes const known = engine.known_spec(job);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(known, spec));
  EXPECT_EQ(spec.batch, "b");
}

TEST_F(Batches, AnOldLogIsReadAsBefore) {
  enqueue({.type = "t"});
  auto const again = replay();
  EXPECT_EQ(again->status().batches, 0U);
  EXPECT_EQ(dump(*again), dump(engine));
}

}  // namespace
}  // namespace workmill::engine
