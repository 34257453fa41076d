#include "log/conformance.h"

#include <gmock/gmock.h>

#include <ostream>

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

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Bytes noise(std::size_t size, std::uint64_t seed = 1) {
  Rng rng{seed};
  Bytes bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(rng.next());
  return bytes;
}

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
  for (int i = 0; i < 100; ++i) known.push_back(append(*first.log, noise(static_cast<std::size_t>(50 * i + 1)), i));
  place_->kill(std::move(first.log));

  Opened const second = open_log(*place_, options);

  EXPECT_EQ(second.batches, known);
  EXPECT_GT(second.log->status().segments.size(), 10u);
  for (KnownBatch const& batch : known) EXPECT_EQ(read(*second.log, batch), batch.payload);
}

TEST_P(LogConformance, ATrimmedSegmentDoesNotComeBack) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened first = open_log(*place_, options);
  std::vector<KnownBatch> known;
  for (int i = 0; i < 30; ++i) known.push_back(append(*first.log, noise(1'000), i));
  std::uint32_t const oldest = first.log->status().segments.front().ordinal;

  auto const trimmed = first.log->trim_oldest();
  ASSERT_TRUE(trimmed && *trimmed);
  known.push_back(append(*first.log, "the flush that makes it so"));
  place_->kill(std::move(first.log));
  Opened const second = open_log(*place_, options);

  std::erase_if(known, [&](KnownBatch const& batch) { return batch.base.segment == oldest; });
  EXPECT_EQ(second.batches, known);
  EXPECT_EQ(second.log->status().segments.front().ordinal, oldest + 1);
}

}  // namespace

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LogConformance);

}  // namespace workmill::log
