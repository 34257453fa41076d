#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "cache/cache.h"
#include "model/cache_memory.h"

// Readers and the writer at once; the thread sanitizer watches.
namespace workmill::cache {
namespace {

constexpr Instant kNoon = instant_from_ms(1'700'000'000'000);
constexpr int kKeys = 200;

std::string key_of(std::uint64_t i) { return "key/" + std::to_string(i); }
// What a value says of itself must hold together: a body is its number, repeated, and its etag is the number.
std::string body_of(std::uint64_t number) {
  return std::string(20 + number % 500, static_cast<char>('a' + number % 26));
}

TEST(CacheThreads, ReadersSeeWholeValuesWhileTheyComeAndGo) {
  Cache cache{{.memory_bytes = 40'000, .disk_bytes = 8'000, .stripes = 4}};
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<std::uint64_t> found_any{0};
  std::vector<std::thread> readers;
  for (std::uint64_t reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&, reader] {
      Rng rng{reader};
      while (!stop.load()) {
        std::string const key = key_of(rng.below(kKeys));
        Lookup const found = cache.find(key, kNoon);
        if (found.value) {
          found_any.fetch_add(1);
          if (found.value->key() != key || found.value->body() != body_of(found.times.etag)) wrong.fetch_add(1);
          if (to_ms(found.times.fresh_until) != to_ms(kNoon) + static_cast<std::int64_t>(found.times.etag % 1'000)) {
            wrong.fetch_add(1);
          }
        }
        if (found.failure && found.failure->message != std::string(100, found.failure->code[0])) wrong.fetch_add(1);
        if (rng.chance(100)) cache.claim_refresh(key, kNoon);
        if (rng.chance(10) && cache.figures().memory_bytes > 40'000'000) wrong.fetch_add(1);
      }
    });
  }
  Rng rng{99};
  std::uint32_t offset = 0;
  for (std::uint64_t i = 0; i < 30'000 || (found_any.load() == 0 && i < 30'000'000); ++i) {
    std::string const key = key_of(rng.below(kKeys));
    std::string_view const tag = rng.chance(500) ? "red" : "blue";
    Place const place{.at = {.segment = 1 + ++offset / 1'000, .offset = offset}, .bytes = 50};
    switch (rng.below(6)) {
      case 0: cache.erase(key); break;
      case 1: {
        char const letter = static_cast<char>('a' + rng.below(26));
        cache.put_failure(key,
                          {.error_class = ErrorClass::user,
                           .code = std::string(1, letter),
                           .message = std::string(100, letter),
                           .until = kNoon + Duration{1}},
                          place);
        break;
      }
      case 2: cache.sweep(kNoon, 50); break;
      default: {
        std::uint64_t const number = rng.below(10'000);
        cache.put(key, CacheValue::make(key, "x/y", body_of(number)),
                  {.stored_at = kNoon,
                   .fresh_until = kNoon + Duration{number % 1'000},
                   .stale_until = kNoon + Duration{5'000},
                   .etag = number},
                  {&tag, 1}, rng.chance(500) ? place : Place{});
      }
    }
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();

  EXPECT_EQ(wrong.load(), 0);
  EXPECT_GT(found_any.load(), 0U);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(CacheThreads, ReadersSeeWholeValuesWhileTheseAreMoved) {
  constexpr std::uint64_t kMany = 10'000;
  constexpr std::uint64_t kLeft = 10;  // One of so many stays.
  constexpr std::size_t kBodyBytes = 2'000;
  auto const body = [](std::uint64_t i) { return std::string(kBodyBytes, static_cast<char>('a' + i % 26)); };
  constexpr CacheTimes kHour{
      .stored_at = kNoon, .fresh_until = kNoon + Duration{1}, .stale_until = kNoon + Duration{2}};
  Cache cache{{.stripes = 4}};
  for (std::uint64_t i = 0; i < kMany; ++i) {
    cache.put(key_of(i), CacheValue::make(key_of(i), "x/y", body(i)), kHour, {}, {});
  }
  std::vector<CacheValuePtr> before;
  for (std::uint64_t i = 0; i < kMany; i += kLeft) before.push_back(cache.find(key_of(i), kNoon).value);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (std::uint64_t reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&, reader] {
      Rng rng{reader};
      while (!stop.load()) {
        std::uint64_t const i = rng.below(kMany / kLeft) * kLeft;
        CacheValuePtr const found = cache.find(key_of(i), kNoon).value;
        if (!found || found->key() != key_of(i) || found->body() != body(i)) wrong.fetch_add(1);
      }
    });
  }

  for (std::uint64_t i = 0; i < kMany; ++i) {
    if (i % kLeft != 0) cache.erase(key_of(i));
  }
  for (int round = 0; round < 50; ++round) cache.sweep(kNoon, kMany);
  stop.store(true);
  for (std::thread& reader : readers) reader.join();

  EXPECT_EQ(wrong.load(), 0);
  std::size_t moved = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (cache.find(key_of(i * kLeft), kNoon).value != before[i]) ++moved;
  }
  EXPECT_TRUE(moved > 0 || cache_value_memory().held_bytes == 0) << "or each value is by itself";
}

TEST(CacheThreads, OfAllWhoWantToRefreshOneMay) {
  for (int round = 0; round < 50; ++round) {
    Cache cache{{}};
    cache.put("k", CacheValue::make("k", "x/y", "v"),
              {.stored_at = kNoon, .fresh_until = kNoon, .stale_until = kNoon + Duration{9'000}}, {}, {});
    std::atomic<int> won{0};
    std::atomic<int> ready{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([&] {
        ready.fetch_add(1);
        while (ready.load() < 4) std::this_thread::yield();
        if (cache.claim_refresh("k", kNoon + Duration{1})) won.fetch_add(1);
      });
    }
    for (std::thread& caller : callers) caller.join();
    ASSERT_EQ(won.load(), 1);
  }
}

}  // namespace
}  // namespace workmill::cache
