#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "base/time.h"
#include "model/cache.h"
#include "model/command.h"

// Who uses the shared cache: asks for values, has them computed, puts and forgets them. Few keys, so that they meet all
// the time.
namespace workmill::sim {

enum class CacheUse : std::uint8_t {
  look,     // GET: what is there, or nothing.
  compute,  // POST: what is there, or computed once for all who ask.
  blind,    // The same by somebody who looked a while ago, and asks the shard whatever is there now.
  put,
  forget,
  forget_by,  // A tag or a prefix.
};
inline constexpr std::size_t kCacheUses = 6;

struct CacheWorkload {
  std::uint32_t keys = 0;           // 0: nobody uses the cache.
  std::uint32_t volatile_keys = 0;  // Of these.
  std::uint32_t uses_per_turn = 0;  // At most; each number is as likely as the others.
  std::uint32_t weights[kCacheUses] = {300, 250, 60, 120, 40, 20};
  std::size_t body_bytes_max = 60;
  std::uint32_t window_ms_max = 3'000;   // Of fresh, and of stale.
  std::uint32_t with_sets = 200;         // In thousandths: completions that set keys.
  std::uint32_t computed_at_once = 100;  // In thousandths: computations that nobody waits for.
  Duration lease_max{2'000};             // Of computations, beyond the shortest.
  bool refreshes_fail = false;  // Values are soon stale, and that they could not be refreshed is remembered for long.
};
inline constexpr std::string_view kVolatilePrefix = "v:";

class CacheCallers {
 public:
  CacheCallers(CacheWorkload const& options, Rng chance) : options_(options), chance_(chance) {
    for (std::uint32_t const weight : options_.weights) weight_sum_ += weight;
  }

  bool empty() const { return options_.keys == 0; }
  // How many uses there are in this turn.
  std::uint64_t uses() { return chance_.below(options_.uses_per_turn + 1); }
  CacheUse draw_use();
  std::string draw_key();
  bool chance(std::uint32_t permille) { return chance_.chance(permille); }

  PutCache make_put();
  // For a key whose value is stored at `seen`, and quiet, where it is given.
  ComputeCached make_compute(std::string key, std::uint32_t queues);
  ForgetCachedBy make_forget_by();
  // What a worker sets with its completion; often nothing, and perhaps one key twice.
  std::vector<CacheEntrySet> make_sets();

 private:
  std::uint64_t below(std::uint64_t n) { return chance_.below(n); }
  Duration ms(std::uint64_t most) { return Duration{static_cast<Duration::rep>(below(most + 1))}; }
  CacheSet make_set();
  std::vector<std::string> draw_tags();

  CacheWorkload options_;
  Rng chance_;
  std::uint64_t weight_sum_ = 0;
  std::uint64_t serial_ = 0;
};

}  // namespace workmill::sim
