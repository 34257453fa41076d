#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "workmill/cache.h"
#include "workmill/task.h"

namespace workmill::client {

// None said; see default_call().
inline CacheOptions const& default_cache() {
  static CacheOptions const options;
  return options;
}
inline ComputeOptions const& default_compute() {
  static ComputeOptions const options;
  return options;
}

// The cache for coroutines and callbacks: AsyncClient::cache(). Each call as in Cache. Lent by its client.
class AsyncCache {
 public:
  using Executor = std::function<void(std::move_only_function<void()>)>;
  AsyncCache(detail::Core& core, Executor executor) : core_(&core), executor_(std::move(executor)) {}

  Async<std::optional<CachedValue>> get(std::string_view key, CallOptions const& call = default_call());
  template <class T>
  Async<std::string> put(std::string_view key, T const& value, CacheOptions const& options = default_cache(),
                         CallOptions const& call = default_call()) {
    return put_text(key, detail::cache_text(value, options.content_type), options, call);
  }
  Async<CachedValue> get_or_compute(std::string_view key, NewJob const& job,
                                    ComputeOptions const& options = default_compute(),
                                    CallOptions const& call = default_call());
  Async<bool> remove(std::string_view key, CallOptions const& call = default_call());
  Async<std::uint64_t> remove_by_tag(std::string_view tag, CallOptions const& call = default_call());
  Async<std::uint64_t> remove_by_prefix(std::string_view prefix, CallOptions const& call = default_call());

 private:
  Async<std::string> put_text(std::string_view key, detail::CacheText value, CacheOptions const& options,
                              CallOptions const& call);
  detail::Core* core_;
  Executor executor_;
};

}  // namespace workmill::client
