#include "log/segment_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "log/crc32c.h"
#include "log/log.h"

namespace workmill::log {
namespace {

constexpr std::size_t kWindowBytes = std::size_t{1} << 20;

bool is_zero(BytesView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

}  // namespace

Result<> SegmentWalk::open() {
  auto const where = [&] { return fmt::format("{} at offset 0", disk_.name(ordinal_)); };
  WM_TRY(BytesView const head, bytes(0, kSegmentHeaderBytes));
  if (head.size() < kSegmentHeaderBytes) {
    return fail(ErrorCode::log_corrupt, fmt::format("{}: the segment header is cut short", where()));
  }
  auto header = decode_segment_header(head);
  if (!header) return std::unexpected(with_context(std::move(header).error(), where()));
  if (header->ordinal != ordinal_) {
    return fail(ErrorCode::log_corrupt,
                fmt::format("{}: the header says that this is segment {}", where(), header->ordinal));
  }
  header_ = *header;
  offset_ = kSegmentHeaderBytes;
  return {};
}

void SegmentWalk::assume(std::uint64_t log_id, std::uint64_t bytes) {
  header_ = {.log_id = log_id, .ordinal = ordinal_, .epoch = {}, .segment_bytes = 0};
  header_.segment_bytes =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, std::numeric_limits<std::uint32_t>::max()));
  offset_ = kSegmentHeaderBytes;
}

Result<std::optional<SegmentWalk::Frame>> SegmentWalk::next() {
  auto const ends = [&](Stop why) {
    stop_ = why;
    return std::optional<Frame>{};
  };
  if (offset_ + kFrameHeaderBytes > header_.segment_bytes) return ends(Stop::full);
  WM_TRY(BytesView const head, bytes(offset_, kFrameHeaderBytes));
  if (is_zero(head)) return ends(Stop::end_mark);
  auto const header = decode_frame_header(head, header_.log_id);
  if (!header || header->start != Position{ordinal_, static_cast<std::uint32_t>(offset_)}) {
    return ends(Stop::bad_header);
  }
  if (header->payload_bytes > kBatchBytesMax || (header->kind == FrameKind::batch && header->payload_bytes == 0)) {
    return ends(Stop::bad_header);
  }
  announced_ = *header;
  std::size_t const size = static_cast<std::size_t>(frame_bytes(header->payload_bytes));
  WM_TRY(BytesView const whole, bytes(offset_, size));
  if (whole.size() < size) return ends(Stop::bad_payload);
  BytesView const payload = whole.substr(kFrameHeaderBytes, header->payload_bytes);
  if (crc32c(payload) != header->payload_crc) return ends(Stop::bad_payload);
  offset_ += size;
  Frame frame{.header = *header, .head = whole.substr(0, kFrameHeaderBytes), .payload = payload, .whole = whole};
  return frame;
}

Result<std::optional<SegmentWalk::Found>> SegmentWalk::find_header(std::uint64_t from) {
  from = (from + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
  while (true) {
    WM_TRY(BytesView const view, bytes(from, kWindowBytes));
    if (view.size() < kFrameHeaderBytes) return std::optional<Found>{};
    std::size_t const last = view.size() - kFrameHeaderBytes;
    for (std::size_t i = 0; i <= last; i += kFrameAlignment) {
      auto const header = decode_frame_header(view.substr(i, kFrameHeaderBytes), header_.log_id);
      if (!header || header->start != Position{ordinal_, static_cast<std::uint32_t>(from + i)}) continue;
      return std::optional<Found>{{.header = *header, .offset = from + i}};
    }
    from += last / kFrameAlignment * kFrameAlignment + kFrameAlignment;
  }
}

Result<BytesView> SegmentWalk::bytes(std::uint64_t offset, std::size_t count) {
  bool const is_inside = offset >= window_offset_ && offset + count <= window_offset_ + window_size_;
  if (!is_inside) {
    // What is left of the window moves to its front, so that no byte is read twice.
    std::size_t kept = 0;
    if (offset >= window_offset_ && offset < window_offset_ + window_size_) {
      std::size_t const skipped = static_cast<std::size_t>(offset - window_offset_);
      kept = window_size_ - skipped;
      std::memmove(window_.data(), window_.data() + skipped, kept);
    }
    std::size_t const wanted = std::max(count, kWindowBytes);
    if (window_.size() < wanted) window_.resize(wanted);
    window_size_ = 0;
    WM_TRY(std::size_t const got, disk_.read(ordinal_, offset + kept, {window_.data() + kept, wanted - kept}));
    window_offset_ = offset;
    window_size_ = kept + got;
  }
  std::size_t const start = static_cast<std::size_t>(offset - window_offset_);
  return BytesView{window_}.substr(start, std::min(count, window_size_ - start));
}

}  // namespace workmill::log
