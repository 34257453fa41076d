#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "log/disk.h"
#include "log/frame.h"
#include "model/position.h"

// Reads all of a log that is whole, over whatever is damaged in between: where LogReader stops and refuses, this goes
// on, and says what it went over. For tools; a server must not use it.
//
// A frame counts where its checksums are right, it stands where it says, and its sequence and epoch fit behind the last
// one that counted. Changes nothing. One thread.
namespace workmill::log {

enum class DamageKind : std::uint8_t {
  missing_segment,  // There is no such file.
  segment_header,   // The first 64 bytes of a file are not its header.
  format_version,   // The segment is of another version: nothing in it is read.
  frame,            // From here on no frame could be read, up to `until`.
  payload,          // The header of a frame is whole, the batch behind it is not.
  record,           // The checksum is right, and what stands there is not understood, or cannot be.
};
std::string_view to_string(DamageKind kind);

struct Damage {
  DamageKind kind{};
  std::uint32_t ordinal = 0;
  std::uint64_t from = 0;
  std::uint64_t until = 0;        // 0: not known.
  std::uint64_t frames_lost = 0;  // As the sequence numbers around it say; 0 where nothing comes behind it.
  std::string what{};             // For people.
};

class ScanVisitor {
 public:
  virtual ~ScanVisitor() = default;
  // A whole frame, of whatever kind. Lent for the call.
  virtual Result<> frame(FrameHeader const& header, BytesView payload) = 0;
  // `unsound`: the bytes of the batches that may have stood there, first one first, not checked by anything.
  virtual void damage(Damage const& damage, BytesView unsound) = 0;
};

struct ScanReport {
  std::uint64_t log_id = 0;
  std::vector<Damage> damages;       // With frames_lost filled in.
  std::uint32_t format_version = 0;  // Of the first segment that has one.
  std::uint64_t frames = 0;
  FrameHeader last;  // Of the last whole frame.
};

// Scans up to `until` (a position of a frame), or where that is none, everything. Progress in bytes, may be empty.
// io_failed; what `visitor` returns.
Result<ScanReport> scan_log(Disk& disk, Position until, ScanVisitor& visitor,
                            std::function<void(std::uint64_t done, std::uint64_t total)> const& on_progress);

}  // namespace workmill::log
