#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "model/cache.h"

// What somebody asks to be kept in the shared cache, and the rules for it. Values and pure functions.
namespace workmill {

// What somebody wants to be kept.
struct CacheSet {
  Bytes content_type{};
  Bytes body{};
  Duration fresh{};  // Counted from when it is stored.
  Duration stale{};  // On top of `fresh`.
  std::vector<std::string> tags{};
};
struct CacheEntrySet {
  std::string key{};
  CacheSet set{};
};

// 1 to kCacheKeyBytesMax bytes of UTF-8 without control characters.
bool is_cache_key(std::string_view text);
// What may stand in a Content-Type header: 1 to kCacheContentTypeBytesMax visible ASCII characters and spaces.
bool is_cache_content_type(std::string_view text);
// invalid_field with `fresh` or `stale` where a window is negative or both are longer than kCacheWindowMax.
Result<> check_cache_windows(Duration fresh, Duration stale);
// All rules of a set but the key's. invalid_field with the name of the field (`fresh`, `tags[3]`, `content_type`), or
// payload_too_large with `value`.
Result<> check_cache_set(CacheSet const& set);

// Does `key` begin with one of these? An empty prefix is one of every key.
bool begins_with_any(std::string_view key, std::vector<std::string> const& prefixes);

// The most that a value's record takes in the log, within kCacheRecordExtraBytes: what the budget of the disk counts.
inline constexpr std::uint64_t kCacheRecordExtraBytes = 64;
std::uint64_t cache_record_bytes_max(std::string_view key, std::string_view content_type, BytesView body,
                                     BytesView encoded_tags);

// XXH3, 64 bits, of both: the same value has the same everywhere and for ever.
std::uint64_t cache_etag(std::string_view content_type, BytesView body);

// Tags as they stand in a record (docs/log-records.md). What was encoded reads back; views borrow from `in`.
void encode_cache_tags(std::vector<std::string_view> const& tags, Bytes& out);
void encode_cache_tags(std::vector<std::string> const& tags, Bytes& out);
// Appends them to `tags`. False where `in` is no such list.
bool decode_cache_tags(BytesView in, std::vector<std::string_view>& tags);
// Is it one of them? False where `in` is no such list.
bool has_cache_tag(BytesView in, std::string_view tag);

}  // namespace workmill
