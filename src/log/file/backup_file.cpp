#include "log/file/backup_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "log/crc32c.h"
#include "log/file/file_io.h"
#include "log/file/folder.h"

namespace workmill::log {
namespace {

constexpr BytesView kMagic{"WMBACKUP"};
constexpr std::uint32_t kBackupVersion = 1;
// Two places for the root of the file, each in a sector of its own: one is written while the other holds.
constexpr std::array<std::uint64_t, 2> kRootAt{512, 1024};
constexpr std::size_t kRootBytes = 32;
constexpr std::uint64_t kDataAt = 4096;
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::uint64_t kContentsBytesMax = std::uint64_t{1} << 30;

void encode(BackupContents const& contents, Bytes& out) {
  ByteWriter writer{out};
  writer.u64(contents.log_id);
  writer.u32(static_cast<std::uint32_t>(contents.segments.size()));
  for (BackupSegment const& segment : contents.segments) {
    writer.u32(segment.ordinal);
    writer.u32(segment.segment_bytes);
    writer.u64(segment.used);
    writer.u64(segment.frames);
    writer.u64(segment.first_sequence);
    writer.bytes(segment.last_head);
    writer.u32(static_cast<std::uint32_t>(segment.extents.size()));
    for (BackupExtent const& extent : segment.extents) {
      writer.u64(extent.at);
      writer.u64(extent.bytes);
      for (std::uint32_t const crc : extent.crcs) writer.u32(crc);
    }
  }
}

std::optional<BackupContents> decode(BytesView in) {
  ByteReader reader{in};
  BackupContents contents;
  contents.log_id = reader.u64();
  std::uint32_t const segments = reader.u32();
  for (std::uint32_t i = 0; i < segments && reader.ok(); ++i) {
    BackupSegment segment;
    segment.ordinal = reader.u32();
    segment.segment_bytes = reader.u32();
    segment.used = reader.u64();
    segment.frames = reader.u64();
    segment.first_sequence = reader.u64();
    segment.last_head = reader.bytes();
    std::uint32_t const extents = reader.u32();
    std::uint64_t sum = 0;
    for (std::uint32_t j = 0; j < extents && reader.ok(); ++j) {
      BackupExtent extent{.at = reader.u64(), .bytes = reader.u64(), .crcs = {}};
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

}  // namespace

std::uint64_t size_of(BackupContents const& contents) {
  std::uint64_t bytes = 0;
  for (BackupSegment const& segment : contents.segments) bytes += segment.used;
  return bytes;
}

FrameHeader last_frame(BackupSegment const& segment, std::uint64_t log_id) {
  auto const header = decode_frame_header(segment.last_head, log_id);
  return header ? *header : FrameHeader{};
}

Result<BackupFile> BackupFile::open(std::string path, Use use) {
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

Result<std::uint64_t> BackupFile::append(BytesView bytes) {
  std::uint64_t const at = end_;
  WM_TRY_VOID(write_at(fd_.get(), at, bytes, path_));
  end_ += bytes.size();
  return at;
}

Result<> BackupFile::commit(BackupContents contents) {
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

Result<> BackupFile::look(Use use) {
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

Result<> BackupFile::read_contents(BytesView head, Use use, std::uint64_t file_bytes) {
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
    return fail(ErrorCode::log_corrupt, fmt::format("{} is damaged from offset {} to {}: its table of contents", path_,
                                                    newest.at, newest.at + newest.bytes));
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

Result<> BackupExtentWriter::add(BytesView bytes) {
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

Result<BackupExtent> BackupExtentWriter::finish() {
  WM_TRY_VOID(flush());
  if (extent_.bytes % kSumBlockBytes > 0) end_block();
  return std::move(extent_);
}

void BackupExtentWriter::end_block() {
  extent_.crcs.push_back(crc_);
  crc_ = 0;
}

Result<> BackupExtentWriter::flush() {
  WM_TRY([[maybe_unused]] auto const at, file_.append(buffer_));
  buffer_.clear();
  return {};
}

}  // namespace workmill::log
