#pragma once
#include <absl/container/flat_hash_map.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/guarded.h"
#include "base/mutation.h"
#include "cache/cache.h"
#include "cache/entry.h"
#include "cache/key_table.h"
#include "cache/policy.h"
#include "cache/tag_index.h"
#include "model/segment_counts.h"

// The parts of the cache and how they belong together; cache.h says what they do.
namespace workmill::cache {

class Cache::Inside {
 public:
  explicit Inside(CacheOptions const& options);
  CacheOptions const& options() const { return options_; }

  Lookup find(std::string_view key, Instant now);
  bool can_answer(std::string_view key, Instant now);
  bool claim_refresh(std::string_view key, Instant now);
  CacheFigures figures() const;

  void put(std::string_view key, CacheValuePtr value, CacheTimes const& times, std::span<std::string_view const> tags,
           Place place);
  void put_failure(std::string_view key, CacheFailure failure, Place place);
  bool erase(std::string_view key);
  bool erase_value(std::string_view key);
  void warm(std::string_view key, std::uint64_t etag, CacheValuePtr value);
  std::optional<Place> place(std::string_view key) const;
  std::optional<Place> failure_place(std::string_view key) const;
  void move(std::string_view key, Position from, Place to);
  std::size_t sweep(Instant now, std::size_t looks_max);
  void take_evicted(std::size_t most, std::vector<std::string>& out);
  bool has_evicted() const { return !evicted_.empty(); }
  std::string check_invariants() const;

  // Moves the cursor on over the numbers of entries, and calls visit(entry) for those in use, which answers whether
  // it was found.
  template <class Visit>
  void scan(Cursor& cursor, std::size_t looks_max, std::size_t found_max, Visit const& visit) const {
    std::size_t found = 0;
    for (std::size_t looks = 0; looks < looks_max && found < found_max && cursor.next < entries_.made(); ++looks) {
      EntryIndex const index{cursor.next++};
      if (entries_[index].is_used && visit(index)) ++found;
    }
    cursor.done = cursor.next >= entries_.made();
  }
  Found describe(EntryIndex index) const;
  bool has_tag(std::string_view key, std::string_view tag, Instant now) const;
  Place place_of(EntryIndex index) const { return {entries_[index].at, entries_[index].bytes}; }
  EntryStore const& entries() const { return entries_; }
  TagIndex const& tags() const { return tags_; }
  SegmentCounts const& live() const { return live_; }

 private:
  struct Failure {
    CacheFailure failure;
    Place place;
  };
  // A line of the processor's cache to itself, so that readers of one stripe do not slow down those of the next.
  struct alignas(128) Stripe {
    explicit Stripe(EntryStore& entries, std::uint64_t seed) : table(entries, seed) {}

    Mutex mutex;
    KeyTable table;
    absl::flat_hash_map<EntryIndex, Failure> failures;
  };
  // Written by the shard's thread, read by any.
  struct Counter {
    std::atomic<std::uint64_t> value{0};

    void set(std::uint64_t to) { value.store(to, std::memory_order_relaxed); }
    void add() { set(value.load(std::memory_order_relaxed) + 1); }
    std::uint64_t get() const { return value.load(std::memory_order_relaxed); }
  };
  struct Spot {  // Where a key is, or would be.
    std::uint64_t hash;
    Stripe& stripe;
    EntryIndex index;
  };

  std::uint64_t hash(std::string_view key) const { return hash_of(key, options_.hash_seed); }
  Stripe& stripe_of(std::uint64_t hash) { return stripes_[stripe_bits_ == 0 ? 0 : hash >> (64 - stripe_bits_)]; }
  Stripe const& stripe_of(std::uint64_t hash) const { return const_cast<Inside*>(this)->stripe_of(hash); }
  Spot spot(std::string_view key);
  EntryIndex index_of(std::string_view key) const;
  bool add_entry(Spot& at, CacheValuePtr block);
  bool fits(CacheValue const& value) const;
  Failure const& failure_of(EntryIndex index) const;

  void drop(EntryIndex index);
  void evict(EntryIndex index);
  void drop_value(Stripe& stripe, EntryIndex index);
  void drop_failure(Stripe& stripe, EntryIndex index);
  void drop_tags(EntryIndex index);
  void cool(EntryIndex index);
  void keep_budgets();
  void move_blocks(std::size_t looks_max);
  std::uint64_t memory_bytes() const {
    return policy_.bytes() + failure_bytes_ + (WM_MUTATION(tags_are_beyond_the_budget) ? 0U : tags_.memory_bytes());
  }
  void publish_figures();

  CacheOptions options_;
  std::uint32_t stripe_bits_;
  EntryStore entries_;
  std::deque<Stripe> stripes_;
  Policy policy_;
  TagIndex tags_;
  SegmentCounts live_;
  std::uint64_t failure_bytes_ = 0;
  std::uint32_t sweep_next_ = 0;
  std::uint32_t move_next_ = 0;
  std::deque<std::string> evicted_;  // See take_evicted().

  Counter entries_count_, cold_count_, memory_, disk_, evictions_memory_, evictions_disk_, expired_;
};

}  // namespace workmill::cache
