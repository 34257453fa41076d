#include <gtest/gtest.h>

#include "shard/shard_cache_fixture_test.h"

namespace workmill::shard {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using What = cache::Lookup::What;

TEST_F(ShardCacheTest, WhatWasPutIsInTheIndexWhenItsAnswerLeaves) {
  auto const stored = ask<CachedReply>(put("k", "value"));

  EXPECT_EQ(stored.value->body(), "value");
  auto const found = find("k");
  EXPECT_EQ(found.what, What::value);
  EXPECT_EQ(found.value->body(), "value");
  EXPECT_EQ(found.value->content_type(), "text/plain");
  EXPECT_EQ(found.times, stored.times);
  expect_sound();
}

TEST_F(ShardCacheTest, ALaterPutInTheSameTurnWins) {
  submit(put("k", "first"));
  submit(put("k", "second"));
  turn();

  EXPECT_EQ(body("k"), "second");
}

TEST_F(ShardCacheTest, WhatIsForgottenIsGone) {
  ask<CachedReply>(put("k", "value"));

  ask<DoneReply>(ForgetCached{.key = "k"});

  EXPECT_EQ(find("k").what, What::absent);
  ask<CacheMissed>(ForgetCached{.key = "k"});
}

TEST_F(ShardCacheTest, OneJobRunsHoweverManyAskAndAllAreAnsweredInItsTurn) {
  std::vector<Cookie> callers;
  for (int i = 0; i < 100; ++i) callers.push_back(submit(compute("k")));
  turn();
  for (Cookie const caller : callers) ASSERT_FALSE(answered(caller));
  auto const job = lease_one();
  EXPECT_TRUE(ask<LeaseReply>(lease()).jobs.empty());

  complete(job, "[1]");

  int collapsed = 0;
  CacheValuePtr value;
  for (Cookie const caller : callers) {
    auto const reply = take<CachedReply>(caller);
    EXPECT_EQ(reply.value->body(), "[1]");
    EXPECT_TRUE(reply.computed);
    collapsed += reply.collapsed ? 1 : 0;
    EXPECT_TRUE(!value || value == reply.value);  // Shared, not copied.
    value = reply.value;
  }
  EXPECT_EQ(collapsed, 99);
  EXPECT_EQ(body("k"), "[1]");
  expect_sound();
}

TEST_F(ShardCacheTest, WhatIsThereIsAnsweredAtOnceAndBeginsNoFlight) {
  ask<CachedReply>(put("k", "value"));

  auto const reply = ask<CachedReply>(compute("k"));

  EXPECT_EQ(reply.value->body(), "value");
  EXPECT_FALSE(reply.computed);
  EXPECT_EQ(engine_->status().jobs, 0u);
}

TEST_F(ShardCacheTest, WhoDoesNotWaitIsToldOfTheJob) {
  auto const pending = ask<CachePending>(compute("k", Duration{0}));

  EXPECT_EQ(pending.state, JobState::ready);
  EXPECT_EQ(engine_->flight_of("k"), pending.job);
  EXPECT_EQ(ask<CachePending>(compute("k", Duration{0})).job, pending.job);
}

TEST_F(ShardCacheTest, WhoHasWaitedLongEnoughIsToldOfTheJob) {
  Cookie const caller = submit(compute("k", seconds{5}));
  turn();
  auto const job = lease_one();
  ASSERT_FALSE(answered(caller));
  clock_.advance(seconds{5});
  turn();

  auto const pending = take<CachePending>(caller);
  EXPECT_EQ(pending.job, job.number);
  EXPECT_EQ(pending.state, JobState::leased);
}

TEST_F(ShardCacheTest, WhoGoesIsForgotten) {
  Cookie const caller = submit(compute("k"));
  turn();
  loop_->abandon(0, caller);
  complete(lease_one(), "1");

  EXPECT_FALSE(answered(caller));
  EXPECT_EQ(body("k"), "1");  // The flight went on.
  expect_sound();
}

TEST_F(ShardCacheTest, AValueThatIsOverAtOnceIsForThoseWhoWaited) {
  Cookie const caller = submit(compute("k", seconds{20}, {}, Duration{0}, Duration{0}));
  turn();
  complete(lease_one(), "1");

  EXPECT_EQ(take<CachedReply>(caller).value->body(), "1");
  EXPECT_EQ(find("k").what, What::absent);
  expect_sound();
}

TEST_F(ShardCacheTest, AFailureIsAnsweredWithTheJobsError) {
  Cookie const caller = submit(compute("k"));
  turn();
  fail_for_good(lease_one());

  auto const failed = take<ComputeFailed>(caller);
  EXPECT_EQ(failed.failure.error_class, ErrorClass::user);
  EXPECT_EQ(failed.failure.code, "bad_input");
  EXPECT_EQ(failed.failure.message, "no such user");
  EXPECT_FALSE(failed.remembered);
  EXPECT_LE(failed.failure.until, clock_.now());
  ask<CachePending>(compute("k", Duration{0}));  // Nothing is remembered: the next begins another.
}

TEST_F(ShardCacheTest, AFailureIsRememberedAsLongAsItShould) {
  Cookie const caller = submit(compute("k", seconds{20}, seconds{10}));
  turn();
  fail_for_good(lease_one(), ErrorClass::retryable);
  // A retryable failure of the only attempt is the end as well.
  EXPECT_EQ(take<ComputeFailed>(caller).failure.until, clock_.now() + seconds{10});

  auto const again = ask<ComputeFailed>(compute("k"));
  EXPECT_TRUE(again.remembered);
  EXPECT_EQ(again.failure.code, "bad_input");
  EXPECT_EQ(find("k").what, What::failed);
  clock_.advance(seconds{10});
  ask<CachePending>(compute("k", Duration{0}));
  expect_sound();
}

TEST_F(ShardCacheTest, AStaleValueIsServedOverAFailure) {
  ask<CachedReply>(put("k", "old", seconds{1}, minutes{10}));
  clock_.advance(seconds{2});
  EXPECT_EQ(ask<CachedReply>(compute("k", seconds{20}, seconds{10})).value->body(), "old");
  fail_for_good(lease_one());  // The refresh that the request has begun.

  auto const reply = ask<CachedReply>(compute("k", seconds{20}, seconds{10}));

  EXPECT_EQ(reply.value->body(), "old");
  EXPECT_FALSE(engine_->flight_of("k"));  // As the failure is remembered.
  clock_.advance(minutes{10});
  EXPECT_EQ(find("k").what, What::absent);  // Never beyond its time.
}

TEST_F(ShardCacheTest, ACancelledOrDeletedFlightTellsWhoWaits) {
  Cookie const first = submit(compute("k"));
  turn();
  auto const flight = engine_->flight_of("k");
  ASSERT_TRUE(flight);
  ask<DoneReply>(CancelJob{.job = {.number = *flight, .text = {}}});
  EXPECT_EQ(take<ComputeFailed>(first).failure.error_class, ErrorClass::retryable);

  Cookie const second = submit(compute("k"));
  turn();
  ask<DoneReply>(DeleteJob{.job = {.number = *engine_->flight_of("k"), .text = {}}});
  EXPECT_EQ(take<ComputeFailed>(second).failure.error_class, ErrorClass::retryable);
  expect_sound();
}

TEST_F(ShardCacheTest, AQuietRefreshComputesOnceAndIsNotAnswered) {
  ask<CachedReply>(put("k", "old", minutes{1}, minutes{10}));
  auto const seen = find("k").times.stored_at;
  auto refresh = compute("k");
  refresh.quiet = true;
  refresh.seen = seen;

  Cookie const first = submit(refresh);
  Cookie const second = submit(refresh);
  turn();

  clock_.advance(seconds{1});
  complete(lease_one(), "\"new\"");
  EXPECT_FALSE(answered(first) || answered(second));
  EXPECT_EQ(body("k"), "\"new\"");
  submit(refresh);  // Late: the value that it has seen is not there any more.
  turn();
  EXPECT_EQ(engine_->status().flights, 0u);
}

TEST_F(ShardCacheTest, TheCacheAndItsFlightsAreThereAfterAKill) {
  ask<CachedReply>(put("k", "value", minutes{1}, minutes{1}, {"t"}));
  ask<CachedReply>(put("gone", "value"));
  ask<DoneReply>(ForgetCached{.key = "gone"});
  auto const flight = ask<CachePending>(compute("l", Duration{0})).job;
  Cookie const failing = submit(compute("m", seconds{20}, minutes{10}));
  turn();
  auto jobs = ask<LeaseReply>(lease("default", 2)).jobs;
  ASSERT_EQ(jobs.size(), 2u);
  fail_for_good(jobs[1]);
  take<ComputeFailed>(failing);

  restart();

  EXPECT_EQ(body("k"), "value");
  EXPECT_EQ(find("gone").what, What::absent);
  EXPECT_EQ(find("m").what, What::failed);
  EXPECT_EQ(engine_->flight_of("l"), flight);
  Cookie const caller = submit(compute("l"));  // Asks again, and finds the same flight.
  turn();
  complete(jobs[0], "1");
  auto const reply = take<CachedReply>(caller);
  EXPECT_EQ(reply.value->body(), "1");
  EXPECT_TRUE(reply.collapsed);
  EXPECT_EQ(ask<CountReply>(ForgetCachedBy{.tag = "t"}).count, 1u);
  EXPECT_EQ(find("k").what, What::absent);
  expect_sound();
}

TEST_F(ShardCacheTest, WhatIsVolatileIsGoneAfterAKill) {
  engine_options_.cache_volatile = {"tmp:"};
  restart();
  ask<CachedReply>(put("tmp:k", "value"));
  ask<CachedReply>(put("k", "value"));
  EXPECT_EQ(body("tmp:k"), "value");

  restart();

  EXPECT_EQ(body("tmp:k"), "(none)");
  EXPECT_EQ(body("k"), "value");
}

TEST_F(ShardCacheTest, WhatWasWrittenBeforeItsPrefixBecameVolatileIsNotBroughtBack) {
  ask<CachedReply>(put("tmp:k", "value"));
  engine_options_.cache_volatile = {"tmp:"};

  restart();

  EXPECT_EQ(body("tmp:k"), "(none)");
}

TEST_F(ShardCacheTest, ReportsSetKeysInTheirOwnBatch) {
  ask<EnqueueReply>(enqueue({spec_of_job("a")}));
  auto const job = lease_one();
  Report report = completed(job, "1");
  std::get<Completed>(report.outcome)
      .cache.push_back({.key = "k", .set = {.content_type = "text/plain", .body = "set", .fresh = minutes{1}}});

  ask<ReportsReply>(ReportBatch{.reports = {report}});

  EXPECT_EQ(body("k"), "set");
}

TEST_F(ShardCacheTest, WhoWaitedGetsWhatWasComputedWhateverCameBehindItInTheSameTurn) {
  Cookie const caller = submit(compute("k"));
  turn();
  submit(ReportBatch{.reports = {completed(lease_one(), "1")}});
  submit(put("k", "put"));
  submit(ForgetCached{.key = "k"});
  turn();

  EXPECT_EQ(take<CachedReply>(caller).value->body(), "1");
  EXPECT_EQ(find("k").what, What::absent);
}

TEST_F(ShardCacheTest, ThatAValueIsStoredIsSaidOnlyWhereItHasATime) {
  Cookie const caller = submit(compute("k", seconds{20}, {}, Duration{0}, Duration{0}));
  Cookie const other = submit(compute("l"));
  turn();
  for (LeasedJob const& job : ask<LeaseReply>(lease("default", 2)).jobs) complete(job, "1");

  EXPECT_FALSE(take<CachedReply>(caller).stored);
  EXPECT_TRUE(take<CachedReply>(other).stored);
}

TEST_F(ShardCacheTest, AColdValueIsReadBackFromTheLog) {
  cache_options_.memory_bytes = std::uint64_t{1} << 20;
  restart();
  std::string const large(std::size_t{400} << 10, 'x');
  for (int i = 0; i < 4; ++i) ask<CachedReply>(put("k" + std::to_string(i), large + std::to_string(i)));
  int cold = 0;
  for (int i = 0; i < 4; ++i) {
    std::string const key = "k" + std::to_string(i);
    cold += find(key).what == What::cold ? 1 : 0;

    auto const reply = ask<CachedReply>(ReadCached{.key = key});

    EXPECT_EQ(reply.value->body(), large + std::to_string(i));
  }
  EXPECT_GT(cold, 0);
  auto const status = ask<StatusReply>(GetStatus{});
  ASSERT_EQ(status.cache.size(), 1u);
  EXPECT_GT(status.cache[0].cold_reads, 0u);
  ask<CacheMissed>(ReadCached{.key = "no such key"});
  expect_sound();
}

// To read back megabytes takes its time.
TEST_F(ShardCacheTest, AColdValueThatIsOverOnceItIsReadIsComputedAnew) {
  cache_options_.memory_bytes = std::uint64_t{1} << 20;
  restart();
  ask<CachedReply>(put("k", std::string(std::size_t{600} << 10, 'x')));
  ASSERT_EQ(find("k").what, What::cold);
  clock_.set_step(std::chrono::hours{24});

  ask<CachePending>(compute("k", Duration{0}));
}

TEST_F(ShardCacheTest, WhoHasWaitedLongEnoughGetsTheStaleValueThatWasPutMeanwhileOnDiskToo) {
  cache_options_.memory_bytes = std::uint64_t{1} << 20;
  restart();
  Cookie const caller = submit(compute("k", seconds{5}));
  turn();
  std::string const large(std::size_t{600} << 10, 'x');
  ask<CachedReply>(put("k", large, Duration{0}, minutes{1}));
  ASSERT_EQ(find("k").what, What::cold);
  EXPECT_FALSE(answered(caller));
  clock_.advance(seconds{5});
  turn();

  EXPECT_EQ(take<CachedReply>(caller).value->body(), large);
}

TEST_F(ShardCacheTest, WhatNoBudgetCanHoldIsRefusedAndDrivesNothingOut) {
  cache_options_.memory_bytes = std::uint64_t{1} << 20;
  cache_options_.disk_bytes = std::uint64_t{1} << 20;
  engine_options_.cache_volatile = {"tmp:"};
  restart();
  ask<CachedReply>(put("small", "s"));
  ask<CachedReply>(put("k", "before"));
  ask<CachedReply>(put("tmp:k", "before"));
  std::uint64_t const end = log_->next_base().offset;

  EXPECT_EQ(ask<Error>(put("k", std::string(std::size_t{1} << 20, 'x'))).code, ErrorCode::payload_too_large);
  EXPECT_EQ(ask<Error>(put("tmp:k", std::string(std::size_t{600} << 10, 'x'))).code, ErrorCode::payload_too_large);

  EXPECT_EQ(log_->next_base().offset, end);
  EXPECT_EQ(body("k"), "before");
  EXPECT_EQ(body("tmp:k"), "before");
  EXPECT_EQ(body("small"), "s");
  ask<CachedReply>(put("k", std::string(std::size_t{1'000} << 10, 'x')));
  EXPECT_EQ(find("k").what, What::cold);
  expect_sound();
}

TEST_F(ShardCacheTest, WhoWaitsForAValueThatNoBudgetCanHoldGetsItAndItIsNotKept) {
  cache_options_.disk_bytes = std::uint64_t{1} << 20;
  restart();
  ask<CachedReply>(put("small", "s"));
  ask<CachedReply>(put("k", "old", Duration{0}, minutes{1}));
  std::string const large = "\"" + std::string(std::size_t{1} << 20, 'x') + "\"";
  ask<CachedReply>(compute("k", Duration{0}));  // The stale one, and a refresh.
  auto const job = lease_one();
  ask<DoneReply>(ForgetCached{.key = "k"});
  Cookie const caller = submit(compute("k"));
  turn();
  auto const next = lease_one();

  auto const said = ask<ReportsReply>(ReportBatch{.reports = {completed(next, large), completed(job, large)}});

  EXPECT_EQ(said.reports.at(0).not_stored, std::vector<std::string>{"k"});
  EXPECT_TRUE(said.reports.at(1).not_stored.empty());  // It was overtaken: the key is another's.
  auto const reply = take<CachedReply>(caller);
  EXPECT_EQ(reply.value->body(), large);
  EXPECT_TRUE(reply.computed);
  EXPECT_FALSE(reply.stored);
  EXPECT_EQ(find("k").what, What::absent);
  EXPECT_EQ(body("small"), "s");
  restart();
  EXPECT_EQ(find("k").what, What::absent);
  EXPECT_EQ(body("small"), "s");
  expect_sound();
}

TEST_F(ShardCacheTest, AResultThatNoBudgetCanHoldTakesTheStaleValueAlong) {
  cache_options_.disk_bytes = std::uint64_t{1} << 20;
  restart();
  ask<CachedReply>(put("k", "old", Duration{0}, minutes{1}));
  ask<CachedReply>(compute("k", Duration{0}));

  complete(lease_one(), "\"" + std::string(std::size_t{1} << 20, 'x') + "\"");

  EXPECT_EQ(find("k").what, What::absent);
  restart();
  EXPECT_EQ(find("k").what, What::absent);
}

// A log from before, when there was more room.
TEST_F(ShardCacheTest, AValueThatTheDisksBudgetCanHoldNoMoreGoesAloneAtARestart) {
  ask<CachedReply>(put("large", std::string(std::size_t{1} << 20, 'x')));
  for (int i = 0; i < 5; ++i) ask<CachedReply>(put("k" + std::to_string(i), "s"));
  cache_options_.disk_bytes = std::uint64_t{1} << 20;

  restart();

  EXPECT_EQ(find("large").what, What::absent);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(body("k" + std::to_string(i)), "s");
  turn();
  cache_options_.disk_bytes = std::uint64_t{1} << 30;
  restart();
  EXPECT_EQ(find("large").what, What::absent);
  expect_sound();
}

TEST_F(ShardCacheTest, ALimitedCallerComputesInHisQueuesAndDoesNothingElse) {
  Allowed const mine{.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"mine"})};
  for (Command& command :
       std::vector<Command>{Command{put("k", "v")}, Command{ReadCached{.key = "k"}}, Command{ForgetCached{.key = "k"}},
                            Command{ForgetCachedBy{.tag = "t"}}, Command{compute("k")}}) {
    Cookie const cookie = submit(std::move(command), mine);
    turn();
    EXPECT_EQ(take<Error>(cookie).code, ErrorCode::forbidden);
  }
}

TEST_F(ShardCacheTest, ACallerOfSomePrefixesTouchesKeysThatBeginSoAndNoOthers) {
  Allowed const mine{.queues = {}, .keys = std::make_shared<CacheKeySet const>(std::vector<std::string>{"mine:"})};
  ask<CachedReply>(put("yours:1", "v"));
  for (Command& command : std::vector<Command>{
           Command{put("yours:1", "w")}, Command{ReadCached{.key = "yours:1"}}, Command{ForgetCached{.key = "yours:1"}},
           Command{ForgetCachedBy{.prefix = "yours:"}}, Command{ForgetCachedBy{.prefix = "mine"}},
           Command{compute("yours:1")}, Command{compute("mine")}}) {
    Cookie const cookie = submit(std::move(command), mine);
    turn();
    EXPECT_EQ(take<Error>(cookie).code, ErrorCode::forbidden);
  }

  auto const ask_limited = [&]<class R>(Command command, R const*) {
    Cookie const cookie = submit(std::move(command), mine);
    turn();
    return take<R>(cookie);
  };
  ask_limited(put("mine:1", "v"), static_cast<CachedReply*>(nullptr));
  ask_limited(ReadCached{.key = "mine:1"}, static_cast<CachedReply*>(nullptr));
  ask_limited(compute("mine:1"), static_cast<CachedReply*>(nullptr));
  ask_limited(ForgetCached{.key = "mine:1"}, static_cast<DoneReply*>(nullptr));
  EXPECT_EQ(ask_limited(ForgetCachedBy{.prefix = "mine:"}, static_cast<CountReply*>(nullptr)).count, 0u);
  EXPECT_TRUE(ask<CachedReply>(ReadCached{.key = "yours:1"}).value);
}

TEST_F(ShardCacheTest, ADrainLetsNobodyWait) {
  Cookie const caller = submit(compute("k"));
  turn();
  loop_->drain();
  turn();

  take<CachePending>(caller);
  ask<CachePending>(compute("k"));
  EXPECT_TRUE(loop_->idle());
}

TEST_F(ShardCacheTest, WithoutACacheItsCommandsAreRefused) {
  options_.cache = nullptr;
  loop_ = std::make_unique<ShardLoop>(options_, *log_, *engine_, clock_, chance_.fork(), 1, [] {}, recovery_);

  EXPECT_EQ(ask<Error>(put("k", "v")).code, ErrorCode::not_found);
  EXPECT_EQ(ask<Error>(compute("k")).code, ErrorCode::not_found);
  EXPECT_EQ(ask<Error>(ForgetCachedBy{.tag = "t"}).code, ErrorCode::not_found);
}

}  // namespace
}  // namespace workmill::shard
