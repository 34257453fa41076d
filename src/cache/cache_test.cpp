#include "cache/cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "cache/entry.h"
#include "model/cache_memory.h"

namespace workmill::cache {
namespace {

using std::chrono::seconds;

constexpr Instant kNow = instant_from_ms(1'700'000'000'000);
constexpr std::uint64_t kEtag = 7;

CacheTimes times(Duration fresh = seconds{10}, Duration stale = seconds{20}) {
  return {.stored_at = kNow, .fresh_until = kNow + fresh, .stale_until = kNow + fresh + stale, .etag = kEtag};
}
CacheFailure failure(Duration lasts = seconds{5}) {
  return {.error_class = ErrorClass::fatal, .code = "broken", .message = "it broke", .until = kNow + lasts};
}
Place place(std::uint32_t segment, std::uint32_t offset, std::uint32_t bytes = 100) {
  return {.at = {.segment = segment, .offset = offset}, .bytes = bytes};
}
CacheValuePtr value(std::string_view key, std::size_t bytes = 4) {
  return CacheValue::make(key, "text/plain", std::string(bytes, 'b'));
}
void put(Cache& cache, std::string_view key, Place at = {}, std::size_t bytes = 4) {
  cache.put(key, value(key, bytes), times(), {}, at);
}
bool is_warm(Cache const& cache, std::string_view key) { return cache.find(key, kNow).what == Lookup::What::value; }

TEST(Cache, AnEntryIsALineOfTheProcessorsCache) {
  // The bound of 96 bytes beyond key and value, but for what the allocator rounds up: the entry, its bucket and its
  // ghost, and the head of a value.
  EXPECT_LE(kEntryBytes + value("k", 0)->allocation_bytes() - 1, 84U);
}

TEST(Cache, CountsItsMemoryByTheEntry) {
  Cache cache{{}};
  for (int i = 0; i < 1'000; ++i) put(cache, "key/" + std::to_string(i), {}, 200);

  std::uint64_t const each = cache.figures().memory_bytes / 1'000;
  EXPECT_GE(each, 200U + 6 + 64);
  EXPECT_LE(each, 200U + 6 + 96 + 32);
}

TEST(Cache, ServesAValueUntilItsWindowsAreOverAndNoLonger) {
  Cache cache{{}};
  cache.put("k", value("k"), times(seconds{10}, seconds{20}), {}, {});

  EXPECT_EQ(cache.find("k", kNow + seconds{29}).what, Lookup::What::value);
  EXPECT_EQ(cache.find("k", kNow + seconds{30}).what, Lookup::What::absent);
  EXPECT_FALSE(cache.find("k", kNow + seconds{30}).value);
  EXPECT_FALSE(cache.claim_refresh("k", kNow + seconds{30}));
}

TEST(Cache, SaysWhatItWouldAnswerFromMemory) {
  Cache cache{{}};
  cache.put("value", value("value"), times(seconds{10}, seconds{20}), {}, {});
  cache.put("cold", CacheValue::make_head("cold", "text/plain", 4), times(), {}, place(1, 64));
  cache.put_failure("cold", failure(seconds{5}), {});  // The value comes first, and has to be read.
  cache.put_failure("failed", failure(seconds{5}), {});
  cache.put("both", value("both"), times(seconds{1}, seconds{1}), {}, {});
  cache.put_failure("both", failure(seconds{5}), {});

  EXPECT_TRUE(cache.can_answer("value", kNow + seconds{29}));
  EXPECT_FALSE(cache.can_answer("value", kNow + seconds{30}));
  EXPECT_FALSE(cache.can_answer("cold", kNow));
  EXPECT_TRUE(cache.can_answer("failed", kNow + seconds{4}));
  EXPECT_FALSE(cache.can_answer("failed", kNow + seconds{5}));
  EXPECT_TRUE(cache.can_answer("both", kNow));
  EXPECT_TRUE(cache.can_answer("both", kNow + seconds{4}));
  EXPECT_FALSE(cache.can_answer("both", kNow + seconds{5}));
  EXPECT_FALSE(cache.can_answer("absent", kNow));
}

TEST(Cache, KeepsTimesToTheMillisecond) {
  Cache cache{{}};
  CacheTimes const kept{.stored_at = kNow + Duration{1},
                        .fresh_until = kNow + Duration{1} + kCacheWindowMax - Duration{77},
                        .stale_until = kNow + Duration{1} + kCacheWindowMax,
                        .compute_time = Duration{123'457},
                        .etag = ~std::uint64_t{0}};
  cache.put("k", value("k"), kept, {}, {});

  EXPECT_EQ(cache.find("k", kNow).times, kept);
}

TEST(Cache, AComputeTimeBeyondHoursIsThatOfHours) {
  Cache cache{{}};
  CacheTimes kept = times();
  kept.compute_time = std::chrono::hours{100};
  cache.put("k", value("k"), kept, {}, {});

  EXPECT_EQ(cache.find("k", kNow).times.compute_time, Duration{0xff'ffff});
}

TEST(Cache, AFailureStandsBesideAValueAndAnewValueEndsIt) {
  Cache cache{{}};
  put(cache, "k", place(1, 8));
  cache.put_failure("k", failure(), place(1, 200));

  Lookup const both = cache.find("k", kNow);
  EXPECT_EQ(both.what, Lookup::What::value);
  EXPECT_EQ(both.failure, failure());
  EXPECT_EQ(cache.live_records_in(1), 2U);

  put(cache, "k", place(1, 400));
  EXPECT_FALSE(cache.find("k", kNow).failure);
  EXPECT_EQ(cache.live_records_in(1), 1U);
  EXPECT_EQ(cache.failure_place("k"), std::nullopt);
}

TEST(Cache, AFailureAloneIsToldUntilItIsOver) {
  Cache cache{{}};
  cache.put_failure("k", failure(seconds{5}), {});

  EXPECT_EQ(cache.find("k", kNow + seconds{4}).what, Lookup::What::failed);
  EXPECT_EQ(cache.find("k", kNow + seconds{5}).what, Lookup::What::absent);
  EXPECT_FALSE(cache.claim_refresh("k", kNow));
  EXPECT_EQ(cache.figures().cold_entries, 1U);
}

TEST(Cache, OneCallerASecondRefreshes) {
  Cache cache{{}};
  put(cache, "k");

  EXPECT_TRUE(cache.claim_refresh("k", kNow));
  EXPECT_FALSE(cache.claim_refresh("k", kNow + Duration{900}));
  EXPECT_TRUE(cache.claim_refresh("k", kNow + Duration{1'100}));
  EXPECT_FALSE(cache.claim_refresh("absent", kNow));
}

TEST(Cache, ANewValueEndsTheClaim) {
  Cache cache{{}};
  put(cache, "k");
  ASSERT_TRUE(cache.claim_refresh("k", kNow));
  put(cache, "k");

  EXPECT_TRUE(cache.claim_refresh("k", kNow + Duration{1}));
}

TEST(Cache, OneCallerRefreshesWhateverTheClaimsClockShows) {
  Cache cache{{}};
  for (int unit = 0; unit < 65'536; ++unit) {
    Instant const now = kNow + 64 * Duration{unit};
    cache.put("k", value("k"), times(std::chrono::hours{9}), {}, {});
    ASSERT_TRUE(cache.claim_refresh("k", now)) << unit;
    ASSERT_FALSE(cache.claim_refresh("k", now)) << unit;
  }
}

// The claim's clock goes round in 70 minutes.
TEST(Cache, AClaimOfLongAgoIsOver) {
  Cache cache{{}};
  cache.put("k", value("k"), times(std::chrono::hours{9}), {}, {});
  ASSERT_TRUE(cache.claim_refresh("k", kNow));

  for (int minutes = 1; minutes < 65; ++minutes) {
    ASSERT_TRUE(cache.claim_refresh("k", kNow + std::chrono::minutes{minutes})) << minutes;
  }
}

TEST(Cache, AValueLargerThanHalfTheMemoryStaysOnTheDisk) {
  Cache cache{{.memory_bytes = 100'000}};
  put(cache, "large", place(1, 8), 60'000);
  put(cache, "small", place(1, 108), 1'000);

  EXPECT_EQ(cache.find("large", kNow).what, Lookup::What::cold);
  EXPECT_TRUE(is_warm(cache, "small"));

  cache.warm("large", kEtag, value("large", 60'000));
  EXPECT_EQ(cache.find("large", kNow).what, Lookup::What::cold);
}

TEST(Cache, AVolatileValueLargerThanHalfTheMemoryIsNotKeptNorWhatItReplaces) {
  Cache cache{{.memory_bytes = 100'000}};
  put(cache, "k", {}, 10);
  put(cache, "k", {}, 60'000);

  EXPECT_EQ(cache.find("k", kNow).what, Lookup::What::absent);
  EXPECT_EQ(cache.figures().entries, 0U);
  EXPECT_EQ(cache.figures().memory_bytes, 0U);
}

TEST(Cache, WithoutMemoryNothingIsKept) {
  Cache cache{{.memory_bytes = 0}};
  put(cache, "k", place(1, 8));
  put(cache, "volatile");
  cache.put_failure("f", failure(), place(1, 108));

  EXPECT_EQ(cache.figures().entries, 0U);
  EXPECT_EQ(cache.live_bytes(), 0U);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(Cache, WithoutDiskOnlyVolatileOnesAreKept) {
  Cache cache{{.disk_bytes = 0}};
  put(cache, "k", place(1, 8));
  put(cache, "volatile");

  EXPECT_EQ(cache.find("k", kNow).what, Lookup::What::absent);
  EXPECT_TRUE(is_warm(cache, "volatile"));
  EXPECT_EQ(cache.figures().evictions_disk, 1U);
}

TEST(Cache, WhoLeavesMemoryIsColdWhileItsRecordIsThere) {
  Cache cache{{.memory_bytes = 20'000}};
  for (std::uint32_t i = 0; i < 60; ++i) put(cache, "key/" + std::to_string(i), place(1, i * 100 + 8), 500);

  CacheFigures const figures = cache.figures();
  EXPECT_EQ(figures.entries, 60U);
  EXPECT_GT(figures.cold_entries, 20U);
  EXPECT_LE(figures.memory_bytes, 20'000U);
  EXPECT_EQ(figures.disk_bytes, 6'000U);
  EXPECT_EQ(figures.evictions_memory, figures.cold_entries);
}

TEST(Cache, WhatGoesWholeForTheBudgetOfMemoryIsNotCountedAsIfItWereOnDisk) {
  Cache cache{{.memory_bytes = 20'000}};
  for (std::uint32_t i = 0; i < 1'000; ++i) put(cache, "key/" + std::to_string(i), place(1, i * 100 + 8), 500);

  CacheFigures const figures = cache.figures();
  ASSERT_LT(figures.entries, 1'000U);
  EXPECT_EQ(figures.evictions_disk, 1'000U - figures.entries);
  EXPECT_GE(figures.evictions_memory, figures.cold_entries);
}

TEST(Cache, ColdEntriesAloneDoNotUseUpTheMemory) {
  Cache cache{{.memory_bytes = 20'000}};
  put(cache, "warm", place(1, 8), 500);
  for (std::uint32_t i = 0; i < 1'000; ++i) {
    std::string const key = "key/" + std::to_string(i);
    cache.put(key, CacheValue::make_head(key, "text/plain", 5), times(), {}, place(2, i * 100 + 8));
  }

  EXPECT_LE(cache.figures().memory_bytes, 20'000U);
  EXPECT_TRUE(is_warm(cache, "warm"));
  // The coldest went.
  EXPECT_EQ(cache.find("key/0", kNow).what, Lookup::What::absent);
  EXPECT_EQ(cache.find("key/999", kNow).what, Lookup::What::cold);
}

TEST(Cache, TheColdestGoWhenTheDiskIsUsedUp) {
  Cache cache{{.disk_bytes = 250}};
  cache.put("cold", CacheValue::make_head("cold", "text/plain", 5), times(), {}, place(1, 8));
  put(cache, "warm", place(1, 108));
  put(cache, "new", place(1, 208));

  EXPECT_EQ(cache.find("cold", kNow).what, Lookup::What::absent);
  EXPECT_TRUE(is_warm(cache, "warm"));
  EXPECT_TRUE(is_warm(cache, "new"));
  EXPECT_EQ(cache.live_bytes(), 200U);
}

TEST(Cache, AValueWhoseRecordIsLargerThanTheDisksBudgetDrivesOutNothing) {
  Cache cache{{.disk_bytes = 250}};
  put(cache, "k", place(1, 8));
  put(cache, "other", place(1, 108));
  put(cache, "k", place(1, 208, 251));

  EXPECT_EQ(cache.find("k", kNow).what, Lookup::What::absent);  // What it took the place of is older.
  EXPECT_TRUE(is_warm(cache, "other"));
  std::vector<std::string> gone;
  cache.take_evicted(10, gone);
  EXPECT_EQ(gone, std::vector<std::string>{"k"});
  put(cache, "k", place(1, 508, 150));
  EXPECT_TRUE(is_warm(cache, "k"));
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(Cache, TheLargestValueThatMemoryMayHoldIsHeldAndNoLargerOne) {
  for (std::uint64_t const budget : {std::uint64_t{300}, std::uint64_t{20'000}, std::uint64_t{1} << 20}) {
    Cache cache{{.memory_bytes = budget}};
    std::size_t const most = value_bytes_max(budget) - CacheValue::allocation_bytes_of("k", "text/plain", {});

    put(cache, "k", {}, most);
    EXPECT_TRUE(is_warm(cache, "k")) << budget;
    put(cache, "k", {}, most + 1);
    EXPECT_FALSE(is_warm(cache, "k")) << budget;
  }
  EXPECT_EQ(value_bytes_max(0), 0U);
}

TEST(Cache, OfAColdValueItsTypeAndLengthAreKnown) {
  Cache cache{{.memory_bytes = 20'000}};
  put(cache, "large", place(1, 8), 15'000);  // Never warm.
  cache.put("read", CacheValue::make_head("read", "x/y", 7), times(), {}, place(1, 108));
  for (std::uint32_t i = 0; i < 60; ++i) put(cache, "key/" + std::to_string(i), place(2, i * 100 + 8), 500);

  int cold = 0;
  for (std::string const key : {"large", "key/0", "key/1", "key/2", "key/3"}) {
    Lookup const found = cache.find(key, kNow);
    if (found.what != Lookup::What::cold) continue;
    ++cold;
    EXPECT_EQ(found.value, nullptr);
    EXPECT_EQ(found.head->content_type(), "text/plain");
    EXPECT_EQ(found.head->body_bytes(), key == "large" ? 15'000U : 500U);
  }
  EXPECT_GE(cold, 2);
  EXPECT_EQ(cache.find("read", kNow).head->content_type(), "x/y");
  EXPECT_EQ(cache.find("read", kNow).head->body_bytes(), 7U);
}

TEST(Cache, WhatGoesWholeWithARecordInTheLogIsToldOnce) {
  Cache cache{{.disk_bytes = 250}};
  for (std::uint32_t i = 0; i < 5; ++i) put(cache, std::to_string(i), place(1, 8 + i * 100));
  put(cache, "volatile");
  cache.erase("4");
  ASSERT_TRUE(cache.has_evicted());

  std::vector<std::string> gone;
  cache.take_evicted(2, gone);
  EXPECT_TRUE(cache.has_evicted());
  cache.take_evicted(10, gone);
  EXPECT_EQ(gone.size(), 3U);
  EXPECT_FALSE(cache.has_evicted());
}

TEST(Cache, AColdValueThatWasReadIsWarmUnlessItIsAnotherByNow) {
  Cache cache{{}};
  cache.put("k", CacheValue::make_head("k", "text/plain", 5), times(), {}, place(1, 8));

  cache.warm("k", kEtag + 1, value("k"));
  EXPECT_EQ(cache.find("k", kNow).what, Lookup::What::cold);
  cache.warm("k", kEtag, value("k"));
  EXPECT_TRUE(is_warm(cache, "k"));
  cache.warm("absent", kEtag, value("absent"));
  EXPECT_EQ(cache.find("absent", kNow).what, Lookup::What::absent);
}

TEST(Cache, AReaderKeepsWhatItFoundWhenItIsEvicted) {
  Cache cache{{}};
  put(cache, "k");
  CacheValuePtr const found = cache.find("k", kNow).value;
  ASSERT_TRUE(cache.erase("k"));

  EXPECT_EQ(found->body(), "bbbb");
  EXPECT_FALSE(cache.erase("k"));
}

TEST(Cache, ARecordThatWasCopiedStandsElsewhere) {
  Cache cache{{}};
  put(cache, "k", place(1, 8, 50));
  cache.move("k", {.segment = 1, .offset = 8}, place(9, 16, 60));

  EXPECT_EQ(cache.place("k"), place(9, 16, 60));
  EXPECT_EQ(cache.live_records_in(1), 0U);
  EXPECT_EQ(cache.live_records_in(9), 1U);
  EXPECT_EQ(cache.live_bytes(), 60U);

  cache.move("k", {.segment = 1, .offset = 8}, place(10, 16));  // Of a record that is no longer its own.
  EXPECT_EQ(cache.place("k"), place(9, 16, 60));
}

TEST(Cache, ASweepSeesEveryEntryInTurn) {
  Cache cache{{}};
  for (int i = 0; i < 3'000; ++i) {
    std::string const key = std::to_string(i);
    cache.put(key, value(key), times(seconds{i % 2 == 0 ? 1 : 100}, seconds{0}), {}, {});
  }
  std::size_t gone = 0;
  for (std::size_t looked = 0; looked < cache.places(); looked += 100) gone += cache.sweep(kNow + seconds{2}, 100);

  EXPECT_EQ(gone, 1'500U);
  EXPECT_EQ(cache.figures().entries, 1'500U);
  EXPECT_EQ(cache.figures().expired, 1'500U);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(Cache, EveryEntryOfATagIsFoundWhileTheyGo) {
  Cache cache{{}};
  std::vector<std::string_view> const tags{"red", "round", "red"};
  for (int i = 0; i < 100; ++i) {
    std::string const key = std::to_string(i);
    cache.put(key, value(key), times(), i % 2 == 0 ? tags : std::vector<std::string_view>{}, {});
  }
  Cursor cursor;
  std::size_t erased = 0;
  while (!cursor.done) {
    std::vector<Found> found;
    cache.find_tag("red", cursor, 7, found);
    for (Found const& one : found) {
      if (cache.erase(one.key)) ++erased;
    }
  }

  EXPECT_EQ(erased, 50U);
  EXPECT_EQ(cache.figures().entries, 50U);
  Cursor again;
  std::vector<Found> left;
  cache.find_tag("round", again, 100, left);
  EXPECT_TRUE(left.empty() && again.done);
}

TEST(Cache, APutAnewHasItsNewTagsOnly) {
  Cache cache{{}};
  std::vector<std::string_view> const before{"before"};
  std::vector<std::string_view> const after{"after"};
  cache.put("k", value("k"), times(), before, {});
  std::uint64_t const bytes = cache.figures().memory_bytes;
  for (int i = 0; i < 100; ++i) {
    cache.put("k", value("k"), times(), after, {});
    cache.put("k", value("k"), times(), before, {});
  }
  EXPECT_EQ(cache.figures().memory_bytes, bytes);
  cache.put("k", value("k"), times(), after, {});

  auto const keys = [&](std::string_view tag) {
    Cursor cursor;
    std::vector<Found> found;
    cache.find_tag(tag, cursor, 10, found);
    return found.size();
  };
  EXPECT_EQ(keys("before"), 0U);
  EXPECT_EQ(keys("after"), 1U);
}

// ---- Where values lie. ----

// Most of them go, and the rest lies scattered.
constexpr int kScattered = 40'000;
constexpr int kScatteredLeft = 20;  // One of so many stays.

std::string scattered_key(int i) { return "scattered/" + std::to_string(i); }
std::string scattered_body(int i) {
  return std::string(900 + static_cast<std::size_t>(i % 32), static_cast<char>('a' + i % 26));
}

void scatter(Cache& cache) {
  for (int i = 0; i < kScattered; ++i) {
    cache.put(scattered_key(i), CacheValue::make(scattered_key(i), "x/y", scattered_body(i)), times(), {}, {});
  }
  for (int i = 0; i < kScattered; ++i) {
    if (i % kScatteredLeft != 0) cache.erase(scattered_key(i));
  }
}
void expect_all_left(Cache const& cache) {
  for (int i = 0; i < kScattered; i += kScatteredLeft) {
    Lookup const found = cache.find(scattered_key(i), kNow);
    ASSERT_TRUE(found.value) << i;
    ASSERT_EQ(found.value->key(), scattered_key(i));
    ASSERT_EQ(found.value->content_type(), "x/y");
    ASSERT_EQ(found.value->body(), scattered_body(i));
  }
  EXPECT_EQ(cache.check_invariants(), "");
}
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST(CacheMemory, ASweepMovesScatteredValuesTogether) {
  Cache cache{{}};
  scatter(cache);
  if (cache_value_memory().held_bytes == 0) GTEST_SKIP() << "each value is by itself";
  ASSERT_GT(cache_value_memory().held_bytes, 30 * kMiB);
  std::uint64_t const charged = cache.figures().memory_bytes;

  for (int round = 0; round < 100; ++round) cache.sweep(kNow, 2'000);

  EXPECT_LE(cache_value_memory().lost_bytes, 5 * kMiB);
  EXPECT_EQ(cache.figures().memory_bytes, charged);
  expect_all_left(cache);
}

TEST(CacheMemory, PutsMoveScatteredValuesTogether) {
  Cache cache{{}};
  scatter(cache);
  if (cache_value_memory().held_bytes == 0) GTEST_SKIP() << "each value is by itself";

  for (int i = 0; i < 10'000; ++i) put(cache, "k");

  EXPECT_LE(cache_value_memory().lost_bytes, 5 * kMiB);
  expect_all_left(cache);
}

TEST(CacheMemory, WhoReadsAValueKeepsItWhileItMoves) {
  Cache cache{{}};
  scatter(cache);
  if (cache_value_memory().held_bytes == 0) GTEST_SKIP() << "each value is by itself";
  std::vector<CacheValuePtr> held;
  for (int i = 0; i < kScattered; i += kScatteredLeft) held.push_back(cache.find(scattered_key(i), kNow).value);

  for (int round = 0; round < 100; ++round) cache.sweep(kNow, 2'000);

  int moved = 0;
  for (std::size_t i = 0; i < held.size(); ++i) {
    int const number = static_cast<int>(i) * kScatteredLeft;
    ASSERT_EQ(held[i]->body(), scattered_body(number));
    if (cache.find(scattered_key(number), kNow).value != held[i]) ++moved;
  }
  EXPECT_GT(moved, 0);
}

// ---- Who is evicted. ----

// Room for about so many values of 100 bytes.
CacheOptions room_for(std::size_t values) {
  return {.memory_bytes = values * (kEntryBytes + allocated_bytes(value("key/0000", 100)->allocation_bytes()))};
}
std::string numbered(std::string_view name, int i) {
  std::string const digits = std::to_string(10'000 + i);
  return std::string{name} + "/" + digits.substr(1);
}

TEST(CacheEviction, ALongScanLeavesWhatIsUsed) {
  Cache cache{room_for(1'000)};
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 500; ++i) {
      std::string const key = numbered("hot", i);
      if (!is_warm(cache, key)) put(cache, key, {}, 100);
    }
  }
  for (int i = 0; i < 9'000; ++i) put(cache, numbered("scan", i), {}, 100);

  int left = 0;
  for (int i = 0; i < 500; ++i) left += is_warm(cache, numbered("hot", i)) ? 1 : 0;
  EXPECT_GE(left, 490);
}

TEST(CacheEviction, OfALoopThatDoesNotFitMostOfTheMemoryIsOfUse) {
  Cache cache{room_for(1'000)};
  int hits = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 2'000; ++i) {
      bool const hit = is_warm(cache, numbered("loop", i));
      if (!hit) put(cache, numbered("loop", i), {}, 100);
      hits += hit && round >= 10 ? 1 : 0;
    }
  }
  EXPECT_GE(hits, 8'000);  // Of 10,000 that the optimum has, about. LRU has none.
}

TEST(CacheEviction, WhatIsPopularTodayTakesThePlaceOfYesterdays) {
  Cache cache{room_for(1'000)};
  Rng rng{1};
  auto const day = [&](std::string_view name) {
    int hits = 0;
    for (int i = 0; i < 30'000; ++i) {
      std::string const key = numbered(name, static_cast<int>(rng.below(900)));
      bool const hit = is_warm(cache, key);
      if (!hit) put(cache, key, {}, 100);
      hits += hit && i >= 20'000 ? 1 : 0;
    }
    return hits;
  };
  EXPECT_GE(day("yesterday"), 9'000);
  EXPECT_GE(day("today"), 9'000);
}

TEST(CacheEviction, WhatComesBackFromTheDiskSoonStays) {
  CacheOptions options = room_for(1'000);
  options.memory_bytes *= 2;  // Cold ones may have half.
  Cache cache{options};
  std::uint32_t offset = 8;
  auto const ask = [&](std::string const& key) {
    Lookup const found = cache.find(key, kNow);
    if (found.what == Lookup::What::absent) put(cache, key, place(1, offset++, 20), 100);
    if (found.what == Lookup::What::cold) cache.warm(key, kEtag, value(key, 100));
    return found.what == Lookup::What::value;
  };
  Rng rng{2};
  int hits = 0;
  for (int i = 0; i < 60'000; ++i) {
    ask(numbered("scan", static_cast<int>(rng.below(9'000))));
    bool const hit = ask(numbered("hot", static_cast<int>(rng.below(600))));
    hits += hit && i >= 50'000 ? 1 : 0;
  }
  EXPECT_GE(hits, 8'500);
  EXPECT_EQ(cache.check_invariants(), "");
}

}  // namespace
}  // namespace workmill::cache
