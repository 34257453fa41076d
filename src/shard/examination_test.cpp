#include "shard/examination.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/variant.h"
#include "log/log_reader.h"
#include "log/record.h"
#include "shard/shard_fixture_test.h"

// A shard's life, damage anywhere in its log, and what an examiner saves of it.
namespace workmill::shard {
namespace {

constexpr std::uint32_t kSegmentBytes = 8 * 1024;

MakeBatch some_batch(std::string_view type, std::string id = "b") {
  JobSpecView spec;
  spec.type = type;
  MakeBatch command{.id = std::move(id)};
  encode_spec(spec, command.on_finish);
  return command;
}

class ExaminationTest : public ShardTest {
 protected:
  void SetUp() override {
    log_options_.segment_bytes = kSegmentBytes;
    log_options_.log_id = 0x5eed;
    options_.survivors.slack_bytes = 6 * kSegmentBytes;
    start();
  }

  // Some of everything that can happen to jobs.
  void live(Rng& dice, int steps) {
    std::vector<LeasedJob> held;
    std::vector<JobNumber> jobs;
    auto const any_job = [&] { return JobRef{.number = jobs[dice.below(jobs.size())], .text = {}}; };
    for (int i = 0; i < steps; ++i) {
      clock_.advance(Duration{static_cast<std::int64_t>(dice.below(2'000))});
      auto const what = dice.below(12);
      if (what < 4 || jobs.empty()) {
        std::vector<Bytes> specs(1 + dice.below(3));
        for (Bytes& spec : specs) spec = some_spec(dice, i);
        for (auto const& job : ask<EnqueueReply>(enqueue(std::move(specs))).jobs) jobs.push_back(job.number);
      } else if (what < 7) {
        auto leased = ask<LeaseReply>(lease("default", 3));
        for (LeasedJob& job : leased.jobs) held.push_back(std::move(job));
      } else if (what < 10 && !held.empty()) {
        LeasedJob const& job = held[dice.below(held.size())];
        Report report = completed(job, R"("done")");
        auto const how = dice.below(6);
        if (how == 0) report.outcome = Failed{.code = "c", .message = "m", .detail = {}, .retry_in = Duration{5'000}};
        if (how == 1) report.outcome = Released{};
        if (how == 2) report.outcome = LogLines{.lines = {"a line"}};
        if (how == 3) report.outcome = Progress{.percent = 50, .message = "half"};
        if (how == 4) report.outcome = Extend{.by = std::chrono::minutes{1}};
        ask<ReportsReply>(ReportBatch{.reports = {report}});
      } else if (what == 10) {
        Cookie const cookie = submit(dice.chance(500) ? Command{CancelJob{any_job()}} : Command{RetryJob{any_job()}});
        for (int turns = 0; turns < 10 && !answered(cookie); ++turns) turn();
        answers_.clear();  // Either is refused where the job's state does not allow it.
      } else if (dice.chance(500)) {
        Command command = some_batch("over", fmt::format("b{}", dice.below(4)));
        if (dice.chance(300)) command = CloseBatch{.id = fmt::format("b{}", dice.below(4))};
        if (dice.chance(200)) command = ForgetBatch{.id = fmt::format("b{}", dice.below(4))};
        Cookie const cookie = submit(std::move(command));
        for (int turns = 0; turns < 10 && !answered(cookie); ++turns) turn();
        answers_.clear();  // It may be there already, or not be there.
      } else {
        PatchQueue patch{.name = fmt::format("q{}", dice.below(3)), .paused = dice.chance(500)};
        ask<QueueReply>(patch);
      }
    }
  }

  static Bytes some_spec(Rng& dice, int i) {
    JobSpecView spec;
    std::string const id = fmt::format("own-{}", i);
    std::string const payload = fmt::format(R"("{}")", std::string(dice.below(400), 'x'));
    spec.type = "t";
    spec.payload_kind = PayloadKind::json;
    spec.payload = payload;
    if (dice.chance(100)) spec.id = id;
    if (dice.chance(200)) spec.delay = Duration{10'000};
    Bytes bytes;
    encode_spec(spec, bytes);
    return bytes;
  }

  // The batches of a log that is whole: where each stands, and which jobs it makes or completes.
  struct Told {
    Position frame;
    std::uint64_t end = 0;
    std::set<std::uint64_t> made{}, completed{};
  };
  std::vector<Told> told() {
    std::vector<Told> all;
    auto const disk = disk_.open();
    log::LogReader reader{*disk};
    while (true) {
      auto const read = reader.next();
      EXPECT_TRUE(read) << describe(read.error());
      if (!read) return all;
      auto const& frame = *read;
      if (!frame) return all;
      if (frame->header.kind != log::FrameKind::batch) continue;
      Told batch{.frame = frame->header.start};
      batch.end = batch.frame.offset + log::kFrameHeaderBytes + frame->payload.size();
      auto const parsed =
          log::for_each_record(frame->payload, [&](Effect const& effect, std::uint32_t, std::uint32_t) -> Result<> {
            if (auto const* e = std::get_if<effect::JobEnqueued>(&effect)) {
              batch.made.insert(std::to_underlying(e->number));
            } else if (auto const* c = std::get_if<effect::JobSnapshot>(&effect)) {
              batch.made.insert(std::to_underlying(c->number));
            } else if (auto const* d = std::get_if<effect::JobCompleted>(&effect)) {
              batch.completed.insert(std::to_underlying(d->number));
            }
            return {};
          });
      EXPECT_TRUE(parsed);
      all.push_back(std::move(batch));
    }
  }

  std::map<std::uint64_t, JobState> states(engine::Engine& engine) {
    std::map<std::uint64_t, JobState> all;
    for (Told const& batch : told_) {
      for (std::uint64_t const number : batch.made) {
        if (auto const view = engine.view(JobNumber{number})) all[number] = view->state;
      }
    }
    return all;
  }

  std::vector<Told> told_;
};

// What a server makes of a log: recovery as it is, strict.
struct Recovered {
  std::unique_ptr<log::Log> log;
  std::unique_ptr<engine::Engine> engine;
};
Recovered recover_from(log::MemoryDisk& disk, Clock const& clock) {
  Recovered all;
  auto opened = log::open_memory_log(disk, {.segment_bytes = kSegmentBytes, .log_id = 9});
  EXPECT_TRUE(opened);
  all.log = std::move(*opened);
  all.engine = std::make_unique<engine::Engine>(engine::EngineOptions{});
  Rng chance{3};
  auto const recovered = recover(*all.log, *all.engine, clock, chance, {});
  EXPECT_TRUE(recovered) << describe(recovered.error());
  return all;
}

std::unique_ptr<log::Log> fresh_log(log::MemoryDisk& disk) {
  auto log = log::open_memory_log(disk, {.segment_bytes = kSegmentBytes, .log_id = 8});
  EXPECT_TRUE(log);
  EXPECT_TRUE((*log)->replay([](log::ReplayedBatch const&) -> Result<> { return {}; }, {}));
  EXPECT_TRUE((*log)->own());
  return std::move(*log);
}

TEST_F(ExaminationTest, ALogThatIsWholeIsHealthyAndCountsAsTheEngineDid) {
  Rng dice{1};
  live(dice, 200);
  auto const before = engine_->status();
  stop();

  auto const disk = disk_.open();
  Examiner examiner{*disk};
  auto const seen = examiner.examine({});

  ASSERT_TRUE(seen) << describe(seen.error());
  EXPECT_EQ(seen->health, Health::healthy);
  EXPECT_EQ(seen->jobs.depth, before.depth);
  EXPECT_EQ(seen->contradictions, 0u);
  EXPECT_TRUE(seen->losses.empty());
}

TEST_F(ExaminationTest, TheSharedCacheIsCountedAndSavedToo) {
  ask<CachedReply>(put("k", "value", std::chrono::hours{1}, {}, {"t"}));
  ask<CachedReply>(put("gone", "value"));
  ask<DoneReply>(ForgetCached{.key = "gone"});
  stop();

  auto const disk = disk_.open();
  Examiner examiner{*disk};
  auto const seen = examiner.examine({});
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->cached, 1u);
  log::MemoryDisk saved{2};
  auto fresh = fresh_log(saved);
  auto const rebuilt = examiner.rebuild(*fresh, {});
  fresh.reset();

  ASSERT_TRUE(rebuilt);
  EXPECT_EQ(rebuilt->cached, 1u);
  auto log = log::open_memory_log(saved, {.segment_bytes = kSegmentBytes, .log_id = 9});
  ASSERT_TRUE(log);
  engine::Engine engine{{}};
  cache::Cache cache{{}};
  Rng chance{3};
  ASSERT_TRUE(recover(**log, engine, clock_, chance, {}, &cache));
  ASSERT_TRUE(cache.find("k", clock_.now()).value);
  EXPECT_EQ(cache.find("k", clock_.now()).value->body(), "value");
  EXPECT_EQ(cache.figures().entries, 1u);
}

// The place of the only record of this kind is broken.
template <class E>
void damage_frame_of(log::MemoryDisk& memory) {
  auto const disk = memory.open();
  log::LogReader reader{*disk};
  while (auto const frame = *reader.next()) {
    bool is_here = false;
    if (frame->header.kind != log::FrameKind::batch) continue;
    ASSERT_TRUE(
        log::for_each_record(frame->payload, [&](Effect const& effect, std::uint32_t, std::uint32_t) -> Result<> {
          is_here = is_here || holds<E>(effect);
          return {};
        }));
    if (!is_here) continue;
    auto const at = frame->header.start.offset + log::kFrameHeaderBytes + frame->payload.size() - 1;
    ASSERT_TRUE(memory.flip_bit(frame->header.start.segment, at, 0));
    return;
  }
  FAIL() << "there is no such record";
}

Bytes member() {
  JobSpecView spec;
  spec.type = "t";
  spec.batch = "b";
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

TEST_F(ExaminationTest, ABatchWhoseClosingIsLostHasCalledBackAllTheSame) {
  ask<BatchReply>(some_batch("over"));
  ask<EnqueueReply>(enqueue({member()}));
  ask<BatchReply>(CloseBatch{.id = "b"});
  auto const leased = ask<LeaseReply>(lease("default", 1));
  ask<ReportsReply>(ReportBatch{.reports = {completed(leased.jobs.front(), "1")}});
  auto const before = ask<BatchReply>(GetBatch{.id = "b"}).batch;
  ASSERT_EQ(before.callback(CallbackKind::finish).state, CallbackState::enqueued);
  stop();
  damage_frame_of<effect::BatchClosed>(disk_);

  auto const disk = disk_.open();
  Examiner examiner{*disk};
  ASSERT_TRUE(examiner.examine({}));
  log::MemoryDisk saved{2};
  auto fresh = fresh_log(saved);
  ASSERT_TRUE(examiner.rebuild(*fresh, {}));
  fresh.reset();

  auto const after = recover_from(saved, clock_);
  std::vector<BatchView> batches;
  after.engine->batch_views(batches);
  ASSERT_EQ(batches.size(), 1U);
  EXPECT_TRUE(batches.front().closed_at.has_value());
  EXPECT_EQ(batches.front().callback(CallbackKind::finish), before.callback(CallbackKind::finish));
}

TEST_F(ExaminationTest, ABatchWhoseForgettingIsLostIsNotMergedWithTheNextOneOfItsId) {
  ask<BatchReply>(some_batch("first"));
  ask<EnqueueReply>(enqueue({member()}));
  ask<DoneReply>(ForgetBatch{.id = "b"});
  auto const second = ask<BatchReply>(some_batch("second")).batch;
  stop();
  damage_frame_of<effect::BatchForgotten>(disk_);

  auto const disk = disk_.open();
  Examiner examiner{*disk};
  ASSERT_TRUE(examiner.examine({}));
  log::MemoryDisk saved{2};
  auto fresh = fresh_log(saved);
  ASSERT_TRUE(examiner.rebuild(*fresh, {}));
  fresh.reset();

  auto const after = recover_from(saved, clock_);
  std::vector<BatchView> batches;
  after.engine->batch_views(batches);
  ASSERT_EQ(batches.size(), 1U);
  EXPECT_EQ(batches.front(), second);
}

TEST_F(ExaminationTest, TheBatchesThatAreLostAreCountedAndNamed) {
  ask<BatchReply>(some_batch("over", "kept"));
  submit(some_batch("over", "lost"));
  submit(some_batch("over", "too"));
  submit(CloseBatch{.id = "kept"});
  turn();
  ask<BatchReply>(CloseBatch{.id = "too"});
  stop();
  damage_frame_of<effect::BatchClosed>(disk_);

  auto const disk = disk_.open();
  Examiner examiner{*disk};
  auto const seen = examiner.examine({});

  ASSERT_TRUE(seen);
  ASSERT_EQ(seen->losses.size(), 1U);
  Taken const& batches = seen->losses.front().batches;
  EXPECT_EQ(batches.lost, 2U);
  EXPECT_EQ(batches.ids, (std::vector<std::string>{"lost", "too"}));
  EXPECT_EQ(batches.touched, 1U);
  EXPECT_EQ(seen->losses.front().jobs.lost, 1U);  // The callback.
  EXPECT_EQ(seen->jobs.batches, 1U);
}

// Its counts are no longer what they were.
TEST_F(ExaminationTest, ABatchOfWhichAJobIsLostIsTouched) {
  ask<BatchReply>(some_batch("over"));
  ask<EnqueueReply>(enqueue({member(), member()}));
  ask<EnqueueReply>(enqueue({spec_of_job("later")}));
  stop();
  damage_frame_of<effect::JobEnqueued>(disk_);

  auto const disk = disk_.open();
  Examiner examiner{*disk};
  auto const seen = examiner.examine({});

  ASSERT_TRUE(seen);
  ASSERT_EQ(seen->losses.size(), 1U);
  EXPECT_EQ(seen->losses.front().jobs.lost, 2U);
  EXPECT_EQ(seen->losses.front().batches.touched, 1U);
  EXPECT_EQ(seen->losses.front().batches.lost, 0U);
}

class ExaminationOfDamage : public ExaminationTest, public testing::WithParamInterface<std::uint64_t> {};

// What is left always makes a log that a server takes; every job that stands in a batch that is whole is in it; and
// what has completed, and says so in such a batch, stays completed.
TEST_P(ExaminationOfDamage, SavesAllTheRestAndAServerStartsOnIt) {
  Rng dice{GetParam()};
  live(dice, 150);
  auto const lived = [&] {
    told_.clear();
    std::map<std::uint64_t, JobState> all;
    ListJobs list{.limit = 1'000};
    while (true) {
      auto const page = ask<JobsReply>(list);
      for (auto const& job : page.jobs) all[std::to_underlying(job.number)] = job.state;
      if (!page.next) return all;
      list.before = page.next;
    }
  }();
  stop();
  told_ = told();

  std::set<std::size_t> hit;
  for (auto blows = 1 + dice.below(4); blows > 0; --blows) {
    std::size_t const batch = dice.below(told_.size() - 1);
    std::uint64_t const at = told_[batch].frame.offset + dice.below(told_[batch].end - told_[batch].frame.offset);
    if (!hit.insert(batch).second) continue;
    ASSERT_TRUE(disk_.flip_bit(told_[batch].frame.segment, at, static_cast<int>(dice.below(8))));
  }
  std::uint32_t gone = 0;
  if (dice.chance(200) && told_.front().frame.segment + 1 < told_.back().frame.segment) {
    gone = told_.front().frame.segment + 1;
    disk_.remove(gone);
  }

  auto const disk = disk_.open();
  Examiner examiner{*disk};
  auto const seen = examiner.examine({});
  ASSERT_TRUE(seen) << describe(seen.error());
  ASSERT_EQ(seen->health, Health::damaged);
  ASSERT_TRUE(seen->refusal);
  ASSERT_FALSE(seen->losses.empty());

  log::MemoryDisk fresh;
  {
    auto const log = fresh_log(fresh);
    auto const rebuilt = examiner.rebuild(*log, {});
    ASSERT_TRUE(rebuilt) << describe(rebuilt.error());
    ASSERT_EQ(rebuilt->jobs, seen->jobs.jobs);
  }
  auto const after = recover_from(fresh, clock_);
  ASSERT_EQ(after.engine->status().batches, seen->jobs.batches);
  ASSERT_EQ(after.engine->check_invariants(), "");
  auto const left = states(*after.engine);
  for (std::size_t i = 0; i < told_.size(); ++i) {
    if (hit.contains(i) || told_[i].frame.segment == gone) continue;
    for (std::uint64_t const number : told_[i].made) {
      if (lived.contains(number)) {
        ASSERT_TRUE(left.contains(number)) << "job " << number << " is gone";
      }
    }
    for (std::uint64_t const number : told_[i].completed) {
      if (left.contains(number)) {
        ASSERT_EQ(left.at(number), JobState::completed) << "job " << number;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ExaminationOfDamage, testing::Range(std::uint64_t{1}, std::uint64_t{41}));

}  // namespace
}  // namespace workmill::shard
