#include "model/cache_set.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "model/ids.h"

namespace workmill {
namespace {

auto bad_set(std::string field, std::string message) {
  return fail_field(ErrorCode::invalid_field, std::move(field), std::move(message));
}

void append_tags(auto const& tags, Bytes& out) {
  ByteWriter writer{out};
  for (auto const& tag : tags) writer.bytes(tag);
}

}  // namespace

bool is_cache_key(std::string_view text) {
  return !text.empty() && text.size() <= kCacheKeyBytesMax && is_printable_utf8(text);
}

bool is_cache_content_type(std::string_view text) {
  return !text.empty() && text.size() <= kCacheContentTypeBytesMax && text.front() != ' ' && text.back() != ' ' &&
         std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

Result<> check_cache_windows(Duration fresh, Duration stale) {
  if (fresh < Duration{0} || fresh > kCacheWindowMax) return bad_set("fresh", "must be from 0s to 365d");
  if (stale < Duration{0} || stale > kCacheWindowMax - fresh) {
    return bad_set("stale", "must not be negative, and with fresh not be longer than 365d");
  }
  return {};
}

Result<> check_cache_set(CacheSet const& set) {
  if (set.body.size() > kCacheValueBytesMax) {
    return fail_field(ErrorCode::payload_too_large, "value",
                      "must be " + std::to_string(kCacheValueBytesMax) + " bytes at most");
  }
  if (!is_cache_content_type(set.content_type)) {
    return bad_set("content_type",
                   "must be 1 to " + std::to_string(kCacheContentTypeBytesMax) + " visible ASCII characters");
  }
  WM_TRY_VOID(check_cache_windows(set.fresh, set.stale));
  if (set.tags.size() > kCacheTagsMax) return bad_set("tags", "must be " + std::to_string(kCacheTagsMax) + " at most");
  for (std::size_t i = 0; i < set.tags.size(); ++i) {
    if (is_name(set.tags[i])) continue;
    return bad_set("tags[" + std::to_string(i) + "]", "must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -");
  }
  return {};
}

bool begins_with_any(std::string_view key, std::vector<std::string> const& prefixes) {
  return std::ranges::any_of(prefixes, [key](std::string const& prefix) { return key.starts_with(prefix); });
}

std::uint64_t cache_record_bytes_max(std::string_view key, std::string_view content_type, BytesView body,
                                     BytesView encoded_tags) {
  return kCacheRecordExtraBytes + key.size() + content_type.size() + body.size() + encoded_tags.size();
}

std::uint64_t cache_etag(std::string_view content_type, BytesView body) {
  std::uint64_t const seed = XXH3_64bits(content_type.data(), content_type.size());
  return XXH3_64bits_withSeed(body.data(), body.size(), seed);
}

void encode_cache_tags(std::vector<std::string_view> const& tags, Bytes& out) { append_tags(tags, out); }
void encode_cache_tags(std::vector<std::string> const& tags, Bytes& out) { append_tags(tags, out); }

bool decode_cache_tags(BytesView in, std::vector<std::string_view>& tags) {
  ByteReader reader{in};
  while (reader.ok() && reader.remaining() > 0) tags.push_back(reader.bytes());
  return reader.ok();
}

bool has_cache_tag(BytesView in, std::string_view tag) {
  std::vector<std::string_view> tags;
  return decode_cache_tags(in, tags) && std::ranges::find(tags, tag) != tags.end();
}

}  // namespace workmill
