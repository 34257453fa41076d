#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "cache/entry.h"

// From a key's hash to its entry, for one stripe: linear hashing (Litwin, "Linear hashing: a new tool for file and
// table addressing", VLDB 1980). The table grows by one bucket with each entry, so nobody waits under the lock for a
// million entries to find new places, and a bucket costs its 4 bytes whatever the size. What collides is chained
// through the entries.
//
// The shard's thread writes, holding the stripe's lock, and reads without it; others read with the lock.
namespace workmill::cache {

class KeyTable {
 public:
  explicit KeyTable(EntryStore& entries, std::uint64_t seed) : entries_(entries), seed_(seed) { add_part(); }

  // kNoEntry: there is none.
  EntryIndex find(std::uint64_t hash, std::string_view key) const {
    for (EntryIndex at = head(bucket_of(hash)); at != kNoEntry; at = entries_[at].chain) {
      Entry const& entry = entries_[at];
      if (entry.fingerprint == fingerprint_of(hash) && entry.block->key() == key) return at;
    }
    return kNoEntry;
  }
  // One whose key is not in there yet.
  void insert(std::uint64_t hash, EntryIndex index);
  void erase(std::uint64_t hash, EntryIndex index);
  std::size_t size() const { return size_; }

  template <class Visit>
  void walk(Visit const& visit) const {
    for (std::uint32_t bucket = 0; bucket < count_; ++bucket) {
      for (EntryIndex at = head(bucket); at != kNoEntry; at = entries_[at].chain) visit(at);
    }
  }

 private:
  static constexpr std::uint32_t kPartBuckets = 256;
  using Part = std::unique_ptr<EntryIndex[]>;

  static std::uint8_t fingerprint_of(std::uint64_t hash) { return static_cast<std::uint8_t>(hash >> 32 & 31); }
  std::uint32_t bucket_of(std::uint64_t hash) const {
    auto const low = static_cast<std::uint32_t>(hash);
    std::uint32_t const wide = low & (2 * round_ - 1);
    return wide < count_ ? wide : low & (round_ - 1);
  }
  EntryIndex& head(std::uint32_t bucket) { return parts_[bucket / kPartBuckets][bucket % kPartBuckets]; }
  EntryIndex head(std::uint32_t bucket) const { return parts_[bucket / kPartBuckets][bucket % kPartBuckets]; }
  void add_part();
  void grow();
  void shrink();

  EntryStore& entries_;
  std::uint64_t seed_;
  std::vector<Part> parts_;  // As many as count_ needs.
  std::uint32_t count_ = 1;  // Buckets: round_ and those of this round that were split, below 2 * round_.
  std::uint32_t round_ = 1;
  std::size_t size_ = 0;
};

// Of a key, whatever table: the stripe comes from the highest bits.
std::uint64_t hash_of(std::string_view key, std::uint64_t seed);

}  // namespace workmill::cache
