#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/guarded.h"
#include "log/disk.h"
#include "log/file/fd.h"

// A folder of segment files: 00000001.wal and so on, besides LOCK, and spare.wal, the file of a dropped segment that
// waits to become the next one. Overwriting what is there already is the cheapest to sync (docs/adr/0002-log-files.md).
//
// Threads: as disk.h has it. The read side is the shard's thread alone; files open for writing are under a lock,
// because the flushing thread and the one in the background both look there.
namespace workmill::log {

class FileDisk final : public Disk {
 public:
  // Makes the folder where it is missing (not its parents), and locks it for this process. log_in_use with the pid of
  // the holder; io_failed with path and reason.
  static Result<std::unique_ptr<FileDisk>> open(std::string const& folder);
  FileDisk(std::string folder, Fd folder_fd, Fd lock);

  Result<std::vector<DiskFile>> list() override;
  Result<std::size_t> read(std::uint32_t ordinal, std::uint64_t offset, std::span<char> out) override;
  std::move_only_function<void()> fetch(std::uint32_t ordinal, std::uint64_t offset, std::uint64_t bytes) override;
  Result<> create(std::uint32_t ordinal, BytesView head, std::uint64_t bytes) override;
  Result<> append(std::uint32_t ordinal, std::uint64_t offset, std::span<BytesView const> parts) override;
  Result<> sync(std::uint32_t ordinal) override;
  void done_reading(std::uint32_t ordinal) override;
  void retire(std::uint32_t ordinal) override;
  Result<> drop(std::uint32_t ordinal) override;
  Result<> claim(Epoch epoch) override;
  DiskSpace space() const override;
  std::string name(std::uint32_t ordinal) const override;

  // Asks the file system for its free space. Any thread.
  void refresh_space();

 private:
  struct Writer {
    Fd fd;
    std::uint64_t bytes = 0;    // Size of the file.
    std::uint64_t written = 0;  // Up to here its blocks have been written before, so that a sync writes data only.
  };
  struct Reader {
    std::uint32_t ordinal = 0;
    std::uint64_t last_use = 0;
    Fd fd;
  };

  Result<int> reader(std::uint32_t ordinal);
  Result<int> writer(std::uint32_t ordinal);
  Result<Writer> open_writer(char const* file) const;
  Result<> sync_folder() const;

  std::string const folder_;
  Fd const folder_fd_;
  Fd const lock_;  // Closing it gives the folder free.

  std::array<Reader, 8> readers_;
  std::uint64_t reads_ = 0;
  Guarded<std::map<std::uint32_t, Writer>> writers_;
  std::atomic<bool> has_spare_{false};
  std::atomic<std::uint64_t> used_bytes_{0};
  std::atomic<std::uint64_t> free_bytes_{0};
};

}  // namespace workmill::log
