#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "sim/simulator.h"

// What an adapter does on its I/O thread for those who use the shared cache: looks into the index, between two turns,
// and asks the shard for what it does not find there. The model is shown all that was seen.
namespace workmill::sim {
namespace {

// For so long nobody else may refresh a value: a second (cache/cache.h), less what its clock is coarse by.
constexpr Duration kClaim{1'000 - 2 * 64};
// And for no longer than this, but that its clock goes round within 70 minutes: then an old claim may seem alive.
constexpr Duration kClaimMax{1'000 + 64};
constexpr Duration kClaimForgotten = std::chrono::minutes{69};

// Bytes for all that there ever is in any world, in memory as on the disk.
constexpr std::uint64_t kEnough = 1 << 20;

}  // namespace

void Simulator::use_cache() {
  for (std::uint64_t i = cache_callers_.uses(); ok() && i > 0; --i) {
    CacheUse const use = cache_callers_.draw_use();
    switch (use) {
      case CacheUse::look: {
        std::string key = cache_callers_.draw_key();
        if (look_up(key).what == cache::Lookup::What::cold) send(ReadCached{std::move(key)}, next_cookie_++);
        break;
      }
      case CacheUse::compute: compute_cached(cache_callers_.draw_key()); break;
      case CacheUse::blind:
        send(cache_callers_.make_compute(cache_callers_.draw_key(), setup_.workload.queues), next_cookie_++);
        break;
      case CacheUse::put: send(cache_callers_.make_put(), next_cookie_++); break;
      case CacheUse::forget:
        if (!forgetting_by_) send(ForgetCached{cache_callers_.draw_key()}, next_cookie_++);
        break;
      case CacheUse::forget_by:
        if (!forgetting_by_) send(cache_callers_.make_forget_by(), next_cookie_++);
        break;
    }
  }
}

// Of turns that have been answered everything must be seen, and of others nothing.
cache::Lookup Simulator::look_up(std::string const& key) {
  Instant const at = std::max(now_, clock_.now());
  CacheSeen seen{.key = key, .at = at, .found = front_->cache()->find(key, at), .evicted = lost_entries()};
  cache::Lookup found = seen.found;
  auto const newest = std::find_if(open_.rbegin(), open_.rend(), [](Open const& open) { return open.is_answered; });
  if (newest != open_.rend()) {
    newest->seen.push_back(std::move(seen));
    if (std::ranges::any_of(open_, [](Open const& open) { return !open.is_answered; })) {
      ++figures_[Figure::cache_seen_while_undurable];
    }
  } else if (!model_.saw(seen)) {
    complain(model_.complaint());
  }
  return found;
}

void Simulator::compute_cached(std::string key) {
  using What = cache::Lookup::What;
  cache::Lookup const found = look_up(key);
  switch (found.what) {
    case What::failed: return;
    case What::cold: return send(ReadCached{std::move(key)}, next_cookie_++);
    case What::absent: return send(cache_callers_.make_compute(std::move(key), setup_.workload.queues), next_cookie_++);
    case What::value: break;
  }
  Instant const at = std::max(now_, clock_.now());
  bool const is_early = found.times.is_fresh(at);
  if (is_early && !cache_callers_.chance(100)) return;
  if (found.failure) return;
  if (!front_->cache()->claim_refresh(key, at)) return check_refusal(key, found.times, at);
  ++figures_[is_early ? Figure::cache_refreshed_early : Figure::cache_refreshed_stale];
  check_claim(key, found.times, at);
  ComputeCached refresh = cache_callers_.make_compute(std::move(key), setup_.workload.queues);
  refresh.quiet = true;
  refresh.wait = Duration{0};
  refresh.seen = found.times.stored_at;
  send(std::move(refresh), next_cookie_++);
}

// One caller a second and value.
void Simulator::check_claim(std::string const& key, CacheTimes const& times, Instant at) {
  Claim const claim{.of = times, .at = at, .evicted = evicted()};
  auto const [known, is_first] = claims_.try_emplace(key, claim);
  if (is_first) return;
  Claim const before = std::exchange(known->second, claim);
  bool const is_same = before.of == claim.of && before.evicted == claim.evicted;
  // The same may have been stored again in the millisecond in which it was stored first: that begins anew.
  bool const was_later = before.at > before.of.stored_at;
  if (is_same && was_later && claim.at < before.at + kClaim) complain("two callers are to refresh one value");
}

// Somebody else was told to, a moment ago.
void Simulator::check_refusal(std::string const& key, CacheTimes const& times, Instant at) {
  auto const known = claims_.find(key);
  Duration const since = known == claims_.end() ? Duration::max() : at - known->second.at;
  bool const is_claimed = known != claims_.end() && known->second.of == times;
  if (is_claimed && (since < kClaimMax || since > kClaimForgotten)) return;
  complain("nobody is to refresh a value, and who sees it may not");
}

// The budgets hold; and where there is room for all, nothing gives way. Which it is that does, where something must, is
// no rule: it is a matter of how often what is asked for is there.
void Simulator::check_room() {
  cache::CacheFigures const figures = cache_->figures();
  cache::CacheOptions const& budgets = setup_.cache;
  if (figures.memory_bytes > budgets.memory_bytes || figures.disk_bytes > budgets.disk_bytes) {
    return complain(fmt::format("the cache takes {} bytes of memory and {} of the disk: it has {} and {}",
                                figures.memory_bytes, figures.disk_bytes, budgets.memory_bytes, budgets.disk_bytes));
  }
  bool const is_memory_enough = budgets.memory_bytes >= kEnough;
  bool const is_disk_enough = budgets.disk_bytes >= kEnough;
  if (is_memory_enough && (figures.evictions_memory > 0 || (is_disk_enough && figures.evictions_disk > 0))) {
    complain("a value gave way to others, and there is room for all");
  }
}

void Simulator::look_at_damaged() {
  std::string key = damaged_keys_[chance_.below(damaged_keys_.size())];
  if (look_up(key).what == cache::Lookup::What::cold) send(ReadCached{std::move(key)}, next_cookie_++);
}

bool Simulator::is_failure_beside_value(std::string const& key) const {
  cache::Lookup const found = cache_->find(key, std::max(now_, clock_.now()));
  bool const has_value = found.what == cache::Lookup::What::value || found.what == cache::Lookup::What::cold;
  return has_value && found.failure;
}

// The whole index, at a moment at which the model has been told everything.
void Simulator::check_cache() {
  if (std::string wrong = cache_->check_invariants(); !wrong.empty()) {
    return complain("the index of the cache contradicts itself: " + wrong);
  }
  std::vector<std::string> keys;
  std::vector<cache::Found> found;
  for (cache::Cursor at; !at.done;) cache_->find_prefix("", at, 1'000, 100, found);
  keys.reserve(found.size());
  for (cache::Found& entry : found) keys.push_back(std::move(entry.key));
  Instant const at = std::max(now_, clock_.now());
  bool const fits = model_.compare_cache(keys, [&](std::string const& key) {
    return CacheSeen{.key = key, .at = at, .found = cache_->find(key, at), .evicted = lost_entries()};
  });
  if (!fits) complain(model_.complaint());
}

std::uint64_t Simulator::evicted() const {
  cache::CacheFigures const figures = cache_->figures();
  return figures.evictions_memory + figures.evictions_disk;
}

// What gave way in memory is on disk still, but for volatile values.
std::uint64_t Simulator::lost_entries() const {
  return setup_.engine.cache_volatile.empty() ? cache_->figures().evictions_disk : evicted();
}

}  // namespace workmill::sim
