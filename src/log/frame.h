#pragma once
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "model/ids.h"
#include "model/position.h"

// The bytes around the batches: what stands at the head of a segment and at the head of each frame in it.
// docs/log-format.md describes them byte for byte, frame_test.cpp pins them, and a change of either needs a new
// kFormatVersion. Everything is little-endian. Pure functions over values; any thread.
//
// A frame is a header of 64 bytes, the payload, and zeros up to the next multiple of 8. The header has a checksum of
// its own, so that its length can be trusted although the payload is damaged, and so that a later frame can be found
// behind damage. That checksum begins from the log's random id, and the header says where in the log it stands: bytes
// of a client that look like a frame, or a frame of a file that was recycled or copied, are never taken for one.
namespace workmill::log {

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kSegmentHeaderBytes = 64;
inline constexpr std::size_t kFrameHeaderBytes = 64;
inline constexpr std::size_t kFrameAlignment = 8;

struct SegmentHeader {
  std::uint64_t log_id = 0;         // Random, the same in all segments of a log.
  std::uint32_t ordinal = 0;        // From 1.
  Epoch epoch{};                    // Of the owner that made the segment.
  std::uint32_t segment_bytes = 0;  // Nominal: no frame begins where its header would end behind this.

  bool operator==(SegmentHeader const&) const = default;
};

enum class FrameKind : std::uint32_t {
  batch = 0,
  owner = 1,  // No payload: written by own(), and proof that all before it was durable then.
  seal = 2,   // No payload: written by an orderly close, and the same proof.
};

struct FrameHeader {
  std::uint32_t payload_crc = 0;
  std::uint32_t payload_bytes = 0;
  Position start{};            // Of this header.
  std::uint64_t sequence = 0;  // Grows by one from frame to frame, over all segments.
  Instant at{};
  Epoch epoch{};
  Position durable{};        // The end of what was durable when this frame was written.
  std::uint32_t oldest = 0;  // The oldest segment that was still needed then: what is missing from there on was lost.
  FrameKind kind = FrameKind::batch;

  bool operator==(FrameHeader const&) const = default;
};

// From header to header.
constexpr std::uint64_t frame_bytes(std::uint64_t payload_bytes) {
  return kFrameHeaderBytes + (payload_bytes + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
}

// `out` has room for kSegmentHeaderBytes or kFrameHeaderBytes.
void encode_segment_header(SegmentHeader const& header, char* out);
void encode_frame_header(FrameHeader const& header, std::uint64_t log_id, char* out);

// `in` has at least kSegmentHeaderBytes; log_version or log_corrupt, without a file name.
Result<SegmentHeader> decode_segment_header(BytesView in);
// Nothing where `in` does not begin with a whole, undamaged frame header of this log.
std::optional<FrameHeader> decode_frame_header(BytesView in, std::uint64_t log_id);

}  // namespace workmill::log
