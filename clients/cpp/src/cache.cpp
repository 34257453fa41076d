#include "workmill/cache.h"

#include <charconv>
#include <memory>

#include "operation.h"
#include "patience.h"
#include "text.h"
#include "wire.h"
#include "workmill/async_cache.h"

// The caches of both clients.
namespace workmill::client {
namespace detail {
namespace {

using Op = CallOptions const&;

std::string cache_target(std::string_view key) { return "/v1/cache/" + url_encoded(key); }

bool is_miss(Error const& error) { return error.code == "cache_miss"; }

std::string_view unquoted(std::string_view etag) {
  return etag.size() >= 2 && etag.front() == '"' && etag.back() == '"' ? etag.substr(1, etag.size() - 2) : etag;
}

// ---- Answers

// What Cache-Status says (RFC 9211): the cache's name, and parameters.
struct CacheStatus {
  bool hit = false;
  bool collapsed = false;
  std::int64_t ttl = 0;
};
CacheStatus parse_status(std::string_view text) {
  CacheStatus status;
  while (!text.empty()) {
    std::size_t const end = std::min(text.find(';'), text.size());
    std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    part.remove_prefix(std::min(part.find_first_not_of(' '), part.size()));
    if (part == "hit") status.hit = true;
    if (part == "collapsed") status.collapsed = true;
    if (part.starts_with("ttl=")) std::from_chars(part.data() + 4, part.data() + part.size(), status.ttl);
  }
  return status;
}

Result<CachedValue> read_value(Result<Response> answer) {
  if (!answer) return std::unexpected(std::move(answer).error());
  if (answer->cache_status.empty()) return not_ours("no Cache-Status");
  CacheStatus const status = parse_status(answer->cache_status);
  return CachedValue{.body = std::move(answer->body),
                     .content_type = std::move(answer->content_type),
                     .fresh = !status.hit || status.ttl >= 0,
                     .age = std::chrono::seconds{answer->age},
                     .etag = std::string{unquoted(answer->etag)},
                     .computed = !status.hit,
                     .collapsed = status.collapsed};
}

Result<std::optional<CachedValue>> read_found(Result<Response> answer) {
  if (!answer && is_miss(answer.error())) return std::nullopt;
  auto value = read_value(std::move(answer));
  if (!value) return std::unexpected(std::move(value).error());
  return std::optional{*std::move(value)};
}

Result<std::string> read_etag(Result<Response> answer) {
  if (!answer) return std::unexpected(std::move(answer).error());
  return std::string{unquoted(answer->etag)};
}

Result<bool> read_removed(Result<Response> answer) {
  if (answer) return true;
  if (is_miss(answer.error())) return false;
  return std::unexpected(std::move(answer).error());
}

// A value, or the job that computes it, as the error that is told where nobody waits any longer.
struct Computed {
  std::optional<CachedValue> value{};
  Error pending{};
};
Result<Computed> read_computed(Result<Response> answer) {
  if (!answer || answer->status != 202) {
    auto value = read_value(std::move(answer));
    if (!value) return std::unexpected(std::move(value).error());
    return Computed{.value = *std::move(value)};
  }
  auto const json = Json::parse(answer->body);
  if (!json || json->text("job_id").empty()) return not_ours("no job_id");
  Json const about{
      Json::Object{{"job_id", std::string{json->text("job_id")}}, {"state", std::string{json->text("state")}}}};
  return Computed{.pending = {.code = "cache_pending",
                              .error_class = ErrorClass::retryable,
                              .message = "the job " + std::string{json->text("job_id")} +
                                         ", which computes the value, is " + std::string{json->text("state")},
                              .may_have_happened = true,  // It is there.
                              .detail = about.dump()}};
}

// ---- Questions

Operation<std::optional<CachedValue>> op_get(Core const& core, std::string_view key, Op call) {
  return {make_call(core, "GET", cache_target(key), {}, true, call), read_found};
}

Operation<std::string> op_put(Core const& core, std::string_view key, CacheText value, CacheOptions const& options,
                              Op call) {
  std::string target = cache_target(key);
  char mark = '?';
  auto const add = [&](std::string_view name, std::string_view text) {
    target.append(1, std::exchange(mark, '&')).append(name).append("=").append(url_encoded(text));
  };
  if (options.fresh) add("fresh", format_duration(*options.fresh));
  if (options.stale) add("stale", format_duration(*options.stale));
  std::string tags;
  for (std::string const& tag : options.tags) tags.append(tags.empty() ? "" : ",").append(tag);
  if (!tags.empty()) add("tags", tags);
  auto made = make_call(core, "PUT", std::move(target), std::move(value.body), true, call);
  made.request.content_type = std::move(value.content_type);
  return {std::move(made), read_etag};
}

Operation<bool> op_forget_key(Core const& core, std::string_view key, Op call) {
  return {make_call(core, "DELETE", cache_target(key), {}, true, call), read_removed};
}

Operation<std::uint64_t> op_remove_by(Core const& core, std::string_view what, std::string_view text, Op call) {
  std::string target = "/v1/cache?" + std::string{what} + "=" + url_encoded(text);
  return {make_call(core, "DELETE", std::move(target), {}, true, call), of_body<read_count>};
}

// All of a get-or-compute but the last member, `wait`, which differs from part to part: `{"job":…,"fresh":…`.
Call make_compute(Core const& core, std::string_view key, NewJob const& job, ComputeOptions const& options, Op call) {
  std::string body = "{\"job\":";
  auto const written = write_hooked(core, job, body);
  auto const add = [&](std::string_view name, std::optional<Duration> value) {
    if (value) body.append(",\"").append(name).append("\":\"").append(format_duration(*value)).append("\"");
  };
  add("fresh", options.fresh);
  add("stale", options.stale);
  add("error_for", options.error_for);
  if (!options.tags.empty()) {
    body.append(",\"tags\":");
    Codec<std::vector<std::string>>::write(options.tags, body);
  }
  auto made = make_call(core, "POST", cache_target(key), std::move(body), true, call);
  if (!written) made.refused = written.error();
  return made;
}

// A get-or-compute in parts: what is asked next, and whether there is a next.
class ComputeParts {
 public:
  // On the thread of who waits: the trace is asked for here, and no more by the later parts.
  ComputeParts(Core& core, std::string_view key, NewJob const& job, ComputeOptions const& options, Op call)
      : call_(make_compute(core, key, job, options, call)),
        patience_(core, "waiting for what is cached at " + call_.request.target, options.wait, call_.give_up_at) {}

  Operation<Computed> next() {
    Duration const part = patience_.next_part();
    Call made = call_;
    made.request.body.append(",\"wait\":\"" + format_duration(part) + "\"}");
    hold(made, part);
    patience_.ready(made);
    return {std::move(made), read_computed};
  }
  // What the caller is told; nothing where there is a next part. Where the wait ends while the server is away, it is
  // the job as it was seen last.
  std::optional<Result<CachedValue>> after(Result<Computed> answer) {
    if (call_.refused) return std::unexpected(*call_.refused);
    if (!answer) {
      auto const next = patience_.after_error(answer.error(), pending_.has_value());
      if (next == Patience::Next::ask) return std::nullopt;
      if (next == Patience::Next::over && pending_) return std::unexpected(*pending_);
      if (pending_) answer.error().may_have_happened = true;  // Its job was there.
      return std::unexpected(std::move(answer).error());
    }
    auto [value, pending] = *std::move(answer);
    if (value) return *std::move(value);
    if (patience_.after_answer() == Patience::Next::over) return std::unexpected(std::move(pending));
    pending_ = std::move(pending);
    return std::nullopt;
  }

 private:
  Call const call_;  // Of each part, but for how long it waits.
  Patience patience_;
  std::optional<Error> pending_{};
};

// One that is under way. Each part's answer starts the next; the callbacks own it.
struct Computing : std::enable_shared_from_this<Computing> {
  Computing(Core& in, std::string_view key, NewJob const& job, ComputeOptions const& options, CallOptions const& how)
      : core(in), parts(in, key, job, options, how), stopper(in, how.stop) {}
  Core& core;
  ComputeParts parts;
  Stopper stopper;
  std::move_only_function<void(Result<CachedValue>)> done;

  void next() {
    stopper.set(core.start(parts.next().call, [self = shared_from_this()](Result<Response> answer) {
      auto value = self->parts.after(read_computed(std::move(answer)));
      if (value) return self->done(*std::move(value));
      self->next();
    }));
  }
};

// As the server has them.
constexpr std::size_t kKeyBytesMax = 512;
constexpr std::size_t kContentTypeBytesMax = 255;
constexpr std::size_t kTagsMax = 20;
constexpr Duration kWindowMax = std::chrono::days{365};  // Fresh and stale together.

std::unexpected<Error> bad_entry(std::string field, std::string message) {
  auto error = fail(ErrorClass::user, "invalid_field", std::move(message));
  error.error().field = std::move(field);
  return error;
}

}  // namespace

Result<> check_cache_entry(std::string_view key, CacheText const& value, bool is_json, CacheOptions const& options) {
  if (key.empty() || key.size() > kKeyBytesMax || !is_printable_utf8(key)) {
    return bad_entry("key", "must be 1 to 512 bytes of UTF-8 without control characters");
  }
  std::string_view const type = value.content_type;
  if (type.empty() || type.size() > kContentTypeBytesMax || !is_printable_ascii(type) || type.front() == ' ' ||
      type.back() == ' ') {
    return bad_entry("content_type", "must be 1 to 255 visible ASCII characters and spaces");
  }
  Duration const fresh = options.fresh.value_or(std::chrono::minutes{1});  // As the server has it.
  Duration const stale = options.stale.value_or(Duration{0});
  if (fresh > kWindowMax) return bad_entry("fresh", "must be from 0s to 365d");
  if (stale > kWindowMax - std::max(Duration{0}, fresh)) {
    return bad_entry("stale", "must not be longer than 365d with fresh");
  }
  if (options.tags.size() > kTagsMax) return bad_entry("tags", "must be 20 at most");
  for (std::size_t i = 0; i < options.tags.size(); ++i) {
    if (is_name(options.tags[i])) continue;
    return bad_entry("tags[" + std::to_string(i) + "]", "must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -");
  }
  if (is_json && options.content_type.empty()) {
    if (auto good = check_json(value.body); !good) return std::unexpected(in_field(std::move(good).error(), "value"));
  }
  return {};
}

std::string cache_entry(std::string_view key, CacheText const& value, bool is_json, CacheOptions const& options) {
  std::string out = "{\"key\":";
  write_json_string(key, out);
  auto const add = [&](std::string_view name, std::optional<Duration> window) {
    if (window) out.append(",\"").append(name).append("\":\"").append(format_duration(*window)).append("\"");
  };
  add("fresh", options.fresh);
  add("stale", options.stale);
  if (!options.tags.empty()) {
    out.append(",\"tags\":");
    Codec<std::vector<std::string>>::write(options.tags, out);
  }
  if (is_json && options.content_type.empty()) {
    out.append(",\"value\":").append(value.body);
  } else {
    out.append(",\"content_type\":");
    write_json_string(value.content_type, out);
    out.append(",\"value_base64\":\"").append(encode_base64(value.body)).append("\"");
  }
  out.push_back('}');
  return out;
}

}  // namespace detail

using namespace detail;  // NOLINT(google-build-using-namespace): this file is theirs.

// ---- Cache

Result<std::optional<CachedValue>> Cache::get(std::string_view key, Op call) {
  return run(*core_, op_get(*core_, key, call), call);
}
Result<std::string> Cache::put_text(std::string_view key, CacheText value, CacheOptions const& options, Op call) {
  return run(*core_, op_put(*core_, key, std::move(value), options, call), call);
}
Result<CachedValue> Cache::get_or_compute(std::string_view key, NewJob const& job, ComputeOptions const& options,
                                          Op call) {
  ComputeParts parts{*core_, key, job, options, call};
  for (;;) {
    if (auto value = parts.after(run(*core_, parts.next(), call))) return *std::move(value);
  }
}
Result<bool> Cache::remove(std::string_view key, Op call) {
  return run(*core_, op_forget_key(*core_, key, call), call);
}
Result<std::uint64_t> Cache::remove_by_tag(std::string_view tag, Op call) {
  return run(*core_, op_remove_by(*core_, "tag", tag, call), call);
}
Result<std::uint64_t> Cache::remove_by_prefix(std::string_view prefix, Op call) {
  return run(*core_, op_remove_by(*core_, "prefix", prefix, call), call);
}

// ---- AsyncCache

Async<std::optional<CachedValue>> AsyncCache::get(std::string_view key, Op call) {
  return start(*core_, executor_, op_get(*core_, key, call), call);
}
Async<std::string> AsyncCache::put_text(std::string_view key, CacheText value, CacheOptions const& options, Op call) {
  return start(*core_, executor_, op_put(*core_, key, std::move(value), options, call), call);
}
Async<CachedValue> AsyncCache::get_or_compute(std::string_view key, NewJob const& job, ComputeOptions const& options,
                                              Op call) {
  auto state = std::make_shared<Async<CachedValue>::State>();
  auto computing = std::make_shared<Computing>(*core_, key, job, options, call);
  computing->done = [state, executor = executor_](Result<CachedValue> value) {
    deliver<CachedValue>(executor, state, std::move(value));
  };
  computing->next();
  return Async<CachedValue>{std::move(state), [weak = std::weak_ptr{computing}] {
                              if (auto const shared = weak.lock()) shared->stopper.stop();
                            }};
}
Async<bool> AsyncCache::remove(std::string_view key, Op call) {
  return start(*core_, executor_, op_forget_key(*core_, key, call), call);
}
Async<std::uint64_t> AsyncCache::remove_by_tag(std::string_view tag, Op call) {
  return start(*core_, executor_, op_remove_by(*core_, "tag", tag, call), call);
}
Async<std::uint64_t> AsyncCache::remove_by_prefix(std::string_view prefix, Op call) {
  return start(*core_, executor_, op_remove_by(*core_, "prefix", prefix, call), call);
}

}  // namespace workmill::client
