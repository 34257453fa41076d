#include "shard/shard_times.h"

#include <gtest/gtest.h>

#include "shard/shard_fixture_test.h"

namespace workmill::shard {
namespace {

using telemetry::Stage;

class ShardTimesTest : public ShardTest {
 protected:
  void SetUp() override {
    options_.times = &times_;
    start();
  }
  std::uint64_t count(Stage stage) const { return times_.stages[stage].snapshot().count(); }
  std::uint64_t sum(Stage stage) const { return times_.stages[stage].snapshot().sum; }

  telemetry::Metrics metrics_;
  ShardTimes times_{metrics_};
};

TEST_F(ShardTimesTest, ACommandWaitsFromItsParsingToItsTurn) {
  Request request{.port = 0, .cookie = 7, .command = enqueue({spec_of_job("a")}), .parsed_at = clock_.monotonic()};
  ASSERT_TRUE(loop_->submit(std::move(request)));
  clock_.advance(std::chrono::milliseconds{3});
  turn();

  EXPECT_EQ(count(Stage::wait), 1U);
  EXPECT_EQ(sum(Stage::wait), 3'000'000U);
}

TEST_F(ShardTimesTest, EachCommandOfATurnWaitsForTheWholeTurnAndItsFlush) {
  submit(enqueue({spec_of_job("a")}));
  submit(enqueue({spec_of_job("b")}));
  turn();

  EXPECT_EQ(count(Stage::wait), 0U) << "nobody said when they were parsed";
  EXPECT_EQ(count(Stage::decide), 2U);
  EXPECT_EQ(count(Stage::flush), 2U);
  EXPECT_EQ(times_.flush_seconds.snapshot().count(), 1U);
  EXPECT_EQ(times_.turn_commands.snapshot().sum, 2U);
  EXPECT_GT(times_.batch_bytes.snapshot().sum, 0U);
}

TEST_F(ShardTimesTest, ATurnWithoutCommandsIsNotCounted) {
  turn();
  turn();

  EXPECT_EQ(count(Stage::decide), 0U);
  EXPECT_EQ(times_.turn_commands.snapshot().count(), 0U);
}

TEST_F(ShardTimesTest, AnAnswerSaysWhenItCouldLeave) {
  submit(enqueue({spec_of_job("a")}));
  ASSERT_TRUE(loop_->turn());
  std::vector<Answer> answers;
  loop_->take_answers(0, answers);

  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].ready_at, clock_.monotonic());
}

TEST(TurnRecorder, ABatchIsFlushedWhenALaterOneIsDurable) {
  telemetry::Metrics metrics;
  ShardTimes times{metrics};
  TurnRecorder recorder{&times};
  using std::chrono::nanoseconds;

  recorder.staged(1, nanoseconds{100}, 2, 10);
  recorder.staged(2, nanoseconds{200}, 3, 10);
  recorder.staged(3, nanoseconds{300}, 1, 10);
  recorder.durable(2, nanoseconds{1'000});

  auto const flush = times.stages[Stage::flush].snapshot();
  EXPECT_EQ(flush.count(), 5U);
  EXPECT_EQ(flush.sum, 2 * 900U + 3 * 800U);
}

TEST(TurnRecorder, WithoutInstrumentsItDoesNothing) {
  TurnRecorder recorder{nullptr};

  recorder.waited(std::chrono::nanoseconds{1}, std::chrono::nanoseconds{2});
  recorder.decided(std::chrono::nanoseconds{1}, 1);
  recorder.staged(1, {}, 1, 1);
  recorder.durable(1, {});
  recorder.flushed({}, 1);
}

}  // namespace
}  // namespace workmill::shard
