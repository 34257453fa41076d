#include "shard/cache_replay.h"

#include <gtest/gtest.h>

namespace workmill::shard {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

TEST(CacheReplay, AFailureThatIsOverEndsTheOneBeforeItToo) {
  Instant const now = instant_from_ms(1'800'000'000'000);
  cache::Cache cache{{}};
  std::vector<std::string> const none;
  CacheReplay replay{cache, none, now};
  auto const failed = [&](Instant until, std::uint32_t offset) {
    Effect const effect = effect::CacheFailed{.key = "k", .code = "broken", .until = until};
    replay.replay(effect, {.at = {.segment = 1, .offset = offset}, .bytes = 20});
  };

  failed(now + hours{1}, 100);
  failed(now - seconds{1}, 200);
  replay.finish();

  EXPECT_EQ(cache.find("k", now).what, cache::Lookup::What::absent);
}

}  // namespace
}  // namespace workmill::shard
