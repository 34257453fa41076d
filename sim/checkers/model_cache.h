#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/cache.h"
#include "model/cache.h"

// What the model knows of the shared cache: for each key what was put last, and when that is over. Who reads is told
// this, or, where the server had to make room or the disk has lost it, nothing; never anything else.
namespace workmill::sim {

struct ModelCached {
  // May the server have lost it? By counting: in this life of the server so many entries had been evicted before it was
  // put. If none was since then, it is there.
  struct Kept {
    std::uint64_t evicted = 0;
    bool may_be_gone = false;  // Whatever that says.
    bool is_of_earlier_life = false;

    bool is_sure(std::uint64_t evicted_by_now) const { return !may_be_gone && evicted == evicted_by_now; }
  };
  struct Value : Kept {
    std::string content_type;
    std::string body;
    std::vector<std::string> tags;
    CacheTimes times;
    std::uint64_t serial = 0;  // The larger, the later it was put.
    bool was_seen = false;
    bool is_computed = false;     // By a flight.
    bool is_for_waiters = false;  // Of a flight that was overtaken, or larger than the cache can hold.
    // A volatile value is not written down: until somebody has seen it, nobody knows what chance took off its fresh
    // time, nor its compute time beyond its bounds.
    bool is_guessed = false;
    Instant fresh_least{};
    Duration compute_least{}, compute_most{};
  };
  struct Failure : Kept {
    CacheFailure said;
    std::uint64_t serial = 0;
  };
  std::optional<Value> value;  // Also one that is over.
  std::optional<Failure> failure;
};

// What somebody saw who looked into the index himself, as I/O threads do, between two turns.
struct CacheSeen {
  std::string key;
  Instant at{};
  cache::Lookup found;
  std::uint64_t evicted = 0;  // In this life of the server, by then.
};

}  // namespace workmill::sim
