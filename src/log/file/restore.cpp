#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "log/crc32c.h"
#include "log/file/backup.h"
#include "log/file/backup_file.h"
#include "log/file/fd.h"
#include "log/file/file_io.h"
#include "log/file/folder.h"
#include "log/file/read_only_disk.h"
#include "log/log_reader.h"

namespace workmill::log {
namespace {

namespace fs = std::filesystem;

class Restore {
 public:
  Restore(BackupFile const& file, fs::path folder, BackupProgress const& on_progress)
      : file_(file), folder_(std::move(folder)), on_progress_(on_progress), total_(size_of(file.contents())) {}

  // Under other names first. Then from the newest to the oldest: whatever is there when the power goes is no log that a
  // server would take, as the newest says which is the oldest.
  Result<> run() {
    auto const& segments = file_.contents().segments;
    for (BackupSegment const& segment : segments) WM_TRY_VOID(write(segment));
    for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
      std::error_code error;
      fs::rename(part(*segment), folder_ / segment_file_name(segment->ordinal), error);
      if (error) return io_error("move", part(*segment).string(), error.value());
    }
    return sync_folder(folder_.string());
  }

 private:
  fs::path part(BackupSegment const& segment) const { return folder_ / (segment_file_name(segment.ordinal) + ".part"); }

  Result<> write(BackupSegment const& segment) {
    std::string const path = part(segment).string();
    Fd const fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640)};
    if (!fd) return io_error("make", path, errno);
    std::uint64_t offset = 0;
    Bytes block(kSumBlockBytes, '\0');
    for (BackupExtent const& extent : segment.extents) {
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
    for (BackupSegment const& segment : backup.contents().segments) frames += segment.frames;
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
