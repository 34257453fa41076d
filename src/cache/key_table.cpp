#include "cache/key_table.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

namespace workmill::cache {

std::uint64_t hash_of(std::string_view key, std::uint64_t seed) {
  return XXH3_64bits_withSeed(key.data(), key.size(), seed);
}

EntryIndex& KeyTable::ensure_head(std::uint32_t bucket) {
  std::uint32_t const part = bucket / kPartBuckets;
  if (part >= buckets_.size()) buckets_.resize(part + 1);
  if (!buckets_[part]) {
    buckets_[part] = std::make_unique_for_overwrite<EntryIndex[]>(kPartBuckets);
    std::fill_n(buckets_[part].get(), kPartBuckets, kNoEntry);
  }
  return buckets_[part][bucket % kPartBuckets];
}

void KeyTable::insert(std::uint64_t hash, EntryIndex index) {
  if (++size_ > count_) grow();
  Entry& entry = entries_[index];
  entry.fingerprint = fingerprint_of(hash);
  entry.chain = std::exchange(ensure_head(bucket_of(hash)), index);
}

void KeyTable::erase(std::uint64_t hash, EntryIndex index) {
  EntryIndex* link = &ensure_head(bucket_of(hash));
  while (*link != index) {
    WM_ASSERT(*link != kNoEntry);
    link = &entries_[*link].chain;
  }
  *link = std::exchange(entries_[index].chain, kNoEntry);
  if (--size_ < count_ / 2) shrink();
}

// The next bucket of the round is split: a bit more of the hash says who goes to the new one.
void KeyTable::grow() {
  std::uint32_t const from = count_ - round_;
  EntryIndex at = std::exchange(ensure_head(from), kNoEntry);
  ++count_;
  while (at != kNoEntry) {
    Entry& entry = entries_[at];
    EntryIndex const next = entry.chain;
    entry.chain = std::exchange(ensure_head(bucket_of(hash_of(entry.block->key(), seed_))), at);
    at = next;
  }
  if (count_ == 2 * round_) round_ = count_;
}

// The last split is taken back.
void KeyTable::shrink() {
  if (count_ == 1) return;
  if (count_ == round_) round_ /= 2;
  --count_;
  EntryIndex at = std::exchange(ensure_head(count_), kNoEntry);
  EntryIndex* end = &ensure_head(count_ - round_);
  while (*end != kNoEntry) end = &entries_[*end].chain;
  *end = at;
  if (count_ % kPartBuckets == 0) buckets_[count_ / kPartBuckets].reset();
}

}  // namespace workmill::cache
