#include "log/conformance.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <ostream>
#include <thread>

#include "base/rng.h"
#include "log/frame.h"

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

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Bytes read(Log& log, KnownBatch const& batch) {
  auto const bytes = log.read(batch.base, batch.payload.size());
  return bytes ? Bytes{*bytes} : "error: " + describe(bytes.error());
}

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

std::vector<KnownBatch> batches_of_segment(Log& log, std::uint32_t ordinal) {
  std::vector<KnownBatch> batches;
  Position cursor{ordinal, 0};
  while (true) {
    auto const batch = log.next_batch(cursor);
    if (!batch) {
      ADD_FAILURE() << describe(batch.error());
      return batches;
    }
    std::optional<ReplayedBatch> const& found = *batch;
    if (!found) return batches;
    batches.push_back({found->base, found->at, Bytes{found->payload}});
  }
}

TEST_P(LogConformance, TheBatchesOfASegmentComeOneByOneFromMemoryAndFromTheDevice) {
  for (std::size_t const recent_bytes : {std::size_t{0}, std::size_t{1} << 20}) {
    auto const place = GetParam().make_place();
    PlaceOptions const options{.segment_bytes = 200'000, .recent_bytes = recent_bytes};
    Opened const opened = open_log(*place, options);
    std::vector<KnownBatch> known;
    append_many(*opened.log, known, 20, [](int i) { return 1 + i * 5'000; });

    std::vector<KnownBatch> seen;
    for (SegmentInfo const& segment : opened.log->status().segments) {
      for (KnownBatch& batch : batches_of_segment(*opened.log, segment.ordinal)) seen.push_back(std::move(batch));
    }

    EXPECT_EQ(seen, known);
  }
}

TEST_P(LogConformance, ABatchIsNoSurvivorBeforeItIsFlushed) {
  Opened const opened = open_log(*place_);
  KnownBatch const flushed = append(*opened.log, "flushed");
  KnownBatch const staged = stage(*opened.log, "staged");
  Position cursor{flushed.base.segment, 0};

  ASSERT_TRUE(opened.log->next_batch(cursor).value().has_value());
  EXPECT_FALSE(opened.log->next_batch(cursor).value().has_value());

  ASSERT_TRUE(opened.log->flush());
  std::optional<ReplayedBatch> const after = opened.log->next_batch(cursor).value();
  EXPECT_EQ(after.value_or(ReplayedBatch{}).payload, staged.payload);
  EXPECT_FALSE(opened.log->next_batch(cursor).value().has_value());
}

TEST_P(LogConformance, WhatIsDamagedWhileTheLogIsOpenIsNeverServed) {
  PlaceOptions const options{.segment_bytes = 150'000, .recent_bytes = 0};
  Opened first = open_log(*place_, options);
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 12, [](int i) { return 1 + i * 9'000; });
  first.log.reset();
  Opened const second = open_log(*place_, options);  // Half of them known from the replay, half as they were written.
  append_many(*second.log, known, 12, [](int i) { return 1 + i * 9'000; });
  std::uint32_t const tail = second.log->status().segments.back().ordinal;
  int refused = 0;

  for (KnownBatch const& batch : known) {
    if (batch.base.segment == tail) break;  // The block that grows is not checked.
    Bytes const good = place_->bytes_of(batch.base.segment);
    Bytes bad = good;
    bad[batch.base.offset + batch.payload.size() / 2] ^= 1;
    place_->replace(batch.base.segment, bad);
    auto const bytes = second.log->read(batch.base, batch.payload.size());
    if (bytes) {
      EXPECT_EQ(*bytes, batch.payload);  // From memory.
    } else {
      EXPECT_EQ(bytes.error().code, ErrorCode::log_corrupt);
      ++refused;
    }
    place_->replace(batch.base.segment, good);
  }
  EXPECT_GT(refused, 10);
}

TEST_P(LogConformance, ADamagedSurvivorIsNotHandedOut) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  KnownBatch const batch = append(*first.log, noise(1'000));
  for (int i = 0; i < 10; ++i) append(*first.log, noise(1'000));
  first.log.reset();
  Opened const second = open_log(*place_, options);
  Bytes bytes = place_->bytes_of(batch.base.segment);
  bytes[batch.base.offset + 500] ^= 1;
  place_->replace(batch.base.segment, bytes);
  Position cursor{batch.base.segment, 0};

  auto const survivor = second.log->next_batch(cursor);

  ASSERT_FALSE(survivor);
  EXPECT_EQ(survivor.error().code, ErrorCode::log_corrupt);
}

TEST_P(LogConformance, ATrimmedSegmentDoesNotComeBack) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 30, 1'000);
  std::uint32_t const oldest = first.log->status().segments.front().ordinal;

  auto const trimmed = first.log->trim_oldest();
  ASSERT_TRUE(trimmed && *trimmed);
  EXPECT_EQ(first.log->status().segments.front().ordinal, oldest + 1);
  known.push_back(append(*first.log, "the flush that makes it so"));
  place_->kill(std::move(first.log));
  Opened const second = open_log(*place_, options);

  std::erase_if(known, [&](KnownBatch const& batch) { return batch.base.segment == oldest; });
  EXPECT_EQ(second.batches, known);
  EXPECT_EQ(second.log->status().segments.front().ordinal, oldest + 1);
}

TEST_P(LogConformance, ADeathBetweenTrimmingAndTheNextFlushBringsTheWholeSegmentBack) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 10, 1'000);

  ASSERT_TRUE(first.log->trim_oldest().value());
  place_->kill(std::move(first.log));

  EXPECT_EQ(open_log(*place_, options).batches, known);
}

TEST_P(LogConformance, TheSegmentThatIsBeingWrittenIsNeverTrimmed) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened const opened = open_log(*place_, options);
  EXPECT_FALSE(opened.log->trim_oldest().value());

  while (opened.log->status().segments.size() < 2) stage(*opened.log, noise(1'000));
  EXPECT_FALSE(opened.log->trim_oldest().value());  // Staged only: the first segment is still to be written.

  ASSERT_TRUE(opened.log->flush());
  EXPECT_TRUE(opened.log->trim_oldest().value());
  EXPECT_FALSE(opened.log->trim_oldest().value());
}

TEST_P(LogConformance, SpaceOfTrimmedSegmentsIsUsedAgain) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened opened = open_log(*place_, options);
  std::vector<KnownBatch> known;
  for (int i = 0; i < 300; ++i) {
    known.push_back(append(*opened.log, noise(700, static_cast<std::uint64_t>(i)), i));
    if (opened.log->status().segments.size() > 4) {
      ASSERT_TRUE(opened.log->trim_oldest().value());
    }
  }
  std::uint32_t const oldest = opened.log->status().segments.front().ordinal;
  EXPECT_LE(opened.log->status().disk_bytes, 8u * 4096);
  append(*opened.log, "the flush that makes it so");
  place_->kill(std::move(opened.log));

  Opened const again = open_log(*place_, options);

  std::erase_if(known, [&](KnownBatch const& batch) { return batch.base.segment < oldest; });
  ASSERT_EQ(again.batches.size(), known.size() + 1);
  EXPECT_TRUE(std::equal(known.begin(), known.end(), again.batches.begin()));
}

// ---- Torn tails. A flush that the power cut short leaves any part of what it wrote.

// The segments before and after some flushes of which the second image shows the result.
using Image = std::map<std::uint32_t, Bytes>;
Image image_of(Place const& place) {
  Image image;
  for (std::uint32_t const ordinal : place.ordinals()) image[ordinal] = place.bytes_of(ordinal);
  return image;
}
void restore(Place& place, Image const& image) {
  for (std::uint32_t const ordinal : place.ordinals()) {
    if (!image.contains(ordinal)) place.remove(ordinal);
  }
  for (auto const& [ordinal, bytes] : image) place.replace(ordinal, bytes);
}

constexpr std::size_t kHeader = 64;

TEST_P(LogConformance, AFlushTornAtAnyByteLeavesEverythingBeforeIt) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  KnownBatch const before = append(*first.log, noise(100));
  Image const image_before = image_of(*place_);
  KnownBatch const torn = append(*first.log, noise(93, 2));
  place_->kill(std::move(first.log));
  Image const image_after = image_of(*place_);
  std::uint32_t const ordinal = torn.base.segment;
  std::size_t const start = torn.base.offset - kHeader;

  for (std::size_t written = 0; written <= kHeader + torn.payload.size(); ++written) {
    Image image = image_before;
    image_after.at(ordinal).copy(image.at(ordinal).data() + start, written, start);
    restore(*place_, image);

    Opened cut = open_log(*place_, options);
    bool const is_whole = written == kHeader + torn.payload.size();
    ASSERT_EQ(cut.batches, is_whole ? (std::vector{before, torn}) : std::vector{before}) << written;
    ASSERT_EQ(cut.report.cut_at,
              is_whole || written == 0 ? Position{} : (Position{ordinal, static_cast<std::uint32_t>(start)}))
        << written;
    ASSERT_EQ(cut.report.cut_bytes > 0, bool{cut.report.cut_at});
    KnownBatch const next = append(*cut.log, "the next");
    place_->kill(std::move(cut.log));

    Opened const again = open_log(*place_, options);
    ASSERT_EQ(again.batches, is_whole ? (std::vector{before, torn, next}) : (std::vector{before, next})) << written;
    ASSERT_FALSE(again.report.cut_at);
  }
}

TEST_P(LogConformance, AFlushOfSeveralBatchesTornInAnyCombinationLeavesAPrefixAndTheRestNeverComesBack) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  std::vector<KnownBatch> known{append(*first.log, noise(1'500))};
  Image const image_before = image_of(*place_);
  // Over the turn to the next segment: the second of the three begins there.
  for (std::uint64_t i = 0; i < 3; ++i) known.push_back(stage(*first.log, noise(i == 0 ? 2'400 : 120, i + 2)));
  ASSERT_TRUE(first.log->flush());
  place_->kill(std::move(first.log));
  Image const image_after = image_of(*place_);
  ASSERT_NE(known[1].base.segment, known[2].base.segment);

  for (unsigned kept = 0; kept < 64; ++kept) {  // A bit each for header and payload of the three.
    Image image = image_before;
    for (auto const& [ordinal, bytes] : image_after) {  // Segments are made before they are written to.
      if (!image.contains(ordinal)) (image[ordinal] = Bytes(bytes.size(), '\0')).replace(0, kHeader, bytes, 0, kHeader);
    }
    std::size_t whole = 1;
    for (unsigned i = 0; i < 3; ++i) {
      KnownBatch const& batch = known[i + 1];
      std::size_t const base = batch.base.offset;
      Bytes& bytes = image.at(batch.base.segment);
      bool const has_header = (kept >> (2 * i) & 1) != 0;
      bool const has_payload = (kept >> (2 * i + 1) & 1) != 0;
      if (has_header)
        bytes.replace(base - kHeader, kHeader, image_after.at(batch.base.segment), base - kHeader, kHeader);
      if (has_payload) bytes.replace(base, batch.payload.size(), batch.payload);
      if (has_header && has_payload && whole == i + 1) ++whole;
    }
    restore(*place_, image);

    Opened cut = open_log(*place_, options);
    std::vector<KnownBatch> expected{known.begin(), known.begin() + static_cast<std::ptrdiff_t>(whole)};
    ASSERT_EQ(cut.batches, expected) << kept;
    // As long as those that were torn, so that old frames stand just where new ones could be looked for.
    for (std::size_t i = whole; i < known.size(); ++i) expected.push_back(append(*cut.log, known[i].payload, 9));
    place_->kill(std::move(cut.log));

    ASSERT_EQ(open_log(*place_, options).batches, expected) << kept;
  }
}

TEST_P(LogConformance, BytesOfAClientThatLookLikeFramesAreNotTakenForFrames) {
  PlaceOptions const options{.segment_bytes = 64 << 10};
  Opened first = open_log(*place_, options);
  KnownBatch const before = append(*first.log, noise(1'000));
  for (int i = 0; i < 3; ++i) append(*first.log, noise(1'000));
  Bytes const stolen = place_->bytes_of(before.base.segment).substr(0, 20'000);
  KnownBatch const last_whole = append(*first.log, stolen);
  Image const image_before = image_of(*place_);
  KnownBatch const torn = append(*first.log, stolen);
  place_->kill(std::move(first.log));
  Image image = image_of(*place_);
  // Its header is lost, the payload is there, full of frames that say how far the log was durable.
  std::size_t const start = torn.base.offset - kHeader;
  image.at(torn.base.segment).replace(start, kHeader, Bytes(kHeader, '\0'));
  restore(*place_, image);

  Opened const cut = open_log(*place_, options);

  ASSERT_EQ(cut.batches.size(), 5u);
  EXPECT_EQ(cut.batches.back(), last_whole);
}

// ---- Corruption: what was durable and is damaged.

Error open_error(Place& place, PlaceOptions const& options) {
  auto const opened = try_open_log(place, options);
  if (opened) {
    ADD_FAILURE() << "the damage went unseen";
    return {};
  }
  return opened.error();
}

TEST_P(LogConformance, AnyFlippedBitBeforeTheTailIsRefusedWithFileAndOffset) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  append(*first.log, noise(40));
  KnownBatch const damaged = append(*first.log, noise(56));
  append(*first.log, noise(40));
  append(*first.log, noise(40));
  place_->kill(std::move(first.log));
  Bytes const good = place_->bytes_of(1);
  std::size_t const start = damaged.base.offset - kHeader;

  for (std::size_t at = start; at < start + kHeader + damaged.payload.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= static_cast<char>(1 << at % 8);
    place_->replace(1, bad);

    Error const error = open_error(*place_, options);

    ASSERT_EQ(error.code, ErrorCode::log_corrupt) << at;
    ASSERT_THAT(error.message, HasSubstr("00000001.wal at offset " + std::to_string(start)));
  }
  place_->replace(1, good);
  EXPECT_EQ(open_log(*place_, options).batches.size(), 4u);  // Looking changed nothing.
}

TEST_P(LogConformance, DamageInAnOlderSegmentIsRefused) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  KnownBatch last_of_first = append(*first.log, noise(500));
  for (int i = 0; i < 30; ++i) {
    KnownBatch const batch = append(*first.log, noise(500));
    if (batch.base.segment == 1) last_of_first = batch;
  }
  place_->kill(std::move(first.log));
  Image const good = image_of(*place_);

  Image image = good;  // The end of the segment was never written, it seems.
  Bytes& bytes = image.at(1);
  std::size_t const start = last_of_first.base.offset - kHeader;
  bytes.replace(start, bytes.size() - start, Bytes(bytes.size() - start, '\0'));
  restore(*place_, image);
  EXPECT_EQ(open_error(*place_, options).code, ErrorCode::log_corrupt);

  image = good;
  image.at(1).resize(image.at(1).size() / 2);
  restore(*place_, image);
  EXPECT_EQ(open_error(*place_, options).code, ErrorCode::log_corrupt);
}

TEST_P(LogConformance, AMissingSegmentIsRefused) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  for (int i = 0; i < 30; ++i) append(*first.log, noise(500));
  place_->kill(std::move(first.log));
  Image const good = image_of(*place_);

  for (std::uint32_t const ordinal : {1u, 2u}) {  // The oldest, and one between two.
    restore(*place_, good);
    place_->remove(ordinal);

    Error const error = open_error(*place_, options);

    EXPECT_EQ(error.code, ErrorCode::log_corrupt);
    EXPECT_THAT(error.message, HasSubstr("0000000" + std::to_string(ordinal) + ".wal"));
  }
}

TEST_P(LogConformance, ASegmentUnderTheWrongNameOrOfAnotherLogIsRefused) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  for (int i = 0; i < 30; ++i) append(*first.log, noise(500));
  place_->kill(std::move(first.log));
  Image const good = image_of(*place_);

  place_->replace(2, good.at(3));
  EXPECT_EQ(open_error(*place_, options).code, ErrorCode::log_corrupt);

  Bytes foreign = good.at(2);
  SegmentHeader header = *decode_segment_header(foreign);
  header.log_id ^= 1;
  encode_segment_header(header, foreign.data());
  place_->replace(2, foreign);
  EXPECT_EQ(open_error(*place_, options).code, ErrorCode::log_corrupt);
}

TEST_P(LogConformance, AnotherFormatVersionIsNotACorruption) {
  PlaceOptions const options{};
  append(*open_log(*place_, options).log, "batch");
  Bytes bytes = place_->bytes_of(1);
  bytes[8] = 2;
  place_->replace(1, bytes);

  Error const error = open_error(*place_, options);

  EXPECT_EQ(error.code, ErrorCode::log_version);
  EXPECT_THAT(error.message, HasSubstr("version 2"));
}

TEST_P(LogConformance, WhatALaterOwnerFoundIsDurableToo) {
  PlaceOptions const options{};
  Opened first = open_log(*place_, options);
  KnownBatch const last = append(*first.log, "the last of its owner");
  place_->kill(std::move(first.log));
  Opened second = open_log(*place_, options);
  place_->kill(std::move(second.log));
  Bytes bytes = place_->bytes_of(1);
  bytes[last.base.offset] ^= 1;
  place_->replace(1, bytes);

  EXPECT_EQ(open_error(*place_, options).code, ErrorCode::log_corrupt);
}

// ---- Everything at once, against a model: the list of what was flushed.

class Model {
 public:
  Model(Place& place, std::uint64_t seed) : place_(place), rng_(seed) { open(); }

  void step() {
    switch (rng_.below(20)) {
      default: return stage_one();
      case 10:
      case 11:
      case 12:
      case 13:
      case 14:
      case 15: return flush();
      case 16: return trim();
      case 17: return reopen(/*killed=*/true);
      case 18: return reopen(/*killed=*/false);
      case 19: return read_one();
    }
  }

 private:
  void open() {
    Opened opened = open_log(place_, options_);
    log_ = std::move(opened.log);
    ASSERT_GT(opened.epoch, epoch_);
    epoch_ = opened.epoch;
    // A segment trimmed since the last flush may have come back, whole.
    if (opened.batches.size() > flushed_.size()) flushed_.insert(flushed_.begin(), trimmed_.begin(), trimmed_.end());
    trimmed_.clear();
    ASSERT_EQ(opened.batches, flushed_);
  }
  void stage_one() {
    std::size_t const size = rng_.chance(50) ? 1 + rng_.below(20'000) : 1 + rng_.below(500);
    staged_.push_back(stage(*log_, noise(size, rng_.next()), ++time_));
  }
  void flush() {
    if (!staged_.empty()) trimmed_.clear();
    ASSERT_TRUE(log_->flush());
    std::move(staged_.begin(), staged_.end(), std::back_inserter(flushed_));
    staged_.clear();
  }
  void trim() {
    if (!trimmed_.empty()) return;
    std::uint32_t const oldest = log_->status().segments.front().ordinal;
    if (!log_->trim_oldest().value()) return;
    auto const kept = std::find_if(flushed_.begin(), flushed_.end(),
                                   [&](KnownBatch const& batch) { return batch.base.segment != oldest; });
    trimmed_.assign(flushed_.begin(), kept);
    flushed_.erase(flushed_.begin(), kept);
  }
  void reopen(bool killed) {
    if (!killed) flush();
    staged_.clear();
    if (killed) place_.kill(std::move(log_));
    log_.reset();
    open();
  }
  void read_one() {
    std::size_t const count = flushed_.size() + staged_.size();
    if (count == 0) return;
    std::size_t const index = rng_.below(count);
    KnownBatch const& batch = index < flushed_.size() ? flushed_[index] : staged_[index - flushed_.size()];
    ASSERT_EQ(read(*log_, batch), batch.payload);
  }

  Place& place_;
  Rng rng_;
  PlaceOptions const options_{.segment_bytes = 4096, .recent_bytes = 3'000};
  std::unique_ptr<Log> log_;
  Epoch epoch_{};
  int time_ = 0;
  std::vector<KnownBatch> staged_;
  std::vector<KnownBatch> flushed_;
  std::vector<KnownBatch> trimmed_;  // Since the last flush that wrote something.
};

TEST_P(LogConformance, BehavesLikeAListOfBatchesWhateverIsDoneToItInWhateverOrder) {
  for (std::uint64_t seed = 1; seed <= 8 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    auto const place = GetParam().make_place();
    Model model{*place, seed};
    for (int i = 0; i < 250 && !HasFailure(); ++i) model.step();
  }
}
}  // namespace

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LogConformance);

}  // namespace workmill::log
