#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/rng.h"
#include "cache/cache.h"

// The cache's index in the process: what a find costs, on one thread and on two that ask for the same key or for any,
// and while the shard's thread puts. Whether another lock would be cheaper is measured on the lock alone.
namespace workmill::cache {
namespace {

constexpr Instant kNow = instant_from_ms(1'700'000'000'000);
constexpr CacheTimes kTimes{
    .stored_at = kNow, .fresh_until = kNow + std::chrono::hours{1}, .stale_until = kNow + std::chrono::hours{2}};

std::size_t keys_of_run() { return std::getenv("WM_BENCH_SMOKE") != nullptr ? 1'000 : 1'000'000; }

std::string key_of(std::uint64_t i) {
  return "thumbnail/" + std::to_string(mix64(i) % 1'000'000'000) + "/" + std::to_string(i);
}

// Filled once for all.
Cache& filled() {
  static std::unique_ptr<Cache> const cache = [] {
    auto made = std::make_unique<Cache>(CacheOptions{.memory_bytes = std::uint64_t{8} << 30, .hash_seed = 1});
    std::string const body(1'024, 'b');
    for (std::size_t i = 0; i < keys_of_run(); ++i) {
      std::string const key = key_of(i);
      made->put(key, CacheValue::make(key, "application/json", body), kTimes, {}, {});
    }
    return made;
  }();
  return *cache;
}

std::vector<std::string> some_keys(std::uint64_t seed) {
  Rng rng{seed};
  std::vector<std::string> keys;
  for (int i = 0; i < 100'000; ++i) keys.push_back(key_of(rng.below(keys_of_run())));
  return keys;
}

void cache_find_one_key(benchmark::State& state) {
  Cache& cache = filled();
  std::string const key = key_of(7);
  for (auto _ : state) benchmark::DoNotOptimize(cache.find(key, kNow));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(cache_find_one_key)->Threads(1)->Threads(2)->UseRealTime();

// Of a million, so that entry and value are far away.
void cache_find_any_key(benchmark::State& state) {
  Cache& cache = filled();
  std::vector<std::string> const keys = some_keys(static_cast<std::uint64_t>(state.thread_index()));
  std::size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(cache.find(keys[i++ % keys.size()], kNow));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(cache_find_any_key)->Threads(1)->Threads(2)->UseRealTime();

void cache_find_absent_key(benchmark::State& state) {
  Cache& cache = filled();
  for (auto _ : state) benchmark::DoNotOptimize(cache.find("not/there", kNow));
}
BENCHMARK(cache_find_absent_key);

// The shard's thread beside a reader: values of 1 KiB in place of others.
void cache_put_in_place(benchmark::State& state) {
  Cache& cache = filled();
  std::vector<std::string> const keys = some_keys(1);
  std::string const body(1'024, 'c');
  std::size_t i = 0;
  for (auto _ : state) {
    std::string const& key = keys[i++ % keys.size()];
    cache.put(key, CacheValue::make(key, "application/json", body), kTimes, {}, {});
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(cache_put_in_place);

// With the budget used up: each put evicts one.
void cache_put_and_evict(benchmark::State& state) {
  Cache cache{{.memory_bytes = 16 << 20, .hash_seed = 1}};
  std::string const body(1'024, 'c');
  std::uint64_t i = 0;
  for (auto _ : state) {
    std::string const key = key_of(i++);
    cache.put(key, CacheValue::make(key, "application/json", body), kTimes, {}, {});
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(cache_put_and_evict);

// What a find does with its lock: a pointer's count goes up and down, under the one lock that all ask for.
class Spin {
 public:
  void lock() {
    while (flag_.test_and_set(std::memory_order_acquire)) {
      while (flag_.test(std::memory_order_relaxed)) __builtin_ia32_pause();
    }
  }
  void unlock() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag flag_;
};
// A writer makes the number odd while it writes; who reads looks at it before and after. What was read may be freed
// meanwhile, so this alone can share no values: it shows the least that a find without a lock could cost.
class Sequence {
 public:
  template <class Read>
  void read(Read const& body) const {
    for (;;) {
      std::uint64_t const before = number_.load(std::memory_order_acquire);
      if (before % 2 == 0) {
        body();
        std::atomic_thread_fence(std::memory_order_acquire);
        if (number_.load(std::memory_order_relaxed) == before) return;
      }
    }
  }

 private:
  std::atomic<std::uint64_t> number_{0};
};

CacheValuePtr const& shared_value() {
  static CacheValuePtr const value = CacheValue::make("k", "text/plain", "body");
  return value;
}

template <class Mutex, class Held>
void cache_lock(benchmark::State& state) {
  static Mutex mutex;
  for (auto _ : state) {
    CacheValuePtr value;
    {
      Held const held{mutex};
      value = shared_value();
    }
    benchmark::DoNotOptimize(value);
  }
}
BENCHMARK(cache_lock<std::mutex, std::unique_lock<std::mutex>>)
    ->Name("cache_lock/mutex")
    ->Threads(1)
    ->Threads(2)
    ->UseRealTime();
BENCHMARK(cache_lock<std::shared_mutex, std::shared_lock<std::shared_mutex>>)
    ->Name("cache_lock/shared_mutex")
    ->Threads(1)
    ->Threads(2)
    ->UseRealTime();
BENCHMARK(cache_lock<Spin, std::unique_lock<Spin>>)->Name("cache_lock/spin")->Threads(1)->Threads(2)->UseRealTime();

void cache_lock_sequence(benchmark::State& state) {
  static Sequence const sequence;
  for (auto _ : state) {
    CacheValuePtr value;
    sequence.read([&] { value = shared_value(); });
    benchmark::DoNotOptimize(value);
  }
}
BENCHMARK(cache_lock_sequence)->Name("cache_lock/sequence")->Threads(1)->Threads(2)->UseRealTime();

}  // namespace
}  // namespace workmill::cache
