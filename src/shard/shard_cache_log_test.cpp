#include <gtest/gtest.h>

#include "shard/shard_cache_fixture_test.h"

// The shared cache and the log: what is durable when, what outlives its segment, a power cut, and damage.
namespace workmill::shard {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using What = cache::Lookup::What;

class CacheLogTest : public ShardCacheTest {
 protected:
  // Jobs that come and go, until the log begins behind this segment.
  void churn(std::uint32_t beyond) {
    for (int i = 0; i < 3'000 && log_->status().segments.front().ordinal <= beyond; ++i) {
      auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("filler", "filler", R"("to fill the log")")}));
      ask<DoneReply>(DeleteJob{.job = {.number = sent.jobs.at(0).number, .text = {}}});
    }
    ASSERT_GT(log_->status().segments.front().ordinal, beyond);
  }
};

// ---- A flush that takes its time.

class HeldFlushTest : public CacheLogTest {
 protected:
  void SetUp() override {
    options_.flush_by = FlushBy::writer;
    options_.make_flusher = [this](log::Log& log) {
      auto made = std::make_unique<HeldFlusher>(log);
      flusher_ = made.get();
      return made;
    };
    start();
    ask<CachedReply>(put("before", "v"));  // From here on the flusher flushes.
    ASSERT_NE(flusher_, nullptr);
  }
  void flush() {
    flusher_->flush();
    turn();
  }
  HeldFlusher* flusher_ = nullptr;
};

TEST_F(HeldFlushTest, NothingIsInTheIndexBeforeItIsOnDisk) {
  Cookie const stored = submit(put("k", "value"));
  turn();
  EXPECT_EQ(find("k").what, What::absent);
  EXPECT_FALSE(answered(stored));

  flush();

  EXPECT_EQ(body("k"), "value");
  EXPECT_TRUE(answered(stored));
}

TEST_F(HeldFlushTest, TheShardItselfSeesWhatIsDecided) {
  submit(put("k", "value"));
  turn();
  Cookie const asked = submit(compute("k"));
  Cookie const forgotten = submit(ForgetCached{.key = "k"});
  Cookie const again = submit(ForgetCached{.key = "k"});
  turn();
  EXPECT_FALSE(answered(asked));  // It shows what may yet be lost.

  flush();

  EXPECT_EQ(take<CachedReply>(asked).value->body(), "value");
  take<DoneReply>(forgotten);
  take<CacheMissed>(again);
  EXPECT_EQ(find("k").what, What::absent);
  EXPECT_EQ(engine_->status().jobs, 0u);
}

TEST_F(HeldFlushTest, WhatARefreshStoresIsDeletedByTheOldValuesTagAlsoBeforeItIsOnDisk) {
  options_.cache_desk.found_per_part = 2;
  restart();
  ask<CachedReply>(put("before", "v"));
  for (int i = 0; i < 6; ++i) submit(put("k" + std::to_string(i), "old", seconds{1}, minutes{10}, {"t"}));
  turn();
  flush();
  clock_.advance(seconds{2});
  submit(compute("k5"));
  Cookie const leased = submit(lease());
  turn();
  flush();
  auto const job = take<LeaseReply>(leased).jobs.at(0);
  Cookie const forget = submit(ForgetCachedBy{.tag = "t"});
  Report report = completed(job);
  std::get<Completed>(report.outcome)
      .cache.push_back(
          {.key = "k5", .set = {.content_type = "text/plain", .body = "new", .fresh = minutes{1}, .tags = {"t"}}});
  submit(ReportBatch{.reports = {report}});
  turn();
  ASSERT_TRUE(last_turn_.more) << "else this tests nothing";
  while (last_turn_.more) turn();

  flush();

  take<CountReply>(forget);
  EXPECT_EQ(body("k5"), "(none)");
  EXPECT_EQ(cache_->figures().entries, 1u);  // "before".
}

TEST_F(HeldFlushTest, WhatIsDeletedIsServedUntilThatIsOnDiskAndNoLonger) {
  submit(put("k", "value"));
  turn();
  flush();
  Cookie const forgotten = submit(ForgetCached{.key = "k"});
  turn();
  EXPECT_EQ(body("k"), "value");

  flush();

  EXPECT_TRUE(answered(forgotten));
  EXPECT_EQ(body("k"), "(none)");
}

// Puts, deletions, power cuts and segments that go, in any order, with flushes that come late. At every moment a reader
// finds what the newest batch on disk says, and after a power cut as well.
class CacheStory : public HeldFlushTest, public testing::WithParamInterface<std::uint64_t> {
 protected:
  CacheStory() {
    log_options_.segment_bytes = 4'096;
    options_.survivors.slack_bytes = 2 * 4'096;
  }
  using State = std::map<std::string, std::string>;

  static std::string key(Rng& dice) { return (dice.chance(500) ? "a:" : "b:") + std::to_string(dice.below(8)); }
  void act(Rng& dice, int step) {
    switch (dice.below(8)) {
      case 0: {
        std::string const gone = key(dice);
        submit(ForgetCached{.key = gone});
        decided_.erase(gone);
        break;
      }
      case 1: {
        std::string const prefix = dice.chance(500) ? "a:" : "b:";
        submit(ForgetCachedBy{.prefix = prefix});
        std::erase_if(decided_, [&](auto const& entry) { return entry.first.starts_with(prefix); });
        break;
      }
      default: {
        std::string const name = key(dice);
        std::string const value = std::to_string(step) + std::string(dice.below(200), 'x');
        submit(put(name, value, hours{1}));
        decided_[name] = value;
      }
    }
  }
  void expect_readers_find_what_is_durable(int step) {
    for (char const* prefix : {"a:", "b:"}) {
      for (int i = 0; i < 8; ++i) {
        std::string const name = prefix + std::to_string(i);
        auto const found = durable_.find(name);
        ASSERT_EQ(body(name), found == durable_.end() ? "(none)" : found->second) << name << " at step " << step;
      }
    }
  }
  State decided_, durable_;
};

TEST_P(CacheStory, ReadersFindWhatIsDurableAndNothingElse) {
  Rng dice{GetParam()};
  for (int step = 0; step < 400; ++step) {
    for (auto acts = dice.below(4); acts > 0; --acts) act(dice, step);
    turn();
    if (dice.chance(400)) {
      flush();
      durable_ = decided_;
    }
    if (dice.chance(20)) {
      stop();
      disk_.crash();
      start();
      decided_ = durable_;
      ask<CachedReply>(put("before", "v"));
    }
    expect_readers_find_what_is_durable(step);
    ASSERT_EQ(cache_->check_invariants(), "");
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(log_->status().segments.front().ordinal, 1u);
}
INSTANTIATE_TEST_SUITE_P(Seeds, CacheStory, testing::Range(std::uint64_t{1}, std::uint64_t{21}));

// ---- A power cut.

TEST_F(CacheLogTest, APowerCutAnywhereInAFlightLosesNothingThatWasAnswered) {
  for (std::uint64_t cut = 1; cut < 30; ++cut) {
    std::string const key = "k" + std::to_string(cut);
    disk_.fail_after(cut);
    Cookie const caller = submit(compute(key, hours{1}));
    std::optional<LeasedJob> held;
    for (int step = 0; step < 8; ++step) {
      Cookie const leasing = step == 2 ? submit(lease()) : 0;
      if (step == 5 && held) submit(ReportBatch{.reports = {completed(*held, R"("computed")")}});
      auto const turned = loop_->turn();
      if (!turned) break;
      std::vector<Answer> answers;
      loop_->take_answers(0, answers);
      for (Answer& answer : answers) keep(std::move(answer));
      if (leasing != 0 && answered(leasing)) held = take<LeaseReply>(leasing).jobs.at(0);
    }
    bool const was_answered = answered(caller);
    stop();
    disk_.heal();
    disk_.crash_keeping_some(512);
    start();

    expect_sound("after cut " + std::to_string(cut));
    if (was_answered) {
      ASSERT_EQ(body(key), R"("computed")") << "after cut " << cut;
      continue;
    }
    // Nobody was told of an end. The caller asks again, and one job computes the value.
    Cookie const again = submit(compute(key, hours{1}));
    turn();
    ASSERT_LE(engine_->status().flights, 1u);
    if (!answered(again)) {
      auto const flight = engine_->flight_of(key);
      ASSERT_TRUE(flight);
      auto leased = engine_->leased_job(*flight);  // Whose worker does not know: its answer was lost.
      if (!leased) leased = ask<LeaseReply>(lease()).jobs.at(0);
      EXPECT_EQ(leased->number, *flight);
      ask<ReportsReply>(ReportBatch{.reports = {completed(*leased, R"("computed")")}});
    }
    EXPECT_EQ(take<CachedReply>(again).value->body(), R"("computed")") << "after cut " << cut;
    EXPECT_EQ(engine_->status().flights, 0u);
  }
}

// ---- The oldest segment.

class CacheSurvivorsTest : public CacheLogTest {
 protected:
  void SetUp() override {
    log_options_.segment_bytes = 4'096;
    log_options_.recent_bytes = 0;  // What is read comes from the disk, but for the newest batch.
    options_.survivors.slack_bytes = 2 * 4'096;
    options_.on_cache_damage = [this](Error const&) { ++told_; };
    start();
  }
  // A value that is stale by now, and that computing it anew has failed. `body` is in a batch of its own.
  void put_stale_and_fail(BytesView body) {
    ask<CachedReply>(put("k", body, seconds{1}, hours{1}));
    clock_.advance(seconds{2});
    ask<CachedReply>(compute("k", seconds{20}, hours{1}));
    Report report = completed(ask<LeaseReply>(lease()).jobs.at(0));
    report.outcome = Failed{.error_class = ErrorClass::fatal, .code = "broken"};
    ask<ReportsReply>(ReportBatch{.reports = {report}});
    ASSERT_TRUE(find("k").failure);
  }
  void expect_failed(std::string_view when) {
    EXPECT_EQ(find("k").what, What::failed) << when;
    ASSERT_TRUE(find("k").failure) << when;
    EXPECT_EQ(find("k").failure->code, "broken") << when;
    expect_sound(when);
  }
  // Turns a bit of the first place where these bytes stand on the disk.
  void damage(std::string_view bytes) {
    for (log::DiskFile const& file : disk_.files()) {
      auto const at = disk_.bytes_of(file.ordinal).find(bytes);
      if (at == Bytes::npos) continue;
      ASSERT_TRUE(disk_.flip_bit(file.ordinal, at, 0));
      return;
    }
    FAIL() << bytes << " is not on the disk";
  }
  int told_ = 0;
};

TEST_F(CacheSurvivorsTest, ValuesAndFailuresOutliveTheirSegment) {
  ask<CachedReply>(put("kept", "value", hours{1}, hours{1}, {"tag"}));
  auto const times = find("kept").times;
  ask<CachedReply>(put("replaced", "old", hours{1}));
  ask<CachedReply>(put("gone", "value", hours{1}));
  Cookie const failing = submit(compute("failed", seconds{20}, hours{1}));
  turn();
  auto const job = ask<LeaseReply>(lease()).jobs.at(0);
  Report report = completed(job);
  report.outcome = Failed{.error_class = ErrorClass::fatal, .code = "broken", .message = "m"};
  ask<ReportsReply>(ReportBatch{.reports = {report}});
  take<ComputeFailed>(failing);
  ask<CachedReply>(put("replaced", "new", hours{1}));
  ask<DoneReply>(ForgetCached{.key = "gone"});
  std::uint32_t const written_in = log_->status().segments.back().ordinal;

  churn(written_in);

  for (int restarted = 0; restarted < 2; ++restarted) {
    EXPECT_EQ(body("kept"), "value");
    EXPECT_EQ(find("kept").times, times);
    EXPECT_EQ(body("replaced"), "new");
    EXPECT_EQ(find("gone").what, What::absent);
    ASSERT_EQ(find("failed").what, What::failed);
    EXPECT_EQ(find("failed").failure->code, "broken");
    expect_sound();
    stop();
    disk_.crash();
    start();
  }
  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.tag = "tag"}).count, 1u);
}

TEST_F(CacheSurvivorsTest, ACopyDoesNotEndARememberedFailure) {
  ask<CachedReply>(put("k", "old", seconds{1}, hours{1}));
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  clock_.advance(seconds{2});
  ask<CachedReply>(compute("k", seconds{20}, hours{1}));  // Stale: begins a refresh.
  auto const job = ask<LeaseReply>(lease()).jobs.at(0);
  Report report = completed(job);
  report.outcome = Failed{.error_class = ErrorClass::fatal, .code = "broken"};
  ask<ReportsReply>(ReportBatch{.reports = {report}});
  ASSERT_TRUE(find("k").failure);

  churn(written_in);

  for (int restarted = 0; restarted < 2; ++restarted) {
    EXPECT_EQ(body("k"), "old");
    EXPECT_TRUE(find("k").failure) << restarted;
    restart();
  }
}

TEST_F(CacheSurvivorsTest, WhatIsOverIsNotCopied) {
  ask<CachedReply>(put("k", "value", seconds{1}));
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  clock_.advance(seconds{2});

  churn(written_in);

  EXPECT_EQ(cache_->figures().disk_bytes, 0u);
  expect_sound();
}

TEST_F(CacheSurvivorsTest, AFlightOutlivesItsSegmentAndCompletes) {
  auto const flight = ask<CachePending>(compute("k", Duration{0})).job;
  std::uint32_t const written_in = log_->status().segments.back().ordinal;

  churn(written_in);
  restart();

  EXPECT_EQ(engine_->flight_of("k"), flight);
  auto const job = ask<LeaseReply>(lease()).jobs.at(0);
  ask<ReportsReply>(ReportBatch{.reports = {completed(job, "1")}});
  EXPECT_EQ(body("k"), "1");
}

TEST_F(CacheSurvivorsTest, APowerCutAnywhereInTheCopyingLosesNoValue) {
  for (int i = 0; i < 20; ++i) {
    ask<CachedReply>(put("k" + std::to_string(i), "value " + std::to_string(i), hours{1}));
  }
  for (std::uint64_t cut = 1; cut < 20; ++cut) {
    disk_.fail_after(cut * 17);
    for (int i = 0; i < 400; ++i) {
      submit(enqueue({spec_of_job("filler", "filler", R"("a payload that fills segments quickly, or so we hope")")}));
      if (!loop_->turn()) break;
    }
    stop();
    disk_.heal();
    disk_.crash_keeping_some(512);
    start();
    ask<CountReply>(PurgeQueue{.name = "filler", .state = {}});
    expect_sound("after cut " + std::to_string(cut));
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(body("k" + std::to_string(i)), "value " + std::to_string(i)) << "after cut " << cut;
    }
  }
  EXPECT_GT(log_->status().segments.front().ordinal, 3u);  // There was something to copy.
}

TEST_F(CacheSurvivorsTest, ADamagedValueIsForgottenAndItsNeighboursAreCopied) {
  for (std::string_view const name : {"before", "damaged", "after"}) {
    ask<CachedReply>(put(std::string{name}, std::string{"value "}.append(name), hours{1}));
  }
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  damage("value damaged");

  churn(written_in);

  EXPECT_EQ(body("before"), "value before");
  EXPECT_EQ(body("damaged"), "(none)");
  EXPECT_EQ(body("after"), "value after");
  EXPECT_EQ(told_, 1);
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).cache.at(0).damaged, 1u);
  expect_sound();
  restart();
  EXPECT_EQ(body("after"), "value after");
}

TEST_F(CacheSurvivorsTest, WhatIsDamagedIsFoundInALargeIndexInPartsAndToldOnce) {
  engine_options_.cache_volatile = {"many"};  // In the index, and not in the log.
  stop();
  start();
  ask<CachedReply>(put("before", "value before", hours{1}));
  ask<CachedReply>(put("damaged", "value damaged", hours{1}));
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  for (int i = 0; i < 10'000; ++i) submit(put("many" + std::to_string(i), "v", hours{1}));
  for (int i = 0; i < 10; ++i) turn();
  damage("value damaged");

  churn(written_in);

  EXPECT_EQ(body("before"), "value before");
  EXPECT_EQ(body("damaged"), "(none)");
  EXPECT_EQ(body("many9999"), "v");
  EXPECT_EQ(told_, 1);
  expect_sound();
}

TEST_F(CacheSurvivorsTest, AColdValueThatIsDamagedIsAMissAndToldOnce) {
  stop();
  cache_options_.memory_bytes = std::uint64_t{64} << 10;
  start();
  ask<CachedReply>(put("k", "begin" + std::string(std::size_t{40} << 10, 'x'), hours{1}));
  ASSERT_EQ(find("k").what, What::cold);
  ask<CachedReply>(put("newer", "v"));
  damage("begin");

  ask<CacheMissed>(ReadCached{.key = "k"});

  EXPECT_EQ(find("k").what, What::absent);
  EXPECT_EQ(told_, 1);
  ask<CacheMissed>(ReadCached{.key = "k"});
  EXPECT_EQ(told_, 1);
  ask<CachePending>(compute("k", Duration{0}));  // It can be computed again.
  expect_sound();
}

TEST_F(CacheSurvivorsTest, WhatIsRememberedOfAFailureStaysWhereTheValueBesideItIsDamaged) {
  put_stale_and_fail("value damaged");
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  damage("value damaged");

  churn(written_in);

  expect_failed("as it was to be copied");
  EXPECT_EQ(told_, 1);
  restart();
  expect_failed("after a restart");
}

TEST_F(CacheSurvivorsTest, WhatIsRememberedOfAFailureStaysWhereAColdValueTurnsOutToBeDamaged) {
  stop();
  cache_options_.memory_bytes = std::uint64_t{64} << 10;
  start();
  put_stale_and_fail("begin" + std::string(std::size_t{40} << 10, 'x'));
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  damage("begin");

  ask<CacheMissed>(ReadCached{.key = "k"});

  expect_failed("as it was read");
  EXPECT_EQ(told_, 1);
  churn(written_in);
  expect_failed("when all of it was copied");
  restart();
  expect_failed("after a restart");
}

TEST_F(CacheSurvivorsTest, AFailureWhoseRecordIsDamagedIsWrittenAgainAndTheValueStays) {
  put_stale_and_fail("value");
  std::uint32_t const written_in = log_->status().segments.back().ordinal;
  damage("broken");

  churn(written_in);

  for (int restarted = 0; restarted < 2; ++restarted) {
    EXPECT_EQ(body("k"), "value") << restarted;
    ASSERT_TRUE(find("k").failure) << restarted;
    EXPECT_EQ(find("k").failure->code, "broken") << restarted;
    expect_sound();
    restart();
  }
  EXPECT_EQ(told_, 0);
}

TEST_F(CacheLogTest, OnlyWhatIsOverIsLeftOutByARestart) {
  ask<CachedReply>(put("short", "v", seconds{1}, seconds{1}));
  ask<CachedReply>(put("long", "v", minutes{1}));
  ask<CachedReply>(put("shorter", "v", hours{1}));
  ask<CachedReply>(put("shorter", "w", seconds{1}));
  clock_.advance(seconds{2});

  restart();

  EXPECT_EQ(find("short").what, What::absent);
  EXPECT_EQ(body("long"), "v");
  EXPECT_EQ(find("shorter").what, What::absent);  // And not what was there before.
  EXPECT_EQ(cache_->figures().entries, 1u);
}

TEST_F(CacheLogTest, ARestartLoadsTheNewestAndKnowsWhereTheRestStands) {
  cache_options_.memory_bytes = std::uint64_t{2} << 20;
  restart();
  std::string const large(std::size_t{100} << 10, 'x');
  auto const key = [](int i) { return "k" + std::to_string(i); };
  for (int i = 0; i < 40; ++i) ask<CachedReply>(put(key(i), large + std::to_string(i), hours{1}));
  for (int i = 0; i < 30; ++i) ask<CachedReply>(put("again", large, hours{1}));  // Counts once.
  ask<CachedReply>(put("gone", large, hours{1}));
  ask<DoneReply>(ForgetCached{.key = "gone"});

  restart();

  EXPECT_EQ(cache_->figures().entries, 41u);
  EXPECT_EQ(body("again"), large);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(find(key(i)).what, What::cold) << i;
  for (int i = 25; i < 40; ++i) EXPECT_EQ(body(key(i)), large + std::to_string(i));
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(ask<CachedReply>(ReadCached{.key = key(i)}).value->body(), large + std::to_string(i));
  }
  expect_sound();
}

TEST_F(CacheLogTest, WhereTheDiskIsNearlyFullNothingIsTakenButReadsAndDeletions) {
  ask<CachedReply>(put("k", "v"));
  loop_->set_disk_reserve(std::uint64_t{1} << 60);
  clock_.advance(seconds{2});
  turn();
  ASSERT_TRUE(loop_->disk_low());

  EXPECT_EQ(loop_->submit({.port = 0, .cookie = 999, .command = put("l", "v")}).error().code, ErrorCode::disk_full);
  EXPECT_EQ(ask<Error>(compute("l")).code, ErrorCode::disk_full);
  EXPECT_EQ(ask<CachedReply>(compute("k")).value->body(), "v");
  ask<DoneReply>(ForgetCached{.key = "k"});
}

}  // namespace
}  // namespace workmill::shard
