#include "model/cache.h"

#include <array>
#include <cstring>
#include <new>

#include "base/assert.h"

namespace workmill {
namespace {

// Which values name by a number. They live in one process, so the order is free to change.
constexpr std::array<std::string_view, 14> kCommonTypes{
    "",
    "application/json",
    "application/octet-stream",
    "application/json; charset=utf-8",
    "application/xml",
    "application/pdf",
    "text/plain",
    "text/plain; charset=utf-8",
    "text/html",
    "text/html; charset=utf-8",
    "text/csv",
    "image/png",
    "image/jpeg",
    "image/webp",
};

}  // namespace

CacheValuePtr CacheValue::make(BytesView key, BytesView content_type, BytesView body) {
  WM_ASSERT(key.size() <= kCacheKeyBytesMax && content_type.size() <= kCacheContentTypeBytesMax &&
            body.size() <= kCacheValueBytesMax);
  std::uint32_t type = 0;
  for (std::uint32_t i = 0; i < kCommonTypes.size() && type == 0; ++i) {
    if (kCommonTypes[i] == content_type) type = i + 1;
  }
  std::size_t const type_bytes = type != 0 ? 0 : 1 + content_type.size();
  // As long as the class at least, which ends in padding that the bytes use.
  std::size_t const bytes = kHeaderBytes + key.size() + type_bytes + body.size();
  void* const memory = ::operator new(bytes < sizeof(CacheValue) ? sizeof(CacheValue) : bytes);
  auto* const value = new (memory) CacheValue;
  value->body_bytes_ = static_cast<std::uint32_t>(body.size()) & 0xff'ffff;
  value->type_ = type & 0xff;
  value->key_bytes_ = static_cast<std::uint16_t>(key.size());
  char* at = static_cast<char*>(memory) + kHeaderBytes;
  auto const append = [&at](BytesView bytes_of) {
    if (!bytes_of.empty()) std::memcpy(at, bytes_of.data(), bytes_of.size());
    at += bytes_of.size();
  };
  append(key);
  if (type == 0) {
    *at++ = static_cast<char>(content_type.size());
    append(content_type);
  }
  append(body);
  return CacheValuePtr{value};
}

BytesView CacheValue::content_type() const {
  if (type_ != 0) return kCommonTypes[type_ - 1];
  return {data() + key_bytes_ + 1, inline_type_bytes() - 1};
}

void CacheValue::destroy(CacheValue* value) {
  value->~CacheValue();
  ::operator delete(value);
}

}  // namespace workmill
