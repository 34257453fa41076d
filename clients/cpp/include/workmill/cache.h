#pragma once
#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "workmill/error.h"
#include "workmill/jobs.h"
#include "workmill/json.h"
#include "workmill/options.h"

// Values under keys, shared by all clients of a server, which jobs compute where they are missing: Client::cache().
//
//   auto const report = client.cache().get_or_compute("report/7", make_job("report", 7), {.fresh = 5min, .stale = 1h});
//   if (report) show(*report->as<Report>());
//
// A key is any UTF-8 text of 1 to 512 bytes without control characters. A value is JSON or bytes, 8 MiB at most.
namespace workmill::client {

namespace detail {
class Core;
}

// What can be said of a value besides itself. What is left out is as the server has it by default.
struct CacheOptions {
  std::optional<Duration> fresh{};  // Given without further ado for so long; 1 min by default.
  std::optional<Duration> stale{};  // Then for so long more, while one job computes it anew; not at all by default.
  std::vector<std::string> tags{};  // By which it can be forgotten together with others; 20 at most.
  // Empty: application/json, or application/octet-stream for Bytes.
  std::string content_type{};
};

struct ComputeOptions {
  std::optional<Duration> fresh{};  // As in CacheOptions.
  std::optional<Duration> stale{};
  Duration wait{30'000};                // For the job, where the value is missing. 0: not at all.
  std::optional<Duration> error_for{};  // For so long after a failure all get its error, and no further job runs.
  std::vector<std::string> tags{};
};

// A value as it was when it was asked for.
struct CachedValue {
  std::string body{};  // As it is stored.
  std::string content_type{};
  bool fresh = true;           // Else it is stale: given while it is computed anew.
  std::chrono::seconds age{};  // Since it was stored.
  std::string etag{};
  bool computed = false;   // It was missing, and a job has computed it for this call,
  bool collapsed = false;  // which another call had begun.

  // From its JSON; `bad_json` where it has another form. T may be Bytes: the body as it is.
  template <class T>
  Result<T> as() const {
    if constexpr (std::same_as<T, Bytes>)
      return Bytes{body};
    else
      return from_json<T>(body);
  }
};

namespace detail {
struct CacheText {  // A value as it is stored.
  std::string body{};
  std::string content_type{};
};
template <class T>
CacheText cache_text(T const& value, std::string const& content_type) {
  constexpr bool is_bytes = std::same_as<T, Bytes>;
  CacheText text{.content_type = is_bytes ? "application/octet-stream" : "application/json"};
  if (!content_type.empty()) text.content_type = content_type;
  if constexpr (is_bytes)
    text.body = value.data;
  else
    Codec<T>::write(value, text.body);
  return text;
}
}  // namespace detail

// Lent by its client, which must be there while it is used. Any thread, as the client.
class Cache {
 public:
  explicit Cache(detail::Core& core) : core_(&core) {}

  // What is there, fresh or stale; nothing where there is no value.
  Result<std::optional<CachedValue>> get(std::string_view key, CallOptions const& call = {});
  // Durable when it answers, with the value's ETag. Tried again where its answer was lost.
  template <class T>
  Result<std::string> put(std::string_view key, T const& value, CacheOptions const& options = {},
                          CallOptions const& call = {}) {
    return put_text(key, detail::cache_text(value, options.content_type), options, call);
  }
  // What is there; else what the job answers, which is then there for all. However many ask for a key that is missing,
  // one job runs, and all get its result. A stale value is given at once, while one job refreshes it. Restarts of the
  // server change nothing of this: one that is away is asked again until `wait` is over, however many attempts a call
  // has.
  //
  // `cache_pending`, class retryable: the job is not done after `wait`; `detail` is {"job_id": …, "state": …}. It runs
  // on, and its result will be there. `compute_failed`, class of the job's error: it failed for good, and no stale
  // value is left. That is not tried again here, as the job has been.
  Result<CachedValue> get_or_compute(std::string_view key, NewJob const& job, ComputeOptions const& options = {},
                                     CallOptions const& call = {});
  // Forgets the value. False: there was none. True also where nobody can tell, as the answer of an attempt was lost.
  Result<bool> remove(std::string_view key, CallOptions const& call = {});
  // Forget all with this tag, or whose keys begin so; how many those were.
  Result<std::uint64_t> remove_by_tag(std::string_view tag, CallOptions const& call = {});
  Result<std::uint64_t> remove_by_prefix(std::string_view prefix, CallOptions const& call = {});

 private:
  Result<std::string> put_text(std::string_view key, detail::CacheText value, CacheOptions const& options,
                               CallOptions const& call);
  detail::Core* core_;
};

}  // namespace workmill::client
