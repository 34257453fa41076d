#include <gtest/gtest.h>

#include "shard/shard_cache_fixture_test.h"

// Puts and deletions of a key while a job computes it.
namespace workmill::shard {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using What = cache::Lookup::What;

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

  auto const reply = take<CachedReply>(caller);
  EXPECT_EQ(reply.value->body(), "put");
  EXPECT_FALSE(reply.computed);
  complete(job, "1");
  EXPECT_EQ(body("k"), "put");
  restart();
  EXPECT_EQ(body("k"), "put");
}

TEST_F(ShardCacheTest, WhatIsPutIsForAllWhoWaitAlsoWhereTheJobIsStillInLine) {
  Cookie const first = submit(compute("k"));
  Cookie const second = submit(compute("k"));
  turn();
  EXPECT_FALSE(answered(first));

  ask<CachedReply>(put("k", "put"));

  EXPECT_EQ(take<CachedReply>(first).value->body(), "put");
  EXPECT_EQ(take<CachedReply>(second).value->body(), "put");
  complete(lease_one(), "1");  // It has read after the put, and counts.
  EXPECT_EQ(body("k"), "1");
  expect_sound();
}

TEST_F(ShardCacheTest, AValueThatIsStaleFromTheBeginningDoesNotEndAWait) {
  Cookie const caller = submit(compute("k"));
  turn();
  auto const job = lease_one();

  ask<CachedReply>(put("k", "put", Duration{0}, minutes{1}));

  EXPECT_FALSE(answered(caller));
  complete(job, "1");
  EXPECT_EQ(take<CachedReply>(caller).value->body(), "1");
  EXPECT_EQ(body("k"), "put");
}

TEST_F(ShardCacheTest, WhatIsPutAndDeletedInOneTurnEndsNoWait) {
  Cookie const caller = submit(compute("k"));
  turn();
  auto const job = lease_one();

  submit(put("k", "put"));
  submit(ForgetCached{.key = "k"});
  turn();

  EXPECT_FALSE(answered(caller));
  complete(job, "1");
  EXPECT_EQ(take<CachedReply>(caller).value->body(), "1");
}

TEST_F(ShardCacheTest, WhoWaitsIsToldOfAPutWhenThatIsOnDiskAndNotBefore) {
  options_.flush_by = FlushBy::writer;
  restart();
  Cookie const caller = submit(compute("k"));
  while (!engine_->flight_of("k")) turn();
  Cookie const putting = submit(put("k", "put"));
  while (!answered(putting)) {
    EXPECT_FALSE(answered(caller));
    turn();
  }

  EXPECT_EQ(take<CachedReply>(caller).value->body(), "put");
  EXPECT_EQ(body("k"), "put");
}

TEST_F(ShardCacheTest, WhatAReportSetsIsForThoseWhoWaitForThatKey) {
  Cookie const caller = submit(compute("other"));
  turn();
  lease_one();
  ask<CachePending>(compute("k", Duration{0}));
  Report report = completed(lease_one(), "1");
  std::get<Completed>(report.outcome).cache.push_back({.key = "other", .set = put("", "set").set});

  ask<ReportsReply>(ReportBatch{.reports = {report}});

  EXPECT_EQ(take<CachedReply>(caller).value->body(), "set");
}

TEST_F(ShardCacheTest, WhoWaitsForAFlightThatWasOvertakenIsAnsweredByTheNextIfThatIsSooner) {
  Cookie const before = submit(compute("k"));
  turn();
  auto const old = lease_one();
  ask<CacheMissed>(ForgetCached{.key = "k"});
  Cookie const after = submit(compute("k"));
  turn();

  complete(lease_one(), "\"fresh\"");

  EXPECT_EQ(take<CachedReply>(after).value->body(), "\"fresh\"");
  EXPECT_EQ(take<CachedReply>(before).value->body(), "\"fresh\"");
  complete(old, "\"old\"");
  EXPECT_EQ(body("k"), "\"fresh\"");
}

// Nobody waits for it any more once they have what was put.
TEST_F(ShardCacheTest, AFlightWhoseWaitersHaveWhatWasPutIsNotTriedAgain) {
  auto command = compute("k");
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(command.spec, spec));
  spec.max_attempts = 5;
  Bytes bytes;
  encode_spec(spec, bytes);
  command.spec = bytes;
  submit(std::move(command));
  turn();
  auto const job = lease_one();
  ask<CachedReply>(put("k", "put"));

  Report report{.job = {.number = job.number, .text = {}}, .lease = job.token};
  report.outcome = Failed{.code = "late", .retry_in = Duration{0}};
  ask<ReportsReply>(ReportBatch{.reports = {report}});

  EXPECT_EQ(engine_->view(job.number)->state, JobState::cancelled);
}

TEST_F(ShardCacheTest, AFlightThatWasOvertakenAndFailsIsAnsweredWithTheStaleValueThatWasPut) {
  Cookie const caller = submit(compute("k", seconds{20}, minutes{1}));
  turn();
  auto const job = lease_one();
  ask<CachedReply>(put("k", "put", Duration{0}, minutes{1}));

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

}  // namespace
}  // namespace workmill::shard
