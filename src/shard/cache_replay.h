#pragma once
#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "cache/cache.h"
#include "model/effect.h"

// Brings the shared cache back from the log: what is over by now stays out, values are loaded as far as the budget for
// memory goes, the newest first to stay, and of the others it is kept where they stand.
namespace workmill::shard {

class CacheReplay {
 public:
  enum class Values : std::uint8_t { load, leave_on_disk };

  // `now`: what is over then is not loaded. `volatile_prefixes`: keys that are volatile by now are not either, though
  // they were written down once. What is lent outlives the replay.
  CacheReplay(cache::Cache& cache, std::vector<std::string> const& volatile_prefixes, Instant now,
              Values values = Values::load)
      : cache_(cache), volatile_(volatile_prefixes), now_(now), values_(values) {}

  // Every effect of the log in order; those that are not of the cache say nothing here.
  void replay(Effect const& effect, EffectSink::Written at);
  // When the log is at its end: brings the newest values into memory, as many as fit.
  void finish();

 private:
  struct Newest {
    CacheValuePtr value;
    std::uint64_t etag = 0;
  };

  void keep(effect::CacheStored const& e);
  void let_go(std::string_view key);
  void let_go_above(std::uint64_t bytes);

  void replay(effect::CacheStored const& e, EffectSink::Written at);
  void replay(effect::CacheFailed const& e, EffectSink::Written at);

  cache::Cache& cache_;
  std::vector<std::string> const& volatile_;
  Instant now_;
  Values values_;
  std::vector<std::string_view> tags_;  // Reused.
  // Values that may go into memory, oldest first, one for a key; and where each is, by the key in it.
  std::list<Newest> newest_;
  absl::flat_hash_map<std::string_view, std::list<Newest>::iterator> by_key_;
  std::uint64_t newest_bytes_ = 0;
};

// The times and the value that a record says. The value is made anew.
CacheTimes times_of(effect::CacheStored const& e);
CacheValuePtr value_of(effect::CacheStored const& e);

}  // namespace workmill::shard
