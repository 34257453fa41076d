#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "model/cache.h"
#include "model/position.h"

// The shared cache in memory: what there is for each key, where its record stands in the log, and who has to go when a
// budget is used up. It knows neither log nor engine, reads no file and writes none.
//
// One thread writes, the shard's: everything but find(), can_answer(), claim_refresh() and figures() is its own. These
// four may be called by any thread at any time. Readers share what they find by reference; it outlives its eviction.
//
// An entry is a value, a remembered failure, or both. A value is warm (in memory) or cold (its record only; how to read
// that is the shard's business). Two budgets hold, from the end of each call on:
//  - memory: keys, values, and what entries cost beyond them, as the allocator rounds it up. Where it is used up, the
//    policy (policy.h) names a victim, whose value goes; it stays as a cold entry if it has a record, and goes whole
//    otherwise. Cold entries may take half of the budget; the coldest above that go whole. A value larger than half of
//    the budget is never kept in memory.
//  - disk: the bytes of the records. Where it is used up, the coldest entries go whole. A value whose record alone is
//    larger is not kept, and drives out nothing.
//
// Keys are hashed with a seed that no client knows, so that none can choose keys that all land in one place.
namespace workmill::cache {

struct CacheOptions {
  std::uint64_t memory_bytes = std::uint64_t{256} << 20;
  std::uint64_t disk_bytes = std::uint64_t{2} << 30;
  std::uint32_t stripes = 64;   // Parts of the index with a lock each; a power of two, at most 1024.
  std::uint64_t hash_seed = 0;  // Drawn by the caller, from what no client can guess.
};

// Of a value in memory alone, as CacheValue::allocation_bytes() counts: a larger one is never kept with such a budget.
std::uint64_t value_bytes_max(std::uint64_t memory_bytes);

// What there is for a key at one moment, for the caller alone.
struct Lookup {
  enum class What : std::uint8_t {
    absent,
    value,
    cold,    // There is a value, but not in memory: `times` says how old it is.
    failed,  // No value; `failure` says why.
  };
  What what = What::absent;
  CacheValuePtr value;  // With What::value only.
  CacheValuePtr head;   // With What::cold: all but the body.
  CacheTimes times;     // With value and cold.
  // That computing it failed, as long as that is remembered. It may stand beside a value, which is stale then.
  std::optional<CacheFailure> failure;
};

// Where a record stands and how long it is. No position: the entry is volatile and has none.
struct Place {
  Position at;
  std::uint32_t bytes = 0;

  bool operator==(Place const&) const = default;
};

// An entry that a walk has come by.
struct Found {
  std::string key;
  Place value;    // Of its value's record.
  Place failure;  // Of its failure's.

  bool operator==(Found const&) const = default;
};

// How far a walk has come. It stays good while entries come and go: what is there from its beginning to its end is
// found once; what comes meanwhile may be found or not.
struct Cursor {
  std::uint32_t next = 0;
  bool done = false;
};

struct CacheFigures {
  std::uint64_t entries = 0;
  std::uint64_t cold_entries = 0;  // Of these: those whose value is not in memory, and those that are a failure only.
  std::uint64_t memory_bytes = 0;
  std::uint64_t disk_bytes = 0;
  std::uint64_t evictions_memory = 0;  // Values that gave way to others in memory, and are on disk still.
  std::uint64_t evictions_disk = 0;    // Entries that went whole, for either budget.
  std::uint64_t expired = 0;           // Entries dropped as nothing of them was good any more.
};

class Cache {
 public:
  explicit Cache(CacheOptions options);
  ~Cache();
  Cache(Cache const&) = delete;
  Cache& operator=(Cache const&) = delete;

  // Any thread. Counts as a use for the policy. Never answers a value at or beyond its stale_until, nor a failure at or
  // beyond its end.
  Lookup find(std::string_view key, Instant now) const;
  // Any thread. Whether find() would answer a value that is in memory, or else a failure. No use for the policy.
  bool can_answer(std::string_view key, Instant now) const;
  // Any thread. True for one caller a second and key, who is to see to it that the value is computed anew; false where
  // there is no value. A new value ends the claim.
  bool claim_refresh(std::string_view key, Instant now);
  // Any thread. Each figure is right by itself; they are not of one moment.
  CacheFigures figures() const;
  // As it was made with.
  CacheOptions const& options() const;

  // From here on: the shard's thread.

  // The value of a key and all that belongs to it, in place of what was there, failure included. It is made with the
  // same key; one without its body is cold, and needs a place. At most kCacheTagsMax tags. The same place as before is
  // legal, as a later one is.
  void put(std::string_view key, CacheValuePtr value, CacheTimes const& times, std::span<std::string_view const> tags,
           Place place);
  // Beside the value if there is one. In place of a failure before.
  void put_failure(std::string_view key, CacheFailure failure, Place place);
  // Value, failure and tags. False: there was nothing.
  bool erase(std::string_view key);
  // Value and tags; what is remembered of a failure stays. False: there was no value.
  bool erase_value(std::string_view key);
  // A cold value was read from its record. Where the key has another value by now (`etag`), none, or a warm one,
  // nothing happens.
  void warm(std::string_view key, std::uint64_t etag, CacheValuePtr value);

  // Where the records of a key stand: nothing where there is no value (or failure), or none of its own on disk.
  std::optional<Place> place(std::string_view key) const;
  std::optional<Place> failure_place(std::string_view key) const;
  // The record at `from` of this key was copied to `to`. Where the key has no record there any more, nothing happens.
  void move(std::string_view key, Position from, Place to);
  // Entries that have a record in a segment of the log, and the bytes of all records.
  std::uint64_t live_records_in(std::uint32_t segment) const;
  std::uint64_t live_bytes() const;

  // Looks at up to `looks_max` places for entries, each in its turn, and drops what is over. Answers how many entries
  // went. So all are seen in size / looks_max calls.
  std::size_t sweep(Instant now, std::size_t looks_max);
  // How many places there are for entries to look at, used or not: a sweep of as many sees every entry.
  std::size_t places() const;

  // Keys of entries that went whole for a budget though they had a record: it is still in the log, and a restart would
  // find it, also where the key was deleted in between, as there is nothing to delete. So whoever keeps the log has to
  // write down that they are gone, those first that went first. Appends up to `most` of them to `out`, and forgets
  // them.
  void take_evicted(std::size_t most, std::vector<std::string>& out);
  bool has_evicted() const;

  // Walks in parts: append what they find to `out` and move the cursor on, until it is done. A part looks at up to
  // `looks_max` places for entries and finds up to `found_max`. By tag only entries with this tag are looked at.
  void find_prefix(std::string_view prefix, Cursor& cursor, std::size_t looks_max, std::size_t found_max,
                   std::vector<Found>& out) const;
  void find_tag(std::string_view tag, Cursor& cursor, std::size_t found_max, std::vector<Found>& out) const;
  // Is there a value of this key which has this tag, and is not over?
  bool has_tag(std::string_view key, std::string_view tag, Instant now) const;
  // Entries that have a record in `segment`.
  void find_in_segment(std::uint32_t segment, Cursor& cursor, std::size_t looks_max, std::size_t found_max,
                       std::vector<Found>& out) const;

  // Recounts everything. An empty text means all is well. Slow; for tests and the simulation.
  std::string check_invariants() const;

 private:
  class Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace workmill::cache
