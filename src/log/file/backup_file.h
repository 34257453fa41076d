#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "log/file/fd.h"
#include "log/frame.h"

// The file of a backup (docs/log-format.md): extents of segments, each block with a checksum, a table of contents at
// the end, and two roots at the beginning, of which the newer whole one says where the table is. It only grows; until a
// new root is on disk the file stands for the backup before. One thread at a time; other processes are kept out by a
// lock.
namespace workmill::log {

inline constexpr std::size_t kSumBlockBytes = std::size_t{64} << 10;  // A checksum each, so that damage has a place.

struct BackupExtent {
  std::uint64_t at = 0;  // In the backup.
  std::uint64_t bytes = 0;
  std::vector<std::uint32_t> crcs{};  // Of each block of it.
};

struct BackupSegment {
  std::uint32_t ordinal = 0;
  std::uint32_t segment_bytes = 0;  // Nominal.
  std::uint64_t used = 0;           // Header and whole frames.
  std::uint64_t frames = 0;
  std::uint64_t first_sequence = 0;
  Bytes last_head{};  // The header of its last frame; empty where it has none.
  std::vector<BackupExtent> extents{};
};

struct BackupContents {
  std::uint64_t log_id = 0;
  std::vector<BackupSegment> segments;  // Oldest first.
};

// Of the log, as the backup holds it.
std::uint64_t size_of(BackupContents const& contents);
// All zeros where the segment has no frame yet.
FrameHeader last_frame(BackupSegment const& segment, std::uint64_t log_id);

class BackupFile {
 public:
  enum class Use : std::uint8_t { read, write };

  // To write: a file that is not there is made, and an empty one begun. log_corrupt where it is something else or
  // damaged, log_version, log_in_use while another process has it, io_failed, disk_full.
  static Result<BackupFile> open(std::string path, Use use);

  BackupContents const& contents() const { return contents_; }
  std::string const& path() const { return path_; }
  int fd() const { return fd_.get(); }
  std::uint64_t size() const { return end_; }

  // Adds bytes at the end, and says where they are. They count when they are in what is committed.
  Result<std::uint64_t> append(BytesView bytes);

  // Makes `contents` what the file stands for. On disk when it returns.
  Result<> commit(BackupContents contents);

 private:
  BackupFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Result<> look(Use use);
  Result<> read_contents(BytesView head, Use use, std::uint64_t file_bytes);

  Fd fd_;
  std::string path_;
  std::uint64_t generation_ = 0;
  std::uint64_t end_ = 0;
  BackupContents contents_;
};

// Adds the bytes of one segment to a backup, as one extent. The file outlives it.
class BackupExtentWriter {
 public:
  explicit BackupExtentWriter(BackupFile& file) : file_(file) { extent_.at = file.size(); }

  Result<> add(BytesView bytes);
  Result<BackupExtent> finish();

 private:
  void end_block();
  Result<> flush();

  BackupFile& file_;
  BackupExtent extent_;
  Bytes buffer_;
  std::uint32_t crc_ = 0;
};

}  // namespace workmill::log
