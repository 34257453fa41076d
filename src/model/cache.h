#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"

// The words of the shared cache: a value, its times, and a failure that is remembered instead of one. Values only.
namespace workmill {

inline constexpr std::size_t kCacheKeyBytesMax = 512;  // UTF-8 without control characters, 1 byte at least.
inline constexpr std::size_t kCacheValueBytesMax = std::size_t{8} << 20;
inline constexpr std::size_t kCacheContentTypeBytesMax = 255;
inline constexpr std::size_t kCacheTagsMax = 20;            // Names, as those of queues.
inline constexpr std::size_t kCacheSetsPerReportMax = 100;  // Entries of a report's `cache`.
inline constexpr Duration kCacheErrorForMax = std::chrono::hours{24};
inline constexpr Duration kCacheWindowMax = std::chrono::days{365};  // Fresh and stale together.

class CacheValue;

// Shares a value that never changes: readers on other threads outlive its eviction. As a std::shared_ptr<T const>, but
// it counts in the value, so that a value costs 10 bytes and one allocation beyond its bytes, and not 80.
class CacheValuePtr {
 public:
  CacheValuePtr() = default;
  CacheValuePtr(std::nullptr_t) {}  // As of other pointers: `return nullptr`.
  CacheValuePtr(CacheValuePtr const& other) : value_(other.value_) { take(); }
  CacheValuePtr(CacheValuePtr&& other) noexcept : value_(std::exchange(other.value_, nullptr)) {}
  CacheValuePtr& operator=(CacheValuePtr other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~CacheValuePtr() { give(); }

  CacheValue const* get() const { return value_; }
  CacheValue const* operator->() const { return value_; }
  CacheValue const& operator*() const { return *value_; }
  explicit operator bool() const { return value_ != nullptr; }
  bool operator==(CacheValuePtr const&) const = default;  // The same value, not an equal one.

 private:
  friend class CacheValue;
  explicit CacheValuePtr(CacheValue* value) : value_(value) {}
  inline void take() const;
  inline void give();

  CacheValue* value_ = nullptr;
};

// A value with its content type and the key that it is of, in one allocation. The key is in here because whoever keeps
// a value by its key would have to keep that too, in an allocation more. Made by make(), freed by its last pointer; any
// thread may read.
class CacheValue {
 public:
  // At most kCacheKeyBytesMax, kCacheContentTypeBytesMax and kCacheValueBytesMax bytes.
  static CacheValuePtr make(BytesView key, BytesView content_type, BytesView body);
  // One without its body, which is elsewhere and so long: all of a value that its readers need not read it for.
  static CacheValuePtr make_head(BytesView key, BytesView content_type, std::size_t body_bytes);

  BytesView key() const { return {data(), key_bytes_}; }
  BytesView content_type() const;
  bool has_body() const { return is_head_ == 0; }
  std::size_t body_bytes() const { return body_bytes_; }  // Also of one without it.
  // Empty of one without it.
  BytesView body() const { return {data() + key_bytes_ + inline_type_bytes(), own_body_bytes()}; }
  // Of the allocation, as asked for.
  std::size_t allocation_bytes() const { return kHeaderBytes + key_bytes_ + inline_type_bytes() + own_body_bytes(); }
  // Of what make() would make of these.
  static std::size_t allocation_bytes_of(BytesView key, BytesView content_type, BytesView body);

  CacheValue(CacheValue const&) = delete;
  CacheValue& operator=(CacheValue const&) = delete;

 private:
  friend class CacheValuePtr;
  static constexpr std::size_t kHeaderBytes = 10;  // What follows begins in the padding of this class.

  CacheValue() = default;
  char const* data() const { return reinterpret_cast<char const*>(this) + kHeaderBytes; }
  // A type that is not in the table of common ones: a byte of its length, and itself, behind the key.
  std::size_t inline_type_bytes() const {
    return type_ != 0 ? 0 : 1 + std::size_t{static_cast<unsigned char>(data()[key_bytes_])};
  }
  std::size_t own_body_bytes() const { return has_body() ? body_bytes_ : 0; }
  static CacheValuePtr make(BytesView key, BytesView content_type, BytesView body,
                            std::optional<std::size_t> elsewhere);
  static void destroy(CacheValue* value);

  std::atomic<std::uint32_t> pointers_{1};
  std::uint32_t body_bytes_ : 24 = 0;
  std::uint32_t type_ : 8 = 0;  // In the table of common content types, from 1; 0: inline.
  std::uint16_t key_bytes_ : 15 = 0;
  std::uint16_t is_head_ : 1 = 0;
};

inline void CacheValuePtr::take() const {
  if (value_ != nullptr) value_->pointers_.fetch_add(1, std::memory_order_relaxed);
}
inline void CacheValuePtr::give() {
  if (value_ != nullptr && value_->pointers_.fetch_sub(1, std::memory_order_acq_rel) == 1) CacheValue::destroy(value_);
}

struct CacheTimes {
  Instant stored_at{};
  Instant fresh_until{};    // Not before stored_at.
  Instant stale_until{};    // Not before fresh_until. From here on the value is never served.
  Duration compute_time{};  // How long its job ran; 0: no job computed it.
  std::uint64_t etag = 0;   // XXH3-64 of content type and body.

  bool operator==(CacheTimes const&) const = default;

  bool is_fresh(Instant now) const { return now < fresh_until; }
  bool is_over(Instant now) const { return now >= stale_until; }
};

// That the job of a key became dead, remembered until then.
struct CacheFailure {
  ErrorClass error_class{};
  Bytes code{};  // Of the job's error, as its message.
  Bytes message{};
  Instant until{};

  bool operator==(CacheFailure const&) const = default;
};

}  // namespace workmill
