#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "cache/cache.h"

// The cache against a plain model: a map of what was put. With budgets that are never used up, both must agree on
// everything; with tight ones the cache may know less, and never more or otherwise.
namespace workmill::cache {
namespace {

struct Known {
  std::optional<std::string> body;  // None: no value.
  CacheTimes times;
  Place place;
  std::set<std::string> tags;
  std::optional<CacheFailure> failure;
  Place failure_place;
};

class World {
 public:
  World(std::uint64_t seed, CacheOptions options) : rng_(seed), cache_(options) {}

  Cache& cache() { return cache_; }
  std::map<std::string, Known> const& model() const { return model_; }
  Instant now() const { return now_; }

  void step() {
    std::string const key = "key/" + std::to_string(rng_.below(40));
    switch (rng_.below(13)) {
      case 0:
      case 1:
      case 2: put(key); break;
      case 3: put_failure(key); break;
      case 4: erase(key); break;
      case 5: warm(key); break;
      case 6: move(key); break;
      case 7: now_ += Duration{rng_.below(300)}; break;
      case 8: sweep(); break;
      case 9: erase_value(key); break;
      default: cache_.find(key, now_); break;
    }
    std::vector<std::string> evicted;
    cache_.take_evicted(1 + rng_.below(3), evicted);
    evicted_.insert(evicted.begin(), evicted.end());
  }

  // Of the value: false where the cache has none, which it may where its budgets are tight.
  bool agrees(std::string const& key) {
    Lookup const found = cache_.find(key, now_);
    auto const known = model_.find(key);
    bool const has_value = known != model_.end() && known->second.body && now_ < known->second.times.stale_until;
    bool const has_failure = known != model_.end() && known->second.failure && now_ < known->second.failure->until;
    if (found.what == Lookup::What::value || found.what == Lookup::What::cold) {
      RC_ASSERT(has_value);
      RC_ASSERT(found.times == known->second.times);
      if (found.what == Lookup::What::value) RC_ASSERT(found.value->body() == *known->second.body);
      if (found.what == Lookup::What::cold) {
        RC_ASSERT(cache_.place(key) == known->second.place);
        RC_ASSERT(!found.value && found.head->content_type() == "x/y");
        RC_ASSERT(found.head->body_bytes() == known->second.body->size() && found.head->body().empty());
      }
    }
    if (found.failure) {
      RC_ASSERT(has_failure);
      RC_ASSERT(*found.failure == *known->second.failure);
      RC_ASSERT(cache_.failure_place(key) == on_disk(known->second.failure_place));
    }
    // What is on disk and was not deleted is not just away: it is said to be.
    bool const was_on_disk = has_value && known->second.place.bytes > 0;
    if (was_on_disk && found.what != Lookup::What::value && found.what != Lookup::What::cold) {
      std::vector<std::string> evicted;
      cache_.take_evicted(SIZE_MAX, evicted);
      evicted_.insert(evicted.begin(), evicted.end());
      RC_ASSERT(evicted_.contains(key));
    }
    RC_ASSERT((found.what == Lookup::What::failed) ==
              (found.failure && found.what != Lookup::What::value && found.what != Lookup::What::cold));
    bool const value_found = found.what == Lookup::What::value || found.what == Lookup::What::cold;
    RC_ASSERT(cache_.has_tag(key, "tag2", now_) == (value_found && known->second.tags.contains("tag2")));
    return value_found == has_value && found.failure.has_value() == has_failure;
  }

  std::uint64_t model_records_in(std::uint32_t segment) const {
    std::uint64_t records = 0;
    for (auto const& [key, known] : model_) {
      if (known.body && known.place.at.segment == segment) ++records;
      if (known.failure && known.failure_place.at.segment == segment) ++records;
    }
    return records;
  }

 private:
  static std::optional<Place> on_disk(Place place) { return place.bytes == 0 ? std::nullopt : std::optional{place}; }
  Place next_place(bool may_be_volatile) {
    if (may_be_volatile && rng_.chance(300)) return {};
    auto const bytes = static_cast<std::uint32_t>(20 + rng_.below(200));
    offset_ += bytes;
    if (offset_ > 3'000) {
      offset_ = bytes;
      ++segment_;
    }
    return {.at = {.segment = segment_, .offset = offset_}, .bytes = bytes};
  }

  void put(std::string const& key) {
    Known known;
    evicted_.erase(key);
    known.body = std::string(rng_.below(rng_.chance(50) ? 20'000 : 300), 'x') + std::to_string(rng_.next());
    bool const is_cold = rng_.chance(200);
    known.place = next_place(!is_cold);
    Duration const fresh{rng_.below(2'000)};
    known.times = {.stored_at = now_,
                   .fresh_until = now_ + fresh,
                   .stale_until = now_ + fresh + Duration{rng_.below(2'000)},
                   .compute_time = Duration{rng_.below(100'000)},
                   .etag = rng_.next()};
    for (std::uint64_t i = rng_.below(3); i > 0; --i) known.tags.insert("tag" + std::to_string(rng_.below(4)));
    std::vector<std::string_view> const tags{known.tags.begin(), known.tags.end()};
    cache_.put(
        key,
        is_cold ? CacheValue::make_head(key, "x/y", known.body->size()) : CacheValue::make(key, "x/y", *known.body),
        known.times, tags, known.place);
    model_[key] = known;
  }
  void put_failure(std::string const& key) {
    CacheFailure const failure{.error_class = ErrorClass::retryable,
                               .code = "late",
                               .message = std::string(rng_.below(100), 'm'),
                               .until = now_ + Duration{rng_.below(1'000)}};
    Place const place = next_place(true);
    cache_.put_failure(key, failure, place);
    model_[key].failure = failure;
    model_[key].failure_place = place;
  }
  void erase(std::string const& key) {
    bool const was_there = cache_.erase(key);
    bool const was_known = model_.erase(key) > 0;
    RC_ASSERT(was_known || !was_there);
  }
  void erase_value(std::string const& key) {
    bool const was_there = cache_.erase_value(key);
    auto const known = model_.find(key);
    bool const was_known = known != model_.end() && known->second.body;
    RC_ASSERT(was_known || !was_there);
    if (!was_known) return;
    if (known->second.failure) {
      drop_value(known->second);
    } else {
      model_.erase(known);
    }
  }
  static void drop_value(Known& known) {
    known.body.reset();
    known.place = {};
    known.tags.clear();
  }
  void warm(std::string const& key) {
    auto const known = model_.find(key);
    if (known == model_.end() || !known->second.body) return;
    bool const is_right = rng_.chance(800);
    cache_.warm(key, known->second.times.etag + (is_right ? 0 : 1),
                CacheValue::make(key, "x/y", is_right ? *known->second.body : "of another time"));
  }
  void move(std::string const& key) {
    auto const known = model_.find(key);
    if (known == model_.end()) return;
    Place& place = rng_.chance(500) ? known->second.place : known->second.failure_place;
    if (place.bytes == 0) return;
    Place to = next_place(false);
    to.bytes = place.bytes;
    cache_.move(key, place.at, to);
    place = to;
  }
  void sweep() {
    cache_.sweep(now_, cache_.places());
    for (auto at = model_.begin(); at != model_.end();) {
      Known& known = at->second;
      if (known.body && now_ >= known.times.stale_until) drop_value(known);
      if (known.failure && now_ >= known.failure->until) {
        known.failure.reset();
        known.failure_place = {};
      }
      at = !known.body && !known.failure ? model_.erase(at) : std::next(at);
    }
  }

  Rng rng_;
  Cache cache_;
  Instant now_ = instant_from_ms(1'700'000'000'000);
  std::uint32_t segment_ = 1;
  std::uint32_t offset_ = 0;
  std::map<std::string, Known> model_;
  std::set<std::string> evicted_;  // Since they were put.
};

std::vector<std::string> keys_of(std::vector<Found> const& found) {
  std::vector<std::string> keys;
  for (Found const& one : found) keys.push_back(one.key);
  std::ranges::sort(keys);
  return keys;
}

RC_GTEST_PROP(CacheModel, KnowsExactlyWhatWasPutWhileBudgetsLast, (std::uint64_t seed)) {
  World world{seed, {.stripes = 1u << seed % 4, .hash_seed = seed}};
  for (int i = 0; i < 300; ++i) world.step();

  RC_ASSERT(world.cache().check_invariants() == "");
  for (int key = 0; key < 40; ++key) RC_ASSERT(world.agrees("key/" + std::to_string(key)));
  std::uint64_t records = 0;
  for (std::uint32_t segment = 1; segment < 40; ++segment) {
    records = world.model_records_in(segment);
    RC_ASSERT(world.cache().live_records_in(segment) == records);
  }
  RC_ASSERT(world.cache().figures().entries == world.model().size());
}

RC_GTEST_PROP(CacheModel, KnowsNothingElseWhenBudgetsAreTight, (std::uint64_t seed)) {
  Rng rng{seed};
  World world{seed,
              {.memory_bytes = rng.below(8'000), .disk_bytes = rng.below(6'000), .stripes = 4, .hash_seed = seed}};
  for (int i = 0; i < 300; ++i) {
    world.step();
    RC_ASSERT(world.cache().check_invariants() == "");
  }
  for (int key = 0; key < 40; ++key) world.agrees("key/" + std::to_string(key));
}

RC_GTEST_PROP(CacheModel, WalksFindEachEntryOnce, (std::uint64_t seed)) {
  World world{seed, {.hash_seed = seed}};
  for (int i = 0; i < 300; ++i) world.step();
  Rng rng{seed};
  auto const in_parts = [&](auto const& part) {
    std::vector<Found> out;
    Cursor cursor;
    for (int parts = 0; !cursor.done; ++parts) {
      RC_ASSERT(parts < 5'000);
      std::size_t const before = out.size();
      std::size_t const found_max = 1 + rng.below(5);
      part(cursor, 1 + rng.below(700), found_max, out);
      RC_ASSERT(out.size() - before <= found_max);
    }
    return keys_of(out);
  };
  Cache& cache = world.cache();
  std::vector<std::string> with_prefix, with_tag, in_segment;
  for (auto const& [key, known] : world.model()) {
    if (key.starts_with("key/1")) with_prefix.push_back(key);
    if (known.tags.contains("tag2")) with_tag.push_back(key);
    if (known.place.at.segment == 2 || known.failure_place.at.segment == 2) in_segment.push_back(key);
  }
  RC_ASSERT(with_prefix == in_parts([&](Cursor& cursor, std::size_t looks, std::size_t most, auto& out) {
              cache.find_prefix("key/1", cursor, looks, most, out);
            }));
  RC_ASSERT(with_tag == in_parts([&](Cursor& cursor, std::size_t, std::size_t most, auto& out) {
              cache.find_tag("tag2", cursor, most, out);
            }));
  RC_ASSERT(in_segment == in_parts([&](Cursor& cursor, std::size_t looks, std::size_t most, auto& out) {
              cache.find_in_segment(2, cursor, looks, most, out);
            }));
}

}  // namespace
}  // namespace workmill::cache
