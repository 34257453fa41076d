#pragma once
#include <cstdint>
#include <map>

#include "base/bytes.h"
#include "base/error.h"
#include "log/disk.h"
#include "model/position.h"

// Tells what is whole from what is damaged where a block of 64 KiB is not what was written: one turned bit takes the
// frame that it is in, and no other. The log uses it when a block's checksum does not match, so it may be slow: it goes
// through the segment frame by frame, the first time from its start, later from a frame that it has seen not far
// before.
//
// One thread, the shard's. Keeps the last frame in memory, at most as large as a batch may be, and of one segment the
// place of a frame in each 64 KiB.
namespace workmill::log {

class FrameRescue {
 public:
  // `disk` outlives it.
  explicit FrameRescue(Disk& disk) : disk_(disk) {}

  // `length` bytes from `position`, all in one frame of that log, and before `settled`, which is how far its segment
  // has been written. Good until the next call. log_corrupt, with file and offset, where that frame is damaged itself.
  Result<BytesView> read(std::uint64_t log_id, Position position, std::size_t length, std::uint64_t settled);

  // The frame at `cursor` is damaged: the offset of the next that has a header, or `settled` where there is none.
  Result<std::uint64_t> next_header(std::uint64_t log_id, Position cursor, std::uint64_t settled);

  void forget(std::uint32_t ordinal);

 private:
  Disk& disk_;
  std::uint32_t ordinal_ = 0;  // Of the frame; 0: there is none.
  std::uint64_t offset_ = 0;
  std::map<std::uint64_t, std::uint64_t> seen_;  // Of that segment: the first frame that begins in a block.
  Bytes frame_;                                  // Header and padding included.
};

}  // namespace workmill::log
