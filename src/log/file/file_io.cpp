#include "log/file/file_io.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "log/file/fd.h"
#include "log/file/folder.h"

namespace workmill::log {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{64} << 10;

}  // namespace

std::optional<std::size_t> read_at(int fd, std::uint64_t offset, std::span<char> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    ssize_t const got = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Result<std::size_t> read_at(int fd, std::uint64_t offset, std::span<char> out, std::string const& path) {
  auto const got = read_at(fd, offset, out);
  if (!got) return io_error("read", path, errno);
  return *got;
}

bool is_at_hand(int fd, std::uint64_t offset, std::uint64_t bytes) {
  std::array<char, kPieceBytes> room;  // All pieces go to the same place: nobody wants them.
  std::array<iovec, 16> pieces;
  while (bytes > 0) {
    int count = 0;
    for (std::uint64_t rest = bytes; rest > 0 && count < static_cast<int>(pieces.size()); ++count) {
      std::size_t const piece = std::min<std::uint64_t>(rest, room.size());
      pieces[static_cast<std::size_t>(count)] = {.iov_base = room.data(), .iov_len = piece};
      rest -= piece;
    }
    ssize_t const got = ::preadv2(fd, pieces.data(), count, static_cast<off_t>(offset), RWF_NOWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno != EAGAIN;
    if (got == 0) return true;  // The file ends before.
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
  return true;
}

void read_through(int fd, std::uint64_t offset, std::uint64_t bytes) {
  std::array<char, kPieceBytes> room;
  while (bytes > 0) {
    std::size_t const piece = std::min<std::uint64_t>(bytes, room.size());
    auto const got = read_at(fd, offset, {room.data(), piece});
    if (!got || *got < piece) return;
    offset += piece;
    bytes -= piece;
  }
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

Result<> sync_folder(std::string const& folder) {
  Fd const fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) return io_error("open the folder", folder, errno);
  if (::fsync(fd.get()) != 0) return io_error("sync the folder", folder, errno);
  return {};
}

Result<> sync_parent(std::string const& path) {
  std::filesystem::path const parent = std::filesystem::path{path}.parent_path();
  return sync_folder(parent.empty() ? "." : parent.string());
}

}  // namespace workmill::log
