#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/guarded.h"
#include "base/rng.h"
#include "log/disk.h"

// A disk in memory that outlives the logs on it, and that breaks on order: for tests and the simulator.
//
// Like a real one it has two states of each file: what a reader sees, and what would be left if the power went now.
// append changes the first, sync makes the second equal to it. crash() is the power cut. Everything it does follows
// from the calls and the seed. One thread, but for the log that has it open, which may call from all of its own.
namespace workmill::log {

class MemoryDisk {
 public:
  explicit MemoryDisk(std::uint64_t seed = 1) : rng_(seed) {}

  // Opens the disk for one log. Whoever had it open before is fenced out: its writes fail with log_fenced.
  std::unique_ptr<Disk> open();

  // ---- What goes wrong.

  // The power goes. Of the bytes that were not synced, in the order in which they were appended, the first `bytes` are
  // kept and the others are as if never written.
  void crash_keeping(std::uint64_t bytes);
  void crash() { crash_keeping(0); }
  // The power goes, and of what was not synced each sector of `sector_bytes` was written or not, as chance has it.
  void crash_keeping_some(std::uint64_t sector_bytes);
  std::uint64_t unsynced_bytes() const;

  // The n-th call from now (1: the next) that would change the disk fails with io_failed, and all after it, until the
  // disk is opened again. A failed append has written a part, as chance has it.
  void fail_after(std::uint64_t calls) { fails_in_ = calls; }
  // As fail_after, but only calls of sync count, and only they fail.
  void fail_sync_after(std::uint64_t calls) { sync_fails_in_ = calls; }
  void heal();                                        // Takes both back.
  std::uint64_t changes() const { return changes_; }  // Calls so far that would have changed the disk.

  // Room for so many bytes over all files; more fails with disk_full.
  void set_capacity(std::uint64_t bytes) { capacity_ = bytes; }

  // From now on what is read is not in memory unless it was fetched before: fetch() is something to call.
  void set_slow(bool slow) { slow_ = slow; }
  // Calls of that come back once they are no longer held.
  void hold_fetches(bool held) {
    *held_ = held;
    held_->notify_all();
  }
  std::uint64_t fetched() const { return *fetched_; }  // Of them: those that have.

  // Turns one bit, on the platter and for readers. False where there is no such byte.
  bool flip_bit(std::uint32_t ordinal, std::uint64_t offset, int bit);

  // ---- What is there.

  std::vector<DiskFile> files() const;
  Bytes const& bytes_of(std::uint32_t ordinal) const { return files_.at(ordinal).seen; }
  void replace(std::uint32_t ordinal, Bytes const& bytes) { files_[ordinal] = File{bytes, bytes}; }
  void remove(std::uint32_t ordinal) { files_.erase(ordinal); }

 private:
  class Session;
  struct File {
    Bytes seen;
    Bytes durable;
  };
  struct Write {  // Not synced yet.
    std::uint32_t ordinal;
    std::uint64_t offset;
    Bytes bytes;
  };

  Result<> change(std::uint64_t session);  // Counts a call, and fails where one is due.
  Result<> write(std::uint32_t ordinal, std::uint64_t offset, BytesView bytes);
  static void put(Bytes& file, std::uint64_t offset, BytesView bytes);
  std::uint64_t used() const;
  void after_crash();

  Rng rng_;
  std::map<std::uint32_t, File> files_;
  std::vector<Write> unsynced_;
  std::optional<Bytes> spare_;
  std::uint64_t capacity_ = std::uint64_t{1} << 40;
  std::uint64_t changes_ = 0;
  std::uint64_t fails_in_ = 0;  // 0: never.
  std::uint64_t sync_fails_in_ = 0;
  bool failed_ = false;
  bool slow_ = false;
  std::shared_ptr<std::atomic<bool>> held_ = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<std::atomic<std::uint64_t>> fetched_ = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::uint64_t sessions_ = 0;
};

}  // namespace workmill::log
