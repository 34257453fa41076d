#include "model/cache_set.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace workmill {
namespace {

std::string field_at_fault(void (*change)(CacheSet&)) {
  CacheSet set{.content_type = "text/plain", .body = "x", .fresh = std::chrono::minutes{1}};
  change(set);
  auto const result = check_cache_set(set);
  return result ? "none" : result.error().field;
}

TEST(CacheKey, IsTextWithoutControlCharacters) {
  EXPECT_TRUE(is_cache_key("user:1/profile page?x=\xc3\xbc"));
  EXPECT_TRUE(is_cache_key(std::string(kCacheKeyBytesMax, 'k')));
  EXPECT_FALSE(is_cache_key(""));
  EXPECT_FALSE(is_cache_key(std::string(kCacheKeyBytesMax + 1, 'k')));
  EXPECT_FALSE(is_cache_key("a\tb"));
  EXPECT_FALSE(is_cache_key("a\xff"));
}

TEST(CacheContentType, IsWhatAHeaderCanHold) {
  EXPECT_TRUE(is_cache_content_type("text/html; charset=utf-8"));
  EXPECT_FALSE(is_cache_content_type(""));
  EXPECT_FALSE(is_cache_content_type(" text/html"));
  EXPECT_FALSE(is_cache_content_type("text/html\r\nX: y"));
  EXPECT_FALSE(is_cache_content_type(std::string(kCacheContentTypeBytesMax + 1, 'a')));
}

TEST(CacheSet, NamesTheFieldThatBreaksARule) {
  EXPECT_EQ(field_at_fault([](CacheSet&) {}), "none");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.fresh = set.stale = Duration{0}; }), "none");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.body.assign(kCacheValueBytesMax + 1, 'x'); }), "value");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.content_type = "\n"; }), "content_type");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.fresh = Duration{-1}; }), "fresh");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.fresh = kCacheWindowMax + Duration{1}; }), "fresh");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.stale = kCacheWindowMax; }), "stale");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.tags.assign(kCacheTagsMax + 1, "t"); }), "tags");
  EXPECT_EQ(field_at_fault([](CacheSet& set) { set.tags = {"a", ""}; }), "tags[1]");
}

TEST(CacheEtag, DependsOnTheBodyAndOnItsType) {
  EXPECT_EQ(cache_etag("text/plain", "a"), cache_etag("text/plain", "a"));
  EXPECT_NE(cache_etag("text/plain", "a"), cache_etag("text/plain", "b"));
  EXPECT_NE(cache_etag("text/plain", "a"), cache_etag("text/html", "a"));
  EXPECT_EQ(cache_etag("application/json", "null"), 0xaa0a32368a8e837dU);  // It stands in logs.
}

TEST(CacheTags, ReadBackAsTheyWere) {
  Bytes bytes;
  encode_cache_tags(std::vector<std::string>{"a", "bc"}, bytes);
  std::vector<std::string_view> tags;

  EXPECT_TRUE(decode_cache_tags(bytes, tags));

  EXPECT_EQ(tags, (std::vector<std::string_view>{"a", "bc"}));
  bytes.pop_back();
  EXPECT_FALSE(decode_cache_tags(bytes, tags));
}

}  // namespace
}  // namespace workmill
