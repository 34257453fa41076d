#include "log/file/small_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "log/file/fd.h"
#include "log/file/folder.h"

namespace workmill::log {
namespace {

std::string folder_of(std::string const& path) {
  std::filesystem::path const parent = std::filesystem::path{path}.parent_path();
  return parent.empty() ? "." : parent.string();
}

Result<> write_all(int fd, std::string_view bytes, std::string const& path) {
  while (!bytes.empty()) {
    ssize_t const wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return io_error("write", path, errno);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return {};
}

// Root may see to the file of a server that runs as somebody else, who must be able to read it again: it belongs to
// whom it belonged to, and a new one to whose the folder is.
Result<> keep_owner(int fresh, std::string const& path, int folder) {
  if (::geteuid() != 0) return {};
  struct stat before{};
  if (::lstat(path.c_str(), &before) != 0 && ::fstat(folder, &before) != 0) return io_error("look at", path, errno);
  if (::fchown(fresh, before.st_uid, before.st_gid) != 0) return io_error("set the owner of", path, errno);
  return {};
}

Result<> replace(std::string const& path, std::string const& fresh, std::string_view bytes, mode_t mode, int folder) {
  ::unlink(fresh.c_str());  // Of one who died here; who holds the lock may.
  Fd const file{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)};
  if (!file) return io_error("make", fresh, errno);
  auto const written = [&]() -> Result<> {
    WM_TRY_VOID(keep_owner(file.get(), path, folder));
    // The umask may have taken too much away. It cannot have left too much, so nobody could look in between.
    if (::fchmod(file.get(), mode) != 0) return io_error("set the permissions of", fresh, errno);
    WM_TRY_VOID(write_all(file.get(), bytes, fresh));
    if (::fsync(file.get()) != 0) return io_error("sync", fresh, errno);
    if (::rename(fresh.c_str(), path.c_str()) != 0) return io_error("move", fresh, errno);
    return {};
  }();
  if (!written) ::unlink(fresh.c_str());
  return written;
}

}  // namespace

Result<std::optional<SmallFile>> read_small_file(std::string const& path, std::size_t bytes_max) {
  Fd const file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // A pipe in its place must not hold us up.
  if (!file && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  if (!file) return io_error("open", path, errno);
  struct stat about{};
  if (::fstat(file.get(), &about) != 0) return io_error("look at", path, errno);
  if (!S_ISREG(about.st_mode)) return fail(ErrorCode::io_failed, path + " is no ordinary file");
  SmallFile read{.bytes = {}, .mode = about.st_mode & 07777};
  std::array<char, 16 * 1024> piece;
  for (;;) {
    ssize_t const count = ::read(file.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("read", path, errno);
    if (count == 0) return read;
    read.bytes.append(piece.data(), static_cast<std::size_t>(count));
    if (read.bytes.size() > bytes_max) return fail(ErrorCode::io_failed, path + " is larger than it may be");
  }
}

Result<> replace_small_file(std::string const& path, mode_t mode, std::string_view bytes) {
  std::string const folder = folder_of(path);
  Fd const place{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!place) return io_error("open the folder", folder, errno);
  WM_TRY_VOID(replace(path, path + ".new", bytes, mode, place.get()));
  if (::fsync(place.get()) != 0) return io_error("sync the folder", folder, errno);
  return {};
}

Result<> change_small_file(std::string const& path, mode_t mode, std::size_t bytes_max, Change change) {
  std::string const folder = folder_of(path);
  Fd const lock{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!lock) return io_error("open the folder", folder, errno);
  int locked = 0;
  do {
    locked = ::flock(lock.get(), LOCK_EX);
  } while (locked != 0 && errno == EINTR);
  if (locked != 0) return io_error("lock the folder", folder, errno);
  WM_TRY(auto const before, read_small_file(path, bytes_max));
  WM_TRY(std::string const after, change(before ? std::optional{before->bytes} : std::nullopt));
  WM_TRY_VOID(replace(path, path + ".new", after, mode, lock.get()));
  if (::fsync(lock.get()) != 0) return io_error("sync the folder", folder, errno);
  return {};
}

}  // namespace workmill::log
