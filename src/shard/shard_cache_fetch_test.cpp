#include <chrono>
#include <string>
#include <thread>

#include "shard/shard_cache_fixture_test.h"

// Values that the disk has to read first: on another thread, while turns go on.
namespace workmill::shard {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

class ShardCacheFetchTest : public ShardCacheTest {
 protected:
  // `k` is on the disk, and neither the cache nor the log nor the system has it in memory.
  void SetUp() override {
    cache_options_.memory_bytes = std::uint64_t{1} << 20;
    cache_options_.disk_bytes = kCacheValueBytesMax;
    start();
    ask<CachedReply>(put("k", large_));
    restart();
    ASSERT_EQ(find("k").what, cache::Lookup::What::cold);
    disk_.set_slow(true);
  }
  void turn_until(std::function<bool()> const& is_so) {
    auto const patience = std::chrono::steady_clock::now() + seconds{30};
    while (!is_so() && std::chrono::steady_clock::now() < patience) {
      turn();
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    ASSERT_TRUE(is_so());
  }
  CachedReply wait_for(Cookie cookie) {
    turn_until([&] { return answered(cookie); });
    return take<CachedReply>(cookie);
  }

  std::string const large_ = std::string(std::size_t{600} << 10, 'x');
};

TEST_F(ShardCacheFetchTest, TurnsGoOnWhileTheDiskReads) {
  Cookie const reader = submit(ReadCached{.key = "k"});
  Cookie const other = submit(enqueue({spec_of_job("t")}));
  turn();

  EXPECT_TRUE(answered(other));
  EXPECT_FALSE(answered(reader));
  EXPECT_FALSE(loop_->idle());
  EXPECT_EQ(wait_for(reader).value->body(), large_);
  EXPECT_TRUE(loop_->idle());
  EXPECT_EQ(disk_.fetched(), 1U);
  auto const status = ask<StatusReply>(GetStatus{}).cache.at(0);
  EXPECT_EQ(status.fetches, 1U);
  EXPECT_EQ(status.cold_reads, 1U);
  expect_sound();
}

TEST_F(ShardCacheFetchTest, AllWhoAskForOneKeyAreReadForOnce) {
  Cookie const readers[] = {submit(ReadCached{.key = "k"}), submit(compute("k")), submit(ReadCached{.key = "k"})};
  turn();
  for (Cookie const reader : readers) EXPECT_FALSE(answered(reader));
  auto const bounds = ask<StatusReply>(GetStatus{}).bounds;
  auto const fetches = std::ranges::find(bounds, "cache_fetches", &Fullness::name);
  ASSERT_NE(fetches, bounds.end());
  EXPECT_LE(fetches->used, 3U);

  for (Cookie const reader : readers) EXPECT_EQ(wait_for(reader).value->body(), large_);
  EXPECT_EQ(disk_.fetched(), 1U);
  EXPECT_EQ(engine_->status().jobs, 0U);
}

TEST_F(ShardCacheFetchTest, AStaleValueIsRefreshedOnceItIsRead) {
  ask<CachedReply>(put("k", large_, Duration{0}, minutes{1}));
  restart();
  Cookie const caller = submit(compute("k"));
  turn();
  EXPECT_EQ(engine_->status().jobs, 0U);

  EXPECT_EQ(wait_for(caller).value->body(), large_);
  EXPECT_EQ(engine_->status().jobs, 1U);
}

// What the log takes at once bounds what they begin, however many values the disk has read meanwhile.
TEST_F(ShardCacheFetchTest, FlightsThatBeginAfterwardsAreNoMoreThanABatchTakes) {
  constexpr int kKeys = 12;
  auto const key = [](int i) { return "stale " + std::to_string(i); };
  for (int i = 0; i < kKeys; ++i) ask<CachedReply>(put(key(i), large_, Duration{0}, minutes{1}));
  restart();
  std::string const payload = "\"" + std::string(kPayloadBytesMax - 2, 'p') + "\"";
  std::vector<Cookie> callers;
  for (int i = 0; i < kKeys; ++i) {
    ComputeCached command = compute(key(i));
    JobSpecView spec;
    ASSERT_TRUE(decode_spec(command.spec, spec));
    spec.payload_kind = PayloadKind::json;
    spec.payload = payload;
    Bytes larger;
    encode_spec(spec, larger);
    command.spec = std::move(larger);
    callers.push_back(submit(std::move(command)));
  }
  turn();
  auto const patience = std::chrono::steady_clock::now() + seconds{30};
  while (disk_.fetched() < kKeys && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
  ASSERT_EQ(disk_.fetched(), std::uint64_t{kKeys});

  for (Cookie const caller : callers) EXPECT_EQ(wait_for(caller).value->body(), large_);
  EXPECT_EQ(engine_->status().jobs, std::uint64_t{kKeys});
}

TEST_F(ShardCacheFetchTest, AValueThatIsTooLargeForTheMemoryIsReadOnceForAllWhoWaited) {
  std::vector<Cookie> readers;
  readers.reserve(5);
  for (int i = 0; i < 5; ++i) readers.push_back(submit(ReadCached{.key = "k"}));
  turn();

  for (Cookie const reader : readers) EXPECT_EQ(wait_for(reader).value->body(), large_);
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).cache.at(0).cold_reads, 1U);
}

TEST_F(ShardCacheFetchTest, WhoGivesUpIsToldSoWhileTheDiskStillReads) {
  disk_.hold_fetches(true);
  ask<CachedReply>(put("other", large_));
  restart();
  Cookie const patient = submit(ReadCached{.key = "k"});
  Request hurried{.port = 0, .cookie = next_cookie_++, .command = ReadCached{.key = "other"}};
  hurried.give_up_at = clock_.now() + seconds{1};
  Cookie const cookie = hurried.cookie;
  ASSERT_TRUE(loop_->submit(std::move(hurried)));
  turn();
  EXPECT_EQ(last_turn_.next, clock_.now() + seconds{1});
  clock_.advance(seconds{1});
  turn();

  EXPECT_EQ(take<Error>(cookie).code, ErrorCode::deadline_exceeded);
  EXPECT_FALSE(answered(patient));
  disk_.hold_fetches(false);
  EXPECT_EQ(wait_for(patient).value->body(), large_);
}

// As it would be if it had been read at once: the changes may have been sent behind it over one connection. But nobody
// waits for the disk who did not ask for what it has to read, and least of all the shard.
TEST_F(ShardCacheFetchTest, WhatWasAskedBeforeAPutIsAnsweredAsOfThenAndThePutDoesNotWait) {
  disk_.hold_fetches(true);
  Cookie const reader = submit(ReadCached{.key = "k"});
  Cookie const change = submit(put("k", large_ + "2"));
  Cookie const later = submit(ReadCached{.key = "k"});
  turn();

  EXPECT_EQ(take<CachedReply>(change).value->body(), large_ + "2");
  EXPECT_EQ(take<CachedReply>(later).value->body(), large_ + "2");
  EXPECT_FALSE(answered(reader));
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).cache.at(0).cold_reads, 0U);

  disk_.hold_fetches(false);
  EXPECT_EQ(wait_for(reader).value->body(), large_);
  EXPECT_EQ(wait_for(submit(ReadCached{.key = "k"})).value->body(), large_ + "2");
  expect_sound();
}

TEST_F(ShardCacheFetchTest, WhatWasAskedBeforeADeletionIsAnsweredAsOfThenAndTheDeletionDoesNotWait) {
  disk_.hold_fetches(true);
  Cookie const reader = submit(ReadCached{.key = "k"});
  Cookie const deletion = submit(ForgetCached{.key = "k"});
  Cookie const later = submit(ReadCached{.key = "k"});
  turn();

  take<DoneReply>(deletion);
  take<CacheMissed>(later);
  EXPECT_FALSE(answered(reader));
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).cache.at(0).cold_reads, 0U);

  disk_.hold_fetches(false);
  EXPECT_EQ(wait_for(reader).value->body(), large_);
  EXPECT_EQ(find("k").what, cache::Lookup::What::absent);
  EXPECT_TRUE(loop_->idle());
  expect_sound();
}

TEST_F(ShardCacheFetchTest, WhoAsksForTheNextValueWaitsForThatOne) {
  log_options_.recent_bytes = 0;  // What was written is only on the disk soon.
  restart();
  disk_.hold_fetches(true);
  Cookie const first = submit(ReadCached{.key = "k"});
  turn();
  ask<CachedReply>(put("k", large_ + "2"));
  ask<EnqueueReply>(enqueue({spec_of_job("t")}));
  Cookie const second = submit(ReadCached{.key = "k"});
  turn();
  EXPECT_FALSE(answered(second));
  ask<DoneReply>(ForgetCached{.key = "k"});
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).cache.at(0).fetches, 2U);

  disk_.hold_fetches(false);
  EXPECT_EQ(wait_for(first).value->body(), large_);
  EXPECT_EQ(wait_for(second).value->body(), large_ + "2");
  EXPECT_TRUE(loop_->idle());
}

TEST_F(ShardCacheFetchTest, AStaleValueThatHasBeenReplacedIsAnsweredAndNotRefreshed) {
  ask<CachedReply>(put("k", large_, Duration{0}, minutes{1}));
  restart();
  disk_.hold_fetches(true);
  Cookie const caller = submit(compute("k"));
  turn();
  ask<CachedReply>(put("k", "new"));

  disk_.hold_fetches(false);
  EXPECT_EQ(wait_for(caller).value->body(), large_);
  EXPECT_EQ(engine_->status().jobs, 0U);
}

TEST_F(ShardCacheFetchTest, WhatWasDeletedStaysOnTheDiskUntilItIsRead) {
  disk_.hold_fetches(true);
  std::uint32_t const segment = cache_->place("k")->at.segment;
  Cookie const reader = submit(ReadCached{.key = "k"});
  turn();
  ask<DoneReply>(ForgetCached{.key = "k"});
  auto const fill = [this](int times) {
    for (int i = 0; i < times; ++i) {
      auto const sent = ask<EnqueueReply>(enqueue({spec_of_job("filler", "filler", R"("to fill the log")")}));
      ask<DoneReply>(DeleteJob{.job = {.number = sent.jobs.at(0).number, .text = {}}});
    }
  };
  fill(1'000);
  ASSERT_LT(segment + 1, log_->status().segments.back().ordinal);
  EXPECT_LE(log_->status().segments.front().ordinal, segment);
  EXPECT_FALSE(last_turn_.more);

  disk_.hold_fetches(false);
  EXPECT_EQ(wait_for(reader).value->body(), large_);
  clock_.advance(seconds{2});
  fill(10);
  EXPECT_GT(log_->status().segments.front().ordinal, segment);
}

TEST_F(ShardCacheFetchTest, APutThatIsRefusedChangesNothingForThoseWhoWait) {
  disk_.hold_fetches(true);
  Cookie const reader = submit(ReadCached{.key = "k"});
  turn();
  EXPECT_EQ(ask<Error>(put("k", std::string(kCacheValueBytesMax, 'y'))).code, ErrorCode::payload_too_large);
  Cookie const second = submit(ReadCached{.key = "k"});
  turn();

  disk_.hold_fetches(false);
  EXPECT_EQ(wait_for(reader).value->body(), large_);
  EXPECT_EQ(take<CachedReply>(second).value->body(), large_);
  EXPECT_EQ(disk_.fetched(), 1U);
}

TEST_F(ShardCacheFetchTest, WhoHasGoneIsNotReadFor) {
  Cookie const reader = submit(ReadCached{.key = "k"});
  turn();
  loop_->abandon(0, reader);
  turn_until([&] { return loop_->idle(); });

  EXPECT_FALSE(answered(reader));
  auto const status = ask<StatusReply>(GetStatus{});
  EXPECT_EQ(status.cache.at(0).cold_reads, 0U);
  EXPECT_EQ(status.given_up, 1U);
}

TEST_F(ShardCacheFetchTest, ALoopEndsWithWhatIsStillToBeRead) {
  Cookie const reader = submit(ReadCached{.key = "k"});
  turn();

  restart();

  EXPECT_FALSE(answered(reader));
  EXPECT_EQ(wait_for(submit(ReadCached{.key = "k"})).value->body(), large_);
}

// One batch that is not on disk is as many as there may be.
class PausedFetchTest : public ShardCacheFetchTest {
 protected:
  void SetUp() override {
    options_.flush_by = FlushBy::writer;
    options_.unflushed_bytes_max = 0;
    options_.make_flusher = [this](log::Log& log) {
      auto made = std::make_unique<HeldFlusher>(log);
      flusher_ = made.get();
      return made;
    };
    ShardCacheFetchTest::SetUp();
    ask<EnqueueReply>(enqueue({spec_of_job("t")}));  // From here on the flusher flushes.
    ASSERT_NE(flusher_, nullptr);
  }
  HeldFlusher* flusher_ = nullptr;
};

// It can do nothing about what is overdue, and the flush wakes it: were it woken by the time, it turned for nothing all
// the while.
TEST_F(PausedFetchTest, WhatIsOverdueWaitsForTheFlush) {
  disk_.hold_fetches(true);
  Request hurried{.port = 0, .cookie = next_cookie_++, .command = ReadCached{.key = "k"}};
  hurried.give_up_at = clock_.now() + seconds{1};
  Cookie const reader = hurried.cookie;
  ASSERT_TRUE(loop_->submit(std::move(hurried)));
  Cookie const worker = submit(lease("empty", 1, seconds{1}));
  submit(enqueue({spec_of_job("t")}));
  turn();
  clock_.advance(seconds{2});
  turn();

  ASSERT_TRUE(last_turn_.paused);
  EXPECT_FALSE(last_turn_.more);
  EXPECT_FALSE(last_turn_.next.has_value());
  EXPECT_FALSE(answered(reader));

  flusher_->flush();
  turn();
  EXPECT_FALSE(last_turn_.paused);
  EXPECT_EQ(take<Error>(reader).code, ErrorCode::deadline_exceeded);
  EXPECT_TRUE(take<LeaseReply>(worker).jobs.empty());
  disk_.hold_fetches(false);
}

}  // namespace
}  // namespace workmill::shard
