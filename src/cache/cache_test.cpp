#include "cache/cache.h"

#include <gtest/gtest.h>

namespace workmill::cache {
namespace {

constexpr Instant kNow = instant_from_ms(1'700'000'000'000);

TEST(Cache, FindsWhatWasPut) {
  Cache cache{{}};
  cache.put("k", CacheValue::make("k", "text/plain", "body"),
            {.stored_at = kNow, .fresh_until = kNow + Duration{10}, .stale_until = kNow + Duration{20}, .etag = 7}, {},
            {});

  Lookup const found = cache.find("k", kNow);

  ASSERT_EQ(found.what, Lookup::What::value);
  EXPECT_EQ(found.value->body(), "body");
  EXPECT_EQ(cache.check_invariants(), "");
}

}  // namespace
}  // namespace workmill::cache
