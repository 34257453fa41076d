#include "log/file/backup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/bytes.h"
#include "log/crc32c.h"
#include "log/file/fd.h"
#include "log/file/folder.h"
#include "log/file/read_only_disk.h"
#include "log/frame.h"
#include "log/log_reader.h"
#include "log/segment_walk.h"

namespace workmill::log {
namespace {

namespace fs = std::filesystem;

constexpr BytesView kMagic{"WMBACKUP"};
constexpr std::uint32_t kBackupVersion = 1;
// Two places for the root of the file, each in a sector of its own: one is written while the other holds.
constexpr std::array<std::uint64_t, 2> kRootAt{512, 1024};
constexpr std::size_t kRootBytes = 32;
constexpr std::uint64_t kDataAt = 4096;
constexpr std::size_t kSumBlockBytes = std::size_t{64} << 10;  // A checksum each, so that damage has a place.
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::uint64_t kContentsBytesMax = std::uint64_t{1} << 30;
// The oldest segment may be dropped under our hands, again and again on a busy server. Each time another one goes.
constexpr int kAttemptsMax = 1'000;
// A frame that is being written is whole in no time, unless the disk holds its writer up.
constexpr Duration kUnfinishedPause{20};
constexpr Duration kUnfinishedMax = std::chrono::seconds{3};
// A dead byte for each living one is the price of adding at the end only.
constexpr std::uint64_t kDeadBytesMin = std::uint64_t{1} << 20;

struct Extent {
  std::uint64_t at = 0;  // In the backup.
  std::uint64_t bytes = 0;
  std::vector<std::uint32_t> crcs{};  // Of each block of it.
};

struct Segment {
  std::uint32_t ordinal = 0;
  std::uint32_t segment_bytes = 0;  // Nominal.
  std::uint64_t used = 0;           // Header and whole frames.
  std::uint64_t frames = 0;
  std::uint64_t first_sequence = 0;
  Bytes last_head{};  // The header of its last frame; empty where it has none.
  std::vector<Extent> extents{};
};

struct Contents {
  std::uint64_t log_id = 0;
  std::vector<Segment> segments;  // Oldest first.
};

std::uint64_t size_of(Contents const& contents) {
  std::uint64_t bytes = 0;
  for (Segment const& segment : contents.segments) bytes += segment.used;
  return bytes;
}

FrameHeader last_frame(Segment const& segment, std::uint64_t log_id) {
  auto const header = decode_frame_header(segment.last_head, log_id);
  return header ? *header : FrameHeader{};
}

void encode(Contents const& contents, Bytes& out) {
  ByteWriter writer{out};
  writer.u64(contents.log_id);
  writer.u32(static_cast<std::uint32_t>(contents.segments.size()));
  for (Segment const& segment : contents.segments) {
    writer.u32(segment.ordinal);
    writer.u32(segment.segment_bytes);
    writer.u64(segment.used);
    writer.u64(segment.frames);
    writer.u64(segment.first_sequence);
    writer.bytes(segment.last_head);
    writer.u32(static_cast<std::uint32_t>(segment.extents.size()));
    for (Extent const& extent : segment.extents) {
      writer.u64(extent.at);
      writer.u64(extent.bytes);
      for (std::uint32_t const crc : extent.crcs) writer.u32(crc);
    }
  }
}

std::optional<Contents> decode(BytesView in) {
  ByteReader reader{in};
  Contents contents;
  contents.log_id = reader.u64();
  std::uint32_t const segments = reader.u32();
  for (std::uint32_t i = 0; i < segments && reader.ok(); ++i) {
    Segment segment;
    segment.ordinal = reader.u32();
    segment.segment_bytes = reader.u32();
    segment.used = reader.u64();
    segment.frames = reader.u64();
    segment.first_sequence = reader.u64();
    segment.last_head = reader.bytes();
    std::uint32_t const extents = reader.u32();
    std::uint64_t sum = 0;
    for (std::uint32_t j = 0; j < extents && reader.ok(); ++j) {
      Extent extent{.at = reader.u64(), .bytes = reader.u64(), .crcs = {}};
      std::uint64_t const blocks = extent.bytes / kSumBlockBytes + (extent.bytes % kSumBlockBytes > 0 ? 1 : 0);
      if (blocks > reader.remaining() / sizeof(std::uint32_t)) return {};
      for (std::uint64_t k = 0; k < blocks; ++k) extent.crcs.push_back(reader.u32());
      sum += extent.bytes;
      segment.extents.push_back(std::move(extent));
    }
    if (sum != segment.used) return {};
    contents.segments.push_back(std::move(segment));
  }
  if (!reader.done()) return {};
  return contents;
}

Result<std::size_t> read_at(int fd, std::uint64_t offset, std::span<char> out, std::string const& path) {
  std::size_t done = 0;
  while (done < out.size()) {
    ssize_t const got = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", path, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Result<> write_at(int fd, std::uint64_t offset, BytesView bytes, std::string const& path) {
  while (!bytes.empty()) {
    ssize_t const wrote = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return io_error("write", path, wrote < 0 ? errno : EIO);
    offset += static_cast<std::uint64_t>(wrote);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return {};
}

Result<> sync_file(int fd, std::string const& path) {
  if (::fsync(fd) != 0) return io_error("sync", path, errno);
  return {};
}

Result<> sync_parent(std::string const& path) {
  fs::path parent = fs::path{path}.parent_path();
  if (parent.empty()) parent = ".";
  Fd const fd{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) return io_error("open the folder", parent.string(), errno);
  return sync_file(fd.get(), parent.string());
}

// ---- The file.

class BackupFile {
 public:
  enum class Use : std::uint8_t { read, write };

  static Result<BackupFile> open(std::string path, Use use) {
    int const flags = use == Use::read ? O_RDONLY : O_RDWR | O_CREAT;
    BackupFile file{Fd{::open(path.c_str(), flags | O_CLOEXEC, 0640)}, std::move(path)};
    if (!file.fd_) return io_error("open", file.path_, errno);
    if (::flock(file.fd_.get(), (use == Use::read ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return io_error("lock", file.path_, errno);
      return fail(ErrorCode::log_in_use, file.path_ + " is being written or restored by another process");
    }
    WM_TRY_VOID(file.look(use));
    return file;
  }

  Contents const& contents() const { return contents_; }
  std::string const& path() const { return path_; }
  bool is_whole() const { return generation_ > 0; }
  int fd() const { return fd_.get(); }
  std::uint64_t size() const { return end_; }

  // Adds bytes at the end.
  Result<std::uint64_t> append(BytesView bytes) {
    std::uint64_t const at = end_;
    WM_TRY_VOID(write_at(fd_.get(), at, bytes, path_));
    end_ += bytes.size();
    return at;
  }

  // Makes `contents` what the file stands for.
  Result<> commit(Contents contents) {
    Bytes text;
    encode(contents, text);
    WM_TRY_VOID(sync_file(fd_.get(), path_));
    WM_TRY(std::uint64_t const at, append(text));
    WM_TRY_VOID(sync_file(fd_.get(), path_));
    Bytes root;
    ByteWriter writer{root};
    writer.u64(generation_ + 1);
    writer.u64(at);
    writer.u64(text.size());
    writer.u32(crc32c(text));
    writer.u32(crc32c(root));
    WM_ASSERT(root.size() == kRootBytes);
    WM_TRY_VOID(write_at(fd_.get(), kRootAt[generation_ % 2], root, path_));
    WM_TRY_VOID(sync_file(fd_.get(), path_));
    WM_TRY_VOID(sync_parent(path_));
    generation_ += 1;
    contents_ = std::move(contents);
    return {};
  }

 private:
  BackupFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<> look(Use use) {
    struct stat info{};
    if (::fstat(fd_.get(), &info) != 0) return io_error("look at", path_, errno);
    if (!S_ISREG(info.st_mode)) return fail(ErrorCode::io_failed, path_ + " is no file");
    if (info.st_size == 0 && use == Use::write) {
      Bytes head{kMagic};
      ByteWriter{head}.u32(kBackupVersion);
      head.resize(kDataAt, '\0');
      end_ = kDataAt;
      return write_at(fd_.get(), 0, head, path_);
    }
    std::array<char, kDataAt> head{};
    WM_TRY([[maybe_unused]] auto const got, read_at(fd_.get(), 0, head, path_));
    BytesView const view{head.data(), head.size()};
    if (!view.starts_with(kMagic)) return fail(ErrorCode::log_corrupt, path_ + " is no backup of Workmill");
    if (std::uint32_t const version = ByteReader{view.substr(kMagic.size())}.u32(); version != kBackupVersion) {
      return fail(ErrorCode::log_version, fmt::format("{} has backup version {}, and this program reads version {}",
                                                      path_, version, kBackupVersion));
    }
    end_ = kDataAt;
    return read_contents(view, use, static_cast<std::uint64_t>(info.st_size));
  }

  Result<> read_contents(BytesView head, Use use, std::uint64_t file_bytes) {
    struct Root {
      std::uint64_t generation = 0, at = 0, bytes = 0;
      std::uint32_t crc = 0;
    } newest;
    bool is_any_written = false;
    for (std::uint64_t const at : kRootAt) {
      BytesView const bytes = head.substr(static_cast<std::size_t>(at), kRootBytes);
      is_any_written = is_any_written || bytes.find_first_not_of('\0') != BytesView::npos;
      ByteReader reader{bytes};
      Root root{.generation = reader.u64(), .at = reader.u64(), .bytes = reader.u64(), .crc = reader.u32()};
      if (reader.u32() == crc32c(bytes.substr(0, kRootBytes - 4)) && root.generation > newest.generation) {
        newest = root;
      }
    }
    if (newest.generation == 0) {
      if (!is_any_written && use == Use::write) return {};  // The first backup was cut short.
      return fail(ErrorCode::log_corrupt,
                  is_any_written ? fmt::format("{} is damaged: neither of its roots, at offsets {} and {}, is whole",
                                               path_, kRootAt[0], kRootAt[1])
                                 : path_ + " holds no backup: the first one was not finished");
    }
    auto const damaged = [&] {
      return fail(ErrorCode::log_corrupt, fmt::format("{} is damaged from offset {} to {}: its table of contents",
                                                      path_, newest.at, newest.at + newest.bytes));
    };
    if (newest.bytes > kContentsBytesMax || newest.at + newest.bytes > file_bytes) return damaged();
    Bytes text(static_cast<std::size_t>(newest.bytes), '\0');
    WM_TRY(std::size_t const got, read_at(fd_.get(), newest.at, text, path_));
    if (got < text.size() || crc32c(text) != newest.crc) return damaged();
    auto contents = decode(text);
    if (!contents) return damaged();
    contents_ = std::move(*contents);
    generation_ = newest.generation;
    end_ = newest.at + newest.bytes;  // What stands behind it is of a backup that was cut short.
    return {};
  }

  Fd fd_;
  std::string path_;
  std::uint64_t generation_ = 0;
  std::uint64_t end_ = 0;
  Contents contents_;
};

// Adds the bytes of one segment to a backup, as one extent.
class ExtentWriter {
 public:
  explicit ExtentWriter(BackupFile& file) : file_(file) { extent_.at = file.size(); }

  Result<> add(BytesView bytes) {
    while (!bytes.empty()) {
      std::size_t const room = kSumBlockBytes - static_cast<std::size_t>(extent_.bytes % kSumBlockBytes);
      BytesView const part = bytes.substr(0, room);
      crc_ = crc32c(part, crc_);
      extent_.bytes += part.size();
      if (part.size() == room) end_block();
      buffer_.append(part);
      bytes.remove_prefix(part.size());
      if (buffer_.size() >= kBufferBytes) WM_TRY_VOID(flush());
    }
    return {};
  }
  Result<Extent> finish() {
    WM_TRY_VOID(flush());
    if (extent_.bytes % kSumBlockBytes > 0) end_block();
    return std::move(extent_);
  }

 private:
  void end_block() {
    extent_.crcs.push_back(crc_);
    crc_ = 0;
  }
  Result<> flush() {
    WM_TRY([[maybe_unused]] auto const at, file_.append(buffer_));
    buffer_.clear();
    return {};
  }

  BackupFile& file_;
  Extent extent_;
  Bytes buffer_;
  std::uint32_t crc_ = 0;
};

// ---- Taking a backup.

class Backup {
 public:
  Backup(std::string const& folder, ReadOnlyDisk& disk, BackupFile& file, BackupProgress const& on_progress)
      : folder_(folder), disk_(disk), file_(file), on_progress_(on_progress) {}

  Result<BackupReport> run() {
    for (Segment const& segment : file_.contents().segments) known_.emplace(segment.ordinal, segment);
    log_id_ = file_.contents().log_id;
    Contents contents;
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
    for (Segment const& segment : contents.segments) {
      report.frames += segment.frames;
      if (!segment.last_head.empty()) report.last_at = last_frame(segment, contents.log_id).at;
    }
    WM_TRY_VOID(file_.commit(std::move(contents)));
    return report;
  }

 private:
  enum class Copied : std::uint8_t { full, open, gone };  // Open: there may be more of it later.

  // One pass over the folder. Nothing: a segment was dropped under our hands; what has been copied is remembered.
  Result<std::optional<Contents>> copy_all() {
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
        return std::optional<Contents>{};
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
      if (copied == Copied::gone) return std::optional<Contents>{};
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

  Result<std::optional<Contents>> collect(std::uint32_t first) {
    Contents contents{.log_id = log_id_, .segments = {}};
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
      Segment const& before = contents.segments[i - 1];
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
    Segment& segment = known_[ordinal];
    walk.go_to(std::max<std::uint64_t>(segment.used, kSegmentHeaderBytes));
    ExtentWriter extent{file_};
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
    WM_TRY(Extent written, extent.finish());
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
      Segment const& segment = known_[ordinal];
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

  Result<> copy_frames(SegmentWalk& walk, Segment& segment, ExtentWriter& extent) {
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
  std::uint64_t walk_end(Segment const& segment) const {
    if (segment.last_head.empty()) return kSegmentHeaderBytes;
    FrameHeader const last = last_frame(segment, log_id_);
    return last.start.offset + frame_bytes(last.payload_bytes);
  }

  std::string const& folder_;
  ReadOnlyDisk& disk_;
  BackupFile& file_;
  BackupProgress const& on_progress_;
  std::uint64_t log_id_ = 0;
  std::map<std::uint32_t, Segment> known_;  // In the file already, from before or from this run.
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

// ---- Restoring one.

class Restore {
 public:
  Restore(BackupFile const& file, fs::path folder, BackupProgress const& on_progress)
      : file_(file), folder_(std::move(folder)), on_progress_(on_progress), total_(size_of(file.contents())) {}

  // Under other names first. Then from the newest to the oldest: whatever is there when the power goes is no log that a
  // server would take, as the newest says which is the oldest.
  Result<> run() {
    auto const& segments = file_.contents().segments;
    for (Segment const& segment : segments) WM_TRY_VOID(write(segment));
    for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
      std::error_code error;
      fs::rename(part(*segment), folder_ / segment_file_name(segment->ordinal), error);
      if (error) return io_error("move", part(*segment).string(), error.value());
    }
    Fd const fd{::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!fd) return io_error("open the folder", folder_.string(), errno);
    return sync_file(fd.get(), folder_.string());
  }

 private:
  fs::path part(Segment const& segment) const { return folder_ / (segment_file_name(segment.ordinal) + ".part"); }

  Result<> write(Segment const& segment) {
    std::string const path = part(segment).string();
    Fd const fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640)};
    if (!fd) return io_error("make", path, errno);
    std::uint64_t offset = 0;
    Bytes block(kSumBlockBytes, '\0');
    for (Extent const& extent : segment.extents) {
      for (std::size_t i = 0; i < extent.crcs.size(); ++i) {
        std::uint64_t const from = extent.at + i * kSumBlockBytes;
        std::size_t const size =
            static_cast<std::size_t>(std::min<std::uint64_t>(kSumBlockBytes, extent.bytes - i * kSumBlockBytes));
        WM_TRY(std::size_t const got, read_at(file_.fd(), from, {block.data(), size}, file_.path()));
        if (got < size || crc32c({block.data(), size}) != extent.crcs[i]) {
          return fail(ErrorCode::log_corrupt,
                      fmt::format("{} is damaged between offsets {} and {}: bytes {} to {} of segment {}", file_.path(),
                                  from, from + size, offset, offset + size, segment.ordinal));
        }
        WM_TRY_VOID(write_at(fd.get(), offset, {block.data(), size}, path));
        offset += size;
        done_ += size;
        if (on_progress_) on_progress_(done_, total_);
      }
    }
    auto const bytes = static_cast<off_t>(std::max<std::uint64_t>(offset, segment.segment_bytes));
    if (::ftruncate(fd.get(), bytes) != 0) return io_error("make room for", path, errno);
    return sync_file(fd.get(), path);
  }

  BackupFile const& file_;
  fs::path const folder_;
  BackupProgress const& on_progress_;
  std::uint64_t const total_;
  std::uint64_t done_ = 0;
};

// Reads a restored log as a server will.
Result<RestoreReport> read_again(std::string const& folder) {
  RestoreReport report;
  WM_TRY(auto const disk, ReadOnlyDisk::open(folder, ReadOnlyDisk::Guard::none));
  LogReader reader{*disk};
  while (true) {
    WM_TRY(auto const frame, reader.next());
    if (!frame) break;
    ++report.frames;
    report.last_at = frame->header.at;
  }
  report.segments = static_cast<std::uint32_t>(reader.end().segments.size());
  for (DiskFile const& segment : reader.end().segments) report.bytes += segment.bytes;
  if (reader.end().torn) return fail(ErrorCode::log_corrupt, "what was restored does not end where the backup does");
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

Result<RestoreReport> restore(std::string const& file, std::string const& folder, BackupProgress const& on_progress) {
  WM_TRY(auto const backup, BackupFile::open(file, BackupFile::Use::read));
  bool const made = ::mkdir(folder.c_str(), 0750) == 0;
  if (!made && errno != EEXIST) return io_error("make the folder", folder, errno);
  std::error_code error;
  bool const is_empty = fs::is_empty(folder, error);
  if (error) return io_error("read the folder", folder, error.value());
  if (!is_empty) return fail(ErrorCode::io_failed, folder + " is not empty: a backup is restored into an empty folder");

  auto const done = [&]() -> Result<RestoreReport> {
    WM_TRY_VOID(Restore(backup, folder, on_progress).run());
    if (made) WM_TRY_VOID(sync_parent(folder));
    WM_TRY(auto report, read_again(folder));
    std::uint64_t frames = 0;
    for (Segment const& segment : backup.contents().segments) frames += segment.frames;
    if (report.frames != frames) {
      return fail(ErrorCode::log_corrupt,
                  fmt::format("{} frames were restored, and the backup has {}", report.frames, frames));
    }
    return report;
  }();
  if (!done) {  // A part of a log is worse than none.
    for (auto const& entry : fs::directory_iterator{folder, error}) fs::remove(entry.path(), error);
    if (made) fs::remove(folder, error);
  }
  return done;
}

}  // namespace workmill::log
