#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "log/disk.h"
#include "log/file/fd.h"

// A folder of segment files, to look at only: whatever would change it fails with io_failed. For tools, backups and the
// verifier. Makes no file, not even the lock.
//
// One thread.
namespace workmill::log {

class ReadOnlyDisk final : public Disk {
 public:
  enum class Guard : std::uint8_t {
    keep_out,  // Nobody else writes here meanwhile: log_in_use where a server has the folder, and none starts while
               // this is open.
    none,      // The folder may be in use: files come and go, and grow.
  };
  // io_failed with path and reason.
  static Result<std::unique_ptr<ReadOnlyDisk>> open(std::string const& folder, Guard guard);
  ReadOnlyDisk(std::string folder, Fd folder_fd, Fd lock);

  Result<std::vector<DiskFile>> list() override;
  Result<std::size_t> read(std::uint32_t ordinal, std::uint64_t offset, std::span<char> out) override;
  Result<> create(std::uint32_t ordinal, BytesView head, std::uint64_t bytes) override;
  Result<> append(std::uint32_t ordinal, std::uint64_t offset, std::span<BytesView const> parts) override;
  Result<> sync(std::uint32_t ordinal) override;
  void done_reading(std::uint32_t ordinal) override;
  void retire(std::uint32_t) override {}
  Result<> drop(std::uint32_t ordinal) override;
  Result<> claim(Epoch) override;
  DiskSpace space() const override { return {}; }
  std::string name(std::uint32_t ordinal) const override;

  // False where the file has gone, or another has its name by now: what was read of it since may be anything. Files of
  // dropped segments become others, so that holding one open is not enough.
  bool is_still_there(std::uint32_t ordinal) const;
  // From now on reads of this file come from the device, as far as the system does as it is told.
  void forget_cached(std::uint32_t ordinal, std::uint64_t offset, std::uint64_t bytes);

 private:
  struct Reader {
    std::uint32_t ordinal = 0;
    Fd fd;
  };
  Result<int> reader(std::uint32_t ordinal);
  Result<> refuse(std::uint32_t ordinal) const;

  std::string const folder_;
  Fd const folder_fd_;
  Fd const lock_;
  std::array<Reader, 4> readers_;
  std::size_t next_reader_ = 0;
};

}  // namespace workmill::log
