#pragma once
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/cache_set.h"
#include "model/queue_set.h"

// What a caller may touch, where he is limited: some queues, some keys of the cache, or both. Immutable once made: any
// thread may look.
namespace workmill {

inline constexpr std::size_t kCachePrefixesMax = 100;  // Of a token, as kQueueSetMax.

// Keys of the cache, by what they begin with.
class CacheKeySet {
 public:
  // At most kCachePrefixesMax prefixes, each as is_cache_key() (cache_set.h) wants it. Sorted here; one that begins
  // with another adds nothing, and is dropped.
  explicit CacheKeySet(std::vector<std::string> prefixes) : prefixes_(std::move(prefixes)) {
    std::sort(prefixes_.begin(), prefixes_.end());
    std::size_t kept = 0;
    for (std::size_t i = 0; i < prefixes_.size(); ++i) {
      if (kept > 0 && prefixes_[i].starts_with(prefixes_[kept - 1])) continue;
      if (kept != i) prefixes_[kept] = std::move(prefixes_[i]);
      kept += 1;
    }
    prefixes_.resize(kept);
  }

  // Of the key alone, not of what there is. Also of a prefix: whether all keys that begin so are in the set.
  bool contains(std::string_view key) const {
    // None begins with another, so of those that are not behind the key only the last can be its beginning: what stood
    // between the two would begin with it as well.
    auto const behind = std::upper_bound(prefixes_.begin(), prefixes_.end(), key);
    return behind != prefixes_.begin() && key.starts_with(*std::prev(behind));
  }
  std::span<std::string const> prefixes() const { return prefixes_; }  // In the order of bytes.

 private:
  std::vector<std::string> prefixes_;
};

using AllowedKeys = std::shared_ptr<CacheKeySet const>;  // Shared as AllowedQueues are, and for the same reason.

// What goes with a request.
struct Allowed {
  AllowedQueues queues{};  // Nothing: all.
  AllowedKeys keys{};      // Nothing: see below.

  bool is_limited() const { return queues != nullptr || keys != nullptr; }
  bool has_queue(std::string_view queue) const { return queues == nullptr || queues->contains(queue); }
  // To read, put and delete a key, and to set it by a report. A key belongs to no queue: who is limited to queues, and
  // was given no keys, may touch none.
  bool has_key(std::string_view key) const { return keys != nullptr ? keys->contains(key) : queues == nullptr; }
  bool has_keys(std::span<CacheEntrySet const> sets) const {
    return std::ranges::all_of(sets, [this](CacheEntrySet const& set) { return has_key(set.key); });
  }
  // To ask for a key together with the job that computes it: who is limited to queues may, for jobs of those.
  bool may_compute(std::string_view key) const { return keys == nullptr || keys->contains(key); }
};

}  // namespace workmill
