#include "cache/key_table.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

namespace workmill::cache {

std::uint64_t hash_of(std::string_view key, std::uint64_t seed) {
  return XXH3_64bits_withSeed(key.data(), key.size(), seed);
}

void KeyTable::add_part() {
  parts_.push_back(std::make_unique_for_overwrite<EntryIndex[]>(kPartBuckets));
  std::fill_n(parts_.back().get(), kPartBuckets, kNoEntry);
}

void KeyTable::insert(std::uint64_t hash, EntryIndex index) {
  if (++size_ > count_) grow();
  Entry& entry = entries_[index];
  entry.fingerprint = fingerprint_of(hash) & 31;
  entry.chain = std::exchange(head(bucket_of(hash)), index);
}

void KeyTable::erase(std::uint64_t hash, EntryIndex index) {
  EntryIndex* link = &head(bucket_of(hash));
  while (*link != index) {
    WM_ASSERT(*link != kNoEntry);
    link = &entries_[*link].chain;
  }
  *link = std::exchange(entries_[index].chain, kNoEntry);
  if (--size_ < count_ / 2) shrink();
}

// The next bucket of the round is split: a bit more of the hash says who goes to the new one.
void KeyTable::grow() {
  if (count_ % kPartBuckets == 0) add_part();
  std::uint32_t const from = count_ - round_;
  EntryIndex at = std::exchange(head(from), kNoEntry);
  ++count_;
  while (at != kNoEntry) {
    Entry& entry = entries_[at];
    EntryIndex const next = entry.chain;
    entry.chain = std::exchange(head(bucket_of(hash_of(entry.block->key(), seed_))), at);
    at = next;
  }
  if (count_ == 2 * round_) round_ = count_;
}

// The last split is taken back.
void KeyTable::shrink() {
  if (count_ == 1) return;
  if (count_ == round_) round_ /= 2;
  --count_;
  EntryIndex at = std::exchange(head(count_), kNoEntry);
  EntryIndex* end = &head(count_ - round_);
  while (*end != kNoEntry) end = &entries_[*end].chain;
  *end = at;
  if (count_ % kPartBuckets == 0) parts_.pop_back();
}

}  // namespace workmill::cache
