#include "log/file/file_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "log/file/file_io.h"
#include "log/file/folder.h"
#include "log/file/folder_repair.h"
#include "log/frame.h"

namespace workmill::log {
namespace {

constexpr mode_t kFileMode = 0640;

// A small flush into blocks never written before makes the file system write its journal as well; zeros written ahead
// of it pay for that once in so many bytes. For a large flush they would cost more than they save.
constexpr std::uint64_t kZeroAheadBytes = std::uint64_t{64} << 10;
constexpr std::uint64_t kSmallFlushBytes = std::uint64_t{8} << 10;
constexpr std::array<char, kZeroAheadBytes> kZeros{};

Result<> lock_folder(int lock, std::string const& folder) {
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return io_error("lock", folder, errno);
    return in_use(lock, folder);
  }
  // For people, and for the message above: what holds is the lock, not the number.
  std::string const pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock, 0) != 0 || ::pwrite(lock, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return io_error("write", folder + "/LOCK", errno);
  }
  return {};
}

// A folder that was just made is an entry in its parent, and gone after a power cut unless that is synced too. Always
// done: whoever made it may have died before this. Where it was there before, a parent that we may not look at is not
// ours to sync.
Result<> sync_parent(int folder, std::string const& path, bool is_new) {
  Fd const parent{::openat(folder, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  bool const synced = parent && ::fsync(parent.get()) == 0;
  bool const can_do_without = !is_new && (errno == EACCES || errno == EINVAL || errno == EROFS);
  if (!synced && !can_do_without) return io_error("sync the folder above", path, errno);
  return {};
}

// All of `parts`, however often the system writes less than asked.
Result<> write_all(int fd, std::uint64_t offset, std::vector<iovec>& parts, std::string const& path) {
  std::span<iovec> rest{parts};
  while (!rest.empty()) {
    int const count = static_cast<int>(std::min<std::size_t>(rest.size(), IOV_MAX));
    ssize_t const wrote = ::pwritev(fd, rest.data(), count, static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return io_error("write", path, errno);
    if (wrote == 0) return fail(ErrorCode::io_failed, fmt::format("cannot write {}: nothing was taken", path));
    offset += static_cast<std::uint64_t>(wrote);
    std::size_t left = static_cast<std::size_t>(wrote);
    while (!rest.empty() && left >= rest.front().iov_len) {
      left -= rest.front().iov_len;
      rest = rest.subspan(1);
    }
    if (left > 0) {
      rest.front().iov_base = static_cast<char*>(rest.front().iov_base) + left;
      rest.front().iov_len -= left;
    }
  }
  return {};
}

// The system's interface is older than const.
iovec part_of(BytesView bytes) { return {.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()}; }

}  // namespace

Result<std::unique_ptr<FileDisk>> FileDisk::open(std::string const& folder) {
  bool const is_new = ::mkdir(folder.c_str(), 0750) == 0;
  if (!is_new && errno != EEXIST) return io_error("make the folder", folder, errno);
  Fd folder_fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!folder_fd) return io_error("open the folder", folder, errno);
  Fd lock{::openat(folder_fd.get(), kLockFile, O_RDWR | O_CREAT | O_CLOEXEC, kFileMode)};
  if (!lock) return io_error("write to the folder", folder, errno);
  WM_TRY_VOID(lock_folder(lock.get(), folder));
  WM_TRY_VOID(sync_parent(folder_fd.get(), folder, is_new));
  if (has_unfinished_repair(folder_fd.get())) {  // Its segments may be in two places, or in none.
    return fail(ErrorCode::log_corrupt, folder + ": a repair of this folder was begun and is not finished");
  }
  return std::make_unique<FileDisk>(folder, std::move(folder_fd), std::move(lock));
}

FileDisk::FileDisk(std::string folder, Fd folder_fd, Fd lock)
    : folder_(std::move(folder)), folder_fd_(std::move(folder_fd)), lock_(std::move(lock)) {
  refresh_space();
}

std::string FileDisk::name(std::uint32_t ordinal) const { return folder_ + "/" + segment_file_name(ordinal); }

Result<std::vector<DiskFile>> FileDisk::list() {
  std::unique_ptr<DIR, int (*)(DIR*)> const entries{::opendir(folder_.c_str()), ::closedir};
  if (!entries) return io_error("read the folder", folder_, errno);
  std::vector<DiskFile> files;
  std::uint64_t used = 0;
  errno = 0;
  while (dirent const* const entry = ::readdir(entries.get())) {
    struct stat info{};
    if (::fstatat(folder_fd_.get(), entry->d_name, &info, 0) != 0) {
      return io_error("look at", folder_ + "/" + entry->d_name, errno);
    }
    auto const bytes = static_cast<std::uint64_t>(info.st_size);
    if (std::string_view{entry->d_name} == kSpareFile) {
      has_spare_.store(true);
      used += bytes;
    } else if (auto const ordinal = segment_ordinal(entry->d_name)) {
      files.push_back({*ordinal, bytes});
      used += bytes;
    }
    errno = 0;
  }
  if (errno != 0) return io_error("read the folder", folder_, errno);
  used_bytes_.store(used);
  std::sort(files.begin(), files.end(), [](DiskFile const& a, DiskFile const& b) { return a.ordinal < b.ordinal; });
  return files;
}

// ---- The read side.

Result<int> FileDisk::reader(std::uint32_t ordinal) {
  Reader* oldest = &readers_.front();
  for (Reader& reader : readers_) {
    if (reader.ordinal == ordinal && reader.fd) {
      reader.last_use = ++reads_;
      return reader.fd.get();
    }
    if (reader.last_use < oldest->last_use) oldest = &reader;
  }
  Fd fd{::openat(folder_fd_.get(), segment_file_name(ordinal).c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) return io_error("open", name(ordinal), errno);
  *oldest = {.ordinal = ordinal, .last_use = ++reads_, .fd = std::move(fd)};
  return oldest->fd.get();
}

Result<std::size_t> FileDisk::read(std::uint32_t ordinal, std::uint64_t offset, std::span<char> out) {
  WM_TRY(int const fd, reader(ordinal));
  auto const got = read_at(fd, offset, out);
  if (!got) return io_error("read", name(ordinal), errno);
  return *got;
}

std::move_only_function<void()> FileDisk::fetch(std::uint32_t ordinal, std::uint64_t offset, std::uint64_t bytes) {
  auto const fd = reader(ordinal);
  if (!fd || is_at_hand(*fd, offset, bytes)) return {};  // An error is read()'s to tell.
  // With a descriptor of its own only while it reads: many may wait. Where the file is gone by then, nothing is read.
  return [this, ordinal, offset, bytes] {
    Fd const file{::openat(folder_fd_.get(), segment_file_name(ordinal).c_str(), O_RDONLY | O_CLOEXEC)};
    if (file) read_through(file.get(), offset, bytes);
  };
}

void FileDisk::done_reading(std::uint32_t ordinal) {
  for (Reader& reader : readers_) {
    if (reader.ordinal == ordinal) reader = Reader{};
  }
}

// ---- The write side.

Result<FileDisk::Writer> FileDisk::open_writer(char const* file) const {
  Writer writer;
  writer.fd = Fd{::openat(folder_fd_.get(), file, O_WRONLY | O_CLOEXEC)};
  if (!writer.fd) return io_error("open", folder_ + "/" + file, errno);
  struct stat info{};
  if (::fstat(writer.fd.get(), &info) != 0) return io_error("look at", folder_ + "/" + file, errno);
  writer.bytes = static_cast<std::uint64_t>(info.st_size);
  return writer;
}

Result<int> FileDisk::writer(std::uint32_t ordinal) {
  return writers_.with([&](auto& writers) -> Result<int> {
    auto found = writers.find(ordinal);
    if (found == writers.end()) {
      WM_TRY(Writer opened, open_writer(segment_file_name(ordinal).c_str()));
      found = writers.emplace(ordinal, std::move(opened)).first;
    }
    return found->second.fd.get();
  });
}

Result<> FileDisk::create(std::uint32_t ordinal, BytesView head, std::uint64_t bytes) {
  Writer writer;
  bool const is_recycled = has_spare_.load();
  char const* const start_name = is_recycled ? kSpareFile : kNewFile;
  if (is_recycled) {
    WM_TRY(writer, open_writer(kSpareFile));
    writer.written = std::min(writer.bytes, bytes);
  } else {
    writer.fd = Fd{::openat(folder_fd_.get(), kNewFile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kFileMode)};
    if (!writer.fd) return io_error("make", name(ordinal), errno);
  }
  std::uint64_t const before = writer.bytes;
  if (before > bytes && ::ftruncate(writer.fd.get(), static_cast<off_t>(bytes)) != 0) {
    return io_error("cut", name(ordinal), errno);
  }
  if (before < bytes && ::fallocate(writer.fd.get(), 0, 0, static_cast<off_t>(bytes)) != 0) {
    int const error = errno;
    // Some file systems cannot preallocate. Then space is taken as the log grows, and may be missing in mid-flush.
    bool const can_do_without = error == EOPNOTSUPP && ::ftruncate(writer.fd.get(), static_cast<off_t>(bytes)) == 0;
    if (!can_do_without) {
      if (!is_recycled) ::unlinkat(folder_fd_.get(), kNewFile, 0);
      refresh_space();
      return io_error("make room for", name(ordinal), error);
    }
  }
  std::vector<iovec> parts{part_of(head), part_of({kZeros.data(), kFrameHeaderBytes})};
  WM_TRY_VOID(write_all(writer.fd.get(), 0, parts, name(ordinal)));
  if (::fsync(writer.fd.get()) != 0) return io_error("sync", name(ordinal), errno);
  if (::renameat(folder_fd_.get(), start_name, folder_fd_.get(), segment_file_name(ordinal).c_str()) != 0) {
    return io_error("name", name(ordinal), errno);
  }
  if (is_recycled) has_spare_.store(false);
  WM_TRY_VOID(sync_folder());
  used_bytes_.fetch_add(bytes - before);  // Less where a long spare was cut: unsigned arithmetic comes out right.
  writer.bytes = bytes;
  writers_.with([&](auto& writers) { writers.insert_or_assign(ordinal, std::move(writer)); });
  refresh_space();
  return {};
}

Result<> FileDisk::append(std::uint32_t ordinal, std::uint64_t offset, std::span<BytesView const> parts) {
  WM_TRY(int const fd, writer(ordinal));
  std::vector<iovec> vector;
  vector.reserve(parts.size() + 1);
  std::uint64_t size = 0;
  for (BytesView const part : parts) {
    vector.push_back(part_of(part));
    size += part.size();
  }
  std::uint64_t end = offset + size;
  writers_.with([&](auto& writers) {
    Writer& writer = writers.at(ordinal);
    if (size < kSmallFlushBytes && end > writer.written && end < writer.bytes) {
      std::uint64_t const ahead = std::min(kZeroAheadBytes, writer.bytes - end);
      vector.push_back(part_of({kZeros.data(), static_cast<std::size_t>(ahead)}));
      end += ahead;
    }
    writer.written = std::max(writer.written, end);
    if (end > writer.bytes) {
      used_bytes_.fetch_add(end - writer.bytes);
      writer.bytes = end;
    }
  });
  return write_all(fd, offset, vector, name(ordinal));
}

Result<> FileDisk::sync(std::uint32_t ordinal) {
  WM_TRY(int const fd, writer(ordinal));
  if (::fdatasync(fd) != 0) return io_error("sync", name(ordinal), errno);
  return {};
}

void FileDisk::retire(std::uint32_t ordinal) {
  writers_.with([&](auto& writers) { writers.erase(ordinal); });
}

Result<> FileDisk::drop(std::uint32_t ordinal) {
  retire(ordinal);
  std::string const file = segment_file_name(ordinal);
  struct stat info{};
  if (::fstatat(folder_fd_.get(), file.c_str(), &info, 0) != 0) return io_error("look at", name(ordinal), errno);
  if (!has_spare_.load()) {
    if (::renameat(folder_fd_.get(), file.c_str(), folder_fd_.get(), kSpareFile) != 0) {
      return io_error("put aside", name(ordinal), errno);
    }
    WM_TRY_VOID(sync_folder());
    has_spare_.store(true);
    return {};
  }
  if (::unlinkat(folder_fd_.get(), file.c_str(), 0) != 0) return io_error("remove", name(ordinal), errno);
  used_bytes_.fetch_sub(static_cast<std::uint64_t>(info.st_size));
  WM_TRY_VOID(sync_folder());
  refresh_space();
  return {};
}

Result<> FileDisk::sync_folder() const {
  if (::fsync(folder_fd_.get()) != 0) return io_error("sync the folder", folder_, errno);
  return {};
}

// The lock, held since open, keeps every other owner out.
Result<> FileDisk::claim(Epoch) { return {}; }

DiskSpace FileDisk::space() const { return {.used_bytes = used_bytes_.load(), .free_bytes = free_bytes_.load()}; }

void FileDisk::refresh_space() {
  struct statvfs info{};
  if (::fstatvfs(folder_fd_.get(), &info) == 0) {
    free_bytes_.store(static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize);
  }
}

}  // namespace workmill::log
