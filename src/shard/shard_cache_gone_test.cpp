#include <gtest/gtest.h>

#include "shard/shard_cache_fixture_test.h"

// Cached values that gave way to others, and what is written down of that.
namespace workmill::shard {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using What = cache::Lookup::What;

// Gone for the budget, and deleted afterwards: there is nothing to delete then, but a record of it in the log.
class ShardCacheOfLittleDiskTest : public ShardCacheTest {
 protected:
  ShardCacheOfLittleDiskTest() { cache_options_.disk_bytes = 4'000; }
  void fill() {
    for (int i = 0; i < 8; ++i) {
      ask<CachedReply>(put("k" + std::to_string(i), std::string(900, 'x'), minutes{1}, minutes{1}, {"tagged"}));
    }
    ASSERT_GT(cache_->figures().evictions_disk, 0u);
  }
  void restart_with_room() {
    cache_options_.disk_bytes = 1 << 20;
    restart();
    turn();
  }
};

TEST_F(ShardCacheOfLittleDiskTest, WhatGaveWayAndWasDeletedDoesNotComeBackWithARestart) {
  fill();
  for (int i = 0; i < 8; ++i) {
    Cookie const cookie = submit(ForgetCached{.key = "k" + std::to_string(i)});
    turn();
    ASSERT_TRUE(answered(cookie));
  }

  restart_with_room();

  EXPECT_EQ(cache_->figures().entries, 0u);
}

TEST_F(ShardCacheOfLittleDiskTest, WhatGaveWayAndWasDeletedByItsTagDoesNotComeBackWithARestart) {
  fill();
  ask<CountReply>(ForgetCachedBy{.tag = "tagged"});

  restart_with_room();

  EXPECT_EQ(cache_->figures().entries, 0u);
}

TEST_F(ShardCacheOfLittleDiskTest, WhatGaveWayAndWasPutAgainStays) {
  fill();
  submit(put("k0", "again"));
  turn();

  restart_with_room();

  EXPECT_EQ(body("k0"), "again");
}

TEST_F(ShardCacheOfLittleDiskTest, WhatGivesWayAtARestartWithLessRoomDoesNotComeBackWithMore) {
  cache_options_.disk_bytes = 1 << 20;
  restart();
  for (int i = 0; i < 8; ++i) ask<CachedReply>(put("k" + std::to_string(i), std::string(900, 'x')));
  cache_options_.disk_bytes = 4'000;
  restart();
  for (int i = 0; i < 8; ++i) submit(ForgetCached{.key = "k" + std::to_string(i)});
  turn();

  restart_with_room();

  EXPECT_EQ(cache_->figures().entries, 0u);
}

// The record that says so stands behind that of the failure, and would end that too.
TEST_F(ShardCacheOfLittleDiskTest, AFailureThatIsRememberedAfterItsKeyGaveWayOutlivesThatThisIsWrittenDown) {
  ask<CachedReply>(put("k", std::string(900, 'x'), Duration{0}, hours{1}));
  ask<CachedReply>(compute("k", seconds{20}, hours{1}));  // Stale: begins a refresh.
  Report report = completed(lease_one());
  report.outcome = Failed{.error_class = ErrorClass::fatal, .code = "broken"};
  for (int i = 0; i < 5; ++i) submit(put("other" + std::to_string(i), std::string(700, 'x')));
  submit(ReportBatch{.reports = {report}});
  turn();
  ASSERT_GT(cache_->figures().evictions_disk, 0u);
  ASSERT_EQ(find("k").what, What::failed);

  while (last_turn_.more) turn();

  EXPECT_EQ(find("k").what, What::failed);
  restart_with_room();
  ASSERT_EQ(find("k").what, What::failed);  // And the value has not come back.
  EXPECT_EQ(find("k").failure->code, "broken");
  expect_sound();
}

TEST_F(ShardCacheOfLittleDiskTest, ADeletionThatWaitsForWhatGaveWayToBeWrittenDownDeletesNothingMore) {
  cache_options_.disk_bytes = 1 << 20;
  restart();
  for (int i = 0; i < 400; ++i) submit(put("k" + std::to_string(i), std::string(900, 'x'), minutes{1}, {}, {"t"}));
  turn();
  options_.cache_desk.gone_bytes_min = 1;
  cache_options_.disk_bytes = 4'000;
  restart();  // Nearly all of them give way.
  Cookie const forget = submit(ForgetCachedBy{.tag = "t"});
  turn();
  ASSERT_FALSE(answered(forget)) << "else this tests nothing";

  submit(put("new", "v", minutes{1}, {}, {"t"}));
  while (!answered(forget)) turn();

  EXPECT_EQ(body("new"), "v");
}

TEST_F(ShardCacheTest, WhatGivesWayIsWrittenDownAsFastAsValuesCome) {
  cache_options_.disk_bytes = 100'000;
  restart();
  for (int turns = 0; turns < 4; ++turns) {
    for (int i = 0; i < 3'000; ++i) submit(put("k" + std::to_string(turns) + "." + std::to_string(i), "value"));
    turn();
  }
  ASSERT_GT(cache_->figures().evictions_disk, 8'000u);

  int turns = 0;
  for (; last_turn_.more && turns < 100; ++turns) turn();

  EXPECT_LT(turns, 10);
  expect_sound();
}

}  // namespace
}  // namespace workmill::shard
