#include "log/conformance.h"

// What is copied ahead, and what may be dropped then.
namespace workmill::log {
namespace {

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

}  // namespace
}  // namespace workmill::log
