#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "log/block_sums.h"
#include "log/disk.h"
#include "log/frame.h"

// Reads a log from its oldest frame to its end, and says what that end is: clean, torn, or corruption before the end.
//
// The rule. Frames follow each other by position and sequence, in epochs that never fall. Where the next one is missing
// or damaged, at X, the rest of that segment and all later ones are searched for a frame that says that the log was
// durable beyond X when it was written. There is one: something durable was damaged, and nobody may go on as if nothing
// were: log_corrupt. There is none: X and what follows was under way when the power went, and nobody was told that it
// is there. Changes nothing on the disk; a tool may use it on a log that it must not touch.
//
// One thread. Keeps one window of the file in memory (1 MiB, or the largest frame).
namespace workmill::log {

class LogReader {
 public:
  struct Frame {
    FrameHeader header;
    BytesView payload;  // Good until the next call.
  };

  // What is known when next() has answered nothing.
  struct End {
    std::uint64_t log_id = 0;
    Position next;                    // Where the next frame goes; no position where there is no segment.
    std::uint32_t segment_bytes = 0;  // Nominal size of that segment.
    std::uint64_t next_sequence = 1;
    Epoch epoch{};             // The last that owned the log.
    std::uint32_t oldest = 0;  // As the last frame has it.
    bool torn = false;
    std::uint64_t torn_bytes = 0;    // From `next` to the end of the last thing that was not whole, as far as known.
    std::uint64_t torn_until = 0;    // Offset in next.segment behind the last frame that must not come back.
    std::vector<DiskFile> behind;    // Segments after next.segment: not proven, or made ahead. Oldest first.
    std::vector<DiskFile> segments;  // Up to next.segment, oldest first, with the bytes in use.
  };

  // `sums`, where there are any, learn every byte of every good frame.
  explicit LogReader(Disk& disk, BlockSums* sums = nullptr) : disk_(disk), sums_(sums) {}

  // The next frame, of whatever kind, or nothing at the end of the log. log_corrupt, log_version or io_failed.
  Result<std::optional<Frame>> next();

  End const& end() const { return end_; }

  std::uint64_t bytes_read() const { return passed_ + offset_; }
  std::uint64_t bytes_total() const { return total_; }  // Upper bound, known after the first next().

 private:
  enum class Step : std::uint8_t { frame, segment_full, bad_frame };

  Result<> start();
  Result<> open_segment();
  Result<Step> step(Frame& frame);
  Result<> finish();
  Result<> search_behind(std::uint32_t ordinal, std::uint64_t from, bool& found_any);
  Result<BytesView> window(std::uint32_t ordinal, std::uint64_t offset, std::size_t count);
  std::string where(std::uint32_t ordinal, std::uint64_t offset) const;

  Disk& disk_;
  BlockSums* const sums_;
  bool started_ = false;
  bool finished_ = false;
  std::vector<DiskFile> files_;
  std::size_t current_ = 0;   // Index into files_.
  std::uint64_t offset_ = 0;  // Where the next frame is expected.
  SegmentHeader segment_;
  bool any_frame_ = false;
  std::uint64_t passed_ = 0;
  std::uint64_t total_ = 0;
  End end_;

  std::size_t window_bytes_ = 0;
  Bytes buffer_;
  std::uint32_t buffer_ordinal_ = 0;
  std::uint64_t buffer_offset_ = 0;
  std::size_t buffer_size_ = 0;
};

}  // namespace workmill::log
