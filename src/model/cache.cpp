#include "model/cache.h"

#include <array>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "base/block_pool.h"
#include "model/cache_memory.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WM_EACH_BY_ITSELF
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define WM_EACH_BY_ITSELF
#endif

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

#ifdef WM_EACH_BY_ITSELF
constexpr bool kPooled = false;  // So that the sanitizer sees who uses a value that was freed.
#else
constexpr bool kPooled = true;
#endif

// Never destroyed: a value may be freed when the program ends.
BlockPool& blocks() {
  static BlockPool& pool = *new BlockPool;
  return pool;
}
// As long as the class at least, which ends in padding that the bytes use.
constexpr std::size_t block_bytes(std::size_t allocation_bytes) {
  return allocation_bytes < sizeof(CacheValue) ? sizeof(CacheValue) : allocation_bytes;
}
bool is_pooled(std::size_t bytes) { return kPooled && bytes <= BlockPool::kBlockBytesMax; }

// From 1; 0: it is none of the common ones.
std::uint32_t number_of_type(BytesView content_type) {
  for (std::uint32_t i = 0; i < kCommonTypes.size(); ++i) {
    if (kCommonTypes[i] == content_type) return i + 1;
  }
  return 0;
}
// Behind the key, of a type that has no number.
std::size_t inline_bytes_of_type(std::uint32_t number, BytesView content_type) {
  return number != 0 ? 0 : 1 + content_type.size();
}

}  // namespace

std::size_t CacheValue::allocation_bytes_of(BytesView key, BytesView content_type, BytesView body) {
  return kHeaderBytes + key.size() + inline_bytes_of_type(number_of_type(content_type), content_type) + body.size();
}

CacheValuePtr CacheValue::make(BytesView key, BytesView content_type, BytesView body) {
  return make(key, content_type, body, std::nullopt);
}

CacheValuePtr CacheValue::make_head(BytesView key, BytesView content_type, std::size_t body_bytes) {
  return make(key, content_type, {}, body_bytes);
}

// `elsewhere`: so many bytes of a body that is not here.
CacheValuePtr CacheValue::make(BytesView key, BytesView content_type, BytesView body,
                               std::optional<std::size_t> elsewhere) {
  std::size_t const body_bytes = elsewhere.value_or(body.size());
  WM_ASSERT(key.size() <= kCacheKeyBytesMax && content_type.size() <= kCacheContentTypeBytesMax &&
            body_bytes <= kCacheValueBytesMax);
  std::uint32_t const type = number_of_type(content_type);
  std::size_t const type_bytes = inline_bytes_of_type(type, content_type);
  std::size_t const bytes = block_bytes(kHeaderBytes + key.size() + type_bytes + body.size());
  void* const memory = is_pooled(bytes) ? blocks().take(bytes) : ::operator new(bytes);
  auto* const value = new (memory) CacheValue;
  value->body_bytes_ = static_cast<std::uint32_t>(body_bytes) & 0xff'ffff;
  value->type_ = type & 0xff;
  value->key_bytes_ = static_cast<std::uint16_t>(key.size()) & 0x7fff;
  value->is_head_ = elsewhere ? 1 : 0;
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
  std::size_t const bytes = block_bytes(value->allocation_bytes());
  value->~CacheValue();
  if (is_pooled(bytes)) {
    blocks().give(value, bytes);
  } else {
    ::operator delete(value);
  }
}

bool should_cache_values_move() { return blocks().is_scattered(); }
bool should_move(CacheValue const& value) {
  return is_pooled(block_bytes(value.allocation_bytes())) && blocks().should_move(&value);
}
CacheValuePtr copy_of(CacheValue const& value) {
  if (!value.has_body()) return CacheValue::make_head(value.key(), value.content_type(), value.body_bytes());
  return CacheValue::make(value.key(), value.content_type(), value.body());
}

CacheValueMemory cache_value_memory() {
  BlockPool::Figures const figures = blocks().figures();
  return {.held_bytes = figures.held_bytes, .lost_bytes = figures.held_bytes - figures.used_bytes};
}

}  // namespace workmill
