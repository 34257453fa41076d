#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "traces.h"

// Eviction policies over streams of keys, each value as large as any other, as their papers have them: what the cache's
// own policy (src/cache/policy.h) is measured against. Not for use: they keep arrays as long as there are keys.
namespace workmill::bench {

class Simulated {
 public:
  virtual ~Simulated() = default;
  // A request: true if it was a hit. A miss puts the key.
  virtual bool request(std::uint32_t key) = 0;
};

struct Contender {
  std::string name;
  std::function<std::unique_ptr<Simulated>(Trace const& trace, std::size_t capacity)> make;
};

// LRU, S3-FIFO, SIEVE, W-TinyLFU, the same with an adaptive window, and Belady's optimum, which sees the future.
std::vector<Contender> contenders();

}  // namespace workmill::bench
