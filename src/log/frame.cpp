#include "log/frame.h"

#include <fmt/format.h>

#include <cstring>

#include "base/assert.h"
#include "log/crc32c.h"

namespace workmill::log {
namespace {

constexpr char kSegmentMagic[] = {'W', 'M', 'S', 'E', 'G', 'M', 'N', 'T'};
constexpr std::uint32_t kFrameMagic = 0x46724d57;  // "WMrF".

constexpr std::size_t kSegmentCrcAt = 12;
constexpr std::size_t kSegmentCheckedFrom = 16;
constexpr std::size_t kFrameCrcAt = 4;
constexpr std::size_t kFrameCheckedFrom = 8;

template <class T>
void put(char* out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out[i] = static_cast<char>((value >> (8 * i)) & 0xff);
}

// Where the checksums of a log's frame headers start from.
std::uint32_t crc_of_log(std::uint64_t log_id) {
  char bytes[sizeof log_id];
  put(bytes, log_id);
  return crc32c({bytes, sizeof bytes});
}

}  // namespace

void encode_segment_header(SegmentHeader const& header, char* out) {
  std::memset(out, 0, kSegmentHeaderBytes);
  std::memcpy(out, kSegmentMagic, sizeof kSegmentMagic);
  put(out + 8, kFormatVersion);
  put(out + 16, header.log_id);
  put(out + 24, header.ordinal);
  put(out + 28, std::to_underlying(header.epoch));
  put(out + 32, header.segment_bytes);
  put(out + kSegmentCrcAt, crc32c({out + kSegmentCheckedFrom, kSegmentHeaderBytes - kSegmentCheckedFrom}));
}

void encode_frame_header(FrameHeader const& header, std::uint64_t log_id, char* out) {
  put(out, kFrameMagic);
  put(out + 8, header.payload_crc);
  put(out + 12, header.payload_bytes);
  put(out + 16, header.start.segment);
  put(out + 20, header.start.offset);
  put(out + 24, header.sequence);
  put(out + 32, static_cast<std::uint64_t>(to_ms(header.at)));
  put(out + 40, std::to_underlying(header.epoch));
  put(out + 44, header.durable.segment);
  put(out + 48, header.durable.offset);
  put(out + 52, header.oldest);
  put(out + 56, std::to_underlying(header.kind));
  put(out + 60, std::uint32_t{0});
  put(out + kFrameCrcAt, crc32c({out + kFrameCheckedFrom, kFrameHeaderBytes - kFrameCheckedFrom}, crc_of_log(log_id)));
}

Result<SegmentHeader> decode_segment_header(BytesView in) {
  WM_ASSERT(in.size() >= kSegmentHeaderBytes);
  in = in.substr(0, kSegmentHeaderBytes);
  if (std::memcmp(in.data(), kSegmentMagic, sizeof kSegmentMagic) != 0) {
    return fail(ErrorCode::log_corrupt, "this is no log segment: its first eight bytes are wrong");
  }
  ByteReader reader{in.substr(sizeof kSegmentMagic)};
  std::uint32_t const version = reader.u32();
  std::uint32_t const crc = reader.u32();
  if (version != kFormatVersion) {  // Before the checksum: another version may check other bytes.
    return fail(ErrorCode::log_version, fmt::format("the log has format version {}, and this program reads version {}",
                                                    version, kFormatVersion));
  }
  if (crc != crc32c(in.substr(kSegmentCheckedFrom))) {
    return fail(ErrorCode::log_corrupt, "the segment header is damaged: its checksum does not match");
  }
  SegmentHeader header;
  header.log_id = reader.u64();
  header.ordinal = reader.u32();
  header.epoch = Epoch{reader.u32()};
  header.segment_bytes = reader.u32();
  return header;
}

std::optional<FrameHeader> decode_frame_header(BytesView in, std::uint64_t log_id) {
  if (in.size() < kFrameHeaderBytes) return {};
  in = in.substr(0, kFrameHeaderBytes);
  ByteReader reader{in};
  if (reader.u32() != kFrameMagic) return {};
  if (reader.u32() != crc32c(in.substr(kFrameCheckedFrom), crc_of_log(log_id))) return {};
  FrameHeader header;
  header.payload_crc = reader.u32();
  header.payload_bytes = reader.u32();
  header.start.segment = reader.u32();
  header.start.offset = reader.u32();
  header.sequence = reader.u64();
  header.at = instant_from_ms(static_cast<std::int64_t>(reader.u64()));
  header.epoch = Epoch{reader.u32()};
  header.durable.segment = reader.u32();
  header.durable.offset = reader.u32();
  header.oldest = reader.u32();
  header.kind = FrameKind{reader.u32()};
  return header;
}

}  // namespace workmill::log
