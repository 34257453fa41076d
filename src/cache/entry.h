#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "base/assert.h"
#include "base/block_pool.h"
#include "base/time.h"
#include "model/cache.h"
#include "model/position.h"

// What the index keeps of a key: 64 bytes, a line of the processor's cache, found by number.
//
// The shard's thread writes an entry with its stripe's lock held, as far as readers look at it: they hold the same
// lock. The links of lists are the shard's alone. `uses` is the one thing that readers write (and `claim`, with the
// lock).
namespace workmill::cache {

enum class EntryIndex : std::uint32_t {};
inline constexpr EntryIndex kNoEntry{0xffff'ffff};

// Which list of the policy an entry is in.
enum class ListId : std::uint8_t { none, window, main, cold };

struct alignas(64) Entry {
  // The value with its key; of one that is not in memory its head; where there is none, nothing but the key.
  CacheValuePtr block;
  std::uint64_t etag = 0;
  Position at{};
  std::uint32_t bytes = 0;  // Of the record; 0: volatile.

  EntryIndex prev = kNoEntry;  // In the list.
  EntryIndex next = kNoEntry;
  EntryIndex chain = kNoEntry;  // The next of this bucket; of free ones, the next free.

  // CacheTimes in 18 bytes: milliseconds since 1970 in 48 bits, and windows in 36, which is twice kCacheWindowMax.
  std::uint32_t stored_low = 0;
  std::uint32_t fresh_low = 0;
  std::uint32_t stale_low = 0;
  std::uint16_t stored_high = 0;
  // Policy::used(): uses in the lowest bits, and the stamp of the last one.
  std::atomic<std::uint16_t> use{0};
  // Until when a refresh is under way, as claim_refresh() counts time. 0: none is.
  std::uint16_t claim = 0;
  std::uint8_t windows_high = 0;          // Of fresh in the lower half.
  std::array<std::uint8_t, 3> compute{};  // Milliseconds; 4 h 39 min and more are one.

  // A byte that readers look at, and one that is the shard's alone.
  std::uint8_t fingerprint : 5 = 0;  // Of the key's hash, so that few wrong entries of a bucket are looked into.
  bool has_value : 1 = false;        // Warm or cold.
  bool is_warm : 1 = false;
  bool has_failure : 1 = false;  // In the stripe's table.
  std::uint8_t : 0;
  ListId list : 2 = ListId::none;
  bool is_used : 1 = false;   // Not free.
  bool has_tags : 1 = false;  // In the tag index.
  bool is_ghost : 1 = false;  // Went cold, or is about to go, from the window.

  static constexpr std::int64_t kComputeMax = 0xff'ffff;
  static constexpr std::int64_t kWindowMax = (std::int64_t{1} << 36) - 1;
  static_assert(kCacheWindowMax.count() <= kWindowMax);

  CacheTimes times() const {
    auto const stored = std::int64_t{stored_high} << 32 | stored_low;
    auto const fresh = std::int64_t{windows_high & 15} << 32 | fresh_low;
    auto const stale = std::int64_t{windows_high >> 4} << 32 | stale_low;
    auto const took = std::int64_t{compute[0]} | std::int64_t{compute[1]} << 8 | std::int64_t{compute[2]} << 16;
    return {.stored_at = instant_from_ms(stored),
            .fresh_until = instant_from_ms(stored + fresh),
            .stale_until = instant_from_ms(stored + stale),
            .compute_time = Duration{took},
            .etag = etag};
  }
  void set_times(CacheTimes const& times) {
    std::int64_t const stored = std::clamp(to_ms(times.stored_at), std::int64_t{0}, (std::int64_t{1} << 48) - 1);
    auto const window = [&](Instant until) { return std::clamp(to_ms(until) - stored, std::int64_t{0}, kWindowMax); };
    std::int64_t const fresh = window(times.fresh_until);
    std::int64_t const stale = window(times.stale_until);
    std::int64_t const took = std::clamp(times.compute_time.count(), std::int64_t{0}, kComputeMax);
    stored_low = static_cast<std::uint32_t>(stored);
    stored_high = static_cast<std::uint16_t>(stored >> 32);
    fresh_low = static_cast<std::uint32_t>(fresh);
    stale_low = static_cast<std::uint32_t>(stale);
    windows_high = static_cast<std::uint8_t>(fresh >> 32 | stale >> 32 << 4);
    compute = {static_cast<std::uint8_t>(took), static_cast<std::uint8_t>(took >> 8),
               static_cast<std::uint8_t>(took >> 16)};
    etag = times.etag;
  }
};
static_assert(sizeof(Entry) == 64);

// What the program's allocator takes for so many bytes: mimalloc's sizes are 16 bytes apart up to 128, and four to a
// doubling above. Reckoned and not asked for, so that the same calls evict the same entries under any allocator.
constexpr std::uint64_t heap_bytes(std::uint64_t bytes) {
  if (bytes <= 128) return (bytes + 15) & ~std::uint64_t{15};
  std::uint64_t const step = std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) & ~(step - 1);
}
// What a value's memory takes. Reckoned as well: where in the pool it lies, and what is lost there, depends on more
// than this cache's calls.
constexpr std::uint64_t allocated_bytes(std::uint64_t bytes) {
  return bytes <= BlockPool::kBlockBytesMax ? BlockPool::rounded(bytes) : heap_bytes(bytes);
}
// What an entry takes beyond its block: itself, its bucket, and the ghost that it may leave.
inline constexpr std::uint64_t kEntryBytes = sizeof(Entry) + 4 + 6;
inline std::uint64_t charge_of(Entry const& entry) {
  return kEntryBytes + allocated_bytes(entry.block->allocation_bytes());
}

// Entries by number. Nothing moves, so a reader who holds the lock of an entry's stripe may follow its number while
// entries of other stripes come. Memory is kept for the next entry, not given back: what entries once took, they may
// take again.
class EntryStore {
 public:
  EntryStore() : chunks_(std::make_unique<Entry*[]>(kChunksMax)) {}
  ~EntryStore() {
    for (std::uint32_t chunk = 0; chunk < made_ / kChunkEntries; ++chunk) {
      std::destroy_n(chunks_[chunk], kChunkEntries);
      ::operator delete(chunks_[chunk], std::align_val_t{alignof(Entry)});
    }
  }
  EntryStore(EntryStore const&) = delete;
  EntryStore& operator=(EntryStore const&) = delete;

  Entry& operator[](EntryIndex index) {
    return chunks_[std::to_underlying(index) / kChunkEntries][std::to_underlying(index) % kChunkEntries];
  }
  Entry const& operator[](EntryIndex index) const {
    return chunks_[std::to_underlying(index) / kChunkEntries][std::to_underlying(index) % kChunkEntries];
  }

  // As one that was never used. kNoEntry: there are as many as there can be.
  EntryIndex take() {
    if (free_ == kNoEntry && !grow()) return kNoEntry;
    EntryIndex const index = free_;
    Entry& entry = (*this)[index];
    free_ = std::exchange(entry.chain, kNoEntry);
    entry.is_used = true;
    ++size_;
    return index;
  }
  void give(EntryIndex index) {
    Entry& entry = (*this)[index];
    WM_ASSERT(entry.is_used);
    std::destroy_at(&entry);
    std::construct_at(&entry);
    entry.chain = std::exchange(free_, index);
    --size_;
  }
  std::size_t size() const { return size_; }
  std::uint32_t made() const { return made_; }  // Used or not: numbers below this one.

 private:
  static constexpr std::uint32_t kChunkEntries = 1'024;
  static constexpr std::uint32_t kChunksMax = 65'536;  // 64 million entries.

  bool grow() {
    if (made_ / kChunkEntries == kChunksMax) return false;
    void* const memory = ::operator new(sizeof(Entry) * kChunkEntries, std::align_val_t{alignof(Entry)});
    auto* const entries = static_cast<Entry*>(memory);
    std::uninitialized_default_construct_n(entries, kChunkEntries);
    chunks_[made_ / kChunkEntries] = entries;
    for (std::uint32_t i = kChunkEntries; i-- > 0;) entries[i].chain = std::exchange(free_, EntryIndex{made_ + i});
    made_ += kChunkEntries;
    return true;
  }

  std::unique_ptr<Entry*[]> chunks_;  // Of a fixed length, as readers look into it while it fills up.
  std::uint32_t made_ = 0;
  std::size_t size_ = 0;
  EntryIndex free_ = kNoEntry;
};

// A line of entries through their links, the newest at the front. The shard's thread only.
class EntryList {
 public:
  EntryList(EntryStore& entries, ListId id) : entries_(entries), id_(id) {}

  void push_front(EntryIndex index) {
    Entry& entry = entries_[index];
    WM_ASSERT(entry.list == ListId::none);
    entry.list = id_;
    entry.prev = kNoEntry;
    entry.next = front_;
    if (front_ == kNoEntry) {
      back_ = index;
    } else {
      entries_[front_].prev = index;
    }
    front_ = index;
    bytes_ += charge_of(entry);
    ++size_;
  }
  // As charged as when it came in.
  void remove(EntryIndex index) {
    Entry& entry = entries_[index];
    WM_ASSERT(entry.list == id_ && bytes_ >= charge_of(entry));
    (entry.prev == kNoEntry ? front_ : entries_[entry.prev].next) = entry.next;
    (entry.next == kNoEntry ? back_ : entries_[entry.next].prev) = entry.prev;
    entry.prev = entry.next = kNoEntry;
    entry.list = ListId::none;
    bytes_ -= charge_of(entry);
    --size_;
  }
  // What one of them takes has changed.
  void change_bytes(std::uint64_t before, std::uint64_t after) {
    WM_ASSERT(bytes_ >= before);
    bytes_ = bytes_ - before + after;
  }
  EntryIndex front() const { return front_; }
  EntryIndex back() const { return back_; }
  std::size_t size() const { return size_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  EntryStore& entries_;
  ListId id_;
  EntryIndex front_ = kNoEntry;
  EntryIndex back_ = kNoEntry;
  std::size_t size_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace workmill::cache
