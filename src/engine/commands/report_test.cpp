#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ReportTest = EngineTest;

template <class E>
E last_effect(ListLog const& log) {
  return std::get<E>(log.records.back().effect);
}

TEST_F(ReportTest, ACompletedJobCannotBeReportedAgain) {
  enqueue({.type = "a"});
  auto const leased = lease_one();
  report(leased, Completed{.result_kind = PayloadKind::json, .result = "1"});

  EXPECT_EQ(last_effect<effect::JobCompleted>(log).result, "1");
  EXPECT_EQ(report(leased, Completed{}).error->code, ErrorCode::lease_lost);
  EXPECT_EQ(report(leased, Failed{}).error->code, ErrorCode::lease_lost);
}

TEST_F(ReportTest, AForeignTokenIsRefusedAndChangesNothing) {
  enqueue({.type = "a"});
  auto leased = lease_one();
  auto const records = log.records.size();
  for (LeaseToken const token : {LeaseToken{0}, LeaseToken{std::to_underlying(leased.token) + 1}}) {
    LeasedJob wrong = leased;
    wrong.token = token;
    EXPECT_EQ(report(wrong, Completed{}).error->code, ErrorCode::lease_lost);
  }

  EXPECT_EQ(log.records.size(), records);
  EXPECT_FALSE(report(leased, Completed{}).error);
}

TEST_F(ReportTest, TheTokenOfAnEarlierLeaseIsRefused) {
  enqueue({.type = "a"});
  auto const late = lease_one();
  pass_and_advance(seconds{61});
  lease_one();

  EXPECT_EQ(report(late, Completed{}).error->code, ErrorCode::lease_lost);
}

TEST_F(ReportTest, AJobThatDoesNotExistIsNotFound) {
  EXPECT_EQ(report(LeasedJob{.number = JobNumber{5}, .token = LeaseToken{7}}, Completed{}).error->code,
            ErrorCode::job_not_found);
}

TEST_F(ReportTest, AJobIsReportedByItsOwnIdToo) {
  enqueue({.type = "a", .id = "order-1"});
  auto const leased = lease_one();
  ReportBatch batch;
  batch.reports.push_back({.job = {.number = {}, .text = "order-1"}, .lease = leased.token, .outcome = Completed{}});

  EXPECT_FALSE(expect<ReportsReply>(batch).reports.at(0).error);
}

TEST_F(ReportTest, OneBadReportDoesNotSpoilTheOthers) {
  enqueue({.type = "a"});
  auto const leased = lease_one();
  ReportBatch batch;
  batch.reports.push_back({.job = ref(JobNumber{1}), .lease = leased.token, .outcome = Completed{}});
  batch.reports.push_back({.job = ref(leased.number), .lease = leased.token, .outcome = Completed{}});

  auto const reply = expect<ReportsReply>(batch);

  EXPECT_TRUE(reply.reports.at(0).error);
  EXPECT_FALSE(reply.reports.at(1).error);
}

// --- Failures.

TEST_F(ReportTest, ARetryableFailureWaitsForItsBackoff) {
  auto const sent = enqueue({.type = "a", .backoff = Backoff{.first = seconds{10}, .jitter_permille = 0}});
  report(lease_one(), Failed{.code = "timeout"});

  EXPECT_EQ(view(sent.number).state, JobState::scheduled);
  EXPECT_EQ(view(sent.number).ready_at, now + seconds{10});
  pass_and_advance(seconds{10});
  EXPECT_EQ(lease_one().attempt, 2U);
}

TEST_F(ReportTest, TheBackoffIsSpreadByChance) {
  enqueue({.type = "a"});
  enqueue({.type = "a"});
  auto const jobs = lease({"default"}, 2);
  report(jobs[0], Failed{});
  report(jobs[1], Failed{});

  EXPECT_NE(view(jobs[0].number).ready_at, view(jobs[1].number).ready_at);
}

TEST_F(ReportTest, AWorkerCanSayWhenToTryAgain) {
  auto const sent = enqueue({.type = "a"});
  report(lease_one(), Failed{.retry_in = minutes{3}});

  EXPECT_EQ(view(sent.number).ready_at, now + minutes{3});
}

TEST_F(ReportTest, AWaitOfNothingIsReadyAtOnceAtTheEndOfTheLine) {
  auto const first = enqueue({.type = "a"}).number;
  auto const second = enqueue({.type = "a"}).number;
  report(lease_one(), Failed{.retry_in = Duration{0}});

  EXPECT_EQ(lease_one().number, second);
  EXPECT_EQ(lease_one().number, first);
}

TEST_F(ReportTest, UserAndFatalErrorsAreDeadAtOnce) {
  for (auto const error_class : {ErrorClass::user, ErrorClass::fatal}) {
    auto const sent = enqueue({.type = "a"});
    report(lease_one(), Failed{.error_class = error_class, .retry_in = seconds{1}});

    EXPECT_EQ(view(sent.number).state, JobState::dead);
  }
}

TEST_F(ReportTest, TheLastAttemptIsTheLast) {
  auto const sent = enqueue({.type = "a", .max_attempts = 2});
  report(lease_one(), Failed{.retry_in = Duration{0}});
  report(lease_one(), Failed{.retry_in = Duration{0}});

  EXPECT_EQ(view(sent.number).state, JobState::dead);
  EXPECT_EQ(view(sent.number).attempt, 2U);
  EXPECT_EQ(queue().counters.failed, 2U);
  EXPECT_EQ(queue().counters.died, 1U);
}

TEST_F(ReportTest, LongMessagesAreCutBetweenCharacters) {
  enqueue({.type = "a"});
  std::string const message = std::string(kErrorTextBytesMax - 1, 'x') + "ä";

  report(lease_one(), Failed{.message = message, .detail = std::string(kErrorTextBytesMax + 1, ' ')});

  EXPECT_EQ(last_effect<effect::JobFailed>(log).message, std::string(kErrorTextBytesMax - 1, 'x'));
  EXPECT_EQ(last_effect<effect::JobFailed>(log).detail, "");
}

// --- The rest.

TEST_F(ReportTest, AReleasedJobGoesBackToTheEndOfItsLineItsAttemptNotCounted) {
  auto const first = enqueue({.type = "a"}).number;
  auto const second = enqueue({.type = "a"}).number;
  report(lease_one(), Released{});

  EXPECT_EQ(view(first).attempt, 0U);
  EXPECT_EQ(lease_one().number, second);
  EXPECT_EQ(lease_one().attempt, 1U);
}

TEST_F(ReportTest, AnExtendedLeaseRunsFromNow) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  pass_and_advance(seconds{50});
  report(leased, Extend{.by = seconds{30}});
  EXPECT_EQ(view(sent.number).lease_expires_at, now + seconds{30});
  pass_and_advance(seconds{29});
  EXPECT_EQ(view(sent.number).state, JobState::leased);
  pass_and_advance(seconds{1});

  EXPECT_EQ(view(sent.number).state, JobState::ready);
}

TEST_F(ReportTest, ProgressIsSeenUntilTheNextAttempt) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  report(leased, Progress{.percent = 40, .message = "half"});
  EXPECT_EQ(view(sent.number).progress, (JobProgress{.percent = 40, .message = "half"}));
  report(leased, Failed{.retry_in = Duration{0}});
  EXPECT_TRUE(view(sent.number).progress);

  lease_one();
  EXPECT_FALSE(view(sent.number).progress);
}

TEST_F(ReportTest, LogLinesAreAChainOfTheirOwn) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  report(leased, LogLines{.lines = {"one", "two"}});
  auto const first = log.records.back();
  report(leased, LogLines{.lines = {"three"}});

  EXPECT_EQ(std::get<effect::LinesLogged>(first.effect).lines, "\x03one\x03two");
  EXPECT_EQ(last_effect<effect::LinesLogged>(log).previous, first.written.at);
  EXPECT_EQ(view(sent.number).log_at, log.records.back().written.at);
  EXPECT_EQ(std::get<effect::LinesLogged>(first.effect).previous, Position{});
}

// --- What an attempt leaves for the next one.

TEST_F(ReportTest, ACheckpointIsHandedToTheNextAttemptHoweverThisOneEnds) {
  std::vector<Outcome> const ends{Failed{.retry_in = Duration{0}}, Released{}, Extend{.by = seconds{1}}};
  for (Outcome const& end : ends) {
    auto const sent = enqueue({.type = "a", .lease = seconds{1}});
    auto const first = lease_one();
    EXPECT_FALSE(first.checkpoint_at);
    report(first, Checkpoint{R"({"row":7})"});
    EXPECT_EQ(view(sent.number).state, JobState::leased);
    report(first, end);
    pass_and_advance(seconds{1});  // Where it only asked for more time, its lease runs out.

    auto const second = lease_one();

    EXPECT_EQ(second.number, sent.number);
    EXPECT_EQ(second.checkpoint_at, view(sent.number).checkpoint_at);
    EXPECT_EQ(checkpoint(sent.number).data, R"({"row":7})");
    report(second, Completed{});
  }
}

TEST_F(ReportTest, TheNewestCheckpointTakesThePlaceOfTheOneBefore) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  report(leased, Checkpoint{"1"});
  report(leased, Checkpoint{"2"});
  EXPECT_EQ(checkpoint(sent.number).data, "2");
  EXPECT_EQ(dump(*replay()), dump(engine));
}

TEST_F(ReportTest, ACheckpointUnderALeaseThatIsOverIsRefused) {
  auto const sent = enqueue({.type = "a"});
  auto const late = lease_one();
  report(late, Checkpoint{"1"});
  report(late, Failed{.retry_in = Duration{0}});
  lease_one();

  EXPECT_EQ(report(late, Checkpoint{"2"}).error->code, ErrorCode::lease_lost);
  EXPECT_EQ(checkpoint(sent.number).data, "1");
}

TEST_F(ReportTest, ACompletedJobHasNoCheckpointAnyMore) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  report(leased, Checkpoint{"1"});
  report(leased, Completed{});
  EXPECT_FALSE(view(sent.number).checkpoint_at);
  EXPECT_EQ(dump(*replay()), dump(engine));
}

TEST_F(ReportTest, ADeadJobThatIsRetriedGoesOnWhereItWas) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  report(leased, Checkpoint{"1"});
  report(leased, Failed{.error_class = ErrorClass::fatal});
  expect<DoneReply>(RetryJob{.job = ref(sent.number)});

  auto const again = lease_one();

  EXPECT_EQ(again.attempt, 1U);
  EXPECT_EQ(again.checkpoint_at, view(sent.number).checkpoint_at);
  EXPECT_EQ(checkpoint(sent.number).data, "1");
}

// --- A cancellation that was asked for while the job was out.

TEST_F(ReportTest, EveryReportTellsTheWorkerThatTheJobShouldStop) {
  auto const sent = enqueue({.type = "a"});
  auto const leased = lease_one();
  EXPECT_FALSE(report(leased, Extend{.by = seconds{60}}).cancel_requested);
  expect<DoneReply>(CancelJob{.job = ref(sent.number)});

  EXPECT_TRUE(report(leased, Extend{.by = seconds{60}}).cancel_requested);
  EXPECT_TRUE(view(sent.number).cancel_requested);
}

TEST_F(ReportTest, TheReportDecidesWhatBecomesOfACancelledLease) {
  std::vector<std::pair<Outcome, JobState>> const cases{
      {Completed{}, JobState::completed}, {Failed{}, JobState::cancelled}, {Released{}, JobState::cancelled}};
  for (auto const& [outcome, state] : cases) {
    auto const sent = enqueue({.type = "a"});
    auto const leased = lease_one();
    expect<DoneReply>(CancelJob{.job = ref(sent.number)});
    report(leased, outcome);

    EXPECT_EQ(view(sent.number).state, state);
    EXPECT_FALSE(view(sent.number).cancel_requested);
  }
}

// --- How long finished jobs are kept.

TEST_F(ReportTest, AResultThatIsNotToBeKeptIsForgottenAtOnce) {
  auto const sent = enqueue({.type = "a", .keep_result = Duration{0}});
  report(lease_one(), Completed{});

  EXPECT_FALSE(engine.view(sent.number));
  EXPECT_EQ(queue().counters.completed, 1U);
}

TEST_F(ReportTest, AResultIsKeptForItsTimeAndAnEighthMoreAtMost) {
  auto const sent = enqueue({.type = "a", .keep_result = minutes{10}});
  report(lease_one(), Completed{});
  pass_and_advance(minutes{10} - Duration{1});
  EXPECT_TRUE(engine.view(sent.number));
  pass_and_advance(Duration{1} + minutes{10} / 8);

  EXPECT_FALSE(engine.view(sent.number));
}

TEST_F(ReportTest, ADeadJobIsKeptForAMonth) {
  auto const sent = enqueue({.type = "a", .keep_result = minutes{1}});
  report(lease_one(), Failed{.error_class = ErrorClass::fatal});
  pass_and_advance(hours{24 * 30} - Duration{1});
  EXPECT_TRUE(engine.view(sent.number));
  pass_and_advance(Duration{1});

  EXPECT_FALSE(engine.view(sent.number));
}

class SmallBudgetTest : public EngineTest {
 protected:
  SmallBudgetTest() : EngineTest(EngineOptions{.finished_kept_per_queue = 3}) {}
};

TEST_F(SmallBudgetTest, BeyondTheBudgetTheJobThatFinishedFirstGoes) {
  std::vector<JobNumber> sent;
  for (int i = 0; i < 5; ++i) {
    Duration const keep = i % 2 == 0 ? hours{1} : hours{50};
    sent.push_back(enqueue({.type = "a", .keep_result = keep}).number);
    report(lease_one(), Completed{});
    pass(Duration{1});
  }

  EXPECT_FALSE(engine.view(sent[0]));
  EXPECT_FALSE(engine.view(sent[1]));
  EXPECT_TRUE(engine.view(sent[2]));
  EXPECT_EQ(engine.status().jobs, 3U);
}

TEST_F(SmallBudgetTest, DeadJobsAreOutsideOfTheBudget) {
  for (int i = 0; i < 5; ++i) {
    enqueue({.type = "a"});
    report(lease_one(), Failed{.error_class = ErrorClass::fatal});
  }

  EXPECT_EQ(engine.status().jobs, 5U);
}

TEST_F(SmallBudgetTest, EachQueueHasABudgetOfItsOwn) {
  for (std::string_view const name : {"a", "b"}) {
    for (int i = 0; i < 5; ++i) {
      enqueue({.type = "t", .queue = name});
      report(lease_one(name), Completed{});
    }
  }

  EXPECT_EQ(engine.status().jobs, 6U);
}

}  // namespace
}  // namespace workmill::engine
