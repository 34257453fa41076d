#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "log/disk.h"
#include "log/frame.h"

// Reads one segment by itself, frame by frame, and says how far it is whole. What a frame owes to those before it in
// the log (sequence and epoch) is the caller's to check. For tools, backups and the verifier; recovery has LogReader.
//
// Changes nothing. One thread. Keeps one window of the file in memory (1 MiB, or the largest frame).
namespace workmill::log {

class SegmentWalk {
 public:
  struct Frame {
    FrameHeader header;
    BytesView head;     // The header's bytes.
    BytesView payload;  // Good until the next call.
    BytesView whole;    // All of it, header and padding included.
  };
  enum class Stop : std::uint8_t {
    full,         // No header fits any more: the segment ends here.
    end_mark,     // Zeros stand where the next header would.
    bad_header,   // What stands there is no header of this place.
    bad_payload,  // A header does, but what follows is not what it announces.
  };

  SegmentWalk(Disk& disk, std::uint32_t ordinal) : disk_(disk), ordinal_(ordinal) {}

  // Reads the segment's header. log_corrupt or log_version with the file's name, io_failed.
  Result<> open();
  // Instead of open(), where the header is of no use: frames of that log, up to the end of the file, which has `bytes`.
  void assume(std::uint64_t log_id, std::uint64_t bytes);
  SegmentHeader const& header() const { return header_; }

  // The next whole frame, or nothing; then stop() says why, and offset() where.
  Result<std::optional<Frame>> next();
  Stop stop() const { return stop_; }
  std::uint64_t offset() const { return offset_; }
  void go_to(std::uint64_t offset) { offset_ = offset; }

  // With bad_payload: the header that announces it.
  FrameHeader const& announced() const { return announced_; }
  // The bytes from `offset`, up to `count`, fewer at the end of the file. Good until the next call.
  Result<BytesView> bytes(std::uint64_t offset, std::size_t count);
  // Forgets what it has read ahead: the file may have changed.
  void refresh() { window_size_ = 0; }

  // The place of the next whole header of this log and place behind `from`; nothing: there is none to the file's end.
  struct Found {
    FrameHeader header;
    std::uint64_t offset = 0;
  };
  Result<std::optional<Found>> find_header(std::uint64_t from);

 private:
  Disk& disk_;
  std::uint32_t const ordinal_;
  SegmentHeader header_;
  std::uint64_t offset_ = kSegmentHeaderBytes;
  Stop stop_ = Stop::full;
  FrameHeader announced_;

  Bytes window_;
  std::uint64_t window_offset_ = 0;
  std::size_t window_size_ = 0;
};

}  // namespace workmill::log
