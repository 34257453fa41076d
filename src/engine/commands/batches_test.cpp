#include <gmock/gmock.h>

#include <cctype>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_fixture_test.h"

namespace workmill::engine {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using ::testing::ElementsAre;

constexpr auto kSuccess = CallbackKind::success;
constexpr auto kFinish = CallbackKind::finish;

class Batches : public EngineTest {
 protected:
  Batches() = default;
  explicit Batches(EngineOptions const& engine_options) : EngineTest(engine_options) {}

  static MakeBatch both(std::string id) {
    return {.id = std::move(id),
            .on_success = bytes({.type = "good", .queue = "callbacks"}),
            .on_finish = bytes({.type = "over", .queue = "callbacks"})};
  }
  BatchView make(std::string id = "b") { return expect<BatchReply>(both(std::move(id))).batch; }
  // Closed, and what comes of that.
  BatchView close(std::string id = "b") {
    expect<BatchReply>(CloseBatch{.id = id});
    advance();
    return get(std::move(id));
  }
  BatchView get(std::string id = "b") { return expect<BatchReply>(GetBatch{.id = std::move(id)}).batch; }
  JobNumber add(std::string_view batch = "b") {
    return enqueue({.type = "t", .max_attempts = 1, .batch = batch}).number;
  }
  void complete_one() {
    report(lease_one(), Completed{});
    advance();
  }
  void kill_one() {
    report(lease_one(), Failed{});
    advance();
  }
  CallbackState state(CallbackKind kind, std::string id = "b") { return get(std::move(id)).callback(kind).state; }
  // The types of the callbacks that are ready, in line. They are done by that.
  std::vector<std::string> called() {
    std::vector<std::string> types;
    for (LeasedJob const& job : lease({"callbacks"}, 100)) {
      types.push_back(type_of(job.number));
      report(job, Completed{});
    }
    return types;
  }
  std::string type_of(JobNumber job) {
    for (ListLog::Record const& record : log.records) {
      auto const* const made = std::get_if<effect::JobEnqueued>(&record.effect);
      JobSpecView spec;
      if (made != nullptr && made->number == job && decode_spec(made->spec, spec)) return std::string{spec.type};
    }
    return {};
  }
  JobSpecView spec_of(JobNumber job) {
    JobSpecView spec;
    for (ListLog::Record const& record : log.records) {
      auto const* const made = std::get_if<effect::JobEnqueued>(&record.effect);
      if (made != nullptr && made->number == job) {
        EXPECT_TRUE(decode_spec(made->spec, spec));
      }
    }
    return spec;
  }
  // Copies ahead what lives in the segments up to the one at hand, and reads the log from there on.
  std::unique_ptr<Engine> copied_and_replayed() {
    std::uint32_t const up_to = log.segment();
    log.start_segment();
    auto const end = log.records.size();
    for (std::size_t i = 0; i < end; ++i) {
      ListLog::Record const record = log.records[i];
      if (engine.survive(record.effect, record.written.at, log) != Engine::Survival::copy_job) continue;
      auto const* sent = std::get_if<effect::JobEnqueued>(&record.effect);
      auto const* copied = std::get_if<effect::JobSnapshot>(&record.effect);
      Bytes history;
      encode_history({}, history);
      engine.copy_ahead(sent ? sent->number : copied->number, sent ? sent->spec : copied->spec, history, {}, log);
    }
    for (std::uint32_t segment = 1; segment <= up_to; ++segment) EXPECT_EQ(engine.live_records_in(segment), 0U);
    auto again = replay(up_to + 1);
    EXPECT_EQ(again->check_invariants(), "");
    EXPECT_EQ(dump(*again), dump(engine));
    return again;
  }
};

TEST_F(Batches, OneThatIsMadeIsShownAsItIs) {
  MakeBatch command = both("b");
  command.meta = R"({"user":1})";
  auto const reply = expect<BatchReply>(command);

  EXPECT_TRUE(reply.created);
  EXPECT_EQ(reply.batch.id, "b");
  EXPECT_EQ(reply.batch.created_at, now);
  EXPECT_EQ(reply.batch.closed_at, std::nullopt);
  EXPECT_EQ(reply.batch.jobs, BatchCounts{});
  EXPECT_EQ(reply.batch.callback(kSuccess).state, CallbackState::waiting);
  EXPECT_EQ(reply.batch.callback(kFinish).state, CallbackState::waiting);
  EXPECT_EQ(reply.batch.meta, R"({"user":1})");
  EXPECT_EQ(get(), reply.batch);
  EXPECT_EQ(engine.status().batches, 1U);
}

TEST_F(Batches, ACallbackThatWasNotAskedForIsNone) {
  auto const batch = expect<BatchReply>(MakeBatch{.on_finish = bytes({.type = "over"})}).batch;

  EXPECT_EQ(batch.callback(kSuccess).state, CallbackState::none);
  EXPECT_EQ(batch.callback(kFinish).state, CallbackState::waiting);
}

TEST_F(Batches, AnIdThatTheServerMakesIsKnownInAnySpelling) {
  auto const made = make("");
  ASSERT_EQ(made.id.size(), 36U);
  EXPECT_NE(made.id, make("").id);
  std::string upper = made.id;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));

  EXPECT_EQ(get(upper), made);
  add(upper);
  EXPECT_EQ(get(made.id).jobs.pending, 1U);
  auto const again = replay();
  EXPECT_EQ(dump(*again), dump(engine));
}

TEST_F(Batches, TheSameAgainAnswersTheBatchAndAnotherOfItsIdIsRefused) {
  MakeBatch command = both("b");
  command.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  expect<BatchReply>(command);
  add();
  auto const before = log.records.size();

  command.traceparent = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  auto const again = expect<BatchReply>(command);
  EXPECT_FALSE(again.created);
  EXPECT_EQ(again.batch.jobs.pending, 1U);
  command.on_finish.clear();
  EXPECT_EQ(expect_error(command), ErrorCode::batch_exists);
  command = both("b");
  command.meta = "{}";
  EXPECT_EQ(expect_error(command), ErrorCode::batch_exists);
  EXPECT_EQ(log.records.size(), before);

  complete_one();
  close();  // What it was made from is gone, and known all the same.
  EXPECT_FALSE(expect<BatchReply>(both("b")).created);
  EXPECT_EQ(expect_error(command), ErrorCode::batch_exists);
}

TEST_F(Batches, AnIdempotencyKeyFindsTheBatchThatItHasMade) {
  MakeBatch command = both("");
  command.idempotency = Idempotency{.key = "k", .fingerprint = 1};
  auto const first = expect<BatchReply>(command);
  add(first.batch.id);
  auto const again = expect<BatchReply>(command);

  EXPECT_TRUE(again.replayed);
  EXPECT_FALSE(again.created);
  EXPECT_EQ(again.batch.id, first.batch.id);
  EXPECT_EQ(again.batch.jobs.pending, 1U);
  command.idempotency->fingerprint = 2;
  EXPECT_EQ(expect_error(command), ErrorCode::idempotency_key_reused);
  expect<DoneReply>(ForgetBatch{.id = first.batch.id});
  command.idempotency->fingerprint = 1;
  EXPECT_EQ(expect_error(command), ErrorCode::batch_not_found);
}

TEST_F(Batches, BothCallbacksComeOnceWhenAllJobsAreCompleted) {
  make();
  add();
  add();
  close();
  complete_one();
  EXPECT_THAT(called(), ElementsAre());

  complete_one();

  auto const batch = get();
  EXPECT_EQ(batch.jobs, (BatchCounts{.total = 2, .completed = 2}));
  EXPECT_EQ(batch.callback(kSuccess).state, CallbackState::enqueued);
  EXPECT_EQ(type_of(batch.callback(kSuccess).job), "good");
  EXPECT_EQ(type_of(batch.callback(kFinish).job), "over");
  EXPECT_THAT(called(), ElementsAre("good", "over"));
  pass_and_advance(minutes{1});
  EXPECT_THAT(called(), ElementsAre());
}

TEST_F(Batches, NothingComesWhileItIsOpen) {
  make();
  add();
  complete_one();
  pass_and_advance(days{10});
  EXPECT_THAT(called(), ElementsAre());
  EXPECT_EQ(state(kFinish), CallbackState::waiting);

  close();

  EXPECT_THAT(called(), ElementsAre("good", "over"));
}

TEST_F(Batches, AnEmptyOneCallsBackWhenItIsClosed) {
  make();
  EXPECT_EQ(close().closed_at, now);

  EXPECT_THAT(called(), ElementsAre("good", "over"));
}

TEST_F(Batches, ClosedTwiceItIsClosedOnce) {
  make();
  auto const first = close();
  auto const before = log.records.size();
  pass(minutes{1});

  EXPECT_EQ(close(), first);
  EXPECT_EQ(log.records.size(), before);
}

TEST_F(Batches, ADeadJobLetsOnlyTheEndBeCalled) {
  make();
  add();
  add();
  close();
  complete_one();
  kill_one();

  EXPECT_THAT(called(), ElementsAre("over"));
  EXPECT_EQ(state(kSuccess), CallbackState::waiting);
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 2, .completed = 1, .dead = 1}));
}

TEST_F(Batches, ADeadJobThatIsRetriedAndCompletedMakesItASuccessAfterAll) {
  make();
  auto const job = add();
  close();
  kill_one();
  EXPECT_THAT(called(), ElementsAre("over"));

  expect<DoneReply>(RetryJob{ref(job)});
  advance();
  EXPECT_EQ(get().jobs.pending, 1U);
  complete_one();

  EXPECT_THAT(called(), ElementsAre("good"));
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 1, .completed = 1}));
}

TEST_F(Batches, ADeadJobThatDiesAgainCallsNobodyAgain) {
  make();
  auto const job = add();
  close();
  kill_one();
  EXPECT_THAT(called(), ElementsAre("over"));
  expect<DoneReply>(RetryJob{ref(job)});
  kill_one();

  EXPECT_THAT(called(), ElementsAre());
}

TEST_F(Batches, ACancelledJobHasEndedAndIsNoSuccess) {
  make();
  auto const job = add();
  close();
  expect<DoneReply>(CancelJob{ref(job)});
  advance();

  EXPECT_THAT(called(), ElementsAre("over"));
  EXPECT_EQ(get().jobs.cancelled, 1U);
  EXPECT_EQ(state(kSuccess), CallbackState::waiting);
  expect<DoneReply>(RetryJob{ref(job)});
  complete_one();
  EXPECT_THAT(called(), ElementsAre("good"));
}

TEST_F(Batches, AJobThatIsDeletedBeforeItWasCompletedEndsTheHopeOfSuccess) {
  make();
  auto const waiting = add();
  add();
  close();
  expect<DoneReply>(DeleteJob{ref(waiting)});
  advance();
  EXPECT_EQ(state(kSuccess), CallbackState::not_coming);
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 2, .pending = 1, .deleted = 1}));
  complete_one();

  EXPECT_THAT(called(), ElementsAre("over"));
}

TEST_F(Batches, ADeadJobThatIsGoneEndsTheHopeOfSuccess) {
  make();
  auto const job = add();
  close();
  kill_one();
  expect<DoneReply>(DeleteJob{ref(job)});
  advance();

  EXPECT_EQ(state(kSuccess), CallbackState::not_coming);
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 1, .dead = 1}));
}

TEST_F(Batches, ThatACompletedJobIsForgottenChangesNothing) {
  make();
  expect<EnqueueReply>(Enqueue{.specs = {bytes({.type = "t", .keep_result = Duration{0}, .batch = "b"})}});
  auto const deleted = add();
  complete_one();
  complete_one();
  expect<DoneReply>(DeleteJob{ref(deleted)});
  EXPECT_EQ(engine.status().jobs, 0U);

  EXPECT_EQ(close().jobs, (BatchCounts{.total = 2, .completed = 2}));
  EXPECT_THAT(called(), ElementsAre("good", "over"));
}

TEST_F(Batches, AJobThatWaitsForItsNextAttemptIsPending) {
  make();
  enqueue({.type = "t", .max_attempts = 2, .batch = "b"});
  close();
  report(lease_one(), Failed{});
  advance();
  EXPECT_EQ(get().jobs.pending, 1U);
  EXPECT_THAT(called(), ElementsAre());
}

TEST_F(Batches, AJobOfAnUnknownOrAClosedOneIsRefusedAndAllThatCameWithIt) {
  make();
  Bytes const fine = bytes({.type = "t"});
  Enqueue unknown{.specs = {fine, bytes({.type = "t", .batch = "other"})}};
  EXPECT_EQ(expect_error(unknown), ErrorCode::batch_not_found);
  enqueue({.type = "t", .id = "mine", .batch = "b"});
  close();
  EXPECT_EQ(expect_error(Enqueue{.specs = {fine, bytes({.type = "t", .batch = "b"})}}), ErrorCode::batch_closed);
  EXPECT_EQ(engine.status().jobs, 1U);

  // Asked again, as of whoever got no answer.
  EXPECT_TRUE(enqueue({.type = "t", .id = "mine", .batch = "b"}).duplicate);
}

TEST_F(Batches, ADuplicateJoinsNothing) {
  make();
  enqueue({.type = "t", .unique_key = "k"});

  EXPECT_TRUE(enqueue({.type = "t", .unique_key = "k", .batch = "b"}).duplicate);
  EXPECT_EQ(get().jobs.total, 0U);
}

TEST_F(Batches, AFullQueueTakesTheCallback) {
  expect<QueueReply>(PatchQueue{.name = "callbacks", .max_depth = std::optional<std::uint64_t>{1}});
  enqueue({.type = "first", .queue = "callbacks"});
  make();
  close();
  EXPECT_EQ(queue("callbacks").depth[static_cast<std::size_t>(JobState::ready)], 3U);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Batches, ACallbackMayWaitForATimeOfItsOwn) {
  expect<BatchReply>(
      MakeBatch{.id = "b", .on_finish = bytes({.type = "over", .queue = "callbacks", .delay = hours{1}})});
  pass(hours{5});
  close();
  EXPECT_THAT(called(), ElementsAre());
  pass_and_advance(hours{1});
  EXPECT_THAT(called(), ElementsAre("over"));
}

TEST_F(Batches, ACallbackIsOfTheTraceThatTheBatchWasMadeInUnlessItHasItsOwn) {
  std::string_view const own = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  std::string_view const of_request = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  expect<BatchReply>(MakeBatch{.id = "b",
                               .on_success = bytes({.type = "good", .traceparent = own}),
                               .on_finish = bytes({.type = "over"}),
                               .traceparent = std::string{of_request},
                               .tracestate = "v=1"});
  auto const batch = close();

  EXPECT_EQ(spec_of(batch.callback(kSuccess).job).traceparent, own);
  EXPECT_EQ(spec_of(batch.callback(kSuccess).job).tracestate, "");
  EXPECT_EQ(spec_of(batch.callback(kFinish).job).traceparent, of_request);
  EXPECT_EQ(spec_of(batch.callback(kFinish).job).tracestate, "v=1");
}

TEST_F(Batches, AForgottenOneLeavesItsJobsAndNeverCallsBack) {
  make();
  auto const job = add();
  expect<DoneReply>(ForgetBatch{.id = "b"});
  EXPECT_EQ(expect_error(ForgetBatch{.id = "b"}), ErrorCode::batch_not_found);
  EXPECT_EQ(expect_error(CloseBatch{.id = "b"}), ErrorCode::batch_not_found);
  EXPECT_EQ(expect_error(GetBatch{.id = "b"}), ErrorCode::batch_not_found);
  complete_one();

  EXPECT_EQ(view(job).state, JobState::completed);
  EXPECT_THAT(called(), ElementsAre());
  EXPECT_EQ(expect_error(Enqueue{.specs = {bytes({.type = "t", .batch = "b"})}}), ErrorCode::batch_not_found);
  copied_and_replayed();
}

TEST_F(Batches, JobsOfAForgottenOneAreNotInTheNextOfItsId) {
  make();
  auto const old = add();
  expect<DoneReply>(ForgetBatch{.id = "b"});
  pass(minutes{1});
  make();
  auto const young = add();
  EXPECT_EQ(get().jobs.total, 1U);
  auto const jobs = expect<JobsReply>(ListJobs{.filter = {.batch = "b"}}).jobs;
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_EQ(jobs[0].number, young);
  // Its record goes, and that of the old job is behind the new batch's.
  copied_and_replayed();
  expect<DoneReply>(DeleteJob{ref(old)});
  EXPECT_EQ(get().jobs.total, 1U);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Batches, JobsAreFoundByTheirs) {
  make("a");
  make("b");
  auto const first = add("a");
  add("b");
  enqueue({.type = "t"});
  auto const second = add("a");

  std::vector<JobNumber> found;
  for (JobView const& job : expect<JobsReply>(ListJobs{.filter = {.batch = "a"}}).jobs) found.push_back(job.number);
  EXPECT_THAT(found, ElementsAre(second, first));
  EXPECT_EQ(count(BulkJobs{.action = BulkAction::cancel, .filter = {.batch = "a"}}), 2U);
  EXPECT_EQ(get("a").jobs.cancelled, 2U);
  EXPECT_EQ(get("b").jobs.cancelled, 0U);
}

// That nothing was found would be read as: there is nothing left to do.
TEST_F(Batches, ToChooseJobsByOneThatIsNotThereIsAnError) {
  make();
  add();
  kill_one();
  expect<DoneReply>(ForgetBatch{.id = "b"});

  EXPECT_EQ(expect_error(ListJobs{.filter = {.batch = "b"}}), ErrorCode::batch_not_found);
  EXPECT_EQ(expect_error(ListJobs{.filter = {.queue = "nowhere", .batch = "b"}}), ErrorCode::batch_not_found);
  EXPECT_EQ(expect_error(BulkJobs{.action = BulkAction::retry, .filter = {.batch = "b"}}), ErrorCode::batch_not_found);
}

// What was done before is not undone, and its count is told.
TEST_F(Batches, ABulkActionWhoseBatchGoesWhileItIsUnderWayEnds) {
  make();
  auto const job = add();
  expect<DoneReply>(ForgetBatch{.id = "b"});
  BulkJobs const rest{.action = BulkAction::cancel, .filter = {.batch = "b"}, .before = job};
  EXPECT_EQ(count(rest), 0U);
}

TEST_F(Batches, OneThatIsDecidedIsKeptForATimeAndThenForgotten) {
  make();
  add();
  close();
  complete_one();
  pass_and_advance(options.batch_kept - Duration{1});
  EXPECT_EQ(state(kFinish), CallbackState::enqueued);

  pass_and_advance(Duration{1});

  EXPECT_EQ(expect_error(GetBatch{.id = "b"}), ErrorCode::batch_not_found);
  auto const again = replay();
  EXPECT_EQ(dump(*again), dump(engine));
}

TEST_F(Batches, OneWithADeadJobIsKeptAsLongAsThat) {
  make();
  auto const job = add();
  close();
  kill_one();
  pass_and_advance(days{20});
  EXPECT_EQ(state(kSuccess), CallbackState::waiting);
  pass_and_advance(days{20});
  EXPECT_FALSE(engine.view(job).has_value());
  EXPECT_EQ(state(kSuccess), CallbackState::not_coming);

  pass_and_advance(options.batch_kept);
  EXPECT_EQ(expect_error(GetBatch{.id = "b"}), ErrorCode::batch_not_found);
}

TEST_F(Batches, AnOpenOneIsKept) {
  make();
  pass_and_advance(days{1'000});
  EXPECT_EQ(state(kFinish), CallbackState::waiting);
}

TEST_F(Batches, AReplayKnowsAllOfThem) {
  make("open");
  make("closed");
  make("done");
  make("dead");
  add("open");
  add("dead");
  kill_one();
  kill_one();
  add("closed");
  close("closed");
  close("dead");
  close("done");
  auto again = replay();
  EXPECT_EQ(again->check_invariants(), "");
  EXPECT_EQ(dump(*again), dump(engine));
  copied_and_replayed();
  copied_and_replayed();
}

TEST_F(Batches, ACallbackThatIsDueWhenTheServerDiesComesAfterItsStart) {
  make();
  expect<BatchReply>(CloseBatch{.id = "b"});

  auto const again = replay();
  EXPECT_EQ(again->next_due(), now);
  ListLog more;
  again->advance({.now = now, .chance = 1}, more);

  std::vector<BatchView> batches;
  again->batch_views(batches);
  ASSERT_EQ(batches.size(), 1U);
  EXPECT_EQ(batches[0].callback(kSuccess).state, CallbackState::enqueued);
  EXPECT_EQ(batches[0].callback(kFinish).state, CallbackState::enqueued);
  EXPECT_EQ(again->status().jobs, 2U);
}

// The batch's own record is copied ahead first, then something happens to its jobs, and their records go.
TEST_F(Batches, WhatHappensToItsJobsBetweenItsCopyAndTheirsIsCounted) {
  make();
  auto const deleted = add();
  auto const cancelled = add();
  auto const completed = add();
  std::uint32_t const up_to = log.segment();
  log.start_segment();
  for (std::size_t i = 0; i < 2; ++i) {  // The store's record and the batch's.
    ListLog::Record const record = log.records[i];
    EXPECT_EQ(engine.survive(record.effect, record.written.at, log), Engine::Survival::rewritten);
  }
  expect<DoneReply>(DeleteJob{ref(deleted)});
  expect<DoneReply>(CancelJob{ref(cancelled)});
  auto const end = log.records.size();
  for (std::size_t i = 2; i < end; ++i) {
    ListLog::Record const record = log.records[i];
    if (record.written.at.segment > up_to) continue;
    if (engine.survive(record.effect, record.written.at, log) != Engine::Survival::copy_job) continue;
    auto const* sent = std::get_if<effect::JobEnqueued>(&record.effect);
    engine.copy_ahead(sent->number, sent->spec, {}, {}, log);
  }
  EXPECT_EQ(get().jobs, (BatchCounts{.total = 3, .pending = 1, .cancelled = 1, .deleted = 1}));

  auto const again = replay(up_to + 1);

  EXPECT_EQ(again->check_invariants(), "");
  EXPECT_EQ(dump(*again), dump(engine));
  EXPECT_TRUE(again->view(completed).has_value());
}

TEST_F(Batches, WhatStoodInADamagedPartIsWrittenAgainInParts) {
  for (std::string const id : {"a", "b", "c"}) make(id);
  Position const end{log.segment() + 1, 0};
  log.start_segment();
  auto const before = log.records.size();
  BatchNumber next{};
  for (int left = 2; left >= 0; --left) {
    auto const more = engine.rewrite_batches_standing_in(Position{1, 0}, end, next, 1, log);
    ASSERT_EQ(more.has_value(), left > 0);
    if (more) next = *more;
  }
  EXPECT_EQ(log.records.size(), before + 3);
  EXPECT_EQ(engine.check_invariants(), "");
}

// One of the bulk drops the job that another is the same as: so that one is new after all, and its batch counts.
TEST_F(Batches, ABulkThatDropsAJobIsRefusedForTheBatchOfTheOneThatComesInItsPlace) {
  expect<QueueReply>(PatchQueue{.name = "default", .max_depth = 1, .when_full = WhenFull::drop_oldest});
  enqueue({.type = "t", .unique_key = "k"});
  auto const records = log.records.size();
  auto const bulk = [](std::string_view batch) {
    return Enqueue{.specs = {bytes({.type = "t"}), bytes({.type = "t", .unique_key = "k", .batch = batch})}};
  };

  EXPECT_EQ(expect<Error>(bulk("nope")).code, ErrorCode::batch_not_found);
  make();
  close();
  EXPECT_EQ(expect<Error>(bulk("b")).code, ErrorCode::batch_closed);
  make("open");
  auto const taken = expect<EnqueueReply>(bulk("open"));
  EXPECT_FALSE(taken.jobs[1].duplicate);
  EXPECT_EQ(get("open").jobs.pending, 1U);
  EXPECT_GT(log.records.size(), records);
  // By itself it drops nobody, and what it names makes no difference.
  EXPECT_TRUE(enqueue({.type = "t", .unique_key = "k", .batch = "nope"}).duplicate);
}

TEST_F(Batches, OfManyThatAreDueATurnEnqueuesSoManyBytesOfCallbacks) {
  std::string const payload = '"' + std::string(60 * 1024, 'x') + '"';
  Bytes const large =
      bytes({.type = "over", .queue = "callbacks", .payload_kind = PayloadKind::json, .payload = payload});
  for (int i = 0; i < 40; ++i) {
    expect<BatchReply>(MakeBatch{.id = std::to_string(i), .on_finish = large});
    expect<BatchReply>(CloseBatch{.id = std::to_string(i)});
  }
  log.at = now;
  for (bool more = true; more;) {
    auto const begin = log.records.size();
    more = engine.advance({.now = now, .chance = 1}, log);
    std::size_t bytes = 0;
    for (auto i = begin; i < log.records.size(); ++i) {
      if (auto const* made = std::get_if<effect::JobEnqueued>(&log.records[i].effect)) bytes += made->spec.size();
    }
    EXPECT_GT(bytes, 0U);
    EXPECT_LE(bytes, std::size_t{1200} << 10);
  }
  EXPECT_EQ(lease({"callbacks"}, 100).size(), 40U);
}

TEST_F(Batches, OneIsKeptFromTheEndOfItsLastJob) {
  expect<BatchReply>(MakeBatch{.id = "b", .on_success = bytes({.type = "good"})});
  auto const gone = add();
  add();
  expect<BatchReply>(CloseBatch{.id = "b"});
  execute(DeleteJob{.job = {gone}});
  pass_and_advance(options.batch_kept * 2);  // It waits for a job all that time.
  complete_one();
  EXPECT_EQ(get().jobs.completed, 1U);
  pass_and_advance(options.batch_kept - Duration{1});
  EXPECT_EQ(get().jobs.completed, 1U);
  pass_and_advance(Duration{1});
  EXPECT_EQ(expect<Error>(GetBatch{.id = "b"}).code, ErrorCode::batch_not_found);
}

class FewBytesOfBatches : public Batches {
 protected:
  FewBytesOfBatches()
      : Batches([] {
          EngineOptions few;
          few.batches_memory_max = 4'096;
          return few;
        }()) {}
};

TEST_F(FewBytesOfBatches, ThoseThatAreOverGiveWay) {
  std::string const meta = R"({"m":")" + std::string(1'500, 'x') + R"("})";
  for (std::string const id : {"a", "b", "c", "d", "e"}) {
    auto const made = expect<BatchReply>(
        MakeBatch{.id = id, .on_finish = bytes({.type = "over", .queue = "callbacks"}), .meta = meta});
    EXPECT_TRUE(made.created);
    close(id);
    EXPECT_EQ(engine.status().batch_bytes, 0U);  // It gives way, so it is no part of what the bound is about.
  }
  EXPECT_EQ(engine.status().jobs, 5U);  // All have called back,
  EXPECT_EQ(get("e").callback(kFinish).state, CallbackState::enqueued);
  expect<Error>(GetBatch{.id = "a"});  // and the first are no longer to be looked at.
  auto const again = replay();
  EXPECT_EQ(again->check_invariants(), "");
}

TEST_F(Batches, ARestartMakesNoneStayForLonger) {
  make();
  add();
  expect<BatchReply>(CloseBatch{.id = "b"});
  complete_one();
  Instant const over = now;
  pass_and_advance(options.batch_kept / 2);
  auto const again = replay();
  std::vector<BatchView> batches;
  auto const seen_at = [&](Instant at) {
    log.at = at;
    while (again->advance({.now = at, .chance = 1}, log)) {
    }
    again->batch_views(batches);
    return batches.size();
  };
  EXPECT_EQ(seen_at(over + options.batch_kept - Duration{1}), 1U);
  EXPECT_EQ(seen_at(over + options.batch_kept), 0U);
}

TEST_F(FewBytesOfBatches, AreABoundUntilTheCallbacksHaveCome) {
  std::string const payload = '"' + std::string(3'000, 'x') + '"';
  Bytes const large = bytes({.type = "over", .payload_kind = PayloadKind::json, .payload = payload});
  expect<BatchReply>(MakeBatch{.id = "first", .on_finish = large});
  EXPECT_GT(engine.status().batch_bytes, 3'000U);
  auto const records = log.records.size();
  EXPECT_EQ(expect<Error>(MakeBatch{.id = "second", .on_finish = large}).code, ErrorCode::batches_full);
  EXPECT_EQ(log.records.size(), records);
  close("first");
  EXPECT_LT(engine.status().batch_bytes, 100U);
  expect<BatchReply>(MakeBatch{.id = "second", .on_finish = large});
}

TEST_F(Batches, WhatStoodInADamagedPartIsWrittenAgainFromMemory) {
  make();
  add();
  Position const end{log.segment() + 1, 0};
  log.start_segment();
  EXPECT_EQ(engine.rewrite_batches_standing_in(Position{1, 0}, end, BatchNumber{}, 1, log), std::nullopt);
  auto const& last = log.records.back().effect;
  ASSERT_TRUE(std::holds_alternative<effect::BatchCopied>(last));
  EXPECT_EQ(std::get<effect::BatchCopied>(last).id, "b");
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Batches, AJobWhosePayloadIsLostIsStillInItsBatch) {
  make();
  auto const job = add();
  Bytes const known = engine.known_spec(job);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(known, spec));
  EXPECT_EQ(spec.batch, "b");
}

TEST_F(Batches, AnOldLogIsReadAsBefore) {
  enqueue({.type = "t"});
  auto const again = replay();
  EXPECT_EQ(again->status().batches, 0U);
  EXPECT_EQ(dump(*again), dump(engine));
}

class ListedBatches : public Batches {
 protected:
  explicit ListedBatches(EngineOptions const& few = {.steps_max = 3}) : Batches(few) {}
  // Page by page: the ids, and how many pages there were.
  std::vector<std::string> list(ListBatches command, std::size_t* pages = nullptr) {
    std::vector<std::string> ids;
    for (std::size_t count = 1;; ++count) {
      auto const page = expect<BatchesReply>(command);
      EXPECT_LE(page.batches.size(), command.limit);
      for (BatchView const& batch : page.batches) ids.push_back(batch.id);
      if (pages != nullptr) *pages = count;
      if (!page.next || count == 100) return ids;
      command.before = page.next;
    }
  }
};

TEST_F(ListedBatches, AreShownFromTheNewestToTheOldestByState) {
  for (auto const* const id : {"a", "b", "c", "d", "e"}) make(id);
  add("b");
  close("b");
  close("d");

  EXPECT_THAT(list({}), ElementsAre("e", "d", "c", "b", "a"));
  EXPECT_THAT(list({.state = BatchState::open, .limit = 1}), ElementsAre("e", "c", "a"));
  EXPECT_THAT(list({.state = BatchState::closed}), ElementsAre("b"));
  EXPECT_THAT(list({.state = BatchState::over}), ElementsAre("d"));
  EXPECT_THAT(engine.status().batches_in, ElementsAre(3U, 1U, 1U));

  kill_one();
  EXPECT_THAT(list({.state = BatchState::closed}), ElementsAre("b")) << "it may be retried";
  expect<DoneReply>(ForgetBatch{.id = "d"});
  EXPECT_THAT(engine.status().batches_in, ElementsAre(3U, 1U, 0U));
  auto const again = copied_and_replayed();
  EXPECT_EQ(again->status().batches_in, engine.status().batches_in);
}

TEST_F(ListedBatches, ACallLooksAtABoundedNumber) {
  for (auto const* const id : {"a", "b", "c", "d", "e", "f", "g"}) make(id);
  std::size_t pages = 0;
  EXPECT_THAT(list({.state = BatchState::closed}, &pages), ElementsAre());
  EXPECT_EQ(pages, 3U);
}

TEST_F(ListedBatches, AreThoseWhoseCallbacksAreAllOfTheQueuesThatMayBeSeen) {
  auto const in = [](std::string_view queue) { return bytes({.type = "t", .queue = queue}); };
  expect<BatchReply>(MakeBatch{.id = "both", .on_success = in("q"), .on_finish = in("q.too")});
  expect<BatchReply>(MakeBatch{.id = "half", .on_success = in("q"), .on_finish = in("other")});
  expect<BatchReply>(MakeBatch{.id = "one", .on_finish = in("q")});
  expect<BatchReply>(MakeBatch{.id = "none", .on_success = in("other")});
  auto const allowed = std::make_shared<QueueSet const>(std::vector<std::string>{"q", "q.too"});

  EXPECT_THAT(list({.limit = 1, .among = allowed}), ElementsAre("one", "both"));
}

class ListedWithMeta : public ListedBatches {
 protected:
  ListedWithMeta() : ListedBatches(EngineOptions{.steps_max = 1'000}) {}
};

TEST_F(ListedWithMeta, AreOnShorterPagesWhereTheyHaveMuch) {
  MakeBatch command = both({});
  command.meta = R"({"x":")" + std::string(kBatchMetaBytesMax - 8, 'x') + R"("})";
  for (int i = 0; i < 300; ++i) expect<BatchReply>(command);
  std::size_t pages = 0;
  EXPECT_EQ(list({.limit = 1'000}, &pages).size(), 300U);
  EXPECT_EQ(pages, 2U);
}

class FewBatches : public Batches {
 protected:
  FewBatches() : Batches(EngineOptions{.batches_max = 2}) {}
};

TEST_F(FewBatches, BeyondTheBoundTheOldestThatIsOnlyKeptGoesAndElseANewOneIsRefused) {
  make("a");
  make("b");
  EXPECT_EQ(expect_error(both("c")), ErrorCode::batches_full);
  EXPECT_FALSE(expect<BatchReply>(both("a")).created);  // It is there.
  close("b");
  pass(minutes{1});

  make("c");

  EXPECT_EQ(expect_error(GetBatch{.id = "b"}), ErrorCode::batch_not_found);
  EXPECT_EQ(get("a").id, "a");
  EXPECT_EQ(engine.status().batches, 2U);
}

}  // namespace
}  // namespace workmill::engine
