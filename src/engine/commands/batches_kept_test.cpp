#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/commands/batches_fixture_test.h"

// For how long batches are kept, and how many.
namespace workmill::engine {
namespace {

using std::chrono::days;
using std::chrono::minutes;

TEST_F(Batches, OneThatIsDecidedIsKeptForATimeAndThenForgotten) {
  make();
  add();
  close();
  complete_one();
  pass_and_advance(options.batch_kept - Duration{1});
  EXPECT_EQ(state(kFinish), CallbackState::enqueued);

  pass_and_advance(Duration{1});

  EXPECT_EQ(expect_error(GetBatch{.id = "b"}), ErrorCode::batch_not_found);
  auto const again = replay();
  EXPECT_EQ(dump(*again), dump(engine));
}

TEST_F(Batches, OneWithADeadJobIsKeptAsLongAsThat) {
  make();
  auto const job = add();
  close();
  kill_one();
  pass_and_advance(days{20});
  EXPECT_EQ(state(kSuccess), CallbackState::waiting);
  pass_and_advance(days{20});
  EXPECT_FALSE(engine.view(job).has_value());
  EXPECT_EQ(state(kSuccess), CallbackState::not_coming);

  pass_and_advance(options.batch_kept);
  EXPECT_EQ(expect_error(GetBatch{.id = "b"}), ErrorCode::batch_not_found);
}

TEST_F(Batches, AnOpenOneIsKept) {
  make();
  pass_and_advance(days{1'000});
  EXPECT_EQ(state(kFinish), CallbackState::waiting);
}

TEST_F(Batches, OneIsKeptFromTheEndOfItsLastJob) {
  expect<BatchReply>(MakeBatch{.id = "b", .on_success = bytes({.type = "good"})});
  auto const gone = add();
  add();
  expect<BatchReply>(CloseBatch{.id = "b"});
  execute(DeleteJob{.job = {gone}});
  pass_and_advance(options.batch_kept * 2);  // It waits for a job all that time.
  complete_one();
  EXPECT_EQ(get().jobs.completed, 1U);
  pass_and_advance(options.batch_kept - Duration{1});
  EXPECT_EQ(get().jobs.completed, 1U);
  pass_and_advance(Duration{1});
  EXPECT_EQ(expect<Error>(GetBatch{.id = "b"}).code, ErrorCode::batch_not_found);
}

TEST_F(Batches, ARestartMakesNoneStayForLonger) {
  make();
  add();
  expect<BatchReply>(CloseBatch{.id = "b"});
  complete_one();
  Instant const over = now;
  pass_and_advance(options.batch_kept / 2);
  auto const again = replay();
  std::vector<BatchView> batches;
  auto const seen_at = [&](Instant at) {
    log.at = at;
    while (again->advance({.now = at, .chance = 1}, log)) {
    }
    again->batch_views(batches);
    return batches.size();
  };
  EXPECT_EQ(seen_at(over + options.batch_kept - Duration{1}), 1U);
  EXPECT_EQ(seen_at(over + options.batch_kept), 0U);
}

class FewBytesOfBatches : public Batches {
 protected:
  FewBytesOfBatches()
      : Batches([] {
          EngineOptions few;
          few.batches_memory_max = 4'096;
          return few;
        }()) {}
};

TEST_F(FewBytesOfBatches, ThoseThatAreOverGiveWay) {
  std::string const meta = R"({"m":")" + std::string(1'500, 'x') + R"("})";
  for (std::string const id : {"a", "b", "c", "d", "e"}) {
    auto const made = expect<BatchReply>(
        MakeBatch{.id = id, .on_finish = bytes({.type = "over", .queue = "callbacks"}), .meta = meta});
    EXPECT_TRUE(made.created);
    close(id);
    EXPECT_EQ(engine.status().batch_bytes, 0U);  // It gives way, so it is no part of what the bound is about.
  }
  EXPECT_EQ(engine.status().jobs, 5U);  // All have called back,
  EXPECT_EQ(get("e").callback(kFinish).state, CallbackState::enqueued);
  expect<Error>(GetBatch{.id = "a"});  // and the first are no longer to be looked at.
  auto const again = replay();
  EXPECT_EQ(again->check_invariants(), "");
}

TEST_F(FewBytesOfBatches, AreABoundUntilTheCallbacksHaveCome) {
  std::string const payload = '"' + std::string(3'000, 'x') + '"';
  Bytes const large = bytes({.type = "over", .payload_kind = PayloadKind::json, .payload = payload});
  expect<BatchReply>(MakeBatch{.id = "first", .on_finish = large});
  EXPECT_GT(engine.status().batch_bytes, 3'000U);
  auto const records = log.records.size();
  EXPECT_EQ(expect<Error>(MakeBatch{.id = "second", .on_finish = large}).code, ErrorCode::batches_full);
  EXPECT_EQ(log.records.size(), records);
  close("first");
  EXPECT_LT(engine.status().batch_bytes, 100U);
  expect<BatchReply>(MakeBatch{.id = "second", .on_finish = large});
}

class FewBatches : public Batches {
 protected:
  FewBatches() : Batches(EngineOptions{.batches_max = 2}) {}
};

TEST_F(FewBatches, BeyondTheBoundTheOldestThatIsOnlyKeptGoesAndElseANewOneIsRefused) {
  make("a");
  make("b");
  EXPECT_EQ(expect_error(both("c")), ErrorCode::batches_full);
  EXPECT_FALSE(expect<BatchReply>(both("a")).created);  // It is there.
  close("b");
  pass(minutes{1});

  make("c");

  EXPECT_EQ(expect_error(GetBatch{.id = "b"}), ErrorCode::batch_not_found);
  EXPECT_EQ(get("a").id, "a");
  EXPECT_EQ(engine.status().batches, 2U);
}

}  // namespace
}  // namespace workmill::engine
