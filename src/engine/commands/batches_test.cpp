#include <gmock/gmock.h>

#include <cctype>
#include <string>
#include <vector>

#include "engine/commands/batches_fixture_test.h"

// Batches: how they are made, closed and forgotten, and which jobs are in them.
namespace workmill::engine {
namespace {

using std::chrono::minutes;
using ::testing::ElementsAre;

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

TEST_F(Batches, ClosedTwiceItIsClosedOnce) {
  make();
  auto const first = close();
  auto const before = log.records.size();
  pass(minutes{1});

  EXPECT_EQ(close(), first);
  EXPECT_EQ(log.records.size(), before);
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

}  // namespace
}  // namespace workmill::engine
