#include "log/frame.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "base/assert.h"
#include "log/crc32c.h"
#include "log/log_reader.h"
#include "log/memory/memory_log.h"

// Any bytes as the segments of a log: recovery reads them, or refuses them, and what it accepts it accepts again, with
// what was appended in between. The first byte says how the rest is meant: as the plain content of a segment (only its
// header is made right), or as a recipe for frames whose checksums are right and whose other fields are anything, which
// is further than chance would get.
namespace workmill::log {
namespace {

constexpr std::uint64_t kLogId = 1;
constexpr std::uint32_t kSegmentBytes = 8192;

Bytes segment_head(std::uint32_t ordinal) {
  Bytes head(kSegmentHeaderBytes, '\0');
  encode_segment_header({.log_id = kLogId, .ordinal = ordinal, .epoch = Epoch{1}, .segment_bytes = kSegmentBytes},
                        head.data());
  return head;
}

// A recipe is a row of frames, eleven bytes each. Each field is what it should be plus what the recipe says.
void follow_recipe(BytesView recipe, MemoryDisk& disk) {
  ByteReader reader{recipe};
  std::vector<Bytes> segments{segment_head(1)};
  std::uint64_t sequence = 1;
  Position durable;
  while (reader.remaining() >= 11) {
    std::uint8_t const flags = reader.u8();
    if ((flags & 1) != 0 && segments.size() < 4)
      segments.push_back(segment_head(static_cast<std::uint32_t>(segments.size()) + 1));
    Bytes& segment = segments.back();
    Position const start{static_cast<std::uint32_t>(segments.size()), static_cast<std::uint32_t>(segment.size())};
    Bytes const payload(reader.u8(), static_cast<char>(flags));
    FrameHeader header{.payload_crc = crc32c(payload),
                       .payload_bytes = static_cast<std::uint32_t>(payload.size()),
                       .start = start,
                       .sequence = sequence,
                       .at = instant_from_ms(reader.u8()),
                       .epoch = Epoch{1},
                       .durable = durable,
                       .oldest = 1,
                       .kind = FrameKind::batch};
    header.sequence += reader.u8();
    header.epoch = Epoch{1u + reader.u8()};
    header.durable.segment += reader.u8();
    header.durable.offset += reader.u8();
    header.oldest += reader.u8();
    header.kind = FrameKind{reader.u8()};
    header.start.offset += reader.u8();
    header.payload_bytes += (flags & 2) != 0 ? std::uint32_t{reader.u8()} << 24 : reader.u8();
    if ((flags & 4) != 0) ++header.payload_crc;
    Bytes frame(kFrameHeaderBytes, '\0');
    encode_frame_header(header, kLogId, frame.data());
    frame += payload;
    frame.resize(static_cast<std::size_t>(frame_bytes(payload.size())), '\0');
    if ((flags & 8) != 0) frame.assign(frame.size(), '\0');  // Never written.
    if (segment.size() + frame.size() > 4 * kSegmentBytes) break;
    segment += frame;
    sequence = header.sequence + 1;
    if ((flags & 16) == 0) durable = {start.segment, static_cast<std::uint32_t>(segment.size())};
  }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    segments[i].resize(std::max<std::size_t>(segments[i].size(), kSegmentBytes), '\0');
    disk.replace(static_cast<std::uint32_t>(i) + 1, segments[i]);
  }
}

// The payloads that recovery finds, or nothing where it refuses the log.
std::optional<std::vector<Bytes>> recover(MemoryDisk& disk, BytesView appended) {
  auto const log = open_memory_log(disk, {.segment_bytes = kSegmentBytes, .log_id = kLogId});
  WM_ASSERT(log.has_value());
  std::vector<Bytes> found;
  auto const remember = [&](ReplayedBatch const& batch) -> Result<> {
    found.emplace_back(batch.payload);
    return {};
  };
  if (!(*log)->replay(remember, {})) return {};
  WM_ASSERT((*log)->own().has_value());
  for (SegmentInfo const& segment : (*log)->status().segments) {
    Position cursor{segment.ordinal, 0};
    while (true) {
      auto const batch = (*log)->next_batch(cursor);
      WM_ASSERT(batch.has_value());
      std::optional<ReplayedBatch> const& found_again = *batch;
      if (!found_again) break;
      auto const again = (*log)->read(found_again->base, found_again->payload.size());
      WM_ASSERT(again.has_value());
    }
  }
  (*log)->stage(appended, {});
  WM_ASSERT((*log)->flush().has_value());
  found.emplace_back(appended);
  return found;
}

}  // namespace
}  // namespace workmill::log

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill;
  using namespace workmill::log;
  if (size == 0) return 0;
  BytesView const input{reinterpret_cast<char const*>(data) + 1, size - 1};
  MemoryDisk disk;
  if (data[0] % 2 == 0) {
    Bytes content{input};
    if (data[0] % 4 == 0) {
      content.resize(std::max(content.size(), kSegmentHeaderBytes), '\0');
      content.replace(0, kSegmentHeaderBytes, segment_head(1));
    }
    disk.replace(1, content);
  } else {
    follow_recipe(input, disk);
  }
  auto found = recover(disk, "appended after the first recovery");
  if (!found) return 0;
  auto const again = recover(disk, "appended after the second");
  WM_ASSERT(again.has_value());
  found->emplace_back("appended after the second");
  WM_ASSERT(*again == *found);
  return 0;
}
