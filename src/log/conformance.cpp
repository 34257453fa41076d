#include "log/conformance.h"

#include <gmock/gmock.h>

#include <atomic>
#include <ostream>
#include <thread>

#include "base/rng.h"

namespace workmill::log {

std::ostream& operator<<(std::ostream& out, KnownBatch const& batch) {
  return out << batch.base.segment << ":" << batch.base.offset << " (" << batch.payload.size() << " bytes)";
}

Result<Opened> try_open_log(Place& place, PlaceOptions const& options) {
  Opened opened;
  WM_TRY(opened.log, place.open(options));
  auto const remember = [&](ReplayedBatch const& batch) -> Result<> {
    opened.batches.push_back({batch.base, batch.at, Bytes{batch.payload}});
    return {};
  };
  WM_TRY(opened.report, opened.log->replay(remember, {}));
  WM_TRY(opened.epoch, opened.log->own());
  return opened;
}

Opened open_log(Place& place, PlaceOptions const& options) {
  auto opened = try_open_log(place, options);
  if (!opened) {
    ADD_FAILURE() << describe(opened.error());
    std::abort();  // Nothing that follows would mean anything.
  }
  return *std::move(opened);
}

KnownBatch stage(Log& log, Bytes payload, int ms) {
  KnownBatch batch{log.next_base(), instant_from_ms(ms), std::move(payload)};
  log.stage(batch.payload, batch.at);
  return batch;
}

KnownBatch append(Log& log, Bytes payload, int ms) {
  KnownBatch batch = stage(log, std::move(payload), ms);
  Result<> const flushed = log.flush();
  EXPECT_TRUE(flushed) << describe(flushed.error());
  return batch;
}

void append_many(Log& log, std::vector<KnownBatch>& known, int count, std::function<int(int)> const& payload_bytes) {
  known.reserve(known.size() + static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    Bytes payload = noise(static_cast<std::size_t>(payload_bytes(i)), static_cast<std::uint64_t>(i));
    known.push_back(append(log, std::move(payload), i));
  }
}

void append_many(Log& log, std::vector<KnownBatch>& known, int count, int payload_bytes) {
  append_many(log, known, count, [payload_bytes](int) { return payload_bytes; });
}

Bytes noise(std::size_t size, std::uint64_t seed) {
  Rng rng{seed};
  Bytes bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(rng.next());
  return bytes;
}

Bytes read(Log& log, KnownBatch const& batch) {
  auto const bytes = log.read(batch.base, batch.payload.size());
  return bytes ? Bytes{*bytes} : "error: " + describe(bytes.error());
}

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_P(LogConformance, ANewLogIsEmptyAndItsFirstEpochIsOne) {
  Opened const opened = open_log(*place_);

  EXPECT_THAT(opened.batches, IsEmpty());
  EXPECT_EQ(opened.report.last_batch_at, Instant{});
  EXPECT_FALSE(opened.report.cut_at);
  EXPECT_EQ(opened.epoch, Epoch{1});
}

TEST_P(LogConformance, WhatWasFlushedComesBackInOrderWithItsPositionsAndTimes) {
  Opened first = open_log(*place_);
  KnownBatch const one = append(*first.log, "one", 1);
  KnownBatch const two = stage(*first.log, "two and more", 2);
  KnownBatch const three = stage(*first.log, "3", 3);
  ASSERT_TRUE(first.log->flush());
  first.log.reset();

  Opened const second = open_log(*place_);

  EXPECT_THAT(second.batches, ElementsAre(one, two, three));
  EXPECT_EQ(second.report.batches, 3u);
  EXPECT_EQ(second.report.last_batch_at, instant_from_ms(3));
  EXPECT_FALSE(second.report.cut_at);
}

TEST_P(LogConformance, AKillLosesNothingThatWasFlushedAndKeepsNothingThatWasOnlyStaged) {
  Opened first = open_log(*place_);
  KnownBatch const flushed = append(*first.log, "flushed");
  stage(*first.log, "staged");
  place_->kill(std::move(first.log));

  Opened const second = open_log(*place_);

  EXPECT_THAT(second.batches, ElementsAre(flushed));
  EXPECT_FALSE(second.report.cut_at);
}

TEST_P(LogConformance, ABatchCanBeReadWhileItIsStagedWhenItIsFlushedAndAfterARestart) {
  Opened first = open_log(*place_, {.recent_bytes = 0});
  KnownBatch const batch = stage(*first.log, noise(1'000));
  EXPECT_EQ(read(*first.log, batch), batch.payload);

  ASSERT_TRUE(first.log->flush());
  EXPECT_EQ(read(*first.log, batch), batch.payload);

  KnownBatch const next = append(*first.log, noise(500, 2));  // Pushes the one before out of memory.
  EXPECT_EQ(read(*first.log, batch), batch.payload);
  EXPECT_EQ(read(*first.log, next), next.payload);

  first.log.reset();
  Opened const second = open_log(*place_);
  EXPECT_EQ(read(*second.log, batch), batch.payload);
}

TEST_P(LogConformance, ALogGoesOverManySegmentsAndABatchNeverStraddlesTwo) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 100, [](int i) { return 50 * i + 1; });
  place_->kill(std::move(first.log));

  Opened const second = open_log(*place_, options);

  EXPECT_EQ(second.batches, known);
  EXPECT_GT(second.log->status().segments.size(), 10u);
  for (KnownBatch const& batch : known) EXPECT_EQ(read(*second.log, batch), batch.payload);
}

// ---- Staging, flushing, reading.

TEST_P(LogConformance, AFlushWithNothingStagedDoesNothing) {
  Opened const opened = open_log(*place_);

  EXPECT_TRUE(opened.log->flush());
  EXPECT_EQ(opened.log->next_base(), opened.log->next_base());
}

TEST_P(LogConformance, ABatchMayBeLargerThanASegment) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  std::vector<KnownBatch> const known{append(*first.log, noise(100)), append(*first.log, noise(3'000'000, 2), 2),
                                      append(*first.log, noise(10), 3)};
  place_->kill(std::move(first.log));

  Opened const second = open_log(*place_, options);

  EXPECT_EQ(second.batches, known);
  EXPECT_GT(known[2].base.segment, known[1].base.segment);
  EXPECT_EQ(read(*second.log, known[1]), known[1].payload);
}

TEST_P(LogConformance, TheLargestBatchFits) {
  Opened first = open_log(*place_);
  KnownBatch const largest = append(*first.log, Bytes(kBatchBytesMax, 'x'));
  KnownBatch const after = append(*first.log, "after");
  first.log.reset();

  Opened const second = open_log(*place_);

  EXPECT_TRUE(second.batches == (std::vector{largest, after}));
}

TEST_P(LogConformance, ManySmallBatchesGoIntoOneFlush) {
  Opened first = open_log(*place_);
  std::vector<KnownBatch> known;
  known.reserve(3'000);
  for (int i = 0; i < 3'000; ++i) known.push_back(stage(*first.log, noise(static_cast<std::size_t>(1 + i % 40)), i));
  ASSERT_TRUE(first.log->flush());
  place_->kill(std::move(first.log));

  Opened const second = open_log(*place_);

  EXPECT_EQ(second.batches, known);
}

TEST_P(LogConformance, AnyPartOfABatchCanBeReadWhereverItLies) {
  PlaceOptions const options{.segment_bytes = 1 << 20, .recent_bytes = 100'000};
  Opened const opened = open_log(*place_, options);
  std::vector<KnownBatch> known;
  append_many(*opened.log, known, 40, [](int i) { return 1 + i * 2'000; });
  known.push_back(stage(*opened.log, noise(70'000, 99)));
  Rng rng{7};

  for (int i = 0; i < 2'000; ++i) {
    KnownBatch const& batch = known[rng.below(known.size())];
    auto const from = static_cast<std::uint32_t>(rng.below(batch.payload.size()));
    std::size_t const length = rng.below(batch.payload.size() - from + 1);
    auto const bytes = opened.log->read({batch.base.segment, batch.base.offset + from}, length);
    ASSERT_TRUE(bytes) << describe(bytes.error());
    ASSERT_EQ(*bytes, BytesView{batch.payload}.substr(from, length));
  }
}

TEST_P(LogConformance, NothingIsReadBeyondTheEndOfTheLog) {
  Opened const opened = open_log(*place_, {.recent_bytes = 0});
  KnownBatch const old = append(*opened.log, noise(1'000));
  KnownBatch const last = append(*opened.log, noise(1'000));

  auto const beyond_last = opened.log->read(last.base, 1'001);
  auto const after_last = opened.log->read({last.base.segment, last.base.offset + 1'200}, 1);
  auto const far_beyond_old = opened.log->read(old.base, 100'000);

  ASSERT_FALSE(beyond_last);
  EXPECT_EQ(beyond_last.error().code, ErrorCode::log_corrupt);
  EXPECT_FALSE(after_last);
  EXPECT_FALSE(far_beyond_old);
}

TEST_P(LogConformance, FlushesOnAnotherThreadWhileTheShardGoesOnStagingReadingAndTrimming) {
  PlaceOptions const options{.segment_bytes = 4096, .recent_bytes = 8'000};
  Opened first = open_log(*place_, options);
  Log& log = *first.log;
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> flushed{0};
  std::thread flusher{[&] {
    while (!done.load()) {
      EXPECT_TRUE(log.flush());
      flushed.fetch_add(1);
    }
  }};

  std::vector<KnownBatch> known;
  Rng rng{3};
  for (int i = 0; i < 2'000; ++i) {
    known.push_back(stage(log, noise(1 + rng.below(300), rng.next()), i));
    KnownBatch const& some = known[rng.below(known.size())];
    if (some.base.segment >= log.status().segments.front().ordinal) {
      EXPECT_EQ(read(log, some), some.payload);
    }
    if (i % 100 == 99) {
      EXPECT_TRUE(log.trim_oldest());
    }
    if (i % 10 == 9) {  // A shard that waits for its flush now and then, as one does that bounds what is in flight.
      std::uint64_t const before = flushed.load();
      while (flushed.load() < before + 2) std::this_thread::yield();
    }
  }
  done.store(true);
  flusher.join();
  ASSERT_TRUE(log.flush());
  std::uint32_t const oldest = log.status().segments.front().ordinal;
  place_->kill(std::move(first.log));
  Opened const second = open_log(*place_, options);

  std::erase_if(known, [&](KnownBatch const& batch) { return batch.base.segment < oldest; });
  std::vector<KnownBatch> seen = second.batches;
  std::erase_if(seen, [&](KnownBatch const& batch) { return batch.base.segment < oldest; });
  EXPECT_EQ(seen, known);
}

TEST_P(LogConformance, EveryDurabilityKeepsWhatWasFlushedWhenOnlyTheProcessDies) {
  for (Durability const durability : {Durability::sync, Durability::interval, Durability::os}) {
    auto const place = GetParam().make_place();
    PlaceOptions const options{.segment_bytes = 4096, .durability = durability};
    Opened first = open_log(*place, options);
    std::vector<KnownBatch> known;
    append_many(*first.log, known, 40, 500);
    place->kill(std::move(first.log));

    EXPECT_EQ(open_log(*place, options).batches, known);
  }
}

// ---- Replay and ownership.

TEST_P(LogConformance, ReplayStopsAtTheVisitorsFirstError) {
  Opened first = open_log(*place_);
  for (int i = 0; i < 3; ++i) append(*first.log, "batch");
  first.log.reset();
  auto const log = place_->open({});
  ASSERT_TRUE(log);
  int seen = 0;

  auto const report = (*log)->replay(
      [&](ReplayedBatch const&) -> Result<> {
        if (++seen == 2) return fail(ErrorCode::internal, "enough");
        return {};
      },
      {});

  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().message, "enough");
  EXPECT_EQ(seen, 2);
}

TEST_P(LogConformance, ReplayTellsHowFarItIs) {
  Opened first = open_log(*place_);
  for (int i = 0; i < 50; ++i) append(*first.log, noise(100'000));
  first.log.reset();
  auto const log = place_->open({});
  ASSERT_TRUE(log);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> progress;

  ASSERT_TRUE((*log)->replay([](ReplayedBatch const&) { return Result<>{}; },
                             [&](std::uint64_t done, std::uint64_t total) { progress.emplace_back(done, total); }));

  ASSERT_GE(progress.size(), 3u);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  for (auto const& [done, total] : progress) EXPECT_LE(done, total);
  EXPECT_EQ(progress.back().first, progress.back().second);
}

TEST_P(LogConformance, EpochsGrowWithEveryOwnerAlsoWhenNothingElseIsWritten) {
  std::vector<Epoch> epochs;
  for (int i = 0; i < 5; ++i) {
    Opened opened = open_log(*place_);
    epochs.push_back(opened.epoch);
    place_->kill(std::move(opened.log));
  }

  EXPECT_THAT(epochs, ElementsAre(Epoch{1}, Epoch{2}, Epoch{3}, Epoch{4}, Epoch{5}));
}

TEST_P(LogConformance, OneOwnerAtATime) {
  Opened const first = open_log(*place_);
  stage(*first.log, "of the first owner");

  auto const second = try_open_log(*place_);  // Refused, or the first one is fenced out.

  if (!second) {
    EXPECT_EQ(second.error().code, ErrorCode::log_in_use);
    EXPECT_TRUE(first.log->flush());
  } else {
    auto const flushed = first.log->flush();
    ASSERT_FALSE(flushed);
    EXPECT_EQ(flushed.error().code, ErrorCode::log_fenced);
  }
}

TEST_P(LogConformance, OpeningAgainAndAgainDoesNotFillTheDevice) {
  PlaceOptions const options{.segment_bytes = 4096};
  std::vector<KnownBatch> known;
  for (int i = 0; i < 40; ++i) {
    Opened opened = open_log(*place_, options);
    ASSERT_EQ(opened.batches, known) << i;
    known.push_back(append(*opened.log, "one a run", i));
    if (i % 2 == 0) place_->kill(std::move(opened.log));
  }

  Opened const last = open_log(*place_, options);

  EXPECT_LE(last.log->status().segments.size(), 4u);
  EXPECT_LE(last.log->status().disk_bytes, 6u * 4096);
}

TEST_P(LogConformance, SegmentsOfAnotherSizeAreReadAndFollowed) {
  std::vector<KnownBatch> known;
  for (std::uint32_t const segment_bytes : {4096u, 16384u, 8192u}) {
    PlaceOptions const options{.segment_bytes = segment_bytes};
    Opened opened = open_log(*place_, options);
    ASSERT_EQ(opened.batches, known);
    append_many(*opened.log, known, 20, 900);
    place_->kill(std::move(opened.log));
  }

  EXPECT_EQ(open_log(*place_, {.segment_bytes = 4096}).batches, known);
}

// ---- Segments: status, survivors, trimming.

TEST_P(LogConformance, StatusTellsWhatIsInUse) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened const opened = open_log(*place_, options);
  for (int i = 0; i < 10; ++i) append(*opened.log, noise(1'000));
  KnownBatch const staged = stage(*opened.log, noise(1'000));

  LogStatus const status = opened.log->status();

  EXPECT_EQ(status.epoch, Epoch{1});
  EXPECT_EQ(status.segments.front().ordinal, 1u);
  EXPECT_EQ(status.segments.back().ordinal, staged.base.segment);
  EXPECT_EQ(status.segments.back().bytes, staged.base.offset + 1'000u);
  EXPECT_GE(status.disk_bytes, (status.segments.size() - 1) * 4096);
  EXPECT_GT(status.free_bytes, 0u);
  EXPECT_EQ(status.flushes, 11u);  // With the one of own().
  EXPECT_GT(status.flushed_bytes, 10'000u);
}

}  // namespace

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LogConformance);

}  // namespace workmill::log
