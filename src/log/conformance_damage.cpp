#include <gmock/gmock.h>

#include <map>

#include "log/conformance.h"
#include "log/frame.h"

// Flushes that were cut short, and bytes that changed since.
namespace workmill::log {
namespace {

using testing::HasSubstr;

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

}  // namespace
}  // namespace workmill::log
