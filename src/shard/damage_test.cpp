#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "shard/shard_fixture_test.h"

// One damaged batch ends or shortens the jobs that stand in it, and nothing else (docs/adr/0014).
namespace workmill::shard {
namespace {

class DamageTest : public ShardTest {
 protected:
  void SetUp() override {
    log_options_.segment_bytes = 4096;
    log_options_.recent_bytes = 0;  // What is read comes from the disk.
    options_.survivors.slack_bytes = std::uint64_t{1} << 30;
    options_.on_damage = [this](JobNumber job, Error const& error) {
      told_.push_back(job);
      EXPECT_NE(describe(error).find(".wal at offset"), std::string::npos) << describe(error);
    };
    start();
  }

  // In a batch of its own.
  JobNumber send(std::string_view payload, std::string_view queue = "default") {
    return ask<EnqueueReply>(enqueue({spec_of_job("a", queue, payload)})).jobs.at(0).number;
  }
  // Turns a bit of the first place where these bytes stand on the disk.
  void damage(std::string_view bytes) {
    for (log::DiskFile const& file : disk_.files()) {
      auto const at = disk_.bytes_of(file.ordinal).find(bytes);
      if (at == Bytes::npos) continue;
      flipped_ = {file.ordinal, static_cast<std::uint32_t>(at)};
      ASSERT_TRUE(disk_.flip_bit(file.ordinal, at, 0));
      return;
    }
    FAIL() << bytes << " is not on the disk";
  }
  void heal() { ASSERT_TRUE(disk_.flip_bit(flipped_.segment, flipped_.offset, 0)); }
  JobView look(JobNumber job) { return ask<JobReply>(GetJob{.job = {.number = job, .text = {}}, .wait = {}}).job; }
  static Bytes payload_of(BytesView spec) {
    JobSpecView view;
    EXPECT_TRUE(decode_spec(spec, view));
    return Bytes(view.payload);
  }
  static void expect_damaged(JobView const& job) {
    ASSERT_FALSE(job.history.errors.empty());
    EXPECT_EQ(job.history.errors[0].code, "payload_damaged");
    EXPECT_EQ(job.history.errors[0].error_class, ErrorClass::fatal);
  }
  static Report checkpoint(LeasedJob const& job, std::string_view data) {
    return {.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Checkpoint{Bytes(data)}};
  }
  static Report failed(LeasedJob const& job) {
    return {.job = {.number = job.number, .text = {}},
            .lease = job.token,
            .outcome = Failed{.code = "once", .message = {}, .detail = {}, .retry_in = Duration{0}}};
  }
  std::vector<JobNumber> told_;
  Position flipped_{};
};

TEST_F(DamageTest, ALeaseEndsADamagedJobAndGoesOnWithTheNext) {
  JobNumber const first = send(R"("the first")");
  JobNumber const second = send(R"("the second")");
  JobNumber const third = send(R"("the third")");
  damage("the second");

  auto const leased = ask<LeaseReply>(lease("default", 2)).jobs;

  ASSERT_EQ(leased.size(), 2u);
  EXPECT_EQ(leased[0].number, first);
  EXPECT_EQ(payload_of(leased[0].spec), R"("the first")");
  EXPECT_EQ(leased[1].number, third);
  EXPECT_EQ(payload_of(leased[1].spec), R"("the third")");
  JobView const ended = look(second);
  EXPECT_EQ(ended.state, JobState::dead);
  expect_damaged(ended);
  EXPECT_EQ(told_, std::vector{second});
  EXPECT_EQ(engine_->check_invariants(), "");
}

TEST_F(DamageTest, ThatAJobEndedAsDamagedHoldsAcrossRestarts) {
  JobNumber const job = send(R"("it")");
  send(R"("another")", "other");  // The newest batch is read from memory.
  damage(R"("it")");
  EXPECT_TRUE(ask<LeaseReply>(lease()).jobs.empty());
  heal();

  restart();

  JobView const ended = look(job);
  EXPECT_EQ(ended.state, JobState::dead);
  ASSERT_EQ(ended.history.errors.size(), 1u);
  EXPECT_EQ(ended.history.errors[0].code, "payload_damaged");
  EXPECT_EQ(payload_of(ended.spec), R"("it")") << "somebody had a copy of the file";
}

TEST_F(DamageTest, AWorkerThatWaitsGoesOnWaitingForAJobThatIsWhole) {
  JobNumber const damaged = send(R"("damaged")", "held");
  ask<QueueReply>(PatchQueue{.name = "held", .paused = true, .max_depth = {}, .when_full = {}});
  damage("damaged");
  Cookie const waits = submit(lease("held", 1, std::chrono::seconds{20}));
  turn();
  Cookie const watches = submit(GetJob{.job = {.number = damaged, .text = {}}, .wait = std::chrono::seconds{20}});
  turn();
  ask<QueueReply>(PatchQueue{.name = "held", .paused = false, .max_depth = {}, .when_full = {}});
  EXPECT_FALSE(answered(waits));
  EXPECT_EQ(take<JobReply>(watches).job.state, JobState::dead) << "its end is told in the same turn";

  JobNumber const whole = send(R"("whole")", "held");

  auto const leased = take<LeaseReply>(waits).jobs;
  ASSERT_EQ(leased.size(), 1u);
  EXPECT_EQ(leased[0].number, whole);
}

TEST_F(DamageTest, AReadShowsWhatIsKnownAndSaysThatThereWasMore) {
  JobSpecView spec;
  spec.type = "report";
  spec.queue = "q";
  spec.group = "tenant";
  spec.id = "mine";
  spec.priority = 7;
  spec.payload_kind = PayloadKind::json;
  spec.payload = R"("lost on the disk")";
  Bytes bytes;
  encode_spec(spec, bytes);
  JobNumber const job = ask<EnqueueReply>(enqueue({bytes})).jobs.at(0).number;
  send(R"("another")");
  damage("lost on the disk");

  JobView const shown = look(job);
  auto const listed = ask<JobsReply>(ListJobs{.filter = {.queue = "q"}, .limit = 10, .before = {}}).jobs;

  ASSERT_EQ(listed.size(), 1u);
  for (JobView const& view : {shown, listed[0]}) {
    EXPECT_EQ(view.state, JobState::ready) << "looking changes nothing";
    expect_damaged(view);
    JobSpecView known;
    ASSERT_TRUE(decode_spec(view.spec, known));
    EXPECT_EQ(known.payload_kind, PayloadKind::lost);
    EXPECT_TRUE(known.payload.empty());
    EXPECT_EQ(known.type, "report");
    EXPECT_EQ(known.queue, "q");
    EXPECT_EQ(known.group, "tenant");
    EXPECT_EQ(known.id, "mine");
    EXPECT_EQ(known.priority, 7);
  }
  auto const refused = ask<Error>(PatchJob{
      .job = {.number = job, .text = {}}, .changes = {.priority = 1}, .new_spec = {}, .history = {}, .checkpoint = {}});
  EXPECT_EQ(refused.code, ErrorCode::payload_damaged);
}

TEST_F(DamageTest, ACompletedJobIsShownWithoutTheResultThatIsDamaged) {
  JobNumber const job = send(R"("payload")");
  auto const leased = ask<LeaseReply>(lease()).jobs.at(0);
  ask<ReportsReply>(ReportBatch{.reports = {completed(leased, R"("the result")")}});
  send(R"("another")", "other");
  damage("the result");

  JobView const shown = look(job);

  EXPECT_EQ(shown.state, JobState::completed);
  EXPECT_EQ(payload_of(shown.spec), R"("payload")");
  EXPECT_TRUE(shown.history.result.empty());
  expect_damaged(shown);
}

TEST_F(DamageTest, LinesThatAreDamagedAreRefused) {
  JobNumber const job = send(R"("payload")");
  auto const leased = ask<LeaseReply>(lease()).jobs.at(0);
  Report report{
      .job = {.number = leased.number, .text = {}}, .lease = leased.token, .outcome = LogLines{{"a line of it"}}};
  ask<ReportsReply>(ReportBatch{.reports = {report}});
  send(R"("another")", "other");
  damage("a line of it");

  EXPECT_EQ(ask<Error>(GetJobLog{.job = {.number = job, .text = {}}}).code, ErrorCode::payload_damaged);
}

// What an attempt left is as dear as what was sent: without it, the next would do again what is done.
TEST_F(DamageTest, AJobWhoseCheckpointIsDamagedEndsAtItsNextLeaseAndRetriedStartsWithout) {
  JobNumber const job = send(R"("payload")");
  auto const first = ask<LeaseReply>(lease()).jobs.at(0);
  ask<ReportsReply>(ReportBatch{.reports = {checkpoint(first, R"("as far as row 7")")}});
  ask<ReportsReply>(ReportBatch{.reports = {failed(first)}});
  JobNumber const other = send(R"("another")");
  damage("as far as row 7");

  EXPECT_TRUE(look(job).checkpoint.is_lost);
  auto const leased = ask<LeaseReply>(lease("default", 2)).jobs;

  ASSERT_EQ(leased.size(), 1u);
  EXPECT_EQ(leased[0].number, other);
  heal();
  restart();
  JobView const ended = look(job);
  EXPECT_EQ(ended.state, JobState::dead);
  expect_damaged(ended);
  EXPECT_FALSE(ended.checkpoint.is_there());
  EXPECT_EQ(told_, std::vector{job});
  EXPECT_EQ(engine_->check_invariants(), "");
  ask<DoneReply>(RetryJob{.job = {.number = job, .text = {}}});
  auto const again = ask<LeaseReply>(lease()).jobs;
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(payload_of(again[0].spec), R"("payload")");
  EXPECT_TRUE(again[0].checkpoint.empty());
}

// --- A segment that is on its way out.

class DamagedSurvivorsTest : public DamageTest {
 protected:
  void SetUp() override {
    DamageTest::SetUp();
    stop();
    options_.survivors.slack_bytes = 2 * 4096;
    start();
  }
  void churn(std::uint32_t beyond) {
    for (int i = 0; i < 3'000 && log_->status().segments.front().ordinal <= beyond; ++i) {
      JobNumber const job = send(R"("filler")", "filler");
      ask<DoneReply>(DeleteJob{.job = {.number = job, .text = {}}});
    }
  }
};

TEST_F(DamagedSurvivorsTest, JobsThatWaitAreEndedAndTheirNeighboursCopied) {
  JobNumber const before = send(R"("before")", "kept");
  JobNumber const damaged = send(R"("damaged")", "kept");
  JobNumber const after = send(R"("after")", "kept");
  damage("damaged");

  churn(1);

  ASSERT_GT(log_->status().segments.front().ordinal, 1u) << "the damaged segment has gone";
  for (int restarted = 0; restarted < 2; ++restarted) {
    EXPECT_EQ(engine_->check_invariants(), "");
    JobView const ended = look(damaged);
    EXPECT_EQ(ended.state, JobState::dead);
    expect_damaged(ended);
    EXPECT_EQ(payload_of(look(before).spec), R"("before")");
    EXPECT_EQ(payload_of(look(after).spec), R"("after")");
    restart();
  }
  EXPECT_EQ(told_.front(), damaged);
}

TEST_F(DamagedSurvivorsTest, PutInLineAgainWithoutItsPayloadAJobEndsAgain) {
  JobNumber const job = send(R"("damaged")", "kept");
  damage("damaged");
  churn(1);
  restart();

  ask<DoneReply>(RetryJob{.job = {.number = job, .text = {}}});

  EXPECT_TRUE(ask<LeaseReply>(lease("kept")).jobs.empty());
  EXPECT_EQ(look(job).state, JobState::dead);
}

TEST_F(DamagedSurvivorsTest, ALeasedJobGoesOnUnderItsWorkerWhoHasThePayload) {
  send(R"("damaged")", "kept");
  auto const leased = ask<LeaseReply>(lease("kept")).jobs.at(0);
  damage("damaged");

  churn(1);
  restart();
  auto const reported = ask<ReportsReply>(ReportBatch{.reports = {completed(leased, R"("done")")}});

  EXPECT_FALSE(reported.reports.at(0).error);
  JobView const shown = look(leased.number);
  EXPECT_EQ(shown.state, JobState::completed);
  EXPECT_EQ(shown.history.result, R"("done")");
  expect_damaged(shown);
}

TEST_F(DamagedSurvivorsTest, OfACheckpointThatIsDamagedTheCopySaysSoUntilANewOneComes) {
  JobNumber const mended = send(R"("a")", "kept");
  JobNumber const lost = send(R"("b")", "kept");
  auto const leased = ask<LeaseReply>(lease("kept", 2)).jobs;
  ask<ReportsReply>(ReportBatch{
      .reports = {checkpoint(leased.at(0), R"("damaged")"), checkpoint(leased.at(1), R"("too")"), failed(leased[1])}});
  damage("damaged");

  churn(1);
  restart();
  ask<ReportsReply>(ReportBatch{.reports = {checkpoint(leased[0], R"("newer")"), failed(leased[0])}});
  auto const again = ask<LeaseReply>(lease("kept", 2)).jobs;

  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].number, mended);
  EXPECT_EQ(again[0].checkpoint, R"("newer")");
  JobView const ended = look(lost);
  EXPECT_EQ(ended.state, JobState::dead);
  expect_damaged(ended);
  EXPECT_EQ(payload_of(ended.spec), R"("b")");
}

TEST_F(DamagedSurvivorsTest, ADamagedHeaderIsGoneOverLikeADamagedPayload) {
  JobNumber const damaged = send(R"("damaged")", "kept");
  JobNumber const after = send(R"("after")", "kept");
  Position const at = engine_->view(damaged)->spec_at;
  ASSERT_TRUE(disk_.flip_bit(at.segment, at.offset - 60, 0));

  churn(1);

  EXPECT_EQ(look(damaged).state, JobState::dead);
  EXPECT_EQ(payload_of(look(after).spec), R"("after")");
}

TEST_F(DamagedSurvivorsTest, SettingsAreWrittenAgainFromMemory) {
  ask<QueueReply>(PatchQueue{.name = "limited", .paused = true, .max_depth = 7, .when_full = {}});
  damage("limited");

  churn(1);
  restart();

  auto const queue = ask<QueueReply>(GetQueue{.name = "limited"}).queue;
  EXPECT_TRUE(queue.settings.paused);
  EXPECT_EQ(queue.settings.max_depth, 7u);
}

// Of a key only the hash is in memory.
TEST_F(DamagedSurvivorsTest, AnswersThatAreKeptHoldTheirSegmentUntilTheirTimeIsOver) {
  Enqueue once = enqueue({spec_of_job("once", "kept")});
  once.idempotency = Idempotency{.key = "the key of a request", .fingerprint = 5};
  ask<EnqueueReply>(once);
  damage("the key of a request");
  churn(1);
  ASSERT_EQ(log_->status().segments.front().ordinal, 1u);
  EXPECT_TRUE(ask<EnqueueReply>(once).replayed);
  EXPECT_FALSE(last_turn_.more) << "it waits, and does not look again and again";

  clock_.advance(std::chrono::hours{25});
  churn(1);

  EXPECT_GT(log_->status().segments.front().ordinal, 1u);
}

}  // namespace
}  // namespace workmill::shard
