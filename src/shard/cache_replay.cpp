#include "shard/cache_replay.h"

#include <optional>
#include <utility>

#include "model/cache_set.h"

namespace workmill::shard {

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
  }
}

void CacheReplay::replay(effect::CacheStored const& e, EffectSink::Written at) {
  // Its checksum was right, so anything else is a bug of ours; an entry of a cache is no reason not to start.
  bool const is_sound =
      is_cache_key(e.key) && e.body.size() <= kCacheValueBytesMax && e.content_type.size() <= kCacheContentTypeBytesMax;
  if (!is_sound || begins_with_any(e.key, volatile_)) return;
  tags_.clear();
  if (!decode_cache_tags(e.tags, tags_) || tags_.size() > kCacheTagsMax) tags_.clear();
  // A copy does not end what is remembered of a failure, which may stand before it now.
  std::optional<CacheFailure> failure;
  std::optional<cache::Place> failure_place;
  if (e.is_copy) {
    failure = cache_.find(e.key, kInstantMin).failure;
    failure_place = cache_.failure_place(e.key);
  }
  if (e.stale_until <= now_) {
    if (!e.is_copy) cache_.erase(e.key);
    return;
  }
  CacheValuePtr value;
  if (values_ == Values::load) value = value_of(e);
  cache_.put(e.key, std::move(value), times_of(e), tags_, {.at = at.at, .bytes = at.bytes});
  if (failure && failure_place) cache_.put_failure(e.key, *std::move(failure), *failure_place);
}

void CacheReplay::replay(effect::CacheFailed const& e, EffectSink::Written at) {
  if (e.until <= now_ || !is_cache_key(e.key) || begins_with_any(e.key, volatile_)) return;
  cache_.put_failure(
      e.key, {.error_class = e.error_class, .code = Bytes{e.code}, .message = Bytes{e.message}, .until = e.until},
      {.at = at.at, .bytes = at.bytes});
}

}  // namespace workmill::shard
