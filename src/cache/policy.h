#pragma once
#include <cstdint>

#include "cache/entry.h"

// Who has to leave memory when its budget is used up. Knows entries, their lists and their uses; what leaving means is
// the cache's business. The shard's thread.
namespace workmill::cache {

class Policy {
 public:
  explicit Policy(EntryStore& entries)
      : entries_(entries), main_(entries, ListId::main), cold_(entries, ListId::cold) {}

  // An entry that is in no list: to the warm ones, or to the cold ones.
  void add(EntryIndex index) { (entries_[index].is_warm ? main_ : cold_).push_front(index); }
  void remove(EntryIndex index) { list_of(index).remove(index); }

  // Around a change of an entry's block: a warm one that stays warm keeps its place in line, and its list is told what
  // the entry takes from now on. Others leave their list, and come anew. An entry in no list only comes.
  class Change {
   public:
    Change(Policy& policy, EntryIndex index, bool stays_warm) : policy_(policy), index_(index) {
      Entry const& entry = policy_.entries_[index];
      stays_ = entry.is_warm && stays_warm;
      if (stays_) {
        before_ = charge_of(entry);
      } else if (entry.list != std::to_underlying(ListId::none)) {
        policy_.remove(index);
      }
    }
    void done() {
      if (stays_) {
        policy_.list_of(index_).change_bytes(before_, charge_of(policy_.entries_[index_]));
      } else {
        policy_.add(index_);
      }
    }

   private:
    Policy& policy_;
    EntryIndex index_;
    bool stays_ = false;
    std::uint64_t before_ = 0;
  };

  // The warm entry whose value goes next. It stays in its list. kNoEntry: none is warm.
  EntryIndex victim() {
    while (main_.back() != kNoEntry) {
      EntryIndex const last = main_.back();
      std::uint8_t const uses = entries_[last].uses.load(std::memory_order_relaxed);
      if (uses == 0) return last;
      entries_[last].uses.store(uses - 1, std::memory_order_relaxed);
      main_.remove(last);
      main_.push_front(last);
    }
    return kNoEntry;
  }
  EntryIndex coldest() const { return cold_.back(); }

  std::uint64_t cold_bytes() const { return cold_.bytes(); }
  std::size_t cold_size() const { return cold_.size(); }
  std::uint64_t bytes() const { return main_.bytes() + cold_.bytes(); }
  std::size_t size() const { return main_.size() + cold_.size(); }

 private:
  EntryList& list_of(EntryIndex index) {
    return entries_[index].list == std::to_underlying(ListId::cold) ? cold_ : main_;
  }

  EntryStore& entries_;
  EntryList main_;
  EntryList cold_;
};

}  // namespace workmill::cache
