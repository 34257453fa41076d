#include "cache/inside.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "model/cache_memory.h"

namespace workmill::cache {
namespace {

// A claim is over after a second: as many units of 64 ms as 16 bits tell apart within 70 minutes. One that is older
// than that may look alive, for a second.
constexpr std::int64_t kClaimUnitMs = 64;
constexpr std::uint16_t kClaimUnits = 16;
std::uint16_t claim_clock(Instant now) { return static_cast<std::uint16_t>(to_ms(now) / kClaimUnitMs); }

// While memory is scattered, each put looks at so many entries. It makes one hole at most on average, so all entries
// have been seen before another sixteenth of the memory has holes.
constexpr std::size_t kMoveLooks = 16;
constexpr std::uint32_t kMoveAhead = 8;  // Of these, how far ahead memory is asked for.
// Copied in one call at most, and a value more: some 50 µs.
constexpr std::size_t kMoveBytes = std::size_t{128} << 10;

// A failure's line in the table, and its texts.
std::uint64_t bytes_of(CacheFailure const& failure) {
  return 160 + heap_bytes(failure.code.size()) + heap_bytes(failure.message.size());
}

}  // namespace

std::uint64_t value_bytes_max(std::uint64_t memory_bytes) {
  std::uint64_t least = 0;  // What is taken grows with what is asked for, so it is found by halves.
  for (std::uint64_t most = memory_bytes / 2; least < most;) {
    std::uint64_t const bytes = least + (most - least + 1) / 2;
    if (kEntryBytes + allocated_bytes(bytes) <= memory_bytes / 2) {
      least = bytes;
    } else {
      most = bytes - 1;
    }
  }
  return least;
}

Cache::Inside::Inside(CacheOptions const& options)
    : options_(options),
      stripe_bits_(static_cast<std::uint32_t>(std::countr_zero(options.stripes))),
      policy_(entries_, options.memory_bytes, options.hash_seed) {
  WM_ASSERT(std::has_single_bit(options.stripes) && options.stripes <= 1'024);
  for (std::uint32_t i = 0; i < options.stripes; ++i) stripes_.emplace_back(entries_, options.hash_seed);
}

// ---- Any thread. ----

Lookup Cache::Inside::find(std::string_view key, Instant now) {
  Lookup out;
  std::uint64_t const hashed = hash(key);
  Stripe& stripe = stripe_of(hashed);
  Lock const lock{stripe.mutex};
  EntryIndex const index = stripe.table.find(hashed, key);
  if (index == kNoEntry) return out;
  Entry& entry = entries_[index];
  if (entry.has_value) {
    CacheTimes const times = entry.times();
    bool const is_over = times.is_over(WM_MUTATION(values_end_a_moment_late) ? now - Duration{1} : now);
    if (!is_over || WM_MUTATION(values_end_when_swept)) {
      out.times = times;
      out.what = entry.is_warm ? Lookup::What::value : Lookup::What::cold;
      if (entry.is_warm) {
        out.value = entry.block;
        policy_.used(entry);
      } else {
        out.head = entry.block;
      }
    }
  }
  if (entry.has_failure) {
    CacheFailure const& failure = stripe.failures.find(index)->second.failure;
    if (now < failure.until || WM_MUTATION(failures_end_when_swept)) {
      out.failure = failure;
      if (out.what == Lookup::What::absent) out.what = Lookup::What::failed;
    }
  }
  return out;
}

bool Cache::Inside::can_answer(std::string_view key, Instant now) {
  std::uint64_t const hashed = hash(key);
  Stripe& stripe = stripe_of(hashed);
  Lock const lock{stripe.mutex};
  EntryIndex const index = stripe.table.find(hashed, key);
  if (index == kNoEntry) return false;
  Entry const& entry = entries_[index];
  if (entry.has_value && now < entry.times().stale_until) return entry.is_warm;
  return entry.has_failure && now < stripe.failures.find(index)->second.failure.until;
}

bool Cache::Inside::claim_refresh(std::string_view key, Instant now) {
  std::uint64_t const hashed = hash(key);
  Stripe& stripe = stripe_of(hashed);
  Lock const lock{stripe.mutex};
  EntryIndex const index = stripe.table.find(hashed, key);
  if (index == kNoEntry) return false;
  Entry& entry = entries_[index];
  if (!entry.has_value || now >= entry.times().stale_until) return false;
  std::uint16_t const clock = claim_clock(now);
  auto const left = static_cast<std::uint16_t>(entry.claim - clock);
  bool const is_alive = (left >= 1 && left <= kClaimUnits) || WM_MUTATION(claims_do_not_end);
  if (entry.claim != 0 && is_alive && !WM_MUTATION(everybody_may_refresh)) return false;
  auto const until = static_cast<std::uint16_t>(clock + kClaimUnits);
  entry.claim = until != 0 ? until : std::uint16_t{0xffff};  // 0 is none. One unit later would be beyond what counts.
  return true;
}

CacheFigures Cache::Inside::figures() const {
  return {.entries = entries_count_.get(),
          .cold_entries = cold_count_.get(),
          .memory_bytes = memory_.get(),
          .disk_bytes = disk_.get(),
          .evictions_memory = evictions_memory_.get(),
          .evictions_disk = evictions_disk_.get(),
          .expired = expired_.get()};
}

// ---- The shard's thread. It alone changes the tables, so it looks into them without a lock. ----

Cache::Inside::Spot Cache::Inside::spot(std::string_view key) {
  std::uint64_t const hashed = hash(key);
  Stripe& stripe = stripe_of(hashed);
  return {hashed, stripe, stripe.table.find(hashed, key)};
}

EntryIndex Cache::Inside::index_of(std::string_view key) const {
  std::uint64_t const hashed = hash(key);
  return stripe_of(hashed).table.find(hashed, key);
}

Cache::Inside::Failure const& Cache::Inside::failure_of(EntryIndex index) const {
  return stripe_of(hash(entries_[index].block->key())).failures.find(index)->second;
}

bool Cache::Inside::fits(CacheValue const& value) const {
  return kEntryBytes + allocated_bytes(value.allocation_bytes()) <= options_.memory_bytes / 2;
}

// In the index and in no list: nothing is known of it yet but its key, which is that of `block`.
bool Cache::Inside::add_entry(Spot& at, CacheValuePtr block) {
  at.index = entries_.take();
  if (at.index == kNoEntry) return false;
  entries_[at.index].block = std::move(block);
  Lock const lock{at.stripe.mutex};
  at.stripe.table.insert(at.hash, at.index);
  return true;
}

void Cache::Inside::put(std::string_view key, CacheValuePtr value, CacheTimes const& times,
                        std::span<std::string_view const> tags, Place place) {
  Spot at = spot(key);
  bool const is_warm = value->has_body() && fits(*value);
  if (!is_warm && place.bytes == 0) {  // Too large for memory, and nowhere else.
    if (at.index != kNoEntry) evict(at.index);
    evictions_memory_.add();
    publish_figures();
    return;
  }
  if (place.bytes > options_.disk_bytes) {  // Of a time with a larger budget, as a log that is replayed has them.
    if (at.index != kNoEntry) drop(at.index);
    evicted_.emplace_back(key);
    evictions_disk_.add();
    publish_figures();
    return;
  }
  if (!is_warm && value->has_body()) value = CacheValue::make_head(key, value->content_type(), value->body_bytes());
  bool const is_new = at.index == kNoEntry;
  if (is_new && !add_entry(at, value)) return;
  EntryIndex const index = at.index;
  Entry& entry = entries_[index];
  // A warm value in place of another stays where that was in line: that it was computed anew is no use of it.
  Policy::Change change{policy_, index, is_warm};
  live_.drop(entry.at, entry.bytes);
  if (!tags.empty() || !WM_MUTATION(replaced_values_leave_their_tags)) drop_tags(index);
  {
    Lock const lock{at.stripe.mutex};
    std::swap(entry.block, value);  // The old one is freed later, without the lock.
    entry.set_times(times);
    entry.has_value = true;
    entry.is_warm = is_warm;
    entry.claim = 0;
    drop_failure(at.stripe, index);
  }
  entry.at = place.at;
  entry.bytes = place.bytes;
  live_.add(place.at, place.bytes);
  if (!tags.empty()) {
    tags_.add(index, tags);
    entry.has_tags = true;
  }
  change.done();
  keep_budgets();
  move_blocks(kMoveLooks);
}

void Cache::Inside::put_failure(std::string_view key, CacheFailure failure, Place place) {
  Spot at = spot(key);
  if (at.index == kNoEntry) {
    if (!add_entry(at, CacheValue::make(key, {}, {}))) return;
    policy_.add(at.index);
  }
  live_.add(place.at, place.bytes);
  failure_bytes_ += bytes_of(failure);
  {
    Lock const lock{at.stripe.mutex};
    drop_failure(at.stripe, at.index);
    entries_[at.index].has_failure = true;
    at.stripe.failures.emplace(at.index, Failure{std::move(failure), place});
  }
  if (!WM_MUTATION(failures_are_beyond_the_budgets)) keep_budgets();
}

bool Cache::Inside::erase(std::string_view key) {
  EntryIndex const index = index_of(key);
  if (index == kNoEntry) return false;
  drop(index);
  publish_figures();
  return true;
}

bool Cache::Inside::erase_value(std::string_view key) {
  Spot const at = spot(key);
  if (at.index == kNoEntry || !entries_[at.index].has_value) return false;
  if (entries_[at.index].has_failure) {
    drop_value(at.stripe, at.index);
  } else {
    drop(at.index);
  }
  publish_figures();
  return true;
}

void Cache::Inside::warm(std::string_view key, std::uint64_t etag, CacheValuePtr value) {
  Spot const at = spot(key);
  if (at.index == kNoEntry || !fits(*value)) return;
  Entry& entry = entries_[at.index];
  if (!entry.has_value || entry.is_warm || entry.etag != etag) return;
  policy_.remove(at.index);
  {
    Lock const lock{at.stripe.mutex};
    std::swap(entry.block, value);
    entry.is_warm = true;
  }
  policy_.add(at.index);
  if (!WM_MUTATION(what_is_read_back_is_beyond_the_budget)) keep_budgets();
  move_blocks(kMoveLooks);
}

std::optional<Place> Cache::Inside::place(std::string_view key) const {
  EntryIndex const index = index_of(key);
  if (index == kNoEntry || entries_[index].bytes == 0) return std::nullopt;
  return place_of(index);
}

std::optional<Place> Cache::Inside::failure_place(std::string_view key) const {
  EntryIndex const index = index_of(key);
  if (index == kNoEntry || !entries_[index].has_failure) return std::nullopt;
  Place const place = failure_of(index).place;
  return place.bytes == 0 ? std::nullopt : std::optional{place};
}

void Cache::Inside::move(std::string_view key, Position from, Place to) {
  Spot const at = spot(key);
  if (at.index == kNoEntry) return;
  Entry& entry = entries_[at.index];
  if (entry.at == from) {
    live_.drop(entry.at, entry.bytes);
    entry.at = to.at;
    entry.bytes = to.bytes;
    live_.add(to.at, to.bytes);
  }
  if (entry.has_failure) {
    // Readers look at what stands beside it, and never at the place.
    Place& place = at.stripe.failures.find(at.index)->second.place;
    if (place.at == from) {
      live_.drop(place.at, place.bytes);
      place = to;
      live_.add(to.at, to.bytes);
    }
  }
  keep_budgets();
}

Found Cache::Inside::describe(EntryIndex index) const {
  Entry const& entry = entries_[index];
  return {.key = std::string{entry.block->key()},
          .value = place_of(index),
          .failure = entry.has_failure ? failure_of(index).place : Place{}};
}

bool Cache::Inside::has_tag(std::string_view key, std::string_view tag, Instant now) const {
  EntryIndex const index = index_of(key);
  return index != kNoEntry && tags_.has(tag, index) && now < entries_[index].times().stale_until;
}

std::size_t Cache::Inside::sweep(Instant now, std::size_t looks_max) {
  std::size_t gone = 0;
  looks_max = std::min<std::size_t>(looks_max, entries_.made());
  for (std::size_t looks = 0; looks < looks_max; ++looks) {
    if (sweep_next_ >= entries_.made()) sweep_next_ = 0;
    EntryIndex const index{sweep_next_++};
    Entry& entry = entries_[index];
    if (!entry.is_used) continue;
    bool const value_over = entry.has_value && now >= entry.times().stale_until;
    if (!value_over && !entry.has_failure) continue;
    Stripe& stripe = stripe_of(hash(entry.block->key()));
    bool const failure_over = entry.has_failure && now >= stripe.failures.find(index)->second.failure.until;
    if ((value_over || !entry.has_value) && (failure_over || !entry.has_failure)) {
      drop(index);
      ++gone;
      expired_.add();
    } else if (value_over) {
      drop_value(stripe, index);
    } else if (failure_over) {
      Lock const lock{stripe.mutex};
      drop_failure(stripe, index);
    }
  }
  publish_figures();
  move_blocks(looks_max);
  return gone;
}

// Out of pages of memory that are to be given back. Nothing that anybody is told depends on it.
void Cache::Inside::move_blocks(std::size_t looks_max) {
  if (!should_cache_values_move()) return;
  looks_max = std::min<std::size_t>(looks_max, entries_.made());
  std::size_t copied = 0;
  for (std::size_t looks = 0; looks < looks_max && copied < kMoveBytes; ++looks) {
    if (move_next_ >= entries_.made()) move_next_ = 0;
    // Where a value lies is known by its address and size, and each of those would be waited for.
    __builtin_prefetch(entries_[EntryIndex{std::min(move_next_ + kMoveAhead, entries_.made() - 1)}].block.get());
    Entry& entry = entries_[EntryIndex{move_next_++}];
    if (!entry.is_used || !should_move(*entry.block)) continue;
    copied += entry.block->allocation_bytes();
    CacheValuePtr block = copy_of(*entry.block);
    Lock const lock{stripe_of(hash(block->key())).mutex};
    std::swap(entry.block, block);  // The old one is freed without the lock.
  }
}

// All of an entry.
void Cache::Inside::drop(EntryIndex index) {
  Entry& entry = entries_[index];
  std::uint64_t const hashed = hash(entry.block->key());
  Stripe& stripe = stripe_of(hashed);
  policy_.remove(index);
  live_.drop(entry.at, entry.bytes);
  drop_tags(index);
  CacheValuePtr block;  // Freed without the lock.
  Lock const lock{stripe.mutex};
  drop_failure(stripe, index);
  stripe.table.erase(hashed, index);
  block = std::move(entry.block);
  entries_.give(index);
}

// For a budget's sake.
void Cache::Inside::evict(EntryIndex index) {
  Entry const& entry = entries_[index];
  bool const has_record = entry.bytes > 0 || (entry.has_failure && failure_of(index).place.bytes > 0);
  if (has_record) evicted_.emplace_back(entry.block->key());
  drop(index);
}

void Cache::Inside::take_evicted(std::size_t most, std::vector<std::string>& out) {
  for (; most > 0 && !evicted_.empty(); --most) {
    out.push_back(std::move(evicted_.front()));
    evicted_.pop_front();
  }
}

// The value of an entry that has a failure too.
void Cache::Inside::drop_value(Stripe& stripe, EntryIndex index) {
  Entry& entry = entries_[index];
  policy_.remove(index);
  live_.drop(entry.at, entry.bytes);
  drop_tags(index);
  entry.at = {};
  entry.bytes = 0;
  CacheValuePtr block = CacheValue::make(entry.block->key(), {}, {});
  {
    Lock const lock{stripe.mutex};
    std::swap(entry.block, block);
    entry.has_value = false;
    entry.is_warm = false;
    entry.claim = 0;
  }
  policy_.add(index);
}

// With the lock held, as readers copy what goes here.
void Cache::Inside::drop_failure(Stripe& stripe, EntryIndex index) {
  Entry& entry = entries_[index];
  if (!entry.has_failure) return;
  auto const found = stripe.failures.find(index);
  live_.drop(found->second.place.at, found->second.place.bytes);
  failure_bytes_ -= bytes_of(found->second.failure);
  stripe.failures.erase(found);
  entry.has_failure = false;
}

void Cache::Inside::drop_tags(EntryIndex index) {
  Entry& entry = entries_[index];
  if (entry.has_tags) tags_.remove(index);
  entry.has_tags = false;
}

// From memory to its record.
void Cache::Inside::cool(EntryIndex index) {
  Entry& entry = entries_[index];
  policy_.remove(index);
  CacheValue const& value = *entry.block;
  CacheValuePtr block = CacheValue::make_head(value.key(), value.content_type(), value.body_bytes());
  {
    Lock const lock{stripe_of(hash(block->key())).mutex};
    std::swap(entry.block, block);
    entry.is_warm = false;
  }
  policy_.add(index);
}

// Each step takes a value or an entry away, and each was put once: so a put pays for as many steps as there were puts.
void Cache::Inside::keep_budgets() {
  bool const is_one_budget = WM_MUTATION(memory_is_bounded_as_the_disk);
  std::uint64_t const memory =
      is_one_budget ? std::min(options_.memory_bytes, options_.disk_bytes) : options_.memory_bytes;
  while (memory_bytes() > memory && policy_.size() > 0) {
    std::uint64_t const others = policy_.cold_bytes() + failure_bytes_ + tags_.memory_bytes();
    bool const cold_goes = policy_.cold_bytes() > options_.memory_bytes / 2;
    EntryIndex const warm =
        cold_goes ? kNoEntry : policy_.victim(options_.memory_bytes - std::min(others, options_.memory_bytes));
    if (warm != kNoEntry && entries_[warm].bytes > 0) {
      cool(warm);
      evictions_memory_.add();
      continue;
    }
    if (warm != kNoEntry) policy_.forget(warm);
    evict(warm != kNoEntry ? warm : policy_.coldest());
    evictions_disk_.add();
  }
  while (live_.bytes() > options_.disk_bytes && !WM_MUTATION(disk_budget_is_not_kept)) {
    EntryIndex const coldest = policy_.coldest();
    evict(coldest != kNoEntry ? coldest : policy_.victim(options_.memory_bytes));
    evictions_disk_.add();
  }
  publish_figures();
}

void Cache::Inside::publish_figures() {
  entries_count_.set(entries_.size());
  cold_count_.set(policy_.cold_size());
  memory_.set(memory_bytes());
  disk_.set(live_.bytes());
}

std::string Cache::Inside::check_invariants() const {
  std::size_t entries = 0;
  std::size_t failures = 0;
  std::size_t in_tables = 0;
  std::uint64_t charge = 0;
  std::uint64_t disk = 0;
  std::uint64_t failure_bytes = 0;
  for (std::uint32_t i = 0; i < entries_.made(); ++i) {
    EntryIndex const index{i};
    Entry const& entry = entries_[index];
    if (!entry.is_used) continue;
    ++entries;
    charge += charge_of(entry);
    disk += entry.bytes;
    std::string const key{entry.block->key()};
    if (index_of(key) != index) return "not to be found by its key: " + key;
    if (!entry.has_value && !entry.has_failure) return "neither value nor failure: " + key;
    if (entry.is_warm && !entry.has_value) return "warm without a value: " + key;
    if (entry.has_value && !entry.is_warm && entry.bytes == 0) return "cold without a record: " + key;
    bool const in_cold = entry.list == ListId::cold;
    if (entry.list == ListId::none || in_cold == entry.is_warm) {
      return "in the wrong list: " + key;
    }
    if (entry.has_failure) {
      ++failures;
      disk += failure_of(index).place.bytes;
      failure_bytes += bytes_of(failure_of(index).failure);
    }
  }
  std::size_t in_failures = 0;
  for (Stripe const& stripe : stripes_) {
    in_tables += stripe.table.size();
    in_failures += stripe.failures.size();
  }
  if (entries != entries_.size() || entries != in_tables || entries != policy_.size()) return "entries miscounted";
  if (failures != in_failures || failure_bytes != failure_bytes_) return "failures miscounted";
  if (charge != policy_.bytes()) return "memory miscounted";
  if (disk != live_.bytes()) return "records miscounted";
  if (charge + failure_bytes + tags_.memory_bytes() > options_.memory_bytes) return "over the budget of memory";
  if (disk > options_.disk_bytes) return "over the budget of the disk";
  return {};
}

}  // namespace workmill::cache
