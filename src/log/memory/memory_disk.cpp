#include "log/memory/memory_disk.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "log/frame.h"

namespace workmill::log {

class MemoryDisk::Session final : public Disk {
 public:
  Session(MemoryDisk& disk, std::uint64_t number) : disk_(disk), number_(number) {}

  Result<std::vector<DiskFile>> list() override {
    Lock const lock{calls_};
    return disk_.files();
  }

  Result<std::size_t> read(std::uint32_t ordinal, std::uint64_t offset, std::span<char> out) override {
    Lock const lock{calls_};
    auto const file = disk_.files_.find(ordinal);
    if (file == disk_.files_.end()) return fail(ErrorCode::io_failed, fmt::format("{} is not there", name(ordinal)));
    Bytes const& bytes = file->second.seen;
    if (offset >= bytes.size()) return std::size_t{0};
    std::size_t const count = std::min(out.size(), bytes.size() - static_cast<std::size_t>(offset));
    bytes.copy(out.data(), count, static_cast<std::size_t>(offset));
    return count;
  }

  std::move_only_function<void()> fetch(std::uint32_t /*ordinal*/, std::uint64_t /*offset*/,
                                        std::uint64_t /*bytes*/) override {
    if (!disk_.slow_) return {};
    return [held = disk_.held_, fetched = disk_.fetched_] {
      held->wait(true);
      *fetched += 1;
    };
  }

  Result<> create(std::uint32_t ordinal, BytesView head, std::uint64_t bytes) override {
    Lock const lock{calls_};
    WM_TRY_VOID(disk_.change(number_));
    WM_ASSERT(!disk_.files_.contains(ordinal));
    Bytes content = disk_.spare_ ? *std::move(disk_.spare_) : Bytes{};
    disk_.spare_.reset();
    if (disk_.used() + bytes > disk_.capacity_) {
      return fail(ErrorCode::disk_full, fmt::format("no space for {}", name(ordinal)));
    }
    content.resize(static_cast<std::size_t>(bytes), '\0');
    Bytes start{head};
    start.append(kFrameHeaderBytes, '\0');
    put(content, 0, start);
    disk_.files_[ordinal] = File{content, content};
    return {};
  }

  Result<> append(std::uint32_t ordinal, std::uint64_t offset, std::span<BytesView const> parts) override {
    Lock const lock{calls_};
    Bytes bytes;
    for (BytesView const part : parts) bytes.append(part);
    Result<> changed = disk_.change(number_);
    if (!changed && changed.error().code == ErrorCode::io_failed) {
      bytes.resize(static_cast<std::size_t>(disk_.rng_.below(bytes.size() + 1)));
    } else if (!changed) {
      return changed;
    }
    WM_TRY_VOID(disk_.write(ordinal, offset, bytes));
    return changed;
  }

  Result<> sync(std::uint32_t ordinal) override {
    Lock const lock{calls_};
    WM_TRY_VOID(disk_.change(number_));
    if (disk_.sync_fails_in_ > 0 && --disk_.sync_fails_in_ == 0) {
      disk_.failed_ = true;
      return fail(ErrorCode::io_failed, fmt::format("cannot sync {}: it was told to fail", name(ordinal)));
    }
    for (Write const& write : disk_.unsynced_) {
      if (write.ordinal == ordinal) put(disk_.files_.at(ordinal).durable, write.offset, write.bytes);
    }
    std::erase_if(disk_.unsynced_, [&](Write const& write) { return write.ordinal == ordinal; });
    return {};
  }

  void done_reading(std::uint32_t) override {}
  void retire(std::uint32_t) override {}

  Result<> drop(std::uint32_t ordinal) override {
    Lock const lock{calls_};
    WM_TRY_VOID(disk_.change(number_));
    auto const file = disk_.files_.find(ordinal);
    WM_ASSERT(file != disk_.files_.end());
    disk_.spare_ = std::move(file->second.seen);
    disk_.files_.erase(file);
    std::erase_if(disk_.unsynced_, [&](Write const& write) { return write.ordinal == ordinal; });
    return {};
  }

  Result<> claim(Epoch) override {
    Lock const lock{calls_};
    return disk_.change(number_);
  }

  DiskSpace space() const override {
    Lock const lock{calls_};
    std::uint64_t const used = disk_.used();
    return {.used_bytes = used, .free_bytes = disk_.capacity_ - std::min(disk_.capacity_, used)};
  }

  std::string name(std::uint32_t ordinal) const override { return fmt::format("{:08}.wal", ordinal); }

 private:
  MemoryDisk& disk_;
  std::uint64_t const number_;
  mutable Mutex calls_;  // A log calls from up to three threads.
};

std::unique_ptr<Disk> MemoryDisk::open() {
  failed_ = false;
  return std::make_unique<Session>(*this, ++sessions_);
}

Result<> MemoryDisk::change(std::uint64_t session) {
  if (session != sessions_) return fail(ErrorCode::log_fenced, "the log has a newer owner");
  ++changes_;
  if (fails_in_ > 0 && --fails_in_ == 0) failed_ = true;
  if (failed_) return fail(ErrorCode::io_failed, "the disk was told to fail");
  return {};
}

void MemoryDisk::put(Bytes& file, std::uint64_t offset, BytesView bytes) {
  std::size_t const start = static_cast<std::size_t>(offset);
  if (file.size() < start + bytes.size()) file.resize(start + bytes.size(), '\0');
  bytes.copy(file.data() + start, bytes.size());
}

Result<> MemoryDisk::write(std::uint32_t ordinal, std::uint64_t offset, BytesView bytes) {
  auto const file = files_.find(ordinal);
  WM_ASSERT(file != files_.end());
  std::uint64_t const end = offset + bytes.size();
  if (end > file->second.seen.size() && used() + end - file->second.seen.size() > capacity_) {
    return fail(ErrorCode::disk_full, "no space for a batch");
  }
  put(file->second.seen, offset, bytes);
  unsynced_.push_back({ordinal, offset, Bytes{bytes}});
  return {};
}

std::uint64_t MemoryDisk::used() const {
  std::uint64_t total = 0;
  for (auto const& [ordinal, file] : files_) total += file.seen.size();
  return total + (spare_ ? spare_->size() : 0);
}

void MemoryDisk::crash_keeping(std::uint64_t bytes) {
  for (Write const& write : unsynced_) {
    std::size_t const kept = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, write.bytes.size()));
    put(files_.at(write.ordinal).durable, write.offset, BytesView{write.bytes}.substr(0, kept));
    bytes -= kept;
  }
  after_crash();
}

void MemoryDisk::crash_keeping_some(std::uint64_t sector_bytes) {
  WM_ASSERT(sector_bytes > 0);
  for (Write const& write : unsynced_) {
    BytesView rest = write.bytes;
    std::uint64_t offset = write.offset;
    while (!rest.empty()) {
      std::uint64_t const to_boundary = sector_bytes - offset % sector_bytes;
      BytesView const sector = rest.substr(0, static_cast<std::size_t>(to_boundary));
      if (rng_.chance(500)) put(files_.at(write.ordinal).durable, offset, sector);
      rest.remove_prefix(sector.size());
      offset += sector.size();
    }
  }
  after_crash();
}

void MemoryDisk::after_crash() {
  unsynced_.clear();
  for (auto& [ordinal, file] : files_) file.seen = file.durable;
  ++sessions_;  // Whoever had it open is gone.
}

std::uint64_t MemoryDisk::unsynced_bytes() const {
  std::uint64_t total = 0;
  for (Write const& write : unsynced_) total += write.bytes.size();
  return total;
}

void MemoryDisk::heal() {
  fails_in_ = 0;
  sync_fails_in_ = 0;
  failed_ = false;
}

bool MemoryDisk::flip_bit(std::uint32_t ordinal, std::uint64_t offset, int bit) {
  auto const file = files_.find(ordinal);
  if (file == files_.end() || offset >= file->second.seen.size()) return false;
  auto const mask = static_cast<char>(1 << bit);
  for (Bytes* const bytes : {&file->second.seen, &file->second.durable}) {
    if (offset < bytes->size()) (*bytes)[static_cast<std::size_t>(offset)] ^= mask;
  }
  return true;
}

std::vector<DiskFile> MemoryDisk::files() const {
  std::vector<DiskFile> files;
  files.reserve(files_.size());
  for (auto const& [ordinal, file] : files_) files.push_back({ordinal, file.seen.size()});
  return files;
}

}  // namespace workmill::log
