#include "log/frame.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

#include "log/crc32c.h"

namespace workmill::log {
namespace {

constexpr std::uint64_t kLogId = 0x0123456789abcdef;

std::string hex(BytesView bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    text += fmt::format("{:02x}", static_cast<unsigned char>(bytes[i]));
    if (i % 4 == 3) text += i % 16 == 15 ? '\n' : ' ';
  }
  return text;
}

Bytes encoded(SegmentHeader const& header) {
  Bytes bytes(kSegmentHeaderBytes, 'x');
  encode_segment_header(header, bytes.data());
  return bytes;
}

Bytes encoded(FrameHeader const& header, std::uint64_t log_id = kLogId) {
  Bytes bytes(kFrameHeaderBytes, 'x');
  encode_frame_header(header, log_id, bytes.data());
  return bytes;
}

constexpr SegmentHeader kSegment{.log_id = kLogId, .ordinal = 7, .epoch = Epoch{3}, .segment_bytes = 64 << 20};

FrameHeader some_frame() {
  return {.payload_crc = crc32c("hello"),
          .payload_bytes = 5,
          .start = {7, 0x12340},
          .sequence = 0x1122334455667788,
          .at = instant_from_ms(1'795'000'000'000),
          .epoch = Epoch{3},
          .durable = {7, 0x12300},
          .oldest = 2,
          .kind = FrameKind::batch};
}

// docs/log-format.md has the same bytes, with what each of them means. Other bytes are another format version.
TEST(Frame, ASegmentHeaderHasTheseBytes) {
  EXPECT_EQ(hex(encoded(kSegment)),
            "574d5345 474d4e54 01000000 952621df\n"
            "efcdab89 67452301 07000000 03000000\n"
            "00000004 00000000 00000000 00000000\n"
            "00000000 00000000 00000000 00000000\n");
}

TEST(Frame, AFrameHeaderHasTheseBytes) {
  EXPECT_EQ(hex(encoded(some_frame())),
            "574d7246 16b833dc 4cbb719a 05000000\n"
            "07000000 40230100 88776655 44332211\n"
            "005e56ee a1010000 03000000 07000000\n"
            "00230100 02000000 00000000 00000000\n");
}

TEST(Frame, FramesBeginAtMultiplesOfEight) {
  EXPECT_EQ(frame_bytes(0), 64u);
  EXPECT_EQ(frame_bytes(1), 72u);
  EXPECT_EQ(frame_bytes(8), 72u);
  EXPECT_EQ(frame_bytes(9), 80u);
}

TEST(Frame, HeadersReadBackAsTheyWere) {
  auto const segment = decode_segment_header(encoded(kSegment));
  ASSERT_TRUE(segment);
  EXPECT_EQ(*segment, kSegment);
  EXPECT_EQ(decode_frame_header(encoded(some_frame()), kLogId), some_frame());
}

TEST(Frame, AFrameOfAnotherLogIsNone) { EXPECT_FALSE(decode_frame_header(encoded(some_frame(), kLogId + 1), kLogId)); }

TEST(Frame, AShortHeaderIsNone) {
  Bytes const bytes = encoded(some_frame());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_frame_header(BytesView{bytes}.substr(0, size), kLogId));
  }
}

TEST(Frame, ZerosAreNoHeader) { EXPECT_FALSE(decode_frame_header(Bytes(kFrameHeaderBytes, '\0'), 0)); }

TEST(Frame, EveryFlippedBitOfAHeaderIsSeen) {
  Bytes const frame = encoded(some_frame());
  Bytes const segment = encoded(kSegment);
  for (std::size_t bit = 0; bit < 8 * kFrameHeaderBytes; ++bit) {
    Bytes bad = frame;
    bad[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_FALSE(decode_frame_header(bad, kLogId)) << bit;

    bad = segment;
    bad[bit / 8] ^= static_cast<char>(1 << bit % 8);
    auto const decoded = decode_segment_header(bad);
    ASSERT_FALSE(decoded) << bit;
    bool const in_version = bit / 8 >= 8 && bit / 8 < 12;
    EXPECT_EQ(decoded.error().code, in_version ? ErrorCode::log_version : ErrorCode::log_corrupt) << bit;
  }
}

RC_GTEST_PROP(Frame, AnyHeaderReadsBackAsItWas,
              (std::uint32_t crc, std::uint32_t bytes, std::uint32_t segment, std::uint32_t offset,
               std::uint64_t sequence, std::int64_t at, std::uint32_t epoch, std::uint64_t log_id)) {
  FrameHeader const header{.payload_crc = crc,
                           .payload_bytes = bytes,
                           .start = {segment, offset},
                           .sequence = sequence,
                           .at = instant_from_ms(at),
                           .epoch = Epoch{epoch},
                           .durable = {offset, segment},
                           .oldest = epoch / 2,
                           .kind = FrameKind{crc % 3}};

  RC_ASSERT(decode_frame_header(encoded(header, log_id), log_id) == header);
}

}  // namespace
}  // namespace workmill::log
