#include "log/frame_rescue.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "log/block_sums.h"
#include "log/segment_walk.h"

namespace workmill::log {

Result<BytesView> FrameRescue::read(std::uint64_t log_id, Position position, std::size_t length,
                                    std::uint64_t settled) {
  std::uint64_t const first = position.offset;
  std::uint64_t const end = first + length;
  auto const damaged = [&](std::uint64_t offset, std::string_view what) {
    return fail(ErrorCode::log_corrupt, fmt::format("{} at offset {}: {}", disk_.name(position.segment), offset, what));
  };
  if (ordinal_ != position.segment) {
    forget(ordinal_);
    ordinal_ = position.segment;
  }
  if (first >= offset_ && end <= offset_ + frame_.size()) {
    return BytesView{frame_}.substr(static_cast<std::size_t>(first - offset_), length);
  }
  SegmentWalk walk{disk_, position.segment};
  walk.assume(log_id, settled);
  if (auto const after = seen_.upper_bound(first / kBlockBytes); after != seen_.begin()) {
    auto const before = std::prev(after);
    if (before->second <= first) {
      walk.go_to(before->second);
    } else if (before != seen_.begin()) {
      walk.go_to(std::prev(before)->second);
    }
  }
  while (walk.offset() <= first) {
    std::uint64_t const begin = walk.offset();
    WM_TRY(auto const frame, walk.next());
    if (frame) {
      seen_.emplace(begin / kBlockBytes, begin);
      if (first >= walk.offset()) continue;
      if (end > walk.offset()) return damaged(begin, "the frame is too short for what should be in it");
      frame_.assign(frame->whole);
      offset_ = begin;
      return BytesView{frame_}.substr(static_cast<std::size_t>(first - begin), length);
    }
    if (walk.stop() == SegmentWalk::Stop::bad_payload) {
      std::uint64_t const behind = begin + frame_bytes(walk.announced().payload_bytes);
      if (first < behind) return damaged(begin, "the checksum of the batch does not match");
      walk.go_to(behind);
      continue;
    }
    WM_TRY(auto const found, walk.find_header(begin + kFrameAlignment));
    if (!found || found->offset > first) return damaged(begin, "a frame should begin here");
    walk.go_to(found->offset);
  }
  return damaged(first, "no frame holds what should be here");
}

Result<std::uint64_t> FrameRescue::next_header(std::uint64_t log_id, Position cursor, std::uint64_t settled) {
  SegmentWalk walk{disk_, cursor.segment};
  walk.assume(log_id, settled);
  walk.go_to(cursor.offset);
  WM_TRY(auto const frame, walk.next());
  // It may be whole by now: a disk that reads wrongly once may read rightly the next time.
  std::uint64_t behind = walk.offset();
  if (!frame && walk.stop() == SegmentWalk::Stop::bad_payload) {
    behind = cursor.offset + frame_bytes(walk.announced().payload_bytes);
  } else if (!frame) {
    WM_TRY(auto const found, walk.find_header(cursor.offset + kFrameAlignment));
    behind = found ? found->offset : settled;
  }
  return std::min(behind, settled);
}

void FrameRescue::forget(std::uint32_t ordinal) {
  if (ordinal_ != ordinal) return;
  ordinal_ = 0;
  offset_ = 0;
  seen_.clear();
  frame_ = {};
}

}  // namespace workmill::log
