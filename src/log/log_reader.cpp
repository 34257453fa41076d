#include "log/log_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/mutation.h"
#include "log/crc32c.h"
#include "log/log.h"

namespace workmill::log {
namespace {

constexpr std::size_t kWindowBytesMax = std::size_t{1} << 20;

bool is_zero(BytesView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

}  // namespace

std::string LogReader::where(std::uint32_t ordinal, std::uint64_t offset) const {
  return fmt::format("{} at offset {}", disk_.name(ordinal), offset);
}

Result<std::optional<LogReader::Frame>> LogReader::next() {
  if (!started_) WM_TRY_VOID(start());
  while (!finished_) {
    Frame frame;
    WM_TRY(Step const step_taken, step(frame));
    if (step_taken == Step::frame) return frame;
    if (step_taken == Step::segment_full && current_ + 1 < files_.size()) {
      end_.segments.push_back({files_[current_].ordinal, offset_});
      passed_ += files_[current_].bytes;
      ++current_;
      WM_TRY_VOID(open_segment());
      continue;
    }
    WM_TRY_VOID(finish());
  }
  return std::optional<Frame>{};
}

Result<> LogReader::start() {
  started_ = true;
  WM_TRY(files_, disk_.list());
  for (std::size_t i = 1; i < files_.size(); ++i) {
    if (files_[i].ordinal != files_[i - 1].ordinal + 1) {
      return fail(ErrorCode::log_corrupt,
                  fmt::format("segment {} is missing: there are {} and {}", disk_.name(files_[i - 1].ordinal + 1),
                              disk_.name(files_[i - 1].ordinal), disk_.name(files_[i].ordinal)));
    }
  }
  std::uint64_t largest = kFrameHeaderBytes;
  for (DiskFile const& file : files_) {
    total_ += file.bytes;
    largest = std::max(largest, file.bytes);
  }
  window_bytes_ = static_cast<std::size_t>(std::min<std::uint64_t>(largest, kWindowBytesMax));
  if (files_.empty()) {
    finished_ = true;
    return {};
  }
  return open_segment();
}

Result<> LogReader::open_segment() {
  DiskFile const& file = files_[current_];
  WM_TRY(BytesView const head, window(file.ordinal, 0, kSegmentHeaderBytes));
  if (head.size() < kSegmentHeaderBytes) {
    return fail(ErrorCode::log_corrupt, fmt::format("{}: the segment header is cut short", where(file.ordinal, 0)));
  }
  auto header = decode_segment_header(head);
  if (!header) return std::unexpected(with_context(std::move(header).error(), where(file.ordinal, 0)));
  if (header->ordinal != file.ordinal) {
    return fail(ErrorCode::log_corrupt,
                fmt::format("{}: the header says that this is segment {}", where(file.ordinal, 0), header->ordinal));
  }
  if (current_ != 0 && header->log_id != end_.log_id) {
    return fail(ErrorCode::log_corrupt, fmt::format("{}: the segment is of another log", where(file.ordinal, 0)));
  }
  if (sums_ != nullptr) sums_->add(file.ordinal, head);
  segment_ = *header;
  offset_ = kSegmentHeaderBytes;
  end_.log_id = segment_.log_id;
  end_.epoch = std::max(end_.epoch, segment_.epoch);
  return {};
}

Result<LogReader::Step> LogReader::step(Frame& frame) {
  std::uint32_t const ordinal = files_[current_].ordinal;
  if (offset_ + kFrameHeaderBytes > segment_.segment_bytes) return Step::segment_full;

  WM_TRY(BytesView const head, window(ordinal, offset_, kFrameHeaderBytes));
  auto const header = decode_frame_header(head, segment_.log_id);
  if (!header || header->start != Position{ordinal, static_cast<std::uint32_t>(offset_)}) return Step::bad_frame;
  if (any_frame_ && header->sequence != end_.next_sequence) return Step::bad_frame;
  if (header->epoch < end_.epoch || header->payload_bytes > kBatchBytesMax) return Step::bad_frame;
  if (header->kind == FrameKind::batch && header->payload_bytes == 0) return Step::bad_frame;  // Nobody stages nothing.

  std::size_t const frame_size = static_cast<std::size_t>(frame_bytes(header->payload_bytes));
  WM_TRY(BytesView const whole, window(ordinal, offset_, frame_size));
  if (whole.size() < frame_size) return Step::bad_frame;
  BytesView const payload = whole.substr(kFrameHeaderBytes, header->payload_bytes);
  if (crc32c(payload) != header->payload_crc && !WM_MUTATION(checksum_is_not_looked_at)) return Step::bad_frame;
  if (sums_ != nullptr) sums_->add(ordinal, whole);

  frame = {.header = *header, .payload = payload};
  any_frame_ = true;
  end_.next_sequence = header->sequence + 1;
  end_.epoch = header->epoch;
  end_.oldest = header->oldest;
  offset_ += frame_size;
  return Step::frame;
}

Result<> LogReader::finish() {
  finished_ = true;
  std::uint32_t const ordinal = files_[current_].ordinal;
  end_.next = {ordinal, static_cast<std::uint32_t>(offset_)};
  end_.segment_bytes = segment_.segment_bytes;
  end_.segments.push_back({ordinal, offset_});
  end_.behind.assign(files_.begin() + static_cast<std::ptrdiff_t>(current_) + 1, files_.end());
  end_.torn_until = offset_;
  if (files_.front().ordinal > end_.oldest && end_.oldest != 0) {
    return fail(ErrorCode::log_corrupt, fmt::format("segment {} is missing: the log needed it when it was last written",
                                                    disk_.name(end_.oldest)));
  }

  bool const is_full = offset_ + kFrameHeaderBytes > segment_.segment_bytes;
  if (!is_full) {
    WM_TRY(BytesView const head, window(ordinal, offset_, kFrameHeaderBytes));
    if (!is_zero(head)) {
      end_.torn = true;
      end_.torn_bytes = head.size();
      end_.torn_until = offset_ + head.size();
      if (auto const header = decode_frame_header(head, segment_.log_id);
          header && header->start == end_.next && header->epoch == end_.epoch) {
        end_.torn_bytes = std::min(frame_bytes(header->payload_bytes), files_[current_].bytes - offset_);
      }
    }
  }
  bool found_any = false;
  WM_TRY_VOID(search_behind(ordinal, offset_ + (is_full ? 0 : kFrameAlignment), found_any));
  for (DiskFile const& file : end_.behind) WM_TRY_VOID(search_behind(file.ordinal, kSegmentHeaderBytes, found_any));
  end_.torn = end_.torn || found_any;
  return {};
}

// Looks for headers of frames, at every place where one could stand.
Result<> LogReader::search_behind(std::uint32_t ordinal, std::uint64_t from, bool& found_any) {
  while (true) {
    WM_TRY(BytesView const bytes, window(ordinal, from, window_bytes_));
    if (bytes.size() < kFrameHeaderBytes) return {};
    std::size_t const last = bytes.size() - kFrameHeaderBytes;
    for (std::size_t i = 0; i <= last; i += kFrameAlignment) {
      auto const header = decode_frame_header(bytes.substr(i, kFrameHeaderBytes), segment_.log_id);
      if (!header || header->start != Position{ordinal, static_cast<std::uint32_t>(from + i)}) continue;
      if (header->durable > end_.next && !WM_MUTATION(damage_is_taken_for_a_torn_tail)) {
        return fail(ErrorCode::log_corrupt,
                    fmt::format("{} is damaged: the frame there was durable, says the one in {}",
                                where(end_.next.segment, end_.next.offset), where(ordinal, from + i)));
      }
      if (ordinal == end_.next.segment) {
        end_.torn_until = std::max(end_.torn_until, from + i + kFrameHeaderBytes);
      }
      if (header->epoch < end_.epoch) continue;  // Left over from a tail that was cut before.
      found_any = true;
      std::uint64_t const behind = from + i + frame_bytes(header->payload_bytes);
      end_.torn_bytes = ordinal == end_.next.segment ? std::max(end_.torn_bytes, behind - end_.next.offset)
                                                     : end_.torn_bytes + frame_bytes(header->payload_bytes);
    }
    from += last / kFrameAlignment * kFrameAlignment + kFrameAlignment;
  }
}

// `count` bytes of the file from `offset`, or fewer at its end.
Result<BytesView> LogReader::window(std::uint32_t ordinal, std::uint64_t offset, std::size_t count) {
  bool const is_inside =
      ordinal == buffer_ordinal_ && offset >= buffer_offset_ && offset + count <= buffer_offset_ + buffer_size_;
  if (!is_inside) {
    // What is left of the window moves to its front, so that no byte is read twice.
    std::size_t kept = 0;
    if (ordinal == buffer_ordinal_ && offset >= buffer_offset_ && offset < buffer_offset_ + buffer_size_) {
      std::size_t const skipped = static_cast<std::size_t>(offset - buffer_offset_);
      kept = buffer_size_ - skipped;
      std::memmove(buffer_.data(), buffer_.data() + skipped, kept);
    }
    std::size_t const wanted = std::max(count, window_bytes_);
    if (buffer_.size() < wanted) buffer_.resize(wanted);
    buffer_size_ = 0;
    WM_TRY(std::size_t const got, disk_.read(ordinal, offset + kept, {buffer_.data() + kept, wanted - kept}));
    buffer_ordinal_ = ordinal;
    buffer_offset_ = offset;
    buffer_size_ = kept + got;
  }
  std::size_t const start = static_cast<std::size_t>(offset - buffer_offset_);
  return BytesView{buffer_}.substr(start, std::min(count, buffer_size_ - start));
}

}  // namespace workmill::log
