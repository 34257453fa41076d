#include "log/file/read_only_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "log/file/file_io.h"
#include "log/file/folder.h"

namespace workmill::log {

Result<std::unique_ptr<ReadOnlyDisk>> ReadOnlyDisk::open(std::string const& folder, Guard guard) {
  Fd folder_fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!folder_fd) return io_error("open the folder", folder, errno);
  Fd lock;
  if (guard == Guard::keep_out) {
    lock = Fd{::openat(folder_fd.get(), kLockFile, O_RDONLY | O_CLOEXEC)};
    if (!lock && errno != ENOENT) return io_error("open", folder + "/" + kLockFile, errno);
    if (lock && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return io_error("lock", folder, errno);
      return in_use(lock.get(), folder);
    }
  }
  return std::make_unique<ReadOnlyDisk>(folder, std::move(folder_fd), std::move(lock));
}

ReadOnlyDisk::ReadOnlyDisk(std::string folder, Fd folder_fd, Fd lock)
    : folder_(std::move(folder)), folder_fd_(std::move(folder_fd)), lock_(std::move(lock)) {}

std::string ReadOnlyDisk::name(std::uint32_t ordinal) const { return folder_ + "/" + segment_file_name(ordinal); }

Result<std::vector<DiskFile>> ReadOnlyDisk::list() {
  std::unique_ptr<DIR, int (*)(DIR*)> const entries{::opendir(folder_.c_str()), ::closedir};
  if (!entries) return io_error("read the folder", folder_, errno);
  std::vector<DiskFile> files;
  errno = 0;
  while (dirent const* const entry = ::readdir(entries.get())) {
    if (auto const ordinal = segment_ordinal(entry->d_name)) {
      struct stat info{};
      if (::fstatat(folder_fd_.get(), entry->d_name, &info, 0) == 0) {
        files.push_back({*ordinal, static_cast<std::uint64_t>(info.st_size)});
      } else if (errno != ENOENT) {  // A file may go while we look.
        return io_error("look at", folder_ + "/" + entry->d_name, errno);
      }
    }
    errno = 0;
  }
  if (errno != 0) return io_error("read the folder", folder_, errno);
  std::sort(files.begin(), files.end(), [](DiskFile const& a, DiskFile const& b) { return a.ordinal < b.ordinal; });
  return files;
}

Result<int> ReadOnlyDisk::reader(std::uint32_t ordinal) {
  for (Reader const& reader : readers_) {
    if (reader.ordinal == ordinal) return reader.fd.get();
  }
  Fd fd{::openat(folder_fd_.get(), segment_file_name(ordinal).c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) return io_error("open", name(ordinal), errno);
  Reader& reader = readers_[next_reader_++ % readers_.size()];
  reader = {.ordinal = ordinal, .fd = std::move(fd)};
  return reader.fd.get();
}

Result<std::size_t> ReadOnlyDisk::read(std::uint32_t ordinal, std::uint64_t offset, std::span<char> out) {
  WM_TRY(int const fd, reader(ordinal));
  auto const got = read_at(fd, offset, out);
  if (!got) return io_error("read", name(ordinal), errno);
  return *got;
}

void ReadOnlyDisk::done_reading(std::uint32_t ordinal) {
  for (Reader& reader : readers_) {
    if (reader.ordinal == ordinal) reader = Reader{};
  }
}

bool ReadOnlyDisk::is_still_there(std::uint32_t ordinal) const {
  struct stat named{};
  if (::fstatat(folder_fd_.get(), segment_file_name(ordinal).c_str(), &named, 0) != 0) return false;
  for (Reader const& reader : readers_) {
    struct stat held{};
    if (reader.ordinal == ordinal) return ::fstat(reader.fd.get(), &held) == 0 && held.st_ino == named.st_ino;
  }
  return true;
}

void ReadOnlyDisk::forget_cached(std::uint32_t ordinal, std::uint64_t offset, std::uint64_t bytes) {
  if (auto const fd = reader(ordinal)) {
    ::posix_fadvise(*fd, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
  }
}

Result<> ReadOnlyDisk::refuse(std::uint32_t ordinal) const {
  return fail(ErrorCode::io_failed, fmt::format("{} is open for reading only", name(ordinal)));
}
Result<> ReadOnlyDisk::create(std::uint32_t ordinal, BytesView, std::uint64_t) { return refuse(ordinal); }
Result<> ReadOnlyDisk::append(std::uint32_t ordinal, std::uint64_t, std::span<BytesView const>) {
  return refuse(ordinal);
}
Result<> ReadOnlyDisk::sync(std::uint32_t ordinal) { return refuse(ordinal); }
Result<> ReadOnlyDisk::drop(std::uint32_t ordinal) { return refuse(ordinal); }
Result<> ReadOnlyDisk::claim(Epoch) { return fail(ErrorCode::io_failed, folder_ + " is open for reading only"); }

}  // namespace workmill::log
