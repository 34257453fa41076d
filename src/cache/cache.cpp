#include "cache/cache.h"

#include <bit>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "cache/inside.h"

namespace workmill::cache {

Cache::Cache(CacheOptions options) : inside_(std::make_unique<Inside>(options)) {}
CacheOptions const& Cache::options() const { return inside_->options(); }
Cache::~Cache() = default;

Lookup Cache::find(std::string_view key, Instant now) const { return inside_->find(key, now); }
bool Cache::can_answer(std::string_view key, Instant now) const { return inside_->can_answer(key, now); }
bool Cache::claim_refresh(std::string_view key, Instant now) { return inside_->claim_refresh(key, now); }
CacheFigures Cache::figures() const { return inside_->figures(); }

void Cache::put(std::string_view key, CacheValuePtr value, CacheTimes const& times,
                std::span<std::string_view const> tags, Place place) {
  WM_ASSERT(!key.empty() && key.size() <= kCacheKeyBytesMax && tags.size() <= kCacheTagsMax);
  WM_ASSERT(value && value->key() == key && (value->has_body() || place.bytes > 0));
  WM_ASSERT(static_cast<bool>(place.at) == (place.bytes > 0));
  inside_->put(key, std::move(value), times, tags, place);
}
void Cache::put_failure(std::string_view key, CacheFailure failure, Place place) {
  WM_ASSERT(!key.empty() && key.size() <= kCacheKeyBytesMax);
  WM_ASSERT(static_cast<bool>(place.at) == (place.bytes > 0));
  inside_->put_failure(key, std::move(failure), place);
}
bool Cache::erase(std::string_view key) { return inside_->erase(key); }
bool Cache::erase_value(std::string_view key) { return inside_->erase_value(key); }
void Cache::warm(std::string_view key, std::uint64_t etag, CacheValuePtr value) {
  WM_ASSERT(value && value->key() == key && value->has_body());
  inside_->warm(key, etag, std::move(value));
}
std::optional<Place> Cache::place(std::string_view key) const { return inside_->place(key); }
std::optional<Place> Cache::failure_place(std::string_view key) const { return inside_->failure_place(key); }
void Cache::move(std::string_view key, Position from, Place to) {
  WM_ASSERT(from && to.at && to.bytes > 0);
  inside_->move(key, from, to);
}
std::uint64_t Cache::live_records_in(std::uint32_t segment) const { return inside_->live().in(segment); }
std::uint64_t Cache::live_bytes() const { return inside_->live().bytes(); }
std::size_t Cache::sweep(Instant now, std::size_t looks_max) { return inside_->sweep(now, looks_max); }
void Cache::take_evicted(std::size_t most, std::vector<std::string>& out) { inside_->take_evicted(most, out); }
bool Cache::has_evicted() const { return inside_->has_evicted(); }
std::size_t Cache::places() const { return inside_->entries().made(); }
std::string Cache::check_invariants() const { return inside_->check_invariants(); }

void Cache::find_prefix(std::string_view prefix, Cursor& cursor, std::size_t looks_max, std::size_t found_max,
                        std::vector<Found>& out) const {
  inside_->scan(cursor, looks_max, found_max, [&](EntryIndex index) {
    if (!inside_->entries()[index].block->key().starts_with(prefix)) return false;
    out.push_back(inside_->describe(index));
    return true;
  });
}

void Cache::find_tag(std::string_view tag, Cursor& cursor, std::size_t found_max, std::vector<Found>& out) const {
  cursor.done = true;
  std::size_t found = 0;
  inside_->tags().walk(tag, cursor.next, [&](EntryIndex index) {
    if (found++ == found_max) {
      cursor.done = false;
      return false;
    }
    out.push_back(inside_->describe(index));
    cursor.next = std::to_underlying(index) + (WM_MUTATION(deletion_passes_over_one) ? 2U : 1U);
    return true;
  });
}

bool Cache::has_tag(std::string_view key, std::string_view tag, Instant now) const {
  return inside_->has_tag(key, tag, now);
}

void Cache::find_in_segment(std::uint32_t segment, Cursor& cursor, std::size_t looks_max, std::size_t found_max,
                            std::vector<Found>& out) const {
  inside_->scan(cursor, looks_max, found_max, [&](EntryIndex index) {
    Entry const& entry = inside_->entries()[index];
    if (entry.at.segment != segment && !entry.has_failure) return false;
    Found found = inside_->describe(index);
    if (entry.at.segment != segment && found.failure.at.segment != segment) return false;
    out.push_back(std::move(found));
    return true;
  });
}

}  // namespace workmill::cache
