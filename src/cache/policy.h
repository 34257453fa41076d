#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cache/entry.h"
#include "cache/frequency.h"

// Who has to leave memory when its budget is used up. Knows entries, their lists and their uses; what leaving means is
// the cache's business.
//
// The policy is W-TinyLFU (Einziger, Friedman, Manes, ACM Transactions on Storage 13(4), 2017) turned lazy: a small
// window for newcomers, a main part, and an estimate of how often each key is used that says whether who leaves the
// window is worth more than who would have to go for it. What is different, and what it was taken from (measurements in
// docs/adr/0020-eviction.md):
//  - A use moves nothing. It marks the entry; marks are looked at when somebody must go, and whoever has one is put at
//    the front of its list instead (as in CLOCK, S3-FIFO and SIEVE). So readers share no list, and uses reach the
//    sketch when marks are taken away.
//  - Who was used in the window is let in if its victim was not used for longer than the window is (so S3-FIFO does
//    without asking). And who comes back shortly after it was sent away goes straight to the main part, if it was away
//    for less time than its victim was idle (LIRS: Jiang, Zhang, SIGMETRICS 2002). The sketch alone holds on to what
//    was popular yesterday.
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
  // Of the tables of uses, which the entries are charged for (entry.h).
  std::size_t table_bytes() const { return sketch_.memory_bytes() + ghosts_.memory_bytes(); }

 private:
  static constexpr int kUsesBits = 2;
  static constexpr int kUsesMask = 3;
  static constexpr int kUsesMax = 3;
  // Time is told in stamps: one for each 256th part of the warm entries that came in. Coarse enough for readers, who
  // share it, and fine enough to tell the ages of a twentieth of the entries apart.
  static constexpr std::size_t kStampsPerTurnover = 256;
  // The window is a 25th of the memory. Less, and bursts suffer; more, and loops do.
  static constexpr std::uint64_t kWindowPart = 25;
  static constexpr std::uint32_t kWindowAge = kStampsPerTurnover / kWindowPart;
  // How much more often than its victim somebody must have been used. Of counts as small as these, one is chance: the
  // newcomer's last use was just counted, and the victim's next one is not.
  static constexpr std::uint32_t kMargin = 2;

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
  bool returns_soon(EntryIndex index, std::uint64_t hash);
  EntryIndex main_victim();
  bool is_better(EntryIndex candidate, EntryIndex victim);

  EntryStore& entries_;
  std::uint64_t window_bytes_;
  std::uint64_t hash_seed_;
  EntryList window_;
  EntryList main_;
  EntryList cold_;
  FrequencySketch sketch_;
  GhostTable ghosts_;
  std::size_t came_in_ = 0;  // Since the last stamp.
  std::atomic<std::uint16_t> stamp_{0};
};

}  // namespace workmill::cache
