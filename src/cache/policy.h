#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cache/entry.h"
#include "cache/ghost_table.h"

// Who has to leave memory when its budget is used up. Knows entries, their lists and their uses; what leaving means is
// the cache's business.
//
// The policy is S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023):
// a small window for newcomers, a main part, and a memory of who was sent away. A use moves nothing, so readers share
// no list; it marks the entry, and marks are looked at when somebody must go.
//
// Who may enter the main part is asked as LIRS asks it (Jiang, Zhang, "LIRS: an efficient low inter-reference recency
// set replacement policy", SIGMETRICS 2002): the one whose last two uses lie closer together than the last use of its
// victim lies back. S3-FIFO lets in whoever was used twice or comes back, and so loses all of a loop that does not fit.
// docs/adr/0020-eviction.md has the measurements.
//
// The shard's thread, but for used() and stamp().
namespace workmill::cache {

class Policy {
 public:
  Policy(EntryStore& entries, std::uint64_t memory_bytes, std::uint64_t hash_seed);

  // Any thread that holds the lock of the entry's stripe: a warm entry was used.
  void used(Entry& entry) const {
    std::uint16_t const before = entry.use.load(std::memory_order_relaxed);
    auto const uses = static_cast<std::uint16_t>(std::min(before & kUsesMask, kUsesMax - 1) + 1);
    auto const after = static_cast<std::uint16_t>(stamp() << kUsesBits | uses);
    if (after != before) entry.use.store(after, std::memory_order_relaxed);
  }

  // An entry that is in no list: to the warm ones, or to the cold ones.
  void add(EntryIndex index);
  void remove(EntryIndex index) { list_of(index).remove(index); }
  // Around a change of an entry's block: a warm one that stays warm keeps its place in line, and its list is told what
  // the entry takes from now on. Others leave their list, and come anew. An entry in no list only comes.
  class Change {
   public:
    Change(Policy& policy, EntryIndex index, bool stays_warm);
    void done();

   private:
    Policy& policy_;
    EntryIndex index_;
    bool stays_;
    std::uint64_t before_ = 0;
  };

  // The warm entry whose value goes next, where warm ones may take `room` bytes. It stays in its list, and is to go at
  // once. kNoEntry: none is warm.
  EntryIndex victim(std::uint64_t room);
  // The entry goes whole after it was the victim, and will be known by its hash only.
  void forget(EntryIndex index);
  EntryIndex coldest() const { return cold_.back(); }

  std::uint64_t cold_bytes() const { return cold_.bytes(); }
  std::size_t cold_size() const { return cold_.size(); }
  std::uint64_t bytes() const { return window_.bytes() + main_.bytes() + cold_.bytes(); }
  std::size_t size() const { return warm_size() + cold_.size(); }

 private:
  static constexpr int kUsesBits = 2;
  static constexpr int kUsesMask = 3;
  static constexpr int kUsesMax = 3;
  // Time is told in stamps: one for each 256th part of the warm entries that came in. Coarse enough for readers, who
  // share it, and fine enough to tell the ages of a twentieth of the entries apart.
  static constexpr std::size_t kStampsPerTurnover = 256;
  // The window is a 28th of the memory. Less, and bursts suffer; more, and loops do.
  static constexpr std::uint64_t kWindowPart = 28;
  static constexpr std::uint32_t kWindowAge = kStampsPerTurnover / kWindowPart;
  // Nobody has the right to a place in the main part for ever: who was not used while the cache's entries came in anew
  // sixteen times gives it to anybody. It is also well below where stamps go round.
  static constexpr std::uint32_t kIdleMax = 16 * kStampsPerTurnover;

  std::uint16_t stamp() const { return stamp_.load(std::memory_order_relaxed); }
  std::uint32_t age(std::uint16_t since) const { return (stamp() - since) & GhostTable::kStampMask; }
  static std::uint16_t stamp_of(Entry const& entry) {
    return static_cast<std::uint16_t>(entry.use.load(std::memory_order_relaxed) >> kUsesBits);
  }
  static int uses_of(Entry const& entry) { return entry.use.load(std::memory_order_relaxed) & kUsesMask; }
  void set_uses(Entry& entry, int uses) const;

  std::uint64_t hash(EntryIndex index) const;
  std::size_t warm_size() const { return window_.size() + main_.size(); }
  EntryList& list_of(EntryIndex index);
  void pass_time();
  bool returns_soon(EntryIndex index);
  EntryIndex main_victim();
  bool may_enter(EntryIndex candidate, EntryIndex victim) const;

  EntryStore& entries_;
  std::uint64_t window_bytes_;
  std::uint64_t hash_seed_;
  EntryList window_;
  EntryList main_;
  EntryList cold_;
  GhostTable ghosts_;
  std::size_t came_in_ = 0;  // Since the last stamp.
  std::atomic<std::uint16_t> stamp_{0};
};

}  // namespace workmill::cache
