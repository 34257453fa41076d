#include "app/worker/checkpoint_file.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "app/json.h"
#include "app/worker/file_descriptor.h"
#include "model/job.h"

namespace workmill::app {
namespace {

auto io_failed(std::string_view doing, std::string_view path) {
  return fail(ErrorCode::io_failed, fmt::format("{} {}: {}", doing, path, std::strerror(errno)));
}

Result<> write_file(std::string const& path, std::string_view bytes) {
  FileDescriptor const file{open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!file.is_open()) return io_failed("making", path);
  while (!bytes.empty()) {
    auto const count = write(file.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return io_failed("writing", path);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

// All of a file of that many bytes at most; nothing where there is none, or a longer one, or anything but a file.
std::optional<std::string> read_file(std::string const& path, std::size_t bytes_max) {
  // Not blocking, as a command may have put there what would.
  FileDescriptor const file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  struct stat status{};
  if (!file.is_open() || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  if (static_cast<std::uint64_t>(status.st_size) > bytes_max) return std::nullopt;
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t got = 0;
  while (got < bytes.size()) {
    auto const count = read(file.get(), bytes.data() + got, bytes.size() - got);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return std::nullopt;  // It was cut off meanwhile.
    got += static_cast<std::size_t>(count);
  }
  return bytes;
}

}  // namespace

Result<CheckpointFolder> CheckpointFolder::make() {
  char const* const place = getenv("TMPDIR");
  std::string path = fmt::format("{}/workmill-XXXXXX", place != nullptr && *place != '\0' ? place : "/tmp");
  if (mkdtemp(path.data()) == nullptr) return io_failed("making", path);
  return CheckpointFolder{std::move(path)};
}

CheckpointFolder::CheckpointFolder(CheckpointFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}

CheckpointFolder::~CheckpointFolder() {
  if (!path_.empty()) rmdir(path_.c_str());
}

Result<CheckpointFile> CheckpointFile::make(CheckpointFolder const& folder, std::string_view name,
                                            std::string_view left) {
  CheckpointFile made{fmt::format("{}/{}", folder.path(), name), left};
  if (!left.empty()) WM_TRY_VOID(write_file(made.path_, left));
  return made;
}

CheckpointFile::CheckpointFile(CheckpointFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), seen_(std::move(other.seen_)) {}

CheckpointFile::~CheckpointFile() {
  if (!path_.empty()) unlink(path_.c_str());
}

std::optional<std::string> CheckpointFile::take_new() {
  auto bytes = read_file(path_, kCheckpointBytesMax);
  if (!bytes || bytes->empty()) return std::nullopt;
  auto const document = parse_json(*bytes);
  if (!document) return std::nullopt;
  std::string data{document->root().raw};
  if (data == seen_) return std::nullopt;
  seen_ = data;
  return data;
}

}  // namespace workmill::app
