#include "model/cache.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <thread>

#include "model/cache_memory.h"

namespace workmill {
namespace {

RC_GTEST_PROP(CacheValue, SaysWhatItWasMadeOf, (std::string key, std::string type, std::string body)) {
  RC_PRE(key.size() <= kCacheKeyBytesMax && type.size() <= kCacheContentTypeBytesMax);
  CacheValuePtr const value = CacheValue::make(key, type, body);

  RC_ASSERT(value->key() == key && value->content_type() == type && value->body() == body);
  CacheValuePtr const copy = copy_of(*value);
  RC_ASSERT(copy != value);
  RC_ASSERT(copy->key() == key && copy->content_type() == type && copy->body() == body);
}

TEST(CacheValue, TakesTheLargestOfEverything) {
  std::string const key(kCacheKeyBytesMax, 'k');
  std::string const type(kCacheContentTypeBytesMax, 't');
  std::string const body(kCacheValueBytesMax, 'b');

  CacheValuePtr const value = CacheValue::make(key, type, body);

  EXPECT_EQ(value->key(), key);
  EXPECT_EQ(value->content_type(), type);
  EXPECT_EQ(value->body(), body);
}

TEST(CacheValue, ACommonTypeTakesNoRoom) {
  CacheValuePtr const value = CacheValue::make("k", "application/json", "null");

  EXPECT_EQ(value->content_type(), "application/json");
  EXPECT_EQ(value->allocation_bytes(), 10U + 1 + 4);
}

RC_GTEST_PROP(CacheValue, TakesTheRoomThatIsReckonedForIt, (std::string key, std::string type, std::string body)) {
  RC_PRE(key.size() <= kCacheKeyBytesMax && type.size() <= kCacheContentTypeBytesMax);

  RC_ASSERT(CacheValue::make(key, type, body)->allocation_bytes() == CacheValue::allocation_bytes_of(key, type, body));
}

TEST(CacheValue, AHeadHasAllButTheBody) {
  for (std::size_t const bytes : {std::size_t{0}, std::size_t{1}, kCacheValueBytesMax}) {
    for (std::string const type : {"image/png", "x/y"}) {
      CacheValuePtr const head = CacheValue::make_head("key", type, bytes);
      CacheValuePtr const copy = copy_of(*head);

      for (CacheValuePtr const& one : {head, copy}) {
        EXPECT_FALSE(one->has_body());
        EXPECT_EQ(one->key(), "key");
        EXPECT_EQ(one->content_type(), type);
        EXPECT_EQ(one->body_bytes(), bytes);
        EXPECT_EQ(one->body(), "");
        EXPECT_EQ(one->allocation_bytes(), CacheValue::allocation_bytes_of("key", type, ""));
      }
    }
  }
  EXPECT_TRUE(CacheValue::make("key", "x/y", "")->has_body());
}

TEST(CacheValue, LivesAsLongAsSomebodyPointsAtIt) {
  CacheValuePtr value = CacheValue::make("k", "x/y", "body");
  CacheValuePtr other = value;
  EXPECT_EQ(value, other);
  value = nullptr;
  std::thread reader{[held = other] { EXPECT_EQ(held->body(), "body"); }};
  other = CacheValue::make("k", "x/y", "another");
  reader.join();

  EXPECT_EQ(other->body(), "another");
  EXPECT_FALSE(value);
}

TEST(CacheTimes, TellFreshFromStaleFromOver) {
  CacheTimes const times{
      .stored_at = instant_from_ms(0), .fresh_until = instant_from_ms(10), .stale_until = instant_from_ms(20)};

  EXPECT_TRUE(times.is_fresh(instant_from_ms(9)));
  EXPECT_FALSE(times.is_fresh(instant_from_ms(10)));
  EXPECT_FALSE(times.is_over(instant_from_ms(19)));
  EXPECT_TRUE(times.is_over(instant_from_ms(20)));
}

}  // namespace
}  // namespace workmill
