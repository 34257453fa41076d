#include "shard/shard_loop.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "shard/shard_fixture_test.h"

namespace workmill::shard {
namespace {

using ShardLoopTest = ShardTest;

constexpr Duration kTwentySeconds = std::chrono::seconds{20};

TEST_F(ShardLoopTest, AJobGoesThroughItsWholeLife) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("resize", "default", R"({"w":10})")}));
  ASSERT_EQ(sent.jobs.size(), 1u);

  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);
  EXPECT_EQ(leased.jobs[0].number, sent.jobs[0].number);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(leased.jobs[0].spec, spec));
  EXPECT_EQ(spec.payload, R"({"w":10})");

  auto const reported = ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs[0], R"("ok")")}});
  ASSERT_EQ(reported.reports.size(), 1u);
  EXPECT_FALSE(reported.reports[0].error);

  auto const read = ask<JobReply>(GetJob{.job = {.number = sent.jobs[0].number, .text = {}}, .wait = {}});
  EXPECT_EQ(read.job.state, JobState::completed);
  EXPECT_EQ(read.job.history.result, R"("ok")");
  EXPECT_EQ(read.job.history.worker, "worker-1");
  EXPECT_TRUE(read.job.history.started_at.has_value());
  EXPECT_TRUE(read.job.history.finished_at.has_value());
  EXPECT_EQ(engine_->check_invariants(), "");
}

TEST_F(ShardLoopTest, AWaitingWorkerAndANewJobMeetInOneTurn) {
  Cookie const waiting = submit(lease("default", 1, kTwentySeconds));
  turn();
  ASSERT_FALSE(answered(waiting));

  Cookie const sent = submit(enqueue({spec_of_job("a")}));
  turn();

  EXPECT_TRUE(answered(sent));
  EXPECT_EQ(take<LeaseReply>(waiting).jobs.size(), 1u);
}

TEST_F(ShardLoopTest, ACallbackComesInTheTurnOfTheLastReportAndMeetsAWaitingWorker) {
  ask<BatchReply>(MakeBatch{.id = "b", .on_finish = spec_of_job("over", "callbacks")});
  JobSpecView job{.type = "a", .batch = "b"};
  Bytes spec;
  encode_spec(job, spec);
  ask<EnqueueReply>(enqueue({spec}));
  ask<BatchReply>(CloseBatch{.id = "b"});
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);
  Cookie const waiting = submit(lease("callbacks", 1, kTwentySeconds));
  turn();
  ASSERT_FALSE(answered(waiting));

  submit(ReportBatch{.reports = {completed(leased.jobs[0], "1")}});
  turn();

  auto const called = take<LeaseReply>(waiting);
  ASSERT_EQ(called.jobs.size(), 1u);
  auto const batch = ask<BatchReply>(GetBatch{.id = "b"}).batch;
  EXPECT_EQ(batch.callback(CallbackKind::finish).job, called.jobs[0].number);
}

TEST_F(ShardLoopTest, WhoHasWaitedLongestGetsTheJob) {
  Cookie const first = submit(lease("default", 1, kTwentySeconds));
  turn();
  Cookie const second = submit(lease("default", 1, kTwentySeconds));
  turn();

  submit(enqueue({spec_of_job("a")}));
  Cookie const late = submit(lease("default", 1, kTwentySeconds));  // In the very turn in which the job comes.
  turn();

  EXPECT_EQ(take<LeaseReply>(first).jobs.size(), 1u);
  EXPECT_FALSE(answered(second));
  EXPECT_FALSE(answered(late));
}

TEST_F(ShardLoopTest, AWaitForAJobEndsEmptyAtItsDeadline) {
  Cookie const waiting = submit(lease("default", 1, kTwentySeconds));
  turn();
  ASSERT_TRUE(last_turn_.next.has_value());
  EXPECT_EQ(*last_turn_.next, clock_.now() + kTwentySeconds);

  clock_.advance(kTwentySeconds);
  turn();

  EXPECT_TRUE(take<LeaseReply>(waiting).jobs.empty());
}

TEST_F(ShardLoopTest, AClientThatHasGoneIsLeasedNothing) {
  Cookie const gone = submit(lease("default", 1, kTwentySeconds));
  turn();
  loop_->abandon(0, gone);

  ask<EnqueueReply>(enqueue({spec_of_job("a")}));

  EXPECT_FALSE(answered(gone));
  EXPECT_EQ(ask<LeaseReply>(lease()).jobs.size(), 1u);
}

// It once waited all the same, and the next job went to nobody.
TEST_F(ShardLoopTest, AClientThatHasGoneBeforeItsTurnIsLeasedNothingAndDoesNotWait) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const held = ask<LeaseReply>(lease()).jobs.at(0);
  ask<EnqueueReply>(enqueue({spec_of_job("b")}));
  Lease asks_and_reports = lease("default", 1, kTwentySeconds);
  asks_and_reports.reports = {completed(held)};
  Cookie const gone = submit(asks_and_reports);
  loop_->abandon(0, gone);
  turn();

  auto const leased = ask<LeaseReply>(lease());

  EXPECT_EQ(leased.jobs.size(), 1u);
  EXPECT_TRUE(take<LeaseReply>(gone).jobs.empty());
  auto const reported = ask<JobReply>(GetJob{.job = {.number = held.number, .text = {}}, .wait = {}});
  EXPECT_EQ(reported.job.state, JobState::completed) << "what was sent whole is decided";
}

TEST_F(ShardLoopTest, AReaderThatHasGoneBeforeItsTurnDoesNotWait) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  Cookie const gone = submit(GetJob{.job = {.number = sent.jobs[0].number, .text = {}}, .wait = kTwentySeconds});
  loop_->abandon(0, gone);

  turn();

  EXPECT_TRUE(loop_->idle());
}

TEST_F(ShardLoopTest, AReadThatWaitsIsAnsweredWhenTheJobIsFinished) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  Cookie const reading = submit(GetJob{.job = {.number = sent.jobs[0].number, .text = {}}, .wait = kTwentySeconds});
  turn();
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);
  ASSERT_FALSE(answered(reading));

  ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs[0], "1")}});

  EXPECT_EQ(take<JobReply>(reading).job.state, JobState::completed);
}

TEST_F(ShardLoopTest, AReadThatWaitsAnswersAtItsDeadlineWithWhatHoldsThen) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  Cookie const reading = submit(GetJob{.job = {.number = sent.jobs[0].number, .text = {}}, .wait = kTwentySeconds});
  turn();

  clock_.advance(kTwentySeconds);
  turn();

  EXPECT_EQ(take<JobReply>(reading).job.state, JobState::ready);
}

TEST_F(ShardLoopTest, ADrainEndsAllWaitingAndStartsNone) {
  Cookie const waiting = submit(lease("default", 1, kTwentySeconds));
  turn();

  loop_->drain();
  turn();

  EXPECT_TRUE(answered(waiting));
  EXPECT_TRUE(ask<LeaseReply>(lease("default", 1, kTwentySeconds)).jobs.empty());
  EXPECT_TRUE(loop_->idle());
}

TEST_F(ShardLoopTest, WhatWasAnsweredIsThereAfterAPowerCut) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("a"), spec_of_job("b"), spec_of_job("c")}));
  auto const leased = ask<LeaseReply>(lease("default", 2));
  ASSERT_EQ(leased.jobs.size(), 2u);
  ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs[0])}});

  stop();
  disk_.crash();
  start();

  EXPECT_EQ(engine_->check_invariants(), "");
  auto const state = [&](std::size_t i) {
    return ask<JobReply>(GetJob{.job = {.number = sent.jobs[i].number, .text = {}}, .wait = {}}).job.state;
  };
  EXPECT_EQ(state(0), JobState::completed);
  EXPECT_EQ(state(1), JobState::leased);
  EXPECT_EQ(state(2), JobState::ready);
  auto const late = ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs[1])}});
  EXPECT_FALSE(late.reports[0].error) << "a lease holds over a restart";
}

TEST_F(ShardLoopTest, ALeaseIsLengthenedByTheTimeThatTheServerWasAway) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);

  stop();
  clock_.advance(std::chrono::hours{1});
  start();
  turn();

  auto const read = ask<JobReply>(GetJob{.job = {.number = leased.jobs[0].number, .text = {}}, .wait = {}});
  EXPECT_EQ(read.job.state, JobState::leased);
  EXPECT_EQ(read.job.lease_expires_at, leased.jobs[0].lease_expires_at + std::chrono::hours{1});
}

TEST_F(ShardLoopTest, WhileTheServerIsUpAndIdleALeaseGetsNoLonger) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);
  for (int i = 0; i < 30; ++i) {  // It looks after itself about once a second, and notes it.
    clock_.advance(std::chrono::seconds{1});
    turn();
  }

  restart();

  auto const read = ask<JobReply>(GetJob{.job = {.number = leased.jobs[0].number, .text = {}}, .wait = {}});
  EXPECT_LE(*read.job.lease_expires_at, leased.jobs[0].lease_expires_at + std::chrono::seconds{1});
}

TEST_F(ShardLoopTest, AFailedFlushIsTheEndAndAnswersNobody) {
  Cookie const sent = submit(enqueue({spec_of_job("a")}));
  disk_.fail_sync_after(1);

  auto const turned = loop_->turn();

  EXPECT_FALSE(turned);
  std::vector<Answer> answers;
  loop_->take_answers(0, answers);
  EXPECT_TRUE(answers.empty()) << "for cookie " << sent;
}

TEST_F(ShardLoopTest, AnOverfullInboxRefusesAndTheRestIsAnswered) {
  options_.inbox_max = 2;
  restart();
  submit(enqueue({spec_of_job("a")}));
  submit(enqueue({spec_of_job("b")}));

  auto const third = loop_->submit({.port = 0, .cookie = 99, .command = enqueue({spec_of_job("c")})});

  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, ErrorCode::overloaded);
  turn();
  EXPECT_EQ(answers_.size(), 2u);
}

TEST_F(ShardLoopTest, ANearlyFullDiskRefusesJobsButNotReports) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);
  options_.disk_reserve_bytes = std::uint64_t{1} << 60;  // More than the disk has.
  restart();

  auto const refused = loop_->submit({.port = 0, .cookie = 99, .command = enqueue({spec_of_job("b")})});

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::disk_full);
  EXPECT_EQ(class_of(refused.error().code), ErrorClass::retryable);
  EXPECT_FALSE(ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs[0])}}).reports[0].error);
}

TEST_F(ShardLoopTest, AShortageIsToldWhenItBeginsAndWhenItIsOver) {
  std::vector<std::pair<Shortage::Of, bool>> told;
  options_.on_shortage = [&](Shortage const& is) { told.emplace_back(is.of, is.begins); };
  restart();
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));  // So that there is memory in use.
  auto const look = [&] {
    clock_.advance(std::chrono::seconds{1});
    turn();
    turn();
  };
  look();
  EXPECT_TRUE(told.empty());

  for (std::uint64_t const reserve : {std::uint64_t{1} << 60, std::uint64_t{1}}) {
    loop_->set_disk_reserve(reserve);
    look();
    look();
  }
  for (std::uint64_t const bytes : {1u, 0u}) {
    loop_->set_jobs_memory_max(bytes);
    look();
    look();
  }

  std::vector<std::pair<Shortage::Of, bool>> const wanted{{Shortage::Of::disk, true},
                                                          {Shortage::Of::disk, false},
                                                          {Shortage::Of::memory, true},
                                                          {Shortage::Of::memory, false}};
  EXPECT_EQ(told, wanted);
}

// A log that says that its next segment finds no room.
class LogWithoutNext final : public log::Log {
 public:
  explicit LogWithoutNext(log::Log& log) : log_(log) {}

  Result<Epoch> own() override { return log_.own(); }
  Result<log::ReplayReport> replay(std::function<Result<>(log::ReplayedBatch const&)> const& visit,
                                   std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) override {
    return log_.replay(visit, on_progress);
  }
  Position next_base() override { return log_.next_base(); }
  void stage(BytesView payload, Instant at) override { log_.stage(payload, at); }
  Result<> flush() override { return log_.flush(); }
  Result<BytesView> read(Position position, std::size_t length) override { return log_.read(position, length); }
  Result<std::optional<log::ReplayedBatch>> next_batch(Position& cursor) override { return log_.next_batch(cursor); }
  Result<> skip_damaged(Position& cursor) override { return log_.skip_damaged(cursor); }
  Result<bool> trim_oldest() override { return log_.trim_oldest(); }
  log::LogStatus status() const override {
    log::LogStatus status = log_.status();
    status.next_has_no_room = has_no_room;
    return status;
  }

  bool has_no_room = true;

 private:
  log::Log& log_;
};

TEST_F(ShardLoopTest, WithoutRoomForTheNextSegmentJobsAreRefusedHoweverMuchIsFree) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);
  LogWithoutNext log{*log_};
  loop_ = std::make_unique<ShardLoop>(options_, log, *engine_, clock_, chance_.fork(), 1, [] {}, recovery_);

  auto const refused = loop_->submit({.port = 0, .cookie = 99, .command = enqueue({spec_of_job("b")})});

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::disk_full);
  EXPECT_FALSE(ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs[0])}}).reports[0].error);
  log.has_no_room = false;
  clock_.advance(std::chrono::seconds{1});
  turn();
  ask<EnqueueReply>(enqueue({spec_of_job("b")}));
  loop_.reset();  // Before the log that it was lent.
}

TEST_F(ShardLoopTest, JobsThatTakeAllTheMemoryTheyMayKeepOthersOutUntilSomeHaveGone) {
  std::uint64_t const empty = engine_->status().memory_bytes;
  for (int i = 0; i < 4; ++i) ask<EnqueueReply>(enqueue(std::vector<Bytes>(5'000, spec_of_job("a"))));
  std::uint64_t const full = engine_->status().memory_bytes;
  auto const offer = [&] { return loop_->submit({.port = 0, .cookie = 99, .command = enqueue({spec_of_job("b")})}); };
  EXPECT_TRUE(offer());  // No bound yet.
  turn();
  loop_->set_jobs_memory_max(empty + (full - empty) / 2);
  turn();

  auto const refused = offer();

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::overloaded);
  EXPECT_EQ(ask<Error>(compute("key")).code, ErrorCode::overloaded);  // It would begin a job.
  auto const leased = ask<LeaseReply>(lease());
  ASSERT_EQ(leased.jobs.size(), 1u);
  EXPECT_FALSE(ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs[0])}}).reports[0].error);
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).jobs, 20'001u);
  Cookie const purged = submit(PurgeQueue{.name = "default"});
  while (!answered(purged)) turn();
  EXPECT_EQ(take<CountReply>(purged).count, 20'001u);
  EXPECT_TRUE(offer());
}

TEST_F(ShardLoopTest, TheMemoryOfJobsIsABoundWhereItIsBounded) {
  auto const named = [&] {
    std::vector<Fullness> found;
    for (Fullness const& bound : ask<StatusReply>(GetStatus{}).bounds) {
      if (bound.name == "jobs_memory") found.push_back(bound);
    }
    return found;
  };
  EXPECT_TRUE(named().empty());

  options_.jobs_memory_bytes_max = 1'000'000;
  restart();

  ASSERT_EQ(named().size(), 1u);
  EXPECT_EQ(named()[0].limit, 1'000'000u);
  EXPECT_EQ(named()[0].used, engine_->status().memory_bytes);
}

TEST_F(ShardLoopTest, PatchRewritesTheSpecAndKeepsWhatBecameOfTheJob) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const leased = ask<LeaseReply>(lease());
  Report failed = completed(leased.jobs.at(0));
  failed.outcome = Failed{.error_class = ErrorClass::retryable,
                          .code = "smtp_down",
                          .message = "no route",
                          .detail = {},
                          .retry_in = std::chrono::hours{1}};
  ask<ReportsReply>(ReportBatch{.reports = {failed}});

  JobChanges changes;
  changes.priority = 9;
  changes.queue = "urgent";
  changes.tags = std::vector<std::string>{"x", "y"};
  ask<JobReply>(
      PatchJob{.job = {.number = sent.jobs[0].number, .text = {}}, .changes = changes, .new_spec = {}, .history = {}});

  auto const read = ask<JobReply>(GetJob{.job = {.number = sent.jobs[0].number, .text = {}}, .wait = {}});
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(read.job.spec, spec));
  EXPECT_EQ(spec.queue, "urgent");
  EXPECT_EQ(spec.priority, 9);
  EXPECT_EQ(spec.tags.size(), 2u);
  ASSERT_EQ(read.job.history.errors.size(), 1u);
  EXPECT_EQ(read.job.history.errors[0].code, "smtp_down");
  EXPECT_EQ(engine_->check_invariants(), "");
}

TEST_F(ShardLoopTest, AJobThatIsCancelledByItsReleaseHasAnEnd) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const job = ask<LeaseReply>(lease()).jobs.at(0);
  JobRef const ref{.number = job.number, .text = {}};
  ask<DoneReply>(CancelJob{.job = ref});
  clock_.advance(std::chrono::seconds{3});

  ask<ReportsReply>(ReportBatch{.reports = {{.job = ref, .lease = job.token, .outcome = Released{}}}});

  auto const read = ask<JobReply>(GetJob{.job = ref, .wait = {}}).job;
  EXPECT_EQ(read.state, JobState::cancelled);
  EXPECT_EQ(read.history.finished_at, clock_.now());
}

TEST_F(ShardLoopTest, ListsByTagAndTextReadTheLog) {
  JobSpecView spec;
  spec.type = "mail";
  spec.payload_kind = PayloadKind::json;
  spec.payload = R"({"to":"ada@example.org"})";
  spec.tags = {"nightly"};
  Bytes tagged;
  encode_spec(spec, tagged);
  ask<EnqueueReply>(enqueue({spec_of_job("a"), tagged, spec_of_job("c")}));

  ListJobs by_tag;
  by_tag.filter.tag = "nightly";
  EXPECT_EQ(ask<JobsReply>(by_tag).jobs.size(), 1u);
  ListJobs by_text;
  by_text.filter.text = "ada@";
  EXPECT_EQ(ask<JobsReply>(by_text).jobs.size(), 1u);
  by_text.filter.text = "bob@";
  EXPECT_EQ(ask<JobsReply>(by_text).jobs.size(), 0u);

  EXPECT_EQ(ask<CountReply>(BulkJobs{.action = BulkAction::remove, .filter = by_tag.filter}).count, 1u);
  EXPECT_EQ(engine_->status().jobs, 2u);
}

// All of a page is read, and held, at once.
TEST_F(ShardLoopTest, APageOfLargeJobsIsShorterAndGoesOnBehindTheLastOne) {
  std::string const payload = "\"" + std::string(std::size_t{5} << 20, 'p') + "\"";
  std::vector<JobNumber> sent;
  for (int i = 0; i < 7; ++i) {
    sent.push_back(ask<EnqueueReply>(enqueue({spec_of_job("large", "q", payload)})).jobs.at(0).number);
  }
  std::ranges::reverse(sent);

  std::vector<JobNumber> listed;
  std::vector<std::size_t> pages;
  ListJobs list{.limit = 50};
  do {
    auto const page = ask<JobsReply>(list);
    for (JobView const& job : page.jobs) listed.push_back(job.number);
    pages.push_back(page.jobs.size());
    list.before = page.next;
  } while (list.before && pages.size() < 10);

  EXPECT_EQ(listed, sent);
  EXPECT_EQ(pages, (std::vector<std::size_t>{4, 3}));  // 16 MiB are full with the fourth.

  // Those that are not meant are read as well.
  ListJobs const none{.filter = {.text = "nowhere"}, .limit = 50};
  auto const page = ask<JobsReply>(none);
  EXPECT_TRUE(page.jobs.empty());
  EXPECT_EQ(page.next, sent[3]);
}

TEST_F(ShardLoopTest, LogLinesComeBackInTheirOrder) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const leased = ask<LeaseReply>(lease());
  for (char const* line : {"one", "two", "three"}) {
    Report logged = completed(leased.jobs.at(0));
    logged.outcome = LogLines{.lines = {line, std::string(line) + "!"}};
    ask<ReportsReply>(ReportBatch{.reports = {logged}});
  }

  auto const read = ask<JobLogReply>(GetJobLog{.job = {.number = sent.jobs[0].number, .text = {}}});

  EXPECT_EQ(read.lines, (std::vector<Bytes>{"one", "one!", "two", "two!", "three", "three!"}));
}

TEST_F(ShardLoopTest, BulkCancelByTagCountsWhatItCancelledAndNothingTwice) {
  JobSpecView spec;
  spec.type = "mail";
  spec.tags = {"nightly"};
  Bytes tagged;
  encode_spec(spec, tagged);
  ask<EnqueueReply>(enqueue({tagged, tagged, spec_of_job("other")}));
  BulkJobs cancel{.action = BulkAction::cancel, .filter = {}};
  cancel.filter.tag = "nightly";

  EXPECT_EQ(ask<CountReply>(cancel).count, 2u);
  EXPECT_EQ(ask<CountReply>(cancel).count, 0u);
}

class OnTheWriterThread : public ShardTest {
 protected:
  void SetUp() override {
    options_.flush_by = FlushBy::writer;
    start();
  }
};

TEST_F(OnTheWriterThread, AnswersWaitForTheFlushAndThenComeAll) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("a")}));  // The first turn hands the flush over.
  ASSERT_EQ(sent.jobs.size(), 1u);
  std::vector<Cookie> cookies;
  for (int i = 0; i < 50; ++i) {
    cookies.push_back(submit(enqueue({spec_of_job("b")})));
    turn();
  }
  for (int i = 0; i < 100'000 && !loop_->idle(); ++i) turn();

  for (Cookie const cookie : cookies) EXPECT_TRUE(answered(cookie));
  loop_.reset();  // Ends the writer.
  EXPECT_EQ(engine_->status().jobs, 51u);
}

}  // namespace
}  // namespace workmill::shard
