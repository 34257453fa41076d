#include "shard/cache_replay.h"

#include <optional>
#include <utility>

#include "base/mutation.h"
#include "model/cache_set.h"

namespace workmill::shard {
namespace {

// A part of the memory is left for what the allocator rounds up.
constexpr std::uint64_t kRoundingPart = 8;

}  // namespace

CacheTimes times_of(effect::CacheStored const& e) {
  return {.stored_at = e.stored_at,
          .fresh_until = e.fresh_until,
          .stale_until = e.stale_until,
          .compute_time = e.compute_time,
          .etag = e.etag};
}

CacheValuePtr value_of(effect::CacheStored const& e) { return CacheValue::make(e.key, e.content_type, e.body); }

void CacheReplay::replay(Effect const& effect, EffectSink::Written at) {
  if (auto const* stored = std::get_if<effect::CacheStored>(&effect)) {
    replay(*stored, at);
  } else if (auto const* failed = std::get_if<effect::CacheFailed>(&effect)) {
    replay(*failed, at);
  } else if (auto const* forgotten = std::get_if<effect::CacheForgotten>(&effect)) {
    cache_.erase(forgotten->key);
    let_go(forgotten->key);
  }
}

void CacheReplay::replay(effect::CacheStored const& e, EffectSink::Written at) {
  // Its checksum was right, so anything else is a bug of ours; an entry of a cache is no reason not to start.
  bool const is_sound =
      is_cache_key(e.key) && e.body.size() <= kCacheValueBytesMax && e.content_type.size() <= kCacheContentTypeBytesMax;
  if (!is_sound || begins_with_any(e.key, volatile_)) return;
  tags_.clear();
  if (!decode_cache_tags(e.tags, tags_) || tags_.size() > kCacheTagsMax || WM_MUTATION(restart_forgets_tags)) {
    tags_.clear();
  }
  // A copy does not end what is remembered of a failure, which may stand before it now.
  std::optional<CacheFailure> failure;
  std::optional<cache::Place> failure_place;
  if (e.is_copy) {
    failure = cache_.find(e.key, kInstantMin).failure;
    failure_place = cache_.failure_place(e.key);
  }
  if (e.stale_until <= now_) {
    if (!e.is_copy) cache_.erase(e.key);
    let_go(e.key);
    return;
  }
  CacheTimes times = times_of(e);
  if (WM_MUTATION(restart_begins_windows_anew)) times.stale_until = now_ + (times.stale_until - times.stored_at);
  cache_.put(e.key, CacheValue::make_head(e.key, e.content_type, e.body.size()), times, tags_,
             {.at = at.at, .bytes = at.bytes});
  if (failure && failure_place) cache_.put_failure(e.key, *std::move(failure), *failure_place);
  if (values_ == Values::load) keep(e);
}

void CacheReplay::keep(effect::CacheStored const& e) {
  let_go(e.key);
  std::uint64_t const budget = cache_.options().memory_bytes;
  CacheValuePtr value = value_of(e);
  if (value->allocation_bytes() > budget / 2) return;
  newest_bytes_ += value->allocation_bytes();
  auto const kept = newest_.insert(newest_.end(), {.value = std::move(value), .etag = e.etag});
  by_key_.emplace(kept->value->key(), kept);
  let_go_above(budget);
}

void CacheReplay::let_go(std::string_view key) {
  auto const found = by_key_.find(key);
  if (found == by_key_.end()) return;
  auto const kept = found->second;
  by_key_.erase(found);  // Its key is the value's.
  newest_bytes_ -= kept->value->allocation_bytes();
  newest_.erase(kept);
}

void CacheReplay::let_go_above(std::uint64_t bytes) {
  while (newest_bytes_ > bytes) let_go(newest_.front().value->key());
}

void CacheReplay::finish() {
  std::uint64_t const used = cache_.figures().memory_bytes;  // By keys, so far.
  std::uint64_t const budget = cache_.options().memory_bytes;
  std::uint64_t const left = budget > used ? budget - used : 0;
  let_go_above(left - left / kRoundingPart);
  for (; !newest_.empty(); let_go(newest_.front().value->key())) {
    Newest const& next = newest_.front();
    cache_.warm(next.value->key(), next.etag, next.value);
  }
}

void CacheReplay::replay(effect::CacheFailed const& e, EffectSink::Written at) {
  if (!is_cache_key(e.key) || begins_with_any(e.key, volatile_)) return;
  if (e.until <= now_ && !cache_.failure_place(e.key)) return;  // Else it ends one before that was to last longer.
  cache_.put_failure(
      e.key, {.error_class = e.error_class, .code = Bytes{e.code}, .message = Bytes{e.message}, .until = e.until},
      {.at = at.at, .bytes = at.bytes});
}

}  // namespace workmill::shard
