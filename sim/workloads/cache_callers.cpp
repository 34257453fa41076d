#include "sim/workloads/cache_callers.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "base/assert.h"

namespace workmill::sim {
namespace {

constexpr std::array<std::string_view, 3> kTags{"red", "green", "blue"};
constexpr std::array<std::string_view, 3> kFolders{"a/", "a/b/", "c/"};  // One of them is a part of another.
// Where refreshes fail.
constexpr std::uint64_t kFreshMsMax = 20;
constexpr Duration kStaleFor{600'000};

}  // namespace

CacheUse CacheCallers::draw_use() {
  std::uint64_t left = below(weight_sum_);
  std::size_t use = 0;
  while (left >= options_.weights[use]) left -= options_.weights[use++];
  return static_cast<CacheUse>(use);
}

std::string CacheCallers::draw_key() {
  std::uint64_t const number = below(options_.keys);
  std::string_view const folder = kFolders[number % kFolders.size()];
  return fmt::format("{}{}{}", number < options_.volatile_keys ? kVolatilePrefix : "", folder, number);
}

std::vector<std::string> CacheCallers::draw_tags() {
  std::vector<std::string> tags;
  for (std::string_view const tag : kTags) {
    if (chance(300)) tags.emplace_back(tag);
  }
  return tags;
}

CacheSet CacheCallers::make_set() {
  CacheSet set{.content_type = chance(500) ? "text/plain" : "application/json"};
  set.body = fmt::format("{{\"v\":{},\"pad\":\"", ++serial_);
  set.body.append(below(options_.body_bytes_max + 1), 'v').append("\"}");
  if (chance(100)) set.body.clear();  // Nothing is a value, too.
  set.fresh = ms(chance(100) ? 3'600'000 : options_.window_ms_max);
  if (serial_ % 8 == 0) set.fresh = {};  // Stale from the beginning: nobody who waits takes it at once.
  set.stale = chance(400) ? Duration{0} : ms(options_.window_ms_max);
  if (options_.refreshes_fail) {
    set.fresh = ms(kFreshMsMax);
    set.stale = kStaleFor;
  }
  set.tags = draw_tags();
  return set;
}

PutCache CacheCallers::make_put() { return {.key = draw_key(), .set = make_set()}; }

ComputeCached CacheCallers::make_compute(std::string key, std::uint32_t queues) {
  JobSpecView spec;
  std::string const type = "t" + std::to_string(below(3));
  std::string const queue = "q" + std::to_string(below(queues));
  std::string const payload = fmt::format("{{\"key\":\"{}\",\"n\":{}}}", key, ++serial_);
  std::vector<std::string> const tags = draw_tags();
  spec.type = type;
  spec.queue = queue;
  spec.payload_kind = PayloadKind::json;
  spec.payload = payload;
  spec.priority = static_cast<std::uint8_t>(below(10));
  if (chance(500)) spec.max_attempts = static_cast<std::uint32_t>(1 + below(3));
  if (chance(400)) spec.backoff = Backoff{.first = ms(500), .cap = Duration{2'000}};
  if (chance(700)) spec.lease = kLeaseMin + ms(static_cast<std::uint64_t>(options_.lease_max.count()));
  if (chance(150)) spec.expires_in = Duration{1} + ms(4'000);
  if (chance(300)) spec.keep_result = ms(1'000);
  spec.cache_key = key;
  spec.cache_fresh = ms(options_.window_ms_max);
  spec.cache_stale = chance(400) ? Duration{0} : ms(options_.window_ms_max);
  spec.cache_error_for = chance(500) ? Duration{0} : ms(2'000);
  if (options_.refreshes_fail) {
    spec.max_attempts = 1;
    spec.cache_fresh = ms(kFreshMsMax);
    spec.cache_stale = spec.cache_error_for = kStaleFor;
  }
  spec.cache_tags.assign(tags.begin(), tags.end());
  WM_ASSERT(check_spec(spec).has_value());
  ComputeCached compute;
  encode_spec(spec, compute.spec);
  compute.key = std::move(key);
  if (!chance(options_.computed_at_once)) compute.wait = Duration{1} + ms(chance(300) ? 50 : 5'000);
  return compute;
}

ForgetCachedBy CacheCallers::make_forget_by() {
  ForgetCachedBy forget;
  if (chance(600)) {
    forget.tag = kTags[below(kTags.size())];
  } else {
    forget.prefix = std::string{chance(200) ? kVolatilePrefix : ""}.append(kFolders[below(kFolders.size())]);
  }
  return forget;
}

std::vector<CacheEntrySet> CacheCallers::make_sets() {
  std::vector<CacheEntrySet> sets;
  if (options_.keys == 0 || !chance(options_.with_sets)) return sets;
  for (std::uint64_t i = 1 + below(4); i > 0; --i) sets.push_back({.key = draw_key(), .set = make_set()});
  return sets;
}

}  // namespace workmill::sim
