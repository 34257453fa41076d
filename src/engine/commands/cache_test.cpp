#include <gmock/gmock.h>

#include "engine/engine_fixture_test.h"
#include "model/cache_set.h"

namespace workmill::engine {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

class CacheTest : public EngineTest {
 protected:
  CacheTest() : CacheTest(EngineOptions{.cache_jitter_permille = 0}) {}
  explicit CacheTest(EngineOptions const& with) : EngineTest(with) {}

  EnqueuedJob compute(std::string_view key, Duration error_for = {}, std::uint32_t attempts = 1) {
    return enqueue({.type = "t",
                    .max_attempts = attempts,
                    .cache_key = key,
                    .cache_fresh = minutes{1},
                    .cache_stale = hours{1},
                    .cache_error_for = error_for,
                    .cache_tags = {"tag"}});
  }
  template <class E>
  std::vector<E> written(std::size_t from = 0) const {
    std::vector<E> found;
    for (std::size_t i = from; i < log.records.size(); ++i) {
      if (auto const* one = std::get_if<E>(&log.records[i].effect)) found.push_back(*one);
    }
    return found;
  }
};

TEST_F(CacheTest, OneJobComputesAKeyWhateverItsQueue) {
  auto const first = compute("k");

  auto const second = enqueue({.type = "other", .queue = "elsewhere", .cache_key = "k"});

  EXPECT_TRUE(second.duplicate);
  EXPECT_EQ(second.number, first.number);
  EXPECT_EQ(engine.flight_of("k"), first.number);
  EXPECT_EQ(engine.status().flights, 1U);
  EXPECT_FALSE(compute("l").duplicate);
}

TEST_F(CacheTest, AUniqueKeyOfAQueueIsAnotherKey) {
  compute("k");

  EXPECT_FALSE(enqueue({.type = "t", .unique_key = "k"}).duplicate);
}

TEST_F(CacheTest, CompletingAFlightStoresItsResult) {
  compute("k");
  auto const leased = lease_one();
  pass(seconds{3});

  report(leased, Completed{.result_kind = PayloadKind::json, .result = "[1]"});

  auto const stored = written<effect::CacheStored>();
  ASSERT_EQ(stored.size(), 1U);
  EXPECT_EQ(stored[0].key, "k");
  EXPECT_EQ(stored[0].content_type, "application/json");
  EXPECT_EQ(stored[0].body, "[1]");
  EXPECT_EQ(stored[0].tags, "\x03tag");
  EXPECT_EQ(stored[0].stored_at, now);
  EXPECT_EQ(stored[0].fresh_until, now + minutes{1});
  EXPECT_EQ(stored[0].stale_until, now + minutes{1} + hours{1});
  EXPECT_EQ(stored[0].compute_time, seconds{3});
  EXPECT_EQ(stored[0].etag, cache_etag("application/json", "[1]"));
  EXPECT_EQ(engine.flight_of("k"), std::nullopt);
  EXPECT_EQ(engine.status().flights, 0U);
}

TEST_F(CacheTest, ARawResultIsBytesAndNoneIsNull) {
  compute("raw");
  report(lease_one(), Completed{.result_kind = PayloadKind::raw, .result = "\xff"});
  compute("none");
  report(lease_one(), Completed{});

  auto const stored = written<effect::CacheStored>();
  ASSERT_EQ(stored.size(), 2U);
  EXPECT_EQ(stored[0].content_type, "application/octet-stream");
  EXPECT_EQ(stored[0].body, "\xff");
  EXPECT_EQ(stored[1].content_type, "application/json");
  EXPECT_EQ(stored[1].body, "null");
  EXPECT_GT(stored[1].compute_time, Duration{0});  // Computed by a job, if in no time.
}

TEST_F(CacheTest, AReportStoresWhatItSetsInThePlaceOfTheResult) {
  compute("k");
  Completed completed{.result_kind = PayloadKind::json, .result = "1", .cache = {}};
  completed.cache.push_back({.key = "other", .set = {.content_type = "text/plain", .body = "o", .fresh = seconds{5}}});
  completed.cache.push_back({.key = "k", .set = {.content_type = "text/plain", .body = "mine", .tags = {"x"}}});

  report(lease_one(), completed);

  auto const stored = written<effect::CacheStored>();
  ASSERT_EQ(stored.size(), 2U);
  EXPECT_EQ(stored[0].key, "other");
  EXPECT_EQ(stored[0].fresh_until, now + seconds{5});
  EXPECT_EQ(stored[0].compute_time, Duration{0});
  EXPECT_EQ(stored[1].key, "k");
  EXPECT_EQ(stored[1].body, "mine");
  EXPECT_EQ(stored[1].tags, "\x01x");
  EXPECT_GT(stored[1].compute_time, Duration{0});
}

TEST_F(CacheTest, ARefusedReportStoresNothing) {
  compute("k");
  auto leased = lease_one();
  leased.token = LeaseToken{1};
  Completed completed;
  completed.cache.push_back({.key = "other", .set = {.content_type = "text/plain", .body = "o"}});

  report(leased, completed);

  EXPECT_TRUE(written<effect::CacheStored>().empty());
}

TEST_F(CacheTest, AnyJobsReportMaySetKeys) {
  enqueue({.type = "t"});
  Completed completed;
  completed.cache.push_back({.key = "a", .set = {.content_type = "text/plain", .body = "o"}});

  report(lease_one(), completed);

  EXPECT_EQ(written<effect::CacheStored>().size(), 1U);
}

TEST_F(CacheTest, AFlightGoesOnOverAFailedAttempt) {
  auto const job = compute("k", seconds{10}, 2);
  report(lease_one(), Failed{.retry_in = Duration{0}});

  EXPECT_EQ(engine.flight_of("k"), job.number);
  EXPECT_TRUE(written<effect::CacheFailed>().empty());
}

TEST_F(CacheTest, ThatAFlightIsDeadIsRememberedIfItIsToBe) {
  compute("k", seconds{10});
  report(lease_one(), Failed{.error_class = ErrorClass::user, .code = "bad", .message = "no"});
  compute("l");
  report(lease_one(), Failed{.error_class = ErrorClass::fatal});

  auto const failed = written<effect::CacheFailed>();
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed[0].key, "k");
  EXPECT_EQ(failed[0].error_class, ErrorClass::user);
  EXPECT_EQ(failed[0].code, "bad");
  EXPECT_EQ(failed[0].message, "no");
  EXPECT_EQ(failed[0].until, now + seconds{10});
  EXPECT_EQ(engine.status().flights, 0U);
}

TEST_F(CacheTest, TheEndOfItsLeaseAndOfItsTimeAreFailuresToo) {
  compute("lease", hours{1});
  lease_one();
  pass_and_advance(seconds{61});
  enqueue({.type = "t", .expires_in = seconds{1}, .cache_key = "time", .cache_error_for = hours{1}});
  pass_and_advance(seconds{2});

  auto const failed = written<effect::CacheFailed>();
  ASSERT_EQ(failed.size(), 2U);
  EXPECT_EQ(failed[0].code, "lease_expired");
  EXPECT_EQ(failed[1].code, "expired");
}

TEST_F(CacheTest, ACancelledOrDeletedFlightLeavesNothingAndFreesItsKey) {
  auto const first = compute("k", hours{1});
  expect<DoneReply>(CancelJob{.job = ref(first.number)});
  auto const second = compute("k", hours{1});
  EXPECT_FALSE(second.duplicate);
  expect<DoneReply>(DeleteJob{.job = ref(second.number)});

  EXPECT_FALSE(compute("k").duplicate);
  EXPECT_TRUE(written<effect::CacheFailed>().empty());
}

TEST_F(CacheTest, ARetriedFlightComputesItsKeyAgain) {
  auto const job = compute("k");
  report(lease_one(), Failed{.error_class = ErrorClass::fatal});

  expect<DoneReply>(RetryJob{.job = ref(job.number)});

  EXPECT_EQ(engine.flight_of("k"), job.number);
  report(lease_one(), Completed{});
  EXPECT_EQ(written<effect::CacheStored>().size(), 1U);
}

TEST_F(CacheTest, AFlightIsNotRetriedWhileAnotherComputesItsKey) {
  auto const job = compute("k");
  report(lease_one(), Failed{.error_class = ErrorClass::fatal});
  auto const other = compute("k");

  EXPECT_EQ(expect_error(RetryJob{.job = ref(job.number)}), ErrorCode::wrong_state);
  EXPECT_EQ(count(BulkJobs{.action = BulkAction::retry, .filter = {.state = JobState::dead}}), 0U);

  EXPECT_EQ(engine.flight_of("k"), other.number);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(CacheTest, AFlightIsOneAfterAPatchACopyAndARestart) {
  auto const job = compute("k", seconds{5});
  JobSpecView spec{.type = "t", .queue = "q2", .cache_key = "k", .cache_fresh = minutes{1}};
  expect<JobReply>(PatchJob{.job = ref(job.number), .changes = {.queue = "q2"}, .new_spec = bytes(spec)});
  Bytes const lost = engine.known_spec(job.number);
  log.start_segment();
  engine.copy_ahead(job.number, lost, {}, {}, log);

  auto const again = replay(log.segment());

  for (Engine* each : {&engine, again.get()}) {
    EXPECT_EQ(each->flight_of("k"), job.number);
    EXPECT_EQ(each->status().flights, 1U);
    EXPECT_EQ(each->check_invariants(), "");
  }
}

TEST_F(CacheTest, PuttingAndForgettingWriteWhatTheyDo) {
  expect<DoneReply>(PutCache{
      .key = "k",
      .set = {.content_type = "text/plain", .body = "b", .fresh = seconds{1}, .stale = seconds{2}, .tags = {"t"}}});
  expect<DoneReply>(ForgetCached{.key = "k"});

  auto const stored = written<effect::CacheStored>();
  ASSERT_EQ(stored.size(), 1U);
  EXPECT_EQ(stored[0].stale_until, now + seconds{3});
  EXPECT_EQ(stored[0].compute_time, Duration{0});
  EXPECT_EQ(written<effect::CacheForgotten>().at(0).key, "k");
}

// --- A put or a deletion reaches into a flight that is under way.

TEST_F(CacheTest, WhatWasBegunBeforeItsKeyWasForgottenIsNotStored) {
  auto const job = compute("k", hours{1});
  auto const leased = lease_one();

  expect<DoneReply>(ForgetCached{.key = "k"});

  EXPECT_EQ(written<effect::FlightOvertaken>().at(0).number, job.number);
  EXPECT_EQ(engine.flight_of("k"), std::nullopt);
  report(leased, Completed{.result_kind = PayloadKind::json, .result = "[1]"});
  EXPECT_TRUE(written<effect::CacheStored>().empty());
  EXPECT_EQ(log.flights_landed.at(0).number, job.number);  // For those who wait.
  EXPECT_EQ(log.flights_landed.at(0).body, "[1]");
  EXPECT_FALSE(log.flights_landed.at(0).is_kept);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(CacheTest, WhatWasPutMeanwhileStays) {
  compute("k");
  auto const leased = lease_one();

  expect<DoneReply>(PutCache{.key = "k", .set = {.content_type = "text/plain", .body = "put"}});
  Completed completed{.result_kind = PayloadKind::json, .result = "1", .cache = {}};
  completed.cache.push_back({.key = "k", .set = {.content_type = "text/plain", .body = "own"}});
  completed.cache.push_back({.key = "l", .set = {.content_type = "text/plain", .body = "other"}});
  report(leased, completed);

  auto const stored = written<effect::CacheStored>();
  ASSERT_EQ(stored.size(), 2U);
  EXPECT_EQ(stored[0].body, "put");
  EXPECT_EQ(stored[1].body, "other");  // It is of no computation of its key.
  EXPECT_EQ(log.flights_landed.at(0).body, "own");
}

TEST_F(CacheTest, WhatAReportSetsIsAPut) {
  auto const flight = compute("k");
  lease_one();
  enqueue({.type = "t"});
  Completed completed;
  completed.cache.push_back({.key = "k", .set = {.content_type = "text/plain", .body = "set"}});

  report(lease_one(), completed);

  EXPECT_EQ(written<effect::FlightOvertaken>().at(0).number, flight.number);
  EXPECT_EQ(written<effect::CacheStored>().size(), 1U);
}

TEST_F(CacheTest, AFlightThatHasNotBegunReadsWhatIsThenAndIsNotOvertaken) {
  auto const job = compute("k");

  expect<DoneReply>(ForgetCached{.key = "k"});
  expect<DoneReply>(PutCache{.key = "k", .set = {.content_type = "text/plain", .body = "put"}});

  EXPECT_TRUE(written<effect::FlightOvertaken>().empty());
  EXPECT_EQ(engine.flight_of("k"), job.number);
  report(lease_one(), Completed{});
  EXPECT_EQ(written<effect::CacheStored>().back().body, "null");
}

TEST_F(CacheTest, AFlightBetweenTwoAttemptsHasNotBegunUnlessItLeftACheckpoint) {
  auto const plain = compute("plain", {}, 3);
  report(lease_one(), Failed{.retry_in = hours{1}});
  auto const kept = compute("kept", {}, 3);
  auto const leased = lease_one();
  report(leased, Checkpoint{.data = "[7]"});
  report(leased, Failed{.retry_in = hours{1}});

  expect<DoneReply>(ForgetCached{.key = "plain"});
  expect<DoneReply>(ForgetCached{.key = "kept"});

  auto const overtaken = written<effect::FlightOvertaken>();
  ASSERT_EQ(overtaken.size(), 1U);
  EXPECT_EQ(overtaken[0].number, kept.number);
  EXPECT_EQ(engine.flight_of("plain"), plain.number);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(CacheTest, ANewFlightBeginsBesideOneThatWasOvertaken) {
  auto const old = compute("k", hours{1}, 2);
  auto const first = lease_one();
  expect<DoneReply>(ForgetCached{.key = "k"});

  auto const next = compute("k");

  EXPECT_FALSE(next.duplicate);
  EXPECT_EQ(engine.flight_of("k"), next.number);
  EXPECT_EQ(engine.status().flights, 1U);
  auto const second = lease_one();
  report(second, Completed{.result_kind = PayloadKind::json, .result = "2"});
  engine.watch(old.number);
  report(first, Failed{.retry_in = Duration{0}});  // It ends as a job, whatever becomes of its key.
  report(lease_one(), Failed{});
  EXPECT_TRUE(written<effect::CacheFailed>().empty());
  EXPECT_EQ(written<effect::CacheStored>().size(), 1U);
  expect<DoneReply>(RetryJob{.job = ref(old.number)});
  EXPECT_EQ(engine.flight_of("k"), std::nullopt);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(CacheTest, AFlightThatWasOvertakenIsTriedAgainOnlyForWhoWaitsForIt) {
  auto const awaited = compute("awaited", {}, 3);
  auto const first = lease_one();
  auto const left = compute("left", {}, 3);
  auto const second = lease_one();
  auto const lost = compute("lost", {}, 3);
  lease_one();
  engine.watch(awaited.number);
  for (auto const* const key : {"awaited", "left", "lost"}) expect<DoneReply>(ForgetCached{.key = key});

  report(first, Failed{.code = "late", .retry_in = hours{2}});
  report(second, Failed{.code = "late", .retry_in = hours{2}});
  pass_and_advance(hours{1});  // The lease of the third is over.

  auto const again = replay();
  for (Engine* each : {&engine, again.get()}) {
    EXPECT_EQ(each->view(awaited.number)->state, JobState::scheduled);
    EXPECT_EQ(each->view(left.number)->state, JobState::cancelled);
    EXPECT_EQ(each->view(lost.number)->state, JobState::cancelled);
  }
  auto const failed = written<effect::JobFailed>();
  ASSERT_EQ(failed.size(), 3U);
  EXPECT_EQ(failed[1].code, "late");
  EXPECT_EQ(failed[2].code, "lease_expired");
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(CacheTest, AFlightThatWasOvertakenAndFailsForGoodIsDeadAlsoIfNobodyWaits) {
  auto const job = compute("k", hours{1}, 3);
  auto const leased = lease_one();
  expect<DoneReply>(ForgetCached{.key = "k"});

  report(leased, Failed{.error_class = ErrorClass::fatal});

  EXPECT_EQ(view(job.number).state, JobState::dead);
}

TEST_F(CacheTest, WhatGivesWayByItselfOvertakesNothing) {
  auto const job = compute("k");
  lease_one();

  engine.note_cached_gone("k", log);

  EXPECT_EQ(written<effect::CacheForgotten>().size(), 1U);
  EXPECT_EQ(engine.flight_of("k"), job.number);
}

TEST_F(CacheTest, FlightsAreOvertakenByPrefixAndByTheTagsOfTheirSpec) {
  std::vector<std::string> const keys{"a", "b:1", "b:2", "b:3", "c"};
  EnqueuedJob last;
  for (std::string const& key : keys) {
    last = compute(key);
    lease_one();
  }
  enqueue({.type = "t", .cache_key = "d"});
  lease_one();
  compute("b:4");  // Not begun.

  EXPECT_EQ(engine.overtake_flights("b:", [](auto, auto) { return true; }, log), 3U);
  EXPECT_EQ(written<effect::FlightOvertaken>().size(), 3U);
  EXPECT_TRUE(engine.is_being_computed("a"));
  EXPECT_FALSE(engine.is_being_computed("b:2"));

  EXPECT_EQ(engine.overtake_flights("", [](std::string_view key, auto) { return key == "c"; }, log), 3U);
  EXPECT_EQ(written<effect::FlightOvertaken>().size(), 4U);
  EXPECT_TRUE(engine.is_overtaken(last.number));
  EXPECT_FALSE(engine.is_overtaken(JobNumber{1}));
  EXPECT_TRUE(engine.is_being_computed("a"));
  EXPECT_EQ(engine.overtake_flights("", [](auto, BytesView tags) { return has_cache_tag(tags, "tag"); }, log), 2U);
  EXPECT_EQ(written<effect::FlightOvertaken>().size(), 5U);
  EXPECT_TRUE(engine.is_being_computed("d"));
  EXPECT_TRUE(engine.flight_of("b:4"));
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(CacheTest, ThatAFlightWasOvertakenIsKnownAfterAPatchACopyAndARestart) {
  auto const job = compute("k", hours{1}, 3);
  auto const leased = lease_one();
  expect<DoneReply>(ForgetCached{.key = "k"});
  auto const early = replay();
  engine.watch(job.number);
  report(leased, Failed{.retry_in = hours{1}});
  JobSpecView spec{.type = "t", .queue = "q2", .cache_key = "k", .cache_fresh = minutes{1}};
  expect<JobReply>(PatchJob{.job = ref(job.number), .changes = {.queue = "q2"}, .new_spec = bytes(spec)});
  auto const patched = replay();
  Bytes const known = engine.known_spec(job.number);
  log.start_segment();
  engine.copy_ahead(job.number, known, {}, {}, log);
  auto const copied = replay(log.segment());

  for (Engine* each : {&engine, early.get(), patched.get(), copied.get()}) {
    ASSERT_TRUE(each->view(job.number));
    EXPECT_EQ(each->flight_of("k"), std::nullopt);
    EXPECT_EQ(each->status().flights, 0U);
    EXPECT_EQ(each->check_invariants(), "");
  }
}

class JitterTest : public CacheTest {
 protected:
  JitterTest() : CacheTest(EngineOptions{.cache_jitter_permille = 500}) {}
};

TEST_F(JitterTest, OnlyTheFreshTimeIsShortenedAndNeverByMoreThanTheJitter) {
  for (int i = 0; i < 200; ++i) {
    expect<DoneReply>(PutCache{.key = "k", .set = {.content_type = "x", .fresh = seconds{10}, .stale = seconds{10}}});
  }

  auto shortest = now + hours{1};
  auto longest = now;
  for (auto const& stored : written<effect::CacheStored>()) {
    shortest = std::min(shortest, stored.fresh_until);
    longest = std::max(longest, stored.fresh_until);
    EXPECT_EQ(stored.stale_until, now + seconds{20});
  }
  EXPECT_GE(shortest, now + seconds{5});
  EXPECT_LT(shortest, now + seconds{6});
  EXPECT_LE(longest, now + seconds{10});
  EXPECT_GT(longest, now + seconds{9});
}

// What the cache can hold: 100 bytes of a record, or of a volatile value.
class LittleCacheTest : public CacheTest {
 protected:
  LittleCacheTest()
      : CacheTest(EngineOptions{.cache_jitter_permille = 0,
                                .cache_volatile = {"tmp:"},
                                .cache_record_bytes_max = 100,
                                .cache_volatile_bytes_max = 100}) {}
  static PutCache put(std::string key, std::size_t bytes) {
    return {.key = std::move(key), .set = {.content_type = "text/plain", .body = Bytes(bytes, 'b')}};
  }
};

TEST_F(LittleCacheTest, WhatItCanNeverHoldIsRefusedBeforeAnythingIsWritten) {
  std::size_t const most = 100 - kCacheRecordExtraBytes - std::string_view{"k"}.size() - 10;
  std::size_t const most_volatile =
      100 - CacheValue::allocation_bytes_of("tmp:k", "text/plain", {});  // Its type is one of the common ones.
  compute("k");
  lease_one();
  std::size_t const before = log.records.size();

  EXPECT_EQ(expect_error(put("k", most + 1)), ErrorCode::payload_too_large);
  EXPECT_EQ(expect_error(put("tmp:k", most_volatile + 1)), ErrorCode::payload_too_large);
  EXPECT_EQ(log.records.size(), before);
  EXPECT_TRUE(engine.flight_of("k"));  // It is not overtaken.

  expect<DoneReply>(put("k", most));
  expect<DoneReply>(put("tmp:k", most_volatile));
  EXPECT_EQ(written<effect::CacheStored>().size(), 1U);
}

TEST_F(LittleCacheTest, TagsAndTypeCountToo) {
  auto command = put("k", 10);
  expect<DoneReply>(command);
  command.set.tags = {std::string(40, 't')};
  EXPECT_EQ(expect_error(command), ErrorCode::payload_too_large);
  command.set.tags.clear();
  command.set.content_type = std::string(60, 't');
  EXPECT_EQ(expect_error(command), ErrorCode::payload_too_large);
}

TEST_F(LittleCacheTest, AJobIsCompletedWithAResultThatItCanNeverHoldAndTheKeyHasNoValueThen) {
  auto const job = compute("k");
  Bytes const result(200, '1');

  auto const said = report(lease_one(), Completed{.result_kind = PayloadKind::json, .result = result});

  EXPECT_FALSE(said.error);
  EXPECT_EQ(said.not_stored, std::vector<std::string>{"k"});
  EXPECT_EQ(view(job.number).state, JobState::completed);
  auto const stored = written<effect::CacheStored>();
  ASSERT_EQ(stored.size(), 1U);
  EXPECT_EQ(stored[0].body, "");
  EXPECT_EQ(stored[0].stale_until, now);  // Over at once, with what was there before.
  ASSERT_EQ(log.flights_landed.size(), 1U);
  EXPECT_EQ(log.flights_landed[0].body, result);
  EXPECT_FALSE(log.flights_landed[0].is_kept);
}

TEST_F(LittleCacheTest, OfWhatAReportSetsTheRestIsStored) {
  compute("k");
  Completed completed{.result_kind = PayloadKind::json, .result = "1", .cache = {}};
  completed.cache.push_back({.key = "large", .set = put("", 200).set});
  completed.cache.push_back({.key = "small", .set = put("", 2).set});

  auto const said = report(lease_one(), completed);

  EXPECT_EQ(said.not_stored, std::vector<std::string>{"large"});
  auto const stored = written<effect::CacheStored>();
  ASSERT_EQ(stored.size(), 3U);
  EXPECT_EQ(stored[1].body, "bb");
  EXPECT_EQ(stored[2].body, "1");
}

TEST_F(LittleCacheTest, WhatWasOvertakenAndCanNeverBeHeldLeavesTheKeyAlone) {
  compute("k");
  auto const leased = lease_one();
  expect<DoneReply>(put("k", 2));

  auto const said = report(leased, Completed{.result_kind = PayloadKind::json, .result = Bytes(200, '1')});

  EXPECT_TRUE(said.not_stored.empty());  // Nothing of it was to be stored.
  EXPECT_EQ(written<effect::CacheStored>().size(), 1U);
}

class VolatileTest : public CacheTest {
 protected:
  VolatileTest() : CacheTest(EngineOptions{.cache_volatile = {"tmp:"}}) {}
};

TEST_F(VolatileTest, WhatIsVolatileIsNotWritten) {
  expect<DoneReply>(PutCache{.key = "tmp:k", .set = {.content_type = "x", .body = "b"}});
  compute("tmp:l", hours{1});
  report(lease_one(), Completed{});
  compute("tmp:m", hours{1});
  report(lease_one(), Failed{.error_class = ErrorClass::fatal});
  expect<DoneReply>(ForgetCached{.key = "tmp:k"});
  expect<DoneReply>(PutCache{.key = "k", .set = {.content_type = "x", .body = "b"}});

  EXPECT_EQ(written<effect::CacheStored>().size(), 1U);
  EXPECT_TRUE(written<effect::CacheFailed>().empty());
  EXPECT_TRUE(written<effect::CacheForgotten>().empty());
}

}  // namespace
}  // namespace workmill::engine
