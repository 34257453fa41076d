#include <gtest/gtest.h>

#include "shard/shard_cache_fixture_test.h"

// Deletions of cached values by tag and by prefix.
namespace workmill::shard {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using What = cache::Lookup::What;

TEST_F(ShardCacheTest, KeysAreForgottenByPrefixAndByTagInParts) {
  for (int i = 0; i < 3'000; ++i) {
    submit(put("a:" + std::to_string(i), "v", minutes{1}, {}, {i % 3 == 0 ? "three" : "other"}));
  }
  submit(put("b", "v", minutes{1}, {}, {"three"}));
  turn();

  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.tag = "three"}).count, 1'001u);
  EXPECT_EQ(body("a:0"), "(none)");
  EXPECT_EQ(body("a:1"), "v");
  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.prefix = "a:"}).count, 2'000u);

  EXPECT_EQ(cache_->figures().entries, 0u);
  restart();
  EXPECT_EQ(cache_->figures().entries, 0u);
}

TEST_F(ShardCacheTest, WhatIsPutBetweenTwoPartsOfADeletionAndBehindThemStays) {
  options_.cache_desk.looks_per_part = 10;
  restart();
  for (int i = 0; i < 40; ++i) submit(put("a:" + std::to_string(i), "v"));
  turn();
  Cookie const forget = submit(ForgetCachedBy{.prefix = "a:"});
  turn();
  ASSERT_FALSE(answered(forget));

  ask<CachedReply>(put("a:0", "again"));  // In its old place, which the deletion is beyond.
  while (!answered(forget)) turn();

  EXPECT_EQ(take<CountReply>(forget).count, 40u);
  EXPECT_EQ(body("a:0"), "again");
  EXPECT_EQ(cache_->figures().entries, 1u);
  restart();
  EXPECT_EQ(body("a:0"), "again");
}

TEST_F(ShardCacheTest, WhatWasPutInTheSameTurnIsForgottenByTagToo) {
  submit(put("k", "v", minutes{1}, {}, {"t"}));
  Cookie const forget = submit(ForgetCachedBy{.tag = "t"});
  submit(put("l", "v", minutes{1}, {}, {"t"}));
  turn();

  EXPECT_EQ(take<CountReply>(forget).count, 1u);
  EXPECT_EQ(body("k"), "(none)");
  EXPECT_EQ(body("l"), "v");
}

TEST_F(ShardCacheTest, AFailureOfTheSameTurnIsForgottenByItsPrefixToo) {
  Cookie const caller = submit(compute("k", seconds{20}, minutes{1}));
  turn();
  Report report = completed(lease_one());
  report.outcome = Failed{.error_class = ErrorClass::user, .code = "bad_input"};
  submit(ReportBatch{.reports = {report}});
  Cookie const forget = submit(ForgetCachedBy{.prefix = "k"});
  turn();

  take<ComputeFailed>(caller);
  EXPECT_EQ(take<CountReply>(forget).count, 1u);
  EXPECT_EQ(find("k").what, What::absent);
}

TEST_F(ShardCacheTest, WhatIsOverIsNotCountedAmongWhatIsForgotten) {
  ask<CachedReply>(put("a:over", "v", seconds{1}, {}, {"t"}));
  ask<CachedReply>(put("a:there", "v", minutes{1}, {}, {"t"}));
  clock_.advance(seconds{2});
  submit(put("a:new", "v", seconds{1}, {}, {"t"}));
  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.tag = "t"}).count, 2u);

  ask<CachedReply>(put("a:over", "v", seconds{1}));
  clock_.advance(seconds{2});
  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.prefix = "a:"}).count, 0u);
}

TEST_F(ShardCacheTest, ARefreshThatWasUnderWayDoesNotBringBackWhatWasDeletedByItsTag) {
  ask<CachedReply>(put("k", "old", seconds{1}, minutes{10}, {"t"}));
  clock_.advance(seconds{2});
  ask<CachedReply>(compute("k"));  // Begins the refresh, whose own spec has no such tag.
  auto const job = lease_one();
  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.tag = "t"}).count, 1u);

  complete(job, "1");

  EXPECT_EQ(find("k").what, What::absent);
}

TEST_F(ShardCacheTest, DeletionsByPrefixReachFlightsAndCountOnlyValues) {
  submit(compute("a:1"));
  submit(compute("a:2"));
  submit(compute("b"));
  turn();
  auto const jobs = ask<LeaseReply>(lease("default", 3)).jobs;
  ASSERT_EQ(jobs.size(), 3u);
  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.prefix = "a:"}).count, 0u);

  for (LeasedJob const& job : jobs) complete(job, "1");

  EXPECT_EQ(find("a:1").what, What::absent);
  EXPECT_EQ(find("a:2").what, What::absent);
  EXPECT_EQ(body("b"), "1");
}

TEST_F(ShardCacheTest, DeletionsThatLookAtManyFlightsBeginInATurnEach) {
  engine_options_.steps_max = 2;
  restart();
  for (int i = 0; i < 6; ++i) submit(compute("k" + std::to_string(i), Duration{0}));
  turn();
  auto const jobs = ask<LeaseReply>(lease("default", 6)).jobs;
  ASSERT_EQ(jobs.size(), 6u);
  Cookie const first = submit(ForgetCachedBy{.tag = "t"});
  Cookie const second = submit(ForgetCachedBy{.prefix = "k"});
  turn();
  EXPECT_TRUE(answered(first));
  EXPECT_FALSE(answered(second));
  std::vector<Report> reports;
  for (LeasedJob const& job : jobs) reports.push_back(completed(job, "1"));
  submit(ReportBatch{.reports = std::move(reports)});
  while (!answered(second)) turn();

  EXPECT_EQ(cache_->figures().entries, 0u);
  expect_sound();
}

TEST_F(ShardCacheTest, WhatARefreshStoresWithoutTheTagBeforeItsOldValuesTurnIsNotKept) {
  options_.cache_desk.found_per_part = 2;
  restart();
  for (int i = 0; i < 6; ++i) submit(put("k" + std::to_string(i), "old", seconds{1}, minutes{10}, {"t"}));
  turn();
  clock_.advance(seconds{2});
  ask<CachedReply>(compute("k5"));  // Begins a refresh, whose own spec has no such tag.
  auto const job = lease_one();
  Cookie const forget = submit(ForgetCachedBy{.tag = "t"});
  turn();
  ASSERT_FALSE(answered(forget)) << "else this tests nothing";

  complete(job, "1");
  while (!answered(forget)) turn();

  EXPECT_EQ(find("k5").what, What::absent);
  EXPECT_EQ(cache_->figures().entries, 0u);
}

TEST_F(ShardCacheTest, ByATagACallerOfSomePrefixesForgetsHisOwnKeysOnly) {
  Allowed const mine{.queues = {}, .keys = std::make_shared<CacheKeySet const>(std::vector<std::string>{"mine:"})};
  for (auto const* const key : {"mine:1", "mine:2", "yours:1"}) {
    PutCache one = put(key, "v");
    one.set.tags = {"t"};
    ask<CachedReply>(std::move(one));
  }

  Cookie const cookie = submit(ForgetCachedBy{.tag = "t"}, mine);
  turn();

  EXPECT_EQ(take<CountReply>(cookie).count, 2u);
  ask<CacheMissed>(ReadCached{.key = "mine:1"});
  ask<CachedReply>(ReadCached{.key = "yours:1"});
}

}  // namespace
}  // namespace workmill::shard
