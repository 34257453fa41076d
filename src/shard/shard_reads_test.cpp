#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "shard/shard_fixture_test.h"

// What is read back for answers: so much a turn, so that neither its time nor its memory has no bound.
namespace workmill::shard {
namespace {

using std::chrono::seconds;

class ShardReadsTest : public ShardTest {
 protected:
  // A job of which so many answers are all that a turn reads back.
  static constexpr std::size_t kEnough = 4;

  JobNumber send_large() { return ask<EnqueueReply>(enqueue({spec_of_job("large", "q", large_)})).jobs.at(0).number; }
  static JobRef ref(JobNumber number) { return {.number = number, .text = {}}; }
  std::size_t count_answered(std::vector<Cookie> const& cookies) const {
    return static_cast<std::size_t>(std::ranges::count_if(cookies, [this](Cookie one) { return answered(one); }));
  }

  std::string const large_ = '"' + std::string(std::size_t{5} << 20, 'p') + '"';
};

TEST_F(ShardReadsTest, ATurnReadsBackSoManyBytesForThoseWhoLookAtJobs) {
  auto const number = send_large();
  std::vector<Cookie> readers;
  for (std::size_t i = 0; i < 3 * kEnough; ++i) readers.push_back(submit(GetJob{.job = ref(number), .wait = {}}));
  Cookie const other = submit(enqueue({spec_of_job("small")}));

  turn();
  EXPECT_EQ(count_answered(readers), kEnough);
  EXPECT_TRUE(last_turn_.more);
  for (int i = 0; i < 3; ++i) turn();

  EXPECT_EQ(count_answered(readers), readers.size());
  for (Cookie const reader : readers) EXPECT_GT(take<JobReply>(reader).job.spec.size(), large_.size());
  EXPECT_TRUE(answered(other));
}

TEST_F(ShardReadsTest, ATurnReadsBackSoManyBytesForListsAndLeases) {
  for (int i = 0; i < 12; ++i) send_large();
  std::vector<Cookie> asked;
  for (int i = 0; i < 3; ++i) asked.push_back(submit(ListJobs{.limit = 50}));
  for (int i = 0; i < 8; ++i) asked.push_back(submit(lease("q")));

  turn();
  EXPECT_EQ(count_answered(asked), 1U);
  turn();
  turn();
  EXPECT_EQ(count_answered(asked), 3U);
  turn();
  EXPECT_EQ(count_answered(asked), 3U + kEnough);
  turn();
  EXPECT_EQ(count_answered(asked), asked.size());
}

// Or who may have a thousand jobs could have them all, of megabytes each, in one answer.
TEST_F(ShardReadsTest, ALeaseTakesNoMoreJobsThanSoManyBytesAreOf) {
  for (int i = 0; i < 6; ++i) send_large();
  EXPECT_EQ(ask<LeaseReply>(lease("q", 1'000)).jobs.size(), kEnough);
  EXPECT_EQ(ask<LeaseReply>(lease("q", 1'000)).jobs.size(), 2U);
}

TEST_F(ShardReadsTest, ATurnGivesSoManyBytesToThoseWhoWaitForJobs) {
  ask<QueueReply>(PatchQueue{.name = "q", .paused = true});
  for (int i = 0; i < 10; ++i) send_large();
  std::vector<Cookie> workers;
  for (int i = 0; i < 10; ++i) workers.push_back(submit(lease("q", 1, seconds{20})));
  turn();
  EXPECT_EQ(count_answered(workers), 0U);

  submit(PatchQueue{.name = "q", .paused = false});
  turn();
  EXPECT_EQ(count_answered(workers), kEnough);
  EXPECT_TRUE(last_turn_.more);
  turn();
  turn();
  EXPECT_EQ(count_answered(workers), workers.size());
  EXPECT_FALSE(last_turn_.more);
}

// Each of which may look at many jobs and show none, or at many batches and show all that came with them.
TEST_F(ShardReadsTest, ATurnAnswersSoManyLists) {
  ask<EnqueueReply>(enqueue({spec_of_job("t")}));
  std::vector<Cookie> lists;
  for (int i = 0; i < 600; ++i) lists.push_back(submit(ListJobs{.filter = {.type = "none"}, .limit = 50}));
  turn();
  EXPECT_LE(count_answered(lists), 256U);
  EXPECT_TRUE(last_turn_.more);
  turn();
  turn();
  EXPECT_EQ(count_answered(lists), lists.size());

  MakeBatch batch{.meta = R"({"x":")" + std::string(kBatchMetaBytesMax - 8, 'x') + R"("})"};
  batch.on_finish = spec_of_job("over");
  for (int i = 0; i < 300; ++i) ask<BatchReply>(batch);
  std::vector<Cookie> pages;
  for (int i = 0; i < 10; ++i) pages.push_back(submit(ListBatches{.limit = 1'000}));
  turn();
  EXPECT_EQ(count_answered(pages), 4U);
}

// Thousands may wait for one job, and its result be of megabytes.
TEST_F(ShardReadsTest, AllWhoWaitForTheEndOfOneJobAreOneAnswer) {
  auto const number = ask<EnqueueReply>(enqueue({spec_of_job("t")})).jobs.at(0).number;
  auto const mine = std::make_shared<QueueSet const>(std::vector<std::string>{"default"});
  for (int i = 0; i < 10; ++i) submit(GetJob{.job = ref(number), .wait = seconds{30}});
  Allowed allowed;
  allowed.queues = mine;
  for (int i = 0; i < 5; ++i) submit(GetJob{.job = ref(number), .wait = seconds{30}}, allowed);
  turn();
  auto const leased = ask<LeaseReply>(lease());
  submit(ReportBatch{.reports = {completed(leased.jobs.at(0), large_)}});
  ASSERT_TRUE(loop_->turn());

  std::vector<Answer> answers;
  loop_->take_answers(0, answers);
  std::vector<std::size_t> told;
  for (Answer const& answer : answers) {
    auto const* const job = std::get_if<JobReply>(&answer.reply);
    if (job == nullptr) continue;
    EXPECT_EQ(job->job.state, JobState::completed);
    EXPECT_EQ(job->job.history.result.size(), large_.size());
    told.push_back(1 + answer.also.size());
  }
  EXPECT_EQ(told, (std::vector<std::size_t>{10, 5}));
  EXPECT_TRUE(loop_->idle());
}

}  // namespace
}  // namespace workmill::shard
