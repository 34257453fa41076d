#include "log/log_reader.h"

#include <gmock/gmock.h>

#include "log/crc32c.h"
#include "log/memory/memory_disk.h"

// Recovery, on segments made by hand: each of its rules alone, which a real log keeps several of at once.
namespace workmill::log {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kReadLogId = 0x5eed;
constexpr std::uint32_t kSegmentBytes = 4096;

// One segment that is written frame by frame, each as it should be but for what a test changes.
class SegmentMaker {
 public:
  explicit SegmentMaker(std::uint32_t ordinal) : ordinal_(ordinal), bytes_(kSegmentHeaderBytes, '\0') {
    encode_segment_header({.log_id = kReadLogId, .ordinal = ordinal, .epoch = Epoch{1}, .segment_bytes = kSegmentBytes},
                          bytes_.data());
  }

  FrameHeader next(std::uint64_t sequence) const {
    return {.start = here(), .sequence = sequence, .epoch = Epoch{2}, .oldest = 1, .kind = FrameKind::batch};
  }
  void add(FrameHeader header, BytesView payload) {
    header.payload_crc = crc32c(payload);
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    Bytes frame(kFrameHeaderBytes, '\0');
    encode_frame_header(header, kReadLogId, frame.data());
    frame.append(payload);
    frame.resize(static_cast<std::size_t>(frame_bytes(payload.size())), '\0');
    bytes_ += frame;
  }
  void add_zeros(std::size_t count) { bytes_.append(count, '\0'); }
  Position here() const { return {ordinal_, static_cast<std::uint32_t>(bytes_.size())}; }
  void put_on(MemoryDisk& disk) const {
    Bytes whole = bytes_;
    whole.resize(kSegmentBytes, '\0');
    disk.replace(ordinal_, whole);
  }

 private:
  std::uint32_t ordinal_;
  Bytes bytes_;
};

struct Found {
  std::vector<Bytes> payloads;
  Result<LogReader::End> end;
};

Found read_all(MemoryDisk& disk) {
  auto const session = disk.open();
  LogReader reader{*session};
  std::vector<Bytes> payloads;
  while (true) {
    auto const frame = reader.next();
    if (!frame) return {payloads, std::unexpected(frame.error())};
    std::optional<LogReader::Frame> const& found = *frame;
    if (!found) return {payloads, reader.end()};
    payloads.emplace_back(found->payload);
  }
}

class LogReaderTest : public testing::Test {
 protected:
  Found read() {
    segment_.put_on(disk_);
    return read_all(disk_);
  }
  MemoryDisk disk_;
  SegmentMaker segment_{1};
};

TEST_F(LogReaderTest, AnEmptyDiskHasNoEnd) {
  Found const found = read_all(disk_);

  ASSERT_TRUE(found.end);
  EXPECT_FALSE(found.end->next);
}

TEST_F(LogReaderTest, FramesAreReadUpToTheZeros) {
  segment_.add(segment_.next(7), "one");
  segment_.add(segment_.next(8), "two");
  Position const end = segment_.here();

  Found const found = read();

  EXPECT_THAT(found.payloads, ElementsAre("one", "two"));
  ASSERT_TRUE(found.end);
  EXPECT_EQ(found.end->next, end);
  EXPECT_EQ(found.end->next_sequence, 9u);
  EXPECT_EQ(found.end->epoch, Epoch{2});
  EXPECT_FALSE(found.end->torn);
}

TEST_F(LogReaderTest, AFrameOfAnEarlierOwnerIsNotGoneOnWith) {
  segment_.add(segment_.next(1), "of epoch two");
  Position const end = segment_.here();
  FrameHeader stale = segment_.next(2);
  stale.epoch = Epoch{1};
  segment_.add(stale, "left over from a tail that was cut");

  Found const found = read();

  EXPECT_THAT(found.payloads, ElementsAre("of epoch two"));
  EXPECT_EQ(found.end->next, end);
}

TEST_F(LogReaderTest, AFrameOlderThanItsSegmentIsNone) {
  FrameHeader stale = segment_.next(1);
  stale.epoch = Epoch{0};
  segment_.add(stale, "of the file's life as another segment");

  EXPECT_THAT(read().payloads, IsEmpty());
}

TEST_F(LogReaderTest, AFrameOutOfSequenceIsNotGoneOnWith) {
  segment_.add(segment_.next(1), "first");
  Position const end = segment_.here();
  segment_.add(segment_.next(3), "third");

  Found const found = read();

  EXPECT_THAT(found.payloads, ElementsAre("first"));
  EXPECT_EQ(found.end->next, end);
  EXPECT_TRUE(found.end->torn);
}

TEST_F(LogReaderTest, AFrameThatWasWrittenElsewhereIsNotGoneOnWith) {
  for (Position const elsewhere : {Position{1, 4000}, Position{2, kSegmentHeaderBytes + 72}}) {
    SegmentMaker segment{1};
    segment.add(segment.next(1), "first");
    FrameHeader header = segment.next(2);
    header.start = elsewhere;
    segment.add(header, "a copy");
    segment.put_on(disk_);

    EXPECT_THAT(read_all(disk_).payloads, ElementsAre("first"));
  }
}

TEST_F(LogReaderTest, AWitnessBehindDamageMakesItCorruption) {
  segment_.add(segment_.next(1), "first");
  Position const lost = segment_.here();
  segment_.add_zeros(72);
  FrameHeader witness = segment_.next(3);
  witness.durable = segment_.here();
  Position const witness_at = segment_.here();
  segment_.add(witness, "I saw it");

  Found const found = read();

  ASSERT_FALSE(found.end);
  EXPECT_EQ(found.end.error().code, ErrorCode::log_corrupt);
  EXPECT_THAT(found.end.error().message, HasSubstr("00000001.wal at offset " + std::to_string(lost.offset)));
  EXPECT_THAT(found.end.error().message, HasSubstr("00000001.wal at offset " + std::to_string(witness_at.offset)));
}

TEST_F(LogReaderTest, AFrameBehindDamageThatKnewNothingDurableBeyondItIsNoWitness) {
  segment_.add(segment_.next(1), "first");
  Position const lost = segment_.here();
  segment_.add_zeros(72);
  FrameHeader same_flush = segment_.next(3);
  same_flush.durable = lost;
  segment_.add(same_flush, "of the same flush as what was torn");
  Position const behind = segment_.here();

  Found const found = read();

  ASSERT_TRUE(found.end);
  EXPECT_EQ(found.end->next, lost);
  EXPECT_TRUE(found.end->torn);
  EXPECT_EQ(found.end->torn_bytes, behind.offset - lost.offset);
}

TEST_F(LogReaderTest, AFrameOutOfPlaceIsNoWitness) {
  segment_.add(segment_.next(1), "first");
  Position const end = segment_.here();
  segment_.add_zeros(80);
  FrameHeader copy = segment_.next(2);
  copy.start = {1, 3000};
  copy.durable = {9, 9999};
  segment_.add(copy, "bytes of a client, who has them from a copy of this log that is further on");

  Found const found = read();

  ASSERT_TRUE(found.end);
  EXPECT_EQ(found.end->next, end);
}

TEST_F(LogReaderTest, AWitnessMayStandInALaterSegment) {
  segment_.add(segment_.next(1), "first");
  segment_.add_zeros(200);
  SegmentMaker second{2};
  FrameHeader witness = second.next(3);
  witness.durable = {1, 4096};
  second.add(witness, "I saw it");
  second.put_on(disk_);

  EXPECT_EQ(read().end.error().code, ErrorCode::log_corrupt);
}

TEST_F(LogReaderTest, TheOldestSegmentThatWasNeededMustBeThere) {
  SegmentMaker third{3};
  FrameHeader header = third.next(9);
  header.oldest = 2;
  third.add(header, "the second segment is still needed");
  third.put_on(disk_);

  Found const found = read_all(disk_);

  ASSERT_FALSE(found.end);
  EXPECT_EQ(found.end.error().code, ErrorCode::log_corrupt);
  EXPECT_THAT(found.end.error().message, HasSubstr("00000002.wal is missing"));
}

TEST_F(LogReaderTest, ASegmentTooManyAtTheFrontIsReadLikeTheOthers) {  // A death before the drop was done.
  SegmentMaker second{2};
  segment_.add(segment_.next(1), Bytes(kSegmentBytes - kSegmentHeaderBytes - kFrameHeaderBytes, 'x'));
  FrameHeader header = second.next(2);
  header.oldest = 2;
  second.add(header, "the first is not needed any more");
  second.put_on(disk_);

  Found const found = read();

  EXPECT_EQ(found.payloads.size(), 2u);
  EXPECT_TRUE(found.end);
}

TEST_F(LogReaderTest, ALengthBeyondTheFileIsABadFrameAndNoMore) {
  segment_.add(segment_.next(1), "first");
  Position const end = segment_.here();
  segment_.add(segment_.next(2), Bytes(10'000, 'x'));
  segment_.put_on(disk_);  // Cuts the file at its nominal size.

  Found const found = read_all(disk_);

  ASSERT_TRUE(found.end);
  EXPECT_EQ(found.end->next, end);
  EXPECT_TRUE(found.end->torn);
}

}  // namespace
}  // namespace workmill::log
