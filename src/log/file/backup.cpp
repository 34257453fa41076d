#include "log/file/backup.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "log/file/backup_file.h"
#include "log/file/file_io.h"
#include "log/file/folder.h"
#include "log/file/read_only_disk.h"
#include "log/frame.h"
#include "log/segment_walk.h"

namespace workmill::log {
namespace {

// The oldest segment may be dropped under our hands, again and again on a busy server. Each time another one goes.
constexpr int kAttemptsMax = 1'000;
// A frame that is being written is whole in no time, unless the disk holds its writer up.
constexpr Duration kUnfinishedPause{20};
constexpr Duration kUnfinishedMax = std::chrono::seconds{3};
// A dead byte for each living one is the price of adding at the end only.
constexpr std::uint64_t kDeadBytesMin = std::uint64_t{1} << 20;

class Backup {
 public:
  Backup(std::string const& folder, ReadOnlyDisk& disk, BackupFile& file, BackupProgress const& on_progress)
      : folder_(folder), disk_(disk), file_(file), on_progress_(on_progress) {}

  Result<BackupReport> run() {
    for (BackupSegment const& segment : file_.contents().segments) known_.emplace(segment.ordinal, segment);
    log_id_ = file_.contents().log_id;
    BackupContents contents;
    for (int attempt = 0;; ++attempt) {
      if (attempt == kAttemptsMax) {
        return fail(ErrorCode::overloaded, "the log changes faster than it can be read: try again at a quieter time");
      }
      WM_TRY(auto copied, copy_all());
      if (copied) {
        contents = std::move(*copied);
        break;
      }
    }
    BackupReport report;
    report.segments = static_cast<std::uint32_t>(contents.segments.size());
    report.bytes = size_of(contents);
    report.copied_bytes = copied_bytes_;
    for (BackupSegment const& segment : contents.segments) {
      report.frames += segment.frames;
      if (!segment.last_head.empty()) report.last_at = last_frame(segment, contents.log_id).at;
    }
    WM_TRY_VOID(file_.commit(std::move(contents)));
    return report;
  }

 private:
  enum class Copied : std::uint8_t { full, open, gone };  // Open: there may be more of it later.

  // One pass over the folder. Nothing: a segment was dropped under our hands; what has been copied is remembered.
  Result<std::optional<BackupContents>> copy_all() {
    WM_TRY(auto const files, disk_.list());
    if (files.empty()) return fail(ErrorCode::io_failed, disk_.name(1) + ": there is no log here");
    for (auto segment = known_.begin(); segment != known_.end();) {  // What was dropped is of no use any more.
      segment = segment->first < files.front().ordinal ? known_.erase(segment) : std::next(segment);
    }
    total_ = 0;
    done_ = 0;
    for (DiskFile const& file : files) total_ += file.bytes;
    for (std::size_t i = 0; i < files.size(); ++i) {
      std::uint32_t const ordinal = files[i].ordinal;
      if (i > 0 && ordinal != files[i - 1].ordinal + 1) {
        if (!is_any_gone(files)) return missing(files[i - 1].ordinal + 1);
        return std::optional<BackupContents>{};
      }
      WM_TRY(Copied copied, copy(ordinal));
      if (copied == Copied::open && i + 1 < files.size()) {
        // The next one may have been made ahead; or this one was filled up while we looked.
        WM_TRY(bool const goes_on, has_frames(files[i + 1].ordinal));
        if (goes_on) {
          WM_TRY(copied, copy(ordinal));
        }
        if (goes_on && copied == Copied::open) return damaged(ordinal);
      }
      if (copied == Copied::open) {
        WM_TRY(copied, wait_for_whole(ordinal));
      }
      if (copied == Copied::gone) return std::optional<BackupContents>{};
      done_ += files[i].bytes;
      if (copied == Copied::open) {
        // What a power cut took, or the folder went back to an earlier backup: later segments are of another history.
        known_.erase(known_.upper_bound(ordinal), known_.end());
        break;
      }
    }
    known_.erase(known_.upper_bound(files.back().ordinal), known_.end());
    return collect(files.front().ordinal);
  }

  Result<std::optional<BackupContents>> collect(std::uint32_t first) {
    BackupContents contents{.log_id = log_id_, .segments = {}};
    for (auto const& [ordinal, segment] : known_) {
      if (segment.last_head.empty()) continue;  // Made ahead, or just begun.
      contents.segments.push_back(segment);
    }
    if (contents.segments.empty())
      return fail(ErrorCode::io_failed, disk_.name(first) + ": nothing is in this log yet");
    FrameHeader const last = last_frame(contents.segments.back(), log_id_);
    if (last.oldest < first || contents.segments.front().ordinal != first) {
      // What a frame says is no longer needed goes when that frame is on disk: so it was there when we listed.
      if (last.oldest != 0) return missing(last.oldest);
    }
    for (std::size_t i = 1; i < contents.segments.size(); ++i) {
      BackupSegment const& before = contents.segments[i - 1];
      if (contents.segments[i].first_sequence != last_frame(before, log_id_).sequence + 1) {
        return damaged(before.ordinal);
      }
    }
    return std::optional{std::move(contents)};
  }

  // Copies what is new of a segment, up to the last frame that is whole.
  Result<Copied> copy(std::uint32_t ordinal) {
    disk_.done_reading(ordinal);
    SegmentWalk walk{disk_, ordinal};
    if (auto const opened = walk.open(); !opened) {
      if (!disk_.is_still_there(ordinal)) return Copied::gone;
      return std::unexpected(opened.error());
    }
    if (log_id_ == 0) log_id_ = walk.header().log_id;
    if (log_id_ != walk.header().log_id) {
      return fail(ErrorCode::io_failed, fmt::format("{} holds a backup of another log than {}: it is left alone",
                                                    file_.path(), disk_.name(ordinal)));
    }
    WM_TRY(bool const is_known, is_same(walk, ordinal));
    if (!is_known) known_[ordinal] = {.ordinal = ordinal, .segment_bytes = walk.header().segment_bytes};
    BackupSegment& segment = known_[ordinal];
    walk.go_to(std::max<std::uint64_t>(segment.used, kSegmentHeaderBytes));
    BackupExtentWriter extent{file_};
    if (segment.used == 0) {
      WM_TRY(BytesView const head, walk.bytes(0, kSegmentHeaderBytes));
      Bytes const kept{head};
      WM_TRY_VOID(extent.add(kept));
    }
    WM_TRY_VOID(copy_frames(walk, segment, extent));
    if (!is_full(walk)) {
      // Not the end, if a frame behind it says that this place was on disk before it was written itself.
      WM_TRY(auto const witness, walk.find_header(walk.offset() + kFrameAlignment));
      Position const stuck{ordinal, static_cast<std::uint32_t>(walk.offset())};
      bool const is_proof = witness && witness->header.durable > stuck;
      if (witness) {  // It came while we looked, and so did what stands before it.
        walk.refresh();
        WM_TRY_VOID(copy_frames(walk, segment, extent));
      }
      bool const is_stuck = is_proof && walk.offset() == stuck.offset;
      if (is_stuck && disk_.is_still_there(ordinal)) return damaged(ordinal);
    }
    if (!disk_.is_still_there(ordinal)) {  // Other bytes may stand there by now.
      known_.erase(ordinal);
      return Copied::gone;
    }
    WM_TRY(BackupExtent written, extent.finish());
    if (written.bytes > 0) {
      segment.used += written.bytes;
      copied_bytes_ += written.bytes;
      segment.extents.push_back(std::move(written));
    }
    return is_full(walk) ? Copied::full : Copied::open;
  }

  // The log ends in this segment. Where something stands behind its last whole frame, a server is writing it, and then
  // it is whole in a moment; or a server died while it did, and nobody was told that it is there; or it was whole once.
  Result<Copied> wait_for_whole(std::uint32_t ordinal) {
    for (auto waited = Duration{0};; waited += kUnfinishedPause) {
      BackupSegment const& segment = known_[ordinal];
      disk_.done_reading(ordinal);
      SegmentWalk walk{disk_, ordinal};
      if (!walk.open()) return disk_.is_still_there(ordinal) ? Copied::open : Copied::gone;
      walk.go_to(walk_end(segment));
      WM_TRY(auto const frame, walk.next());
      if (frame || walk.stop() == SegmentWalk::Stop::end_mark || walk.stop() == SegmentWalk::Stop::full) {
        return Copied::open;
      }
      if (ReadOnlyDisk::open(folder_, ReadOnlyDisk::Guard::keep_out))
        return Copied::open;  // Nobody writes: a torn tail.
      if (waited >= kUnfinishedMax) {
        return fail(ErrorCode::log_corrupt,
                    fmt::format("{} at offset {}: what the server has written there is not whole, or it has been at it "
                                "for {}",
                                disk_.name(ordinal), walk_end(segment), format_duration(kUnfinishedMax)));
      }
      std::this_thread::sleep_for(kUnfinishedPause);
    }
  }

  static bool is_full(SegmentWalk const& walk) {
    return walk.offset() + kFrameHeaderBytes > walk.header().segment_bytes;
  }

  Result<> copy_frames(SegmentWalk& walk, BackupSegment& segment, BackupExtentWriter& extent) {
    while (true) {
      std::uint64_t const offset = walk.offset();
      WM_TRY(auto const frame, walk.next());
      if (!frame) return {};
      FrameHeader const last = last_frame(segment, log_id_);
      if (segment.frames > 0 && (frame->header.sequence != last.sequence + 1 || frame->header.epoch < last.epoch)) {
        walk.go_to(offset);  // Left over from before.
        return {};
      }
      if (segment.frames++ == 0) segment.first_sequence = frame->header.sequence;
      segment.last_head = frame->head;
      WM_TRY_VOID(extent.add(frame->whole));
      if (on_progress_) on_progress_(done_ + walk.offset(), total_);
    }
  }

  // Is what the backup has of this segment still what the folder has? Its last frame stands for all before it: it has
  // the sequence, the epoch, the time and the checksum of its batch.
  Result<bool> is_same(SegmentWalk& walk, std::uint32_t ordinal) {
    auto const found = known_.find(ordinal);
    if (found == known_.end() || found->second.segment_bytes != walk.header().segment_bytes) return false;
    if (found->second.last_head.empty()) return false;
    FrameHeader const last = last_frame(found->second, log_id_);
    WM_TRY(BytesView const head, walk.bytes(last.start.offset, kFrameHeaderBytes));
    return head == found->second.last_head;
  }

  Result<bool> has_frames(std::uint32_t ordinal) {
    SegmentWalk walk{disk_, ordinal};
    if (!walk.open()) return false;
    WM_TRY(auto const frame, walk.next());
    return frame.has_value();
  }
  bool is_any_gone(std::vector<DiskFile> const& files) const {
    return std::any_of(files.begin(), files.end(),
                       [&](DiskFile const& file) { return !disk_.is_still_there(file.ordinal); });
  }
  std::unexpected<Error> missing(std::uint32_t ordinal) const {
    return fail(ErrorCode::log_corrupt, fmt::format("segment {} is missing", disk_.name(ordinal)));
  }
  std::unexpected<Error> damaged(std::uint32_t ordinal) {
    auto const found = known_.find(ordinal);
    return fail(ErrorCode::log_corrupt,
                fmt::format("{} is damaged at offset {}: no frame can be read there, and later ones are in the log",
                            disk_.name(ordinal), found == known_.end() ? 0 : walk_end(found->second)));
  }
  std::uint64_t walk_end(BackupSegment const& segment) const {
    if (segment.last_head.empty()) return kSegmentHeaderBytes;
    FrameHeader const last = last_frame(segment, log_id_);
    return last.start.offset + frame_bytes(last.payload_bytes);
  }

  std::string const& folder_;
  ReadOnlyDisk& disk_;
  BackupFile& file_;
  BackupProgress const& on_progress_;
  std::uint64_t log_id_ = 0;
  std::map<std::uint32_t, BackupSegment> known_;  // In the file already, from before or from this run.
  std::uint64_t copied_bytes_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t done_ = 0;
};

Result<BackupReport> add_to(std::string const& folder, ReadOnlyDisk& disk, std::string const& path,
                            BackupProgress const& on_progress, std::uint64_t& file_bytes) {
  WM_TRY(auto file, BackupFile::open(path, BackupFile::Use::write));
  WM_TRY(auto report, Backup(folder, disk, file, on_progress).run());
  file_bytes = file.size();
  return report;
}

}  // namespace

Result<BackupReport> back_up(std::string const& folder, std::string const& file, BackupProgress const& on_progress) {
  WM_TRY(auto const disk, ReadOnlyDisk::open(folder, ReadOnlyDisk::Guard::none));
  std::uint64_t file_bytes = 0;
  WM_TRY(auto report, add_to(folder, *disk, file, on_progress, file_bytes));
  if (file_bytes <= 2 * report.bytes + kDeadBytesMin) return report;
  // A new one beside it, so that there is a whole one at any time.
  std::string const fresh = file + ".new";
  ::unlink(fresh.c_str());
  WM_TRY(report, add_to(folder, *disk, fresh, on_progress, file_bytes));
  if (::rename(fresh.c_str(), file.c_str()) != 0) return io_error("move", fresh, errno);
  WM_TRY_VOID(sync_parent(file));
  report.rewritten = true;
  return report;
}

}  // namespace workmill::log
