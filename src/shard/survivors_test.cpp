#include "shard/survivors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "shard/shard_fixture_test.h"

namespace workmill::shard {
namespace {

// Segments so small that a few hundred jobs fill several.
class SurvivorsTest : public ShardTest {
 protected:
  void SetUp() override {
    log_options_.segment_bytes = 16 * 1024;
    options_.survivors.slack_bytes = 2 * 16 * 1024;
    start();
  }
  // Jobs that come and go and leave nothing.
  void churn(int jobs) {
    JobSpecView spec;
    spec.type = "short";
    spec.queue = "churn";
    spec.keep_result = Duration{0};
    Bytes bytes;
    encode_spec(spec, bytes);
    for (int i = 0; i < jobs; ++i) {
      ask<EnqueueReply>(enqueue({bytes}));
      auto const leased = ask<LeaseReply>(lease("churn"));
      ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs.at(0))}});
    }
  }
  std::uint64_t segments() { return log_->status().segments.size(); }
};

TEST_F(SurvivorsTest, SegmentsThatNobodyNeedsGo) {
  churn(1'000);

  EXPECT_GT(log_->status().segments.back().ordinal, 5u);
  EXPECT_LE(segments(), 5u);
}

TEST_F(SurvivorsTest, WhatLivesIsCopiedAheadWithAllThatBecameOfIt) {
  auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("old", "kept", R"("payload")")}));
  auto const first = ask<LeaseReply>(lease("kept"));
  Report failed = completed(first.jobs.at(0));
  failed.outcome =
      Failed{.error_class = ErrorClass::retryable, .code = "once", .message = "m", .detail = {}, .retry_in = {}};
  ask<ReportsReply>(ReportBatch{.reports = {failed}});
  Report logged = completed(first.jobs.at(0));
  std::uint32_t const written_in = log_->status().segments.back().ordinal;

  churn(2'000);
  ASSERT_GT(log_->status().segments.front().ordinal, written_in) << "the segment that the job was written in is gone";
  for (int restarted = 0; restarted < 2; ++restarted) {
    auto const read = ask<JobReply>(GetJob{.job = {.number = sent.jobs[0].number, .text = {}}, .wait = {}});
    JobSpecView spec;
    ASSERT_TRUE(decode_spec(read.job.spec, spec));
    EXPECT_EQ(spec.payload, R"("payload")");
    ASSERT_EQ(read.job.history.errors.size(), 1u);
    EXPECT_EQ(read.job.history.errors[0].code, "once");
    EXPECT_EQ(read.job.history.worker, "worker-1");
    EXPECT_EQ(engine_->check_invariants(), "");
    stop();
    disk_.crash();
    start();
  }
}

// The first job waits for its next attempt, the second is dead, the third runs; and none is looked at meanwhile.
TEST_F(SurvivorsTest, CheckpointsOutliveTheirSegmentUnlessAnotherTookTheirPlace) {
  ask<EnqueueReply>(enqueue({spec_of_job("a", "kept"), spec_of_job("b", "kept"), spec_of_job("c", "kept")}));
  auto const leased = ask<LeaseReply>(lease("kept", 3)).jobs;
  std::vector<Report> reports;
  auto const add = [&](std::size_t i, Outcome outcome) {
    reports.push_back(
        {.job = {.number = leased.at(i).number, .text = {}}, .lease = leased[i].token, .outcome = outcome});
  };
  for (std::size_t i = 0; i < 3; ++i) {
    add(i, Checkpoint{R"("old")"});
    add(i, Checkpoint{R"("left by )" + std::to_string(i) + '"'});
  }
  add(0, Released{});
  add(1, Failed{.error_class = ErrorClass::fatal, .code = "c", .message = {}, .detail = {}, .retry_in = {}});
  ask<ReportsReply>(ReportBatch{.reports = reports});
  std::uint32_t const written_in = log_->status().segments.back().ordinal;

  for (int round = 0; round < 2; ++round) {  // The second copies the copies.
    churn(2'000);
    restart();
  }
  ASSERT_GT(log_->status().segments.front().ordinal, written_in);
  ask<DoneReply>(RetryJob{.job = {.number = leased[1].number, .text = {}}});
  clock_.advance(kLeaseDefault + std::chrono::seconds{10});
  turn();  // The third one's lease is over.

  auto const again = ask<LeaseReply>(lease("kept", 3)).jobs;
  ASSERT_EQ(again.size(), 3u);
  for (LeasedJob const& job : again) {
    auto const i = job.number == leased[0].number ? 0 : job.number == leased[1].number ? 1 : 2;
    EXPECT_EQ(job.checkpoint, R"("left by )" + std::to_string(i) + '"');
    EXPECT_EQ(ask<JobReply>(GetJob{.job = {.number = job.number, .text = {}}, .wait = {}}).job.checkpoint.data,
              job.checkpoint);
  }
  EXPECT_EQ(engine_->check_invariants(), "");
}

TEST_F(SurvivorsTest, ACopyKeepsItsPlaceInLine) {
  std::vector<JobNumber> order;
  for (int i = 0; i < 20; ++i) {
    order.push_back(ask<EnqueueReply>(enqueue({spec_of_job("old", "kept")})).jobs.at(0).number);
  }
  churn(1'000);
  for (int i = 0; i < 5; ++i) {
    order.push_back(ask<EnqueueReply>(enqueue({spec_of_job("new", "kept")})).jobs.at(0).number);
  }
  churn(500);
  restart();

  std::vector<JobNumber> leased;
  for (LeasedJob const& job : ask<LeaseReply>(lease("kept", 100)).jobs) leased.push_back(job.number);

  EXPECT_EQ(leased, order);
}

TEST_F(SurvivorsTest, SettingsAndRememberedRequestsOutliveTheirSegment) {
  PatchQueue settings;
  settings.name = "capped";
  settings.paused = true;
  settings.max_depth = 7;
  ask<QueueReply>(settings);
  Enqueue once = enqueue({spec_of_job("once", "kept")});
  once.idempotency = Idempotency{.key = "k", .fingerprint = 5};
  auto const first = ask<EnqueueReply>(once);
  auto const salt = engine_->salt();

  churn(2'000);
  restart();

  auto const queue = ask<QueueReply>(GetQueue{.name = "capped"}).queue;
  EXPECT_TRUE(queue.settings.paused);
  EXPECT_EQ(queue.settings.max_depth, 7u);
  auto const repeated = ask<EnqueueReply>(once);
  EXPECT_TRUE(repeated.replayed);
  EXPECT_EQ(repeated.jobs.at(0).number, first.jobs.at(0).number);
  EXPECT_EQ(engine_->salt(), salt) << "ids that were given out must stay valid";
}

// Keys are hashed with the store's salt, which must be known before the first of them, wherever the log begins.
TEST_F(SurvivorsTest, KeysHoldWhicheverSegmentTheLogBeginsWith) {
  JobSpecView spec;
  spec.type = "once";
  spec.queue = "kept";
  std::vector<std::string> keys;
  for (int i = 0; i < 8; ++i) {
    keys.push_back("key-" + std::to_string(i));
    spec.unique_key = keys.back();
    Enqueue unique = enqueue({Bytes{}});
    encode_spec(spec, unique.specs[0]);
    unique.idempotency = Idempotency{.key = keys.back(), .fingerprint = 1};
    ask<EnqueueReply>(unique);
    churn(150);
    restart();

    for (std::string const& key : keys) {
      spec.unique_key = key;
      Enqueue again = enqueue({Bytes{}});
      encode_spec(spec, again.specs[0]);
      EXPECT_TRUE(ask<EnqueueReply>(again).jobs.at(0).duplicate) << key << " after round " << i;
      again.idempotency = Idempotency{.key = key, .fingerprint = 1};
      EXPECT_TRUE(ask<EnqueueReply>(again).replayed) << key << " after round " << i;
    }
  }
}

TEST_F(SurvivorsTest, TokensAndNumbersGrowThoughTheClockStandsAndTheirRecordsAreGone) {
  ask<EnqueueReply>(enqueue({spec_of_job("old", "kept")}));
  auto const old = ask<LeaseReply>(lease("kept")).jobs.at(0);
  ask<ReportsReply>(ReportBatch{.reports = {completed(old)}});
  ask<DoneReply>(DeleteJob{.job = {.number = old.number, .text = {}}});
  JobNumber newest{};
  for (int i = 0; i < 2'000; ++i) {
    newest = ask<EnqueueReply>(enqueue({spec_of_job("filler", "filler")})).jobs.at(0).number;
    ask<DoneReply>(DeleteJob{.job = {.number = newest, .text = {}}});
  }
  ASSERT_GT(log_->status().segments.front().ordinal, 1u);
  restart();

  auto const next = ask<EnqueueReply>(enqueue({spec_of_job("new", "kept")})).jobs.at(0).number;
  auto const leased = ask<LeaseReply>(lease("kept")).jobs.at(0);

  EXPECT_GT(next, newest);
  EXPECT_GT(leased.token, old.token);
}

TEST_F(SurvivorsTest, LinesThatWereLoggedOutliveTheirSegment) {
  ask<EnqueueReply>(enqueue({spec_of_job("old", "kept")}));
  auto const job = ask<LeaseReply>(lease("kept")).jobs.at(0);
  Report report{.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = LogLines{{"one", "two"}}};
  ask<ReportsReply>(ReportBatch{.reports = {report}});

  for (int round = 0; round < 2; ++round) {
    churn(1'000);
    auto const lines = ask<JobLogReply>(GetJobLog{.job = {.number = job.number, .text = {}}}).lines;
    EXPECT_EQ(lines, (std::vector<Bytes>{"one", "two"})) << "in round " << round;
    restart();
  }
}

// A batch of small jobs, of which each has a large result by now: their copies do not fit into one batch.
TEST_F(SurvivorsTest, JobsThatHaveBecomeLargerThanABatchTogetherAreCopiedInParts) {
  constexpr int kJobs = 9;
  JobSpecView spec;
  spec.type = "old";
  spec.queue = "kept";
  spec.keep_result = std::chrono::hours{24};
  Bytes bytes;
  encode_spec(spec, bytes);
  auto const sent = ask<EnqueueReply>(enqueue(std::vector<Bytes>(kJobs, bytes))).jobs;
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  for (LeasedJob const& job : ask<LeaseReply>(lease("kept", kJobs)).jobs) {
    std::string const result = "\"" + std::string(kResultBytesMax - 2, 'r') + "\"";
    ask<ReportsReply>(ReportBatch{.reports = {completed(job, result)}});
  }
  static_assert(kJobs * kResultBytesMax > log::kBatchBytesMax);

  // Beside batches that are large themselves.
  JobSpecView large = spec;
  std::string const payload = "\"" + std::string(std::size_t{5} << 20, 'p') + "\"";
  large.payload = payload;
  bytes.clear();
  encode_spec(large, bytes);
  for (int i = 0; i < 60 && log_->status().segments.front().ordinal <= written_in; ++i) {
    auto const job = ask<EnqueueReply>(enqueue({bytes})).jobs.at(0).number;
    ask<DoneReply>(DeleteJob{.job = {.number = job, .text = {}}});
  }

  ASSERT_GT(log_->status().segments.front().ordinal, written_in);
  for (int restarted = 0; restarted < 2; ++restarted) {
    for (EnqueuedJob const& one : sent) {
      auto const read = ask<JobReply>(GetJob{.job = {.number = one.number, .text = {}}, .wait = {}});
      EXPECT_EQ(read.job.history.result.size(), kResultBytesMax);
    }
    EXPECT_EQ(engine_->check_invariants(), "");
    restart();
  }
}

// A batch of the log holds as many jobs as one turn took in: copying them all at once would hold up everybody.
TEST_F(SurvivorsTest, ATurnCopiesNoMoreThanItsStepOfALargeBatch) {
  constexpr int kJobs = 200;
  options_.survivors.copy_bytes_per_step = 2'000;
  options_.survivors.scan_bytes_per_step = 1'000;
  restart();
  std::string const payload = "\"" + std::string(500, 'p') + "\"";
  ask<EnqueueReply>(enqueue(std::vector<Bytes>(kJobs, spec_of_job("old", "kept", payload))));
  std::uint32_t const written_in = log_->status().segments.back().ordinal;

  std::uint64_t most = 0;
  std::uint64_t before = 0;
  auto const one_turn = [&](Command command) {
    Cookie const cookie = submit(std::move(command));
    auto const copied = ask<StatusReply>(GetStatus{}).copied_ahead_jobs;
    most = std::max(most, copied - std::exchange(before, copied));
    return cookie;
  };
  for (int i = 0; i < 3'000 && log_->status().segments.front().ordinal <= written_in; ++i) {
    auto const filler = take<EnqueueReply>(one_turn(enqueue({spec_of_job("filler", "filler")}))).jobs.at(0).number;
    one_turn(DeleteJob{.job = {.number = filler, .text = {}}});
  }

  ASSERT_GT(log_->status().segments.front().ordinal, written_in);
  EXPECT_GT(most, 0u);
  EXPECT_LE(most, 4u);  // Of some 550 bytes each: the last one may go beyond the step.
  EXPECT_EQ(engine_->check_invariants(), "");
  restart();
  EXPECT_EQ(ask<LeaseReply>(lease("kept", kJobs)).jobs.size(), std::size_t{kJobs});
}

// They are counted with their ends: without that, nothing bounded how many empty ones were copied with their job, and
// with a large payload and result that was more than a record takes.
TEST_F(SurvivorsTest, OfEmptyLinesNoMoreAreKeptThanOfOthers) {
  ask<EnqueueReply>(enqueue({spec_of_job("old", "kept")}));
  auto const job = ask<LeaseReply>(lease("kept")).jobs.at(0);
  for (int i = 0; i < 100; ++i) {
    Report report{.job = {.number = job.number, .text = {}},
                  .lease = job.token,
                  .outcome = LogLines{std::vector<Bytes>(1'000, Bytes{})}};
    ask<ReportsReply>(ReportBatch{.reports = {report}});
  }

  auto const lines = ask<JobLogReply>(GetJobLog{.job = {.number = job.number, .text = {}}}).lines;

  EXPECT_EQ(lines.size(), kLogBytesKept);
}

TEST_F(SurvivorsTest, LiveDataBoundsWhatTheLogUses) {
  std::vector<Bytes> specs(500, spec_of_job("old", "kept", R"("0123456789012345678901234567890123456789")"));
  ask<EnqueueReply>(enqueue(specs));
  for (int round = 0; round < 10; ++round) {
    churn(500);
    std::uint64_t used = 0;
    for (auto const& segment : log_->status().segments) used += segment.bytes;
    auto const bound = static_cast<std::uint64_t>(2.5 * static_cast<double>(engine_->live_bytes())) + 3 * 16 * 1024;
    EXPECT_LE(used, bound) << "in round " << round;
  }
}

// They live for a day, and were once not counted as living: copied for ever, as the log never got small enough.
TEST_F(SurvivorsTest, AnswersThatAreKeptDoNotKeepItCopying) {
  for (int i = 0; i < 1'000; ++i) {
    Enqueue once = enqueue({spec_of_job("old", "short")});
    once.idempotency = Idempotency{.key = "a key of some length, number " + std::to_string(i), .fingerprint = 1};
    ask<EnqueueReply>(once);
  }
  ask<CountReply>(PurgeQueue{.name = "short", .state = {}});
  clock_.advance(std::chrono::seconds{1});

  int turns = 0;
  do turn();
  while (last_turn_.more && ++turns < 1'000);

  EXPECT_FALSE(last_turn_.more);
  EXPECT_GT(engine_->live_bytes(), options_.survivors.slack_bytes) << "else this tests nothing";
}

TEST_F(SurvivorsTest, ADroppedSegmentGivesItsSpaceBackAlthoughNobodyWritesAnyMore) {
  for (int i = 0; i < 10; ++i) ask<EnqueueReply>(enqueue(std::vector<Bytes>(200, spec_of_job("old", "kept"))));
  ASSERT_GT(log_->status().segments.size(), 2u);
  auto const full = disk_.files().size();
  ask<CountReply>(PurgeQueue{.name = "kept", .state = {}});

  for (int i = 0; i < 20; ++i) {
    clock_.advance(std::chrono::seconds{1});
    turn();
  }

  EXPECT_LT(disk_.files().size(), full);
  EXPECT_LE(log_->status().segments.size(), 2u);
}

TEST_F(SurvivorsTest, APowerCutAnywhereInTheCopyingLosesNothing) {
  auto const sent = ask<EnqueueReply>(enqueue(std::vector<Bytes>(50, spec_of_job("old", "kept"))));
  for (std::uint64_t cut = 1; cut < 40; ++cut) {
    disk_.fail_after(cut * 7);
    for (int i = 0; i < 400; ++i) {
      submit(enqueue({spec_of_job("filler", "filler", R"("a payload that fills segments quickly, or so we hope")")}));
      if (!loop_->turn()) break;
    }
    stop();
    disk_.heal();
    disk_.crash_keeping_some(512);
    start();
    ask<CountReply>(PurgeQueue{.name = "filler", .state = {}});
    EXPECT_EQ(engine_->check_invariants(), "") << "after cut " << cut;
    ASSERT_EQ(ask<QueueReply>(GetQueue{.name = "kept"}).queue.depth[static_cast<int>(JobState::ready)],
              sent.jobs.size())
        << "after cut " << cut;
  }
}

}  // namespace
}  // namespace workmill::shard
