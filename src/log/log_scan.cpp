#include "log/log_scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "log/log.h"
#include "log/segment_walk.h"

namespace workmill::log {
namespace {

// So much of a damaged stretch is lent to whoever wants to guess what stood there.
constexpr std::size_t kUnsoundBytesMax = std::size_t{4} << 20;

class Scan {
 public:
  Scan(Disk& disk, Position until, ScanVisitor& visitor,
       std::function<void(std::uint64_t, std::uint64_t)> const& on_progress)
      : disk_(disk), until_(until), visitor_(visitor), on_progress_(on_progress) {}

  Result<ScanReport> run() {
    WM_TRY(files_, disk_.list());
    for (DiskFile const& file : files_) total_ += file.bytes;
    WM_TRY_VOID(find_log_id());
    for (std::size_t i = 0; i < files_.size(); ++i) {
      if (until_ && files_[i].ordinal > until_.segment) break;
      for (std::uint32_t gone = i == 0 ? files_[i].ordinal : files_[i - 1].ordinal + 1; gone < files_[i].ordinal;
           ++gone) {
        add({.kind = DamageKind::missing_segment, .ordinal = gone, .what = "the file is missing"}, {});
      }
      WM_TRY_VOID(scan_segment(i));
      done_ += files_[i].bytes;
    }
    if (report_.frames > 0 && report_.last.oldest != 0 && report_.last.oldest < files_.front().ordinal) {
      for (std::uint32_t gone = report_.last.oldest; gone < files_.front().ordinal; ++gone) {
        add({.kind = DamageKind::missing_segment,
             .ordinal = gone,
             .what = "the file is missing, and was needed when the log was last written"},
            {});
      }
    }
    return std::move(report_);
  }

 private:
  // Frames can be read without their segment's header, where one other segment has its own.
  Result<> find_log_id() {
    for (DiskFile const& file : files_) {
      Bytes head(kSegmentHeaderBytes, '\0');
      WM_TRY(std::size_t const got, disk_.read(file.ordinal, 0, {head.data(), head.size()}));
      if (got < head.size()) continue;
      if (auto const header = decode_segment_header(head)) {
        report_.log_id = header->log_id;
        report_.format_version = kFormatVersion;
        return {};
      }
    }
    return {};
  }

  Result<> scan_segment(std::size_t index) {
    DiskFile const& file = files_[index];
    SegmentWalk walk{disk_, file.ordinal};
    if (auto opened = walk.open(); !opened) {
      bool const is_version = opened.error().code == ErrorCode::log_version;
      if (opened.error().code != ErrorCode::log_corrupt && !is_version) return opened;
      add({.kind = is_version ? DamageKind::format_version : DamageKind::segment_header,
           .ordinal = file.ordinal,
           .from = 0,
           .until = is_version ? file.bytes : kSegmentHeaderBytes,
           .what = opened.error().message},
          {});
      if (is_version || report_.log_id == 0) return {};
      walk.assume(report_.log_id, file.bytes);
    } else if (walk.header().log_id != report_.log_id) {
      add({.kind = DamageKind::segment_header,
           .ordinal = file.ordinal,
           .from = 0,
           .until = file.bytes,
           .what = "the segment is of another log"},
          {});
      return {};
    }
    while (true) {
      if (until_ && Position{file.ordinal, static_cast<std::uint32_t>(walk.offset())} >= until_) return {};
      std::uint64_t const offset = walk.offset();
      WM_TRY(auto const frame, walk.next());
      if (frame && fits(frame->header)) {
        WM_TRY_VOID(take(*frame));
        continue;
      }
      if (frame) walk.go_to(offset);
      bool const is_last = index + 1 == files_.size();
      if (!frame && walk.stop() == SegmentWalk::Stop::full) return {};
      WM_TRY(auto const behind, next_whole(walk, offset + kFrameAlignment));
      if (!frame && walk_stop_ == SegmentWalk::Stop::end_mark && is_last && !behind) return {};  // An orderly end.
      WM_TRY_VOID(go_over(walk, file, offset, behind, frame.has_value()));
      if (!behind) return {};
      walk.go_to(*behind);
    }
  }

  // The next frame that counts, from `from` on. Leaves in walk_stop_ why the walk stood still before.
  Result<std::optional<std::uint64_t>> next_whole(SegmentWalk& walk, std::uint64_t from) {
    walk_stop_ = walk.stop();
    announced_ = walk.announced();
    while (true) {
      WM_TRY(auto const found, walk.find_header(from));
      if (!found) return std::optional<std::uint64_t>{};
      walk.go_to(found->offset);
      WM_TRY(auto const frame, walk.next());
      if (frame && fits(frame->header)) return std::optional{found->offset};
      from = found->offset + kFrameAlignment;
    }
  }

  Result<> go_over(SegmentWalk& walk, DiskFile const& file, std::uint64_t offset,
                   std::optional<std::uint64_t> const& behind, bool is_stray) {
    Damage damage{.kind = DamageKind::frame, .ordinal = file.ordinal, .from = offset, .until = behind.value_or(0)};
    std::uint64_t payload = offset + kFrameHeaderBytes;
    std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(
        behind.value_or(file.bytes) - std::min(payload, behind.value_or(file.bytes)), kUnsoundBytesMax));
    if (is_stray) {
      damage.what = "a frame stands here that does not follow the one before it";
      size = 0;
    } else if (walk_stop_ == SegmentWalk::Stop::bad_payload) {
      std::uint64_t const end = offset + frame_bytes(announced_.payload_bytes);
      if (end > file.bytes) {
        damage.what = fmt::format("the file ends at {}, in the middle of a batch that ends at {}", file.bytes, end);
      } else {
        damage.kind = DamageKind::payload;
        damage.what = fmt::format("the checksum of a batch of {} bytes does not match", announced_.payload_bytes);
        if (!behind) damage.until = end;
      }
      size = std::min<std::size_t>(size, announced_.payload_bytes);
    } else if (walk_stop_ == SegmentWalk::Stop::end_mark) {
      damage.what =
          offset >= file.bytes ? "the file ends here, and the log went on" : "zeros stand where a frame should begin";
    } else {
      damage.what = "no frame begins here, and one should: its header is damaged";
    }
    WM_TRY(BytesView const unsound, walk.bytes(payload, size));
    Bytes const kept{unsound.substr(0, size)};
    add(std::move(damage), kept);
    return {};
  }

  bool fits(FrameHeader const& header) const {
    if (report_.frames == 0) return true;
    return header.sequence > report_.last.sequence && header.epoch >= report_.last.epoch;
  }

  Result<> take(SegmentWalk::Frame const& frame) {
    if (report_.frames > 0 && frame.header.sequence != report_.last.sequence + 1) {
      std::uint64_t const lost = frame.header.sequence - report_.last.sequence - 1;
      if (report_.damages.size() == explained_) {
        add({.kind = DamageKind::frame,
             .ordinal = frame.header.start.segment,
             .from = frame.header.start.offset,
             .until = frame.header.start.offset,
             .what = "frames before this one are missing"},
            {});
      }
      report_.damages.back().frames_lost = lost;
    }
    explained_ = report_.damages.size();
    ++report_.frames;
    report_.last = frame.header;
    if (on_progress_ && report_.frames % 64 == 0) on_progress_(done_ + frame.header.start.offset, total_);
    return visitor_.frame(frame.header, frame.payload);
  }

  void add(Damage damage, BytesView unsound) {
    visitor_.damage(damage, unsound);
    report_.damages.push_back(std::move(damage));
  }

  Disk& disk_;
  Position const until_;
  ScanVisitor& visitor_;
  std::function<void(std::uint64_t, std::uint64_t)> const& on_progress_;
  std::vector<DiskFile> files_;
  std::uint64_t total_ = 0;
  std::uint64_t done_ = 0;
  ScanReport report_;
  std::size_t explained_ = 0;  // So many damages came before the last frame.
  SegmentWalk::Stop walk_stop_{};
  FrameHeader announced_;
};

}  // namespace

std::string_view to_string(DamageKind kind) {
  switch (kind) {
    case DamageKind::missing_segment: return "missing_segment";
    case DamageKind::segment_header: return "segment_header";
    case DamageKind::format_version: return "format_version";
    case DamageKind::frame: return "frame";
    case DamageKind::payload: return "payload";
    case DamageKind::record: return "record";
  }
  return "";
}

Result<ScanReport> scan_log(Disk& disk, Position until, ScanVisitor& visitor,
                            std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) {
  return Scan{disk, until, visitor, on_progress}.run();
}

}  // namespace workmill::log
