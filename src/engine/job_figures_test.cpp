#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"
#include "model/figures.h"

namespace workmill::engine {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using JobFiguresTest = EngineTest;

MillisecondCounts const& stage(Engine const& engine, JobStage which) {
  return engine.job_stages()[static_cast<std::size_t>(which)];
}

std::uint64_t how_often(MillisecondCounts const& counts) {
  std::uint64_t sum = 0;
  for (std::uint64_t const each : counts.counts) sum += each;
  return sum;
}

TypeFigures type(Engine const& engine, std::string_view name) {
  for (TypeFigures const& each : engine.types()) {
    if (each.type == name) return each;
  }
  return {};
}

TEST(MillisecondCounts, ABoundBelongsToWhatIsNotAboveIt) {
  MillisecondCounts counts;
  for (int const ms : {-5, 0, 1, 2, 3, 4, 5}) counts.observe(milliseconds{ms});

  EXPECT_EQ(counts.counts[0], 3U);  // At most 1 ms.
  EXPECT_EQ(counts.counts[1], 1U);  // 2 ms.
  EXPECT_EQ(counts.counts[2], 2U);  // 4 ms.
  EXPECT_EQ(counts.counts[3], 1U);  // 8 ms.
  EXPECT_EQ(counts.sum_ms, 15U);
}

TEST(MillisecondCounts, YearsAreAboveAllBounds) {
  MillisecondCounts counts;
  counts.observe(kDurationMax);

  EXPECT_EQ(counts.counts.back(), 1U);
}

TEST_F(JobFiguresTest, EachStageOfAJobsLifeIsTimed) {
  enqueue({.type = "a", .delay = seconds{2}});
  pass_and_advance(seconds{2});
  pass(seconds{3});
  auto const job = lease_one();
  pass(seconds{5});
  report(job, Completed{});

  EXPECT_EQ(stage(engine, JobStage::enqueued_to_ready).sum_ms, 2'000U);
  EXPECT_EQ(stage(engine, JobStage::ready_to_leased).sum_ms, 3'000U);
  EXPECT_EQ(stage(engine, JobStage::leased_to_done).sum_ms, 5'000U);
  EXPECT_EQ(how_often(stage(engine, JobStage::leased_to_done)), 1U);
}

TEST_F(JobFiguresTest, AJobWithoutADelayIsReadyAtOnce) {
  enqueue({.type = "a"});

  EXPECT_EQ(how_often(stage(engine, JobStage::enqueued_to_ready)), 1U);
  EXPECT_EQ(stage(engine, JobStage::enqueued_to_ready).sum_ms, 0U);
}

TEST_F(JobFiguresTest, ThePauseAfterAFailureIsNoPartOfBecomingReady) {
  enqueue({.type = "a"});
  auto const job = lease_one();
  report(job, Failed{.error_class = ErrorClass::retryable});
  pass_and_advance(std::chrono::hours{2});

  EXPECT_EQ(how_often(stage(engine, JobStage::enqueued_to_ready)), 1U);
  EXPECT_EQ(how_often(stage(engine, JobStage::leased_to_done)), 1U);
}

TEST_F(JobFiguresTest, ARestartInTheMiddleOfAStageIsCountedIn) {
  enqueue({.type = "a"});
  pass(seconds{1});
  auto const job = lease_one();
  pass(seconds{4});
  auto after = replay();
  EXPECT_EQ(how_often(stage(*after, JobStage::enqueued_to_ready)), 0U) << "a replay counts nothing";
  pass(seconds{1});

  ListLog sink;
  bool again = false;
  ReportBatch batch;
  batch.reports.push_back({.job = ref(job.number), .lease = job.token, .outcome = Completed{}});
  after->execute(batch, {.now = now, .chance = 1}, sink, &again);

  EXPECT_EQ(stage(*after, JobStage::leased_to_done).sum_ms, 5'000U);
  EXPECT_EQ(type(*after, "a").completed, 1U);
}

TEST_F(JobFiguresTest, TypesAreCountedByHowTheirJobsWent) {
  enqueue({.type = "a"});
  enqueue({.type = "b"});
  enqueue({.type = "b"});
  report(lease_one(), Completed{});
  report(lease_one(), Failed{.error_class = ErrorClass::user});

  EXPECT_EQ(type(engine, "a").enqueued, 1U);
  EXPECT_EQ(type(engine, "a").completed, 1U);
  EXPECT_EQ(type(engine, "b").enqueued, 2U);
  EXPECT_EQ(type(engine, "b").completed, 0U);
  EXPECT_EQ(type(engine, "b").failed, 1U);
}

class UnmeasuredJobs : public EngineTest {
 protected:
  UnmeasuredJobs() : EngineTest(EngineOptions{.measures_jobs = false}) {}
};

TEST_F(UnmeasuredJobs, CostNothingAndTellNothing) {
  enqueue({.type = "a"});
  report(lease_one(), Completed{});

  EXPECT_EQ(how_often(stage(engine, JobStage::leased_to_done)), 0U);
  EXPECT_EQ(engine.types().size(), 1U);
}

}  // namespace
}  // namespace workmill::engine
