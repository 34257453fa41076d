#include <gtest/gtest.h>

#include "shard/shard_fixture_test.h"

namespace workmill::shard {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using What = cache::Lookup::What;

class ShardCacheTest : public ShardTest {
 protected:
  ShardCacheTest() {
    engine_options_.cache_jitter_permille = 0;
    log_options_.segment_bytes = 64 * 1024;
  }

  cache::Lookup find(std::string_view key) const { return cache_->find(key, clock_.now()); }
  std::string body(std::string_view key) const {
    auto const found = find(key);
    return found.value ? std::string{found.value->body()} : "(none)";
  }
  LeasedJob lease_one() {
    auto const leased = ask<LeaseReply>(lease());
    if (leased.jobs.size() == 1) return leased.jobs[0];
    ADD_FAILURE() << "nothing to lease";
    return {};
  }
  void complete(LeasedJob const& job, BytesView result) {
    auto const reported = ask<ReportsReply>(ReportBatch{.reports = {completed(job, result)}});
    ASSERT_EQ(reported.reports.size(), 1u);
    EXPECT_FALSE(reported.reports[0].error);
  }
  void fail_for_good(LeasedJob const& job, ErrorClass error_class = ErrorClass::user) {
    Report report{.job = {.number = job.number, .text = {}}, .lease = job.token};
    report.outcome = Failed{.error_class = error_class, .code = "bad_input", .message = "no such user"};
    ask<ReportsReply>(ReportBatch{.reports = {report}});
  }
  void expect_sound() {
    EXPECT_EQ(engine_->check_invariants(), "");
    EXPECT_EQ(cache_->check_invariants(), "");
  }
};

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

// --- Puts and deletions while a job computes the key.

TEST_F(ShardCacheTest, WhoWaitedGetsWhatWasComputedAndADeletionMeanwhileHolds) {
  Cookie const caller = submit(compute("k"));
  turn();
  auto const job = lease_one();
  ask<CacheMissed>(ForgetCached{.key = "k"});  // There is no value to delete.

  complete(job, "1");

  auto const reply = take<CachedReply>(caller);
  EXPECT_EQ(reply.value->body(), "1");
  EXPECT_TRUE(reply.computed);
  EXPECT_FALSE(reply.stored);
  EXPECT_EQ(find("k").what, What::absent);
  restart();
  EXPECT_EQ(find("k").what, What::absent);
  expect_sound();
}

TEST_F(ShardCacheTest, WhoAsksAfterADeletionIsComputedForAnew) {
  Cookie const before = submit(compute("k"));
  turn();
  auto const old = lease_one();
  ask<CacheMissed>(ForgetCached{.key = "k"});
  Cookie const after = submit(compute("k"));
  turn();
  auto const fresh = lease_one();
  EXPECT_NE(fresh.number, old.number);

  complete(old, "\"old\"");
  EXPECT_EQ(take<CachedReply>(before).value->body(), "\"old\"");
  EXPECT_FALSE(answered(after));
  complete(fresh, "\"fresh\"");

  auto const reply = take<CachedReply>(after);
  EXPECT_EQ(reply.value->body(), "\"fresh\"");
  EXPECT_TRUE(reply.stored);
  EXPECT_FALSE(reply.collapsed);
  EXPECT_EQ(body("k"), "\"fresh\"");
  expect_sound();
}

TEST_F(ShardCacheTest, TwoFlightsOfOneKeyThatEndInOneTurnAnswerEachItsOwn) {
  Cookie const before = submit(compute("k"));
  turn();
  auto const old = lease_one();
  submit(ForgetCached{.key = "k"});
  Cookie const after = submit(compute("k"));
  turn();
  auto const fresh = lease_one();

  submit(ReportBatch{.reports = {completed(fresh, "2"), completed(old, "1")}});
  turn();

  EXPECT_EQ(take<CachedReply>(before).value->body(), "1");
  EXPECT_EQ(take<CachedReply>(after).value->body(), "2");
  EXPECT_EQ(body("k"), "2");
}

TEST_F(ShardCacheTest, WhatWasPutWhileAJobComputedItStays) {
  Cookie const caller = submit(compute("k"));
  turn();
  auto const job = lease_one();
  ask<CachedReply>(put("k", "put"));

  complete(job, "1");

  EXPECT_EQ(take<CachedReply>(caller).value->body(), "1");
  EXPECT_EQ(body("k"), "put");
  restart();
  EXPECT_EQ(body("k"), "put");
}

TEST_F(ShardCacheTest, AFlightThatWasOvertakenAndFailsIsAnsweredWithWhatWasPut) {
  Cookie const caller = submit(compute("k", seconds{20}, minutes{1}));
  turn();
  auto const job = lease_one();
  ask<CachedReply>(put("k", "put"));

  fail_for_good(job);

  EXPECT_EQ(take<CachedReply>(caller).value->body(), "put");
  EXPECT_FALSE(find("k").failure);
}

TEST_F(ShardCacheTest, AFlightThatWasOvertakenIsTriedAgainAsLongAsSomebodyWaits) {
  auto command = compute("k", seconds{5});
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(command.spec, spec));
  spec.max_attempts = 5;
  Bytes bytes;
  encode_spec(spec, bytes);
  command.spec = bytes;
  Cookie const caller = submit(std::move(command));
  turn();
  auto job = lease_one();
  ask<CacheMissed>(ForgetCached{.key = "k"});
  auto const fail = [&] {
    Report report{.job = {.number = job.number, .text = {}}, .lease = job.token};
    report.outcome = Failed{.code = "late", .retry_in = Duration{0}};
    ask<ReportsReply>(ReportBatch{.reports = {report}});
  };

  fail();
  job = lease_one();
  clock_.advance(seconds{5});
  turn();
  EXPECT_EQ(take<CachePending>(caller).state, JobState::leased);
  fail();

  EXPECT_EQ(engine_->view(job.number)->state, JobState::cancelled);
  EXPECT_TRUE(ask<LeaseReply>(lease()).jobs.empty());
}

TEST_F(ShardCacheTest, WhoWaitsForAFlightThatWasOvertakenHearsItsOwnFailureAndNotThatOfTheNext) {
  Cookie const before = submit(compute("k", seconds{20}, minutes{1}));
  turn();
  auto const old = lease_one();
  ask<CacheMissed>(ForgetCached{.key = "k"});
  Cookie const after = submit(compute("k", seconds{20}, minutes{1}));
  turn();
  Report fresh{.job = {.number = lease_one().number, .text = {}}};
  fresh.lease = engine_->leased_job(*fresh.job.number)->token;
  fresh.outcome = Failed{.error_class = ErrorClass::fatal, .code = "newer"};
  ask<ReportsReply>(ReportBatch{.reports = {fresh}});
  EXPECT_EQ(take<ComputeFailed>(after).failure.until, clock_.now() + minutes{1});

  fail_for_good(old);

  auto const failure = take<ComputeFailed>(before).failure;
  EXPECT_EQ(failure.code, "bad_input");
  EXPECT_EQ(failure.error_class, ErrorClass::user);
  EXPECT_LE(failure.until, clock_.now());  // It is not what is remembered.
}

TEST_F(ShardCacheTest, WhoWaitsForAFlightThatIsCancelledHearsSoAlsoWhereTheNextHasFailed) {
  Cookie const before = submit(compute("k", seconds{20}, minutes{1}));
  turn();
  auto const old = lease_one();
  ask<CacheMissed>(ForgetCached{.key = "k"});
  ask<CachePending>(compute("k", Duration{0}, minutes{1}));
  fail_for_good(lease_one());
  ask<DoneReply>(CancelJob{.job = {.number = old.number, .text = {}}});

  fail_for_good(old);

  EXPECT_EQ(take<ComputeFailed>(before).failure.code, "cancelled");
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

TEST_F(ShardCacheTest, ThatAFlightWasOvertakenHoldsOverARestartAlsoForVolatileKeys) {
  engine_options_.cache_volatile = {"tmp:"};
  restart();
  submit(compute("tmp:k", Duration{0}));
  submit(compute("k", Duration{0}));
  turn();
  auto const jobs = ask<LeaseReply>(lease("default", 2)).jobs;
  ASSERT_EQ(jobs.size(), 2u);
  ask<CacheMissed>(ForgetCached{.key = "tmp:k"});
  ask<CacheMissed>(ForgetCached{.key = "k"});

  restart();
  for (LeasedJob const& job : jobs) complete(job, "1");

  EXPECT_EQ(find("tmp:k").what, What::absent);
  EXPECT_EQ(find("k").what, What::absent);
  expect_sound();
}

TEST_F(ShardCacheTest, WhatWasComputedOnceIsNotAnsweredToWhoeverAskedAfterItsDeletion) {
  ask<CachePending>(compute("k", Duration{0}));
  auto const job = lease_one();
  options_.flush_by = FlushBy::writer;  // So that what was computed waits to be published.
  restart();
  Cookie const first = submit(compute("k"));
  submit(ReportBatch{.reports = {completed(job, "1")}});
  submit(ForgetCached{.key = "k"});
  Cookie const second = submit(compute("k"));
  turn();
  auto const flight = engine_->flight_of("k");
  ASSERT_TRUE(flight);
  submit(CancelJob{.job = {.number = *flight, .text = {}}});
  while (!answered(first) || !answered(second)) turn();

  EXPECT_EQ(take<CachedReply>(first).value->body(), "1");
  EXPECT_EQ(take<ComputeFailed>(second).failure.error_class, ErrorClass::retryable);
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
