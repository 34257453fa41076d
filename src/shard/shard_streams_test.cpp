#include <gtest/gtest.h>

#include <set>

#include "base/variant.h"
#include "shard/shard_fixture_test.h"

namespace workmill::shard {
namespace {

constexpr Duration kReconnect = std::chrono::seconds{5};

OpenStream open_stream(std::uint32_t credit, std::uint64_t token = 1, std::string queue = "default") {
  OpenStream open;
  open.lease.queues.push_back({.name = std::move(queue), .weight = 0});
  open.lease.worker = "worker-1";
  open.credit = credit;
  open.token = {token, 0};
  return open;
}

OpenStream coming_back(OpenStream open, ResumeToken old, std::vector<JobNumber> held = {}) {
  open.resume = old;
  for (JobNumber const number : held) open.held.push_back({.number = number, .text = {}});
  return open;
}

class ShardStreamsTest : public ShardTest {
 protected:
  struct Seen {
    std::vector<StreamOpened> opened;
    std::vector<Error> errors;
    std::vector<LeasedJob> jobs;
    std::vector<std::size_t> messages;  // Jobs in each.
    std::vector<JobNumber> cancelled;
    int drained = 0;
    std::vector<Error> ended;
    std::uint64_t bytes = 0;
  };

  void turn_all() {
    do {
      auto turned = loop_->turn();
      ASSERT_TRUE(turned) << describe(turned.error());
      last_turn_ = *turned;
      collect();
    } while (last_turn_.more);
    EXPECT_EQ(engine_->check_invariants(), "");
  }
  void collect() {
    std::vector<Answer> answers;
    loop_->take_answers(0, answers);
    for (Answer& answer : answers) {
      Seen& seen = seen_[answer.cookie];
      if (auto* opened = std::get_if<StreamOpened>(&answer.reply))
        seen.opened.push_back(*opened);
      else if (auto* jobs = std::get_if<StreamJobs>(&answer.reply)) {
        seen.messages.push_back(jobs->jobs.size());
        seen.bytes += jobs->bytes;
        std::move(jobs->jobs.begin(), jobs->jobs.end(), std::back_inserter(seen.jobs));
      } else if (auto* cancel = std::get_if<StreamCancel>(&answer.reply)) {
        for (auto const& job : cancel->jobs) seen.cancelled.push_back(job.number);
      } else if (holds<StreamDrained>(answer.reply)) {
        ++seen.drained;
      } else if (auto* ended = std::get_if<StreamEnded>(&answer.reply)) {
        seen.ended.push_back(ended->error);
      } else {
        if (auto* error = std::get_if<Error>(&answer.reply)) seen.errors.push_back(*error);
        answers_.insert_or_assign(answer.cookie, std::move(answer.reply));
      }
    }
  }
  Cookie open(OpenStream open, Allowed allowed = {}) {
    Cookie const cookie = submit(std::move(open), std::move(allowed));
    turn_all();
    return cookie;
  }
  void enqueue_jobs(std::size_t count, std::string_view queue = "default", BytesView payload = "{}") {
    submit(enqueue(std::vector<Bytes>(count, spec_of_job("a", queue, payload))));
    turn_all();
  }
  void tell(TellStream word) {
    submit(std::move(word));
    turn_all();
  }
  void report(std::vector<Report> reports) {
    submit(ReportBatch{.reports = std::move(reports)});
    turn_all();
  }
  JobState state(JobNumber job) { return engine_->view(job)->state; }

  std::map<Cookie, Seen> seen_;
};

TEST_F(ShardStreamsTest, AStreamIsSentAJobInTheTurnInWhichItComes) {
  Cookie const stream = open(open_stream(10));
  ASSERT_EQ(seen_[stream].opened.size(), 1u);
  EXPECT_FALSE(seen_[stream].opened[0].resumed);
  EXPECT_EQ(seen_[stream].opened[0].reconnect_within, kReconnect);

  submit(enqueue({spec_of_job("a")}));
  ASSERT_TRUE(loop_->turn());
  collect();

  ASSERT_EQ(seen_[stream].jobs.size(), 1u);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(seen_[stream].jobs[0].spec, spec));
  EXPECT_EQ(spec.payload, "{}");
}

TEST_F(ShardStreamsTest, NeverAreMoreJobsOutThanItsCredit) {
  Cookie const stream = open(open_stream(3));
  enqueue_jobs(10);
  ASSERT_EQ(seen_[stream].jobs.size(), 3u);

  report({completed(seen_[stream].jobs[0]), completed(seen_[stream].jobs[1])});

  EXPECT_EQ(seen_[stream].jobs.size(), 5u);
}

TEST_F(ShardStreamsTest, AReportAndTheJobsThatItMakesRoomForAreOneTurn) {
  Cookie const stream = open(open_stream(2));
  enqueue_jobs(4);
  auto const first = seen_[stream].jobs;

  submit(ReportBatch{.reports = {completed(first[0]), completed(first[1])}});
  ASSERT_TRUE(loop_->turn());
  collect();

  EXPECT_EQ(seen_[stream].jobs.size(), 4u);
  EXPECT_EQ(seen_[stream].messages, (std::vector<std::size_t>{2, 2}));
}

TEST_F(ShardStreamsTest, ProgressAndExtensionsMakeNoRoom) {
  Cookie const stream = open(open_stream(1));
  enqueue_jobs(2);
  auto report_of = [&](Outcome outcome) {
    LeasedJob const& job = seen_[stream].jobs[0];
    return Report{.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = std::move(outcome)};
  };

  report({report_of(Extend{.by = std::chrono::seconds{60}}), report_of(Progress{.percent = 5, .message = {}})});

  EXPECT_EQ(seen_[stream].jobs.size(), 1u);
}

TEST_F(ShardStreamsTest, CreditIsRaisedLoweredAndPaused) {
  Cookie const stream = open(open_stream(0));
  enqueue_jobs(10);
  EXPECT_EQ(seen_[stream].jobs.size(), 0u);

  tell({.stream = stream, .credit = 4});
  EXPECT_EQ(seen_[stream].jobs.size(), 4u);
  tell({.stream = stream, .credit = 2});
  report({completed(seen_[stream].jobs[0]), completed(seen_[stream].jobs[1])});
  EXPECT_EQ(seen_[stream].jobs.size(), 4u) << "two are out still";
  report({completed(seen_[stream].jobs[2])});
  EXPECT_EQ(seen_[stream].jobs.size(), 5u);
}

TEST_F(ShardStreamsTest, AReportOnAnotherConnectionMakesRoomToo) {
  Cookie const stream = open(open_stream(1));
  enqueue_jobs(2);
  auto const job = seen_[stream].jobs[0];

  submit(lease("other", 1));
  Lease asks = lease("other", 1);
  asks.reports = {completed(job)};
  submit(std::move(asks));
  turn_all();

  EXPECT_EQ(seen_[stream].jobs.size(), 2u);
}

TEST_F(ShardStreamsTest, ALeaseThatRunsOutMakesRoom) {
  OpenStream asks = open_stream(1);
  asks.lease.lease = std::chrono::seconds{1};
  Cookie const stream = open(std::move(asks));
  enqueue_jobs(1);
  ASSERT_EQ(seen_[stream].jobs.size(), 1u);

  clock_.advance(std::chrono::seconds{1});
  turn_all();

  ASSERT_EQ(seen_[stream].jobs.size(), 2u);
  EXPECT_EQ(seen_[stream].jobs[1].attempt, 2u);
}

TEST_F(ShardStreamsTest, JobsAreSharedOutBetweenStreams) {
  Cookie const one = open(open_stream(1'000, 1));
  Cookie const two = open(open_stream(1'000, 2));

  enqueue_jobs(10);

  EXPECT_EQ(seen_[one].jobs.size(), 5u);
  EXPECT_EQ(seen_[two].jobs.size(), 5u);
}

TEST_F(ShardStreamsTest, WhoWasServedLongestAgoComesFirst) {
  Cookie const one = open(open_stream(1'000, 1));
  Cookie const two = open(open_stream(1'000, 2));

  enqueue_jobs(1);
  enqueue_jobs(1);
  enqueue_jobs(1);

  EXPECT_EQ(seen_[one].jobs.size(), 2u);
  EXPECT_EQ(seen_[two].jobs.size(), 1u);
}

TEST_F(ShardStreamsTest, StreamsAndThoseWhoWaitTakeTurns) {
  Cookie const stream = open(open_stream(1'000));
  Cookie const first = submit(lease("default", 1, std::chrono::seconds{20}));
  Cookie const second = submit(lease("default", 1, std::chrono::seconds{20}));
  turn_all();

  enqueue_jobs(2);

  EXPECT_TRUE(answered(first));
  EXPECT_FALSE(answered(second));
  EXPECT_EQ(seen_[stream].jobs.size(), 1u);
}

TEST_F(ShardStreamsTest, AStreamThatIsGoneKeepsItsJobsUntilItsTimeIsOver) {
  Cookie const stream = open(open_stream(2));
  enqueue_jobs(2);
  auto const jobs = seen_[stream].jobs;
  loop_->abandon(0, stream);

  clock_.advance(kReconnect - Duration{1});
  turn_all();
  EXPECT_EQ(state(jobs[0].number), JobState::leased);
  EXPECT_EQ(*last_turn_.next, clock_.now() + Duration{1});
  clock_.advance(Duration{1});
  turn_all();

  EXPECT_EQ(state(jobs[0].number), JobState::ready);
  EXPECT_EQ(state(jobs[1].number), JobState::ready);
  auto const read = ask<JobReply>(GetJob{.job = {.number = jobs[0].number, .text = {}}, .wait = {}});
  ASSERT_EQ(read.job.history.errors.size(), 1u);
  EXPECT_EQ(read.job.history.errors[0].code, "lease_expired");
  EXPECT_EQ(read.job.attempt, 1u);
}

TEST_F(ShardStreamsTest, JobsOfAStreamThatDoesNotComeBackGoToOthersInTheSameTurn) {
  Cookie const gone = open(open_stream(1'000));
  enqueue_jobs(1'000);
  ASSERT_EQ(seen_[gone].jobs.size(), 1'000u);
  Cookie const other = open(open_stream(1'000, 2));
  loop_->abandon(0, gone);
  clock_.advance(kReconnect);

  ASSERT_TRUE(loop_->turn());
  collect();

  EXPECT_EQ(seen_[other].jobs.size(), 1'000u);
}

TEST_F(ShardStreamsTest, WhoComesBackIsSentWhatHeDoesNotHoldUnderTheSameLease) {
  Cookie const stream = open(open_stream(3));
  enqueue_jobs(3);
  auto const jobs = seen_[stream].jobs;
  loop_->abandon(0, stream);
  clock_.advance(kReconnect - Duration{1});

  Cookie const back = open(coming_back(open_stream(3, 2), {1, 0}, {jobs[1].number}));

  ASSERT_EQ(seen_[back].opened.size(), 1u);
  EXPECT_TRUE(seen_[back].opened[0].resumed);
  ASSERT_EQ(seen_[back].jobs.size(), 2u);
  EXPECT_EQ(seen_[back].jobs[0].number, jobs[0].number);
  EXPECT_EQ(seen_[back].jobs[0].token, jobs[0].token);
  EXPECT_EQ(seen_[back].jobs[0].lease_expires_at, jobs[0].lease_expires_at);
  EXPECT_EQ(seen_[back].jobs[0].attempt, 1u);
  EXPECT_EQ(seen_[back].jobs[0].spec, jobs[0].spec);
  EXPECT_EQ(seen_[back].jobs[1].token, jobs[2].token);
  clock_.advance(kReconnect * 2);
  turn_all();
  EXPECT_EQ(state(jobs[1].number), JobState::leased) << "nobody is waited for any more";
  report({completed(jobs[1])});
  EXPECT_EQ(state(jobs[1].number), JobState::completed);
}

TEST_F(ShardStreamsTest, AJobThatWasReportedMeanwhileIsNotSentAgain) {
  Cookie const stream = open(open_stream(2));
  enqueue_jobs(2);
  auto const jobs = seen_[stream].jobs;
  loop_->abandon(0, stream);
  report({completed(jobs[0])});

  Cookie const back = open(coming_back(open_stream(2, 2), {1, 0}, {jobs[0].number}));

  ASSERT_EQ(seen_[back].jobs.size(), 1u);
  EXPECT_EQ(seen_[back].jobs[0].number, jobs[1].number);
}

TEST_F(ShardStreamsTest, AnotherNameOrOwnerOrAnOldTokenTakesNothingOver) {
  Cookie const stream = open(open_stream(1));
  enqueue_jobs(1);
  loop_->abandon(0, stream);
  OpenStream other_name = coming_back(open_stream(5, 2), {1, 0});
  other_name.lease.worker = "worker-2";
  OpenStream other_owner = coming_back(open_stream(5, 3), {1, 0});
  other_owner.owner = "somebody";

  Cookie const name = open(std::move(other_name));
  Cookie const owner = open(std::move(other_owner));
  EXPECT_FALSE(seen_[name].opened.at(0).resumed);
  EXPECT_FALSE(seen_[owner].opened.at(0).resumed);
  Cookie const right = open(coming_back(open_stream(5, 4), {1, 0}));
  EXPECT_TRUE(seen_[right].opened.at(0).resumed);
  EXPECT_EQ(seen_[right].jobs.size(), 1u);
  Cookie const again = open(coming_back(open_stream(5, 5), {1, 0}));
  EXPECT_FALSE(seen_[again].opened.at(0).resumed);
}

TEST_F(ShardStreamsTest, WhoComesBackWhileTheOldConnectionIsThereReplacesIt) {
  Cookie const old = open(open_stream(1));
  enqueue_jobs(1);

  Cookie const back = open(coming_back(open_stream(2, 2), {1, 0}));
  loop_->abandon(0, old);  // Late.
  enqueue_jobs(1);

  ASSERT_EQ(seen_[old].ended.size(), 1u);
  EXPECT_EQ(seen_[old].ended[0].code, ErrorCode::stream_replaced);
  EXPECT_TRUE(seen_[back].opened.at(0).resumed);
  EXPECT_EQ(seen_[back].jobs.size(), 2u);
  EXPECT_EQ(seen_[old].jobs.size(), 1u);
}

TEST_F(ShardStreamsTest, AfterARestartATokenIsUnknownAndLeasesGoOn) {
  Cookie const stream = open(open_stream(1));
  enqueue_jobs(1);
  auto const job = seen_[stream].jobs.at(0);
  restart();

  Cookie const back = open(coming_back(open_stream(1, 2), {1, 0}, {job.number}));

  EXPECT_FALSE(seen_[back].opened.at(0).resumed);
  EXPECT_EQ(state(job.number), JobState::leased);
  report({completed(job)});
  EXPECT_EQ(state(job.number), JobState::completed);
}

TEST_F(ShardStreamsTest, ACancellationIsTold) {
  Cookie const stream = open(open_stream(1));
  enqueue_jobs(1);
  auto const job = seen_[stream].jobs.at(0);

  submit(CancelJob{.job = {.number = job.number, .text = {}}});
  turn_all();

  EXPECT_EQ(seen_[stream].cancelled, std::vector{job.number});
}

TEST_F(ShardStreamsTest, WhoComesBackHearsOfACancellation) {
  Cookie const stream = open(open_stream(1));
  enqueue_jobs(1);
  auto const job = seen_[stream].jobs.at(0);
  loop_->abandon(0, stream);
  ask<DoneReply>(CancelJob{.job = {.number = job.number, .text = {}}});

  Cookie const back = open(coming_back(open_stream(1, 2), {1, 0}, {job.number}));

  EXPECT_EQ(seen_[back].cancelled, std::vector{job.number});
}

TEST_F(ShardStreamsTest, ADrainedStreamGetsNoMoreAndHearsWhenNothingIsOut) {
  Cookie const stream = open(open_stream(5));
  enqueue_jobs(2);

  tell({.stream = stream, .drain = true});
  enqueue_jobs(2);
  EXPECT_EQ(seen_[stream].jobs.size(), 2u);
  EXPECT_EQ(seen_[stream].drained, 0);
  report({completed(seen_[stream].jobs[0])});
  EXPECT_EQ(seen_[stream].drained, 0);
  report({completed(seen_[stream].jobs[1])});

  EXPECT_EQ(seen_[stream].drained, 1);
  tell({.stream = stream, .taken_bytes = 1'000});
  EXPECT_EQ(seen_[stream].drained, 1);
}

TEST_F(ShardStreamsTest, WhenTheServerDrainsStreamsEndAndLeasesStay) {
  Cookie const stream = open(open_stream(1));
  enqueue_jobs(2);

  loop_->drain();
  turn_all();

  ASSERT_EQ(seen_[stream].ended.size(), 1u);
  EXPECT_EQ(seen_[stream].ended[0].code, ErrorCode::shutting_down);
  EXPECT_TRUE(loop_->idle());
  clock_.advance(kReconnect * 2);
  turn_all();
  EXPECT_EQ(state(seen_[stream].jobs[0].number), JobState::leased);
  Cookie const late = open(open_stream(1, 2));
  EXPECT_EQ(seen_[late].errors.at(0).code, ErrorCode::shutting_down);
}

TEST_F(ShardStreamsTest, AStreamWhoseOutputIsNotTakenLeasesNoMore) {
  options_.streams.window_bytes = 10'000;
  restart();
  Cookie const stream = open(open_stream(1'000));
  std::string const large = '"' + std::string(1'000, 'x') + '"';

  enqueue_jobs(100, "default", large);
  std::size_t const sent = seen_[stream].jobs.size();
  EXPECT_LE(sent, 10u);
  EXPECT_GE(sent, 5u);
  tell({.stream = stream, .taken_bytes = seen_[stream].bytes});

  EXPECT_GT(seen_[stream].jobs.size(), sent);
  EXPECT_LE(seen_[stream].jobs.size(), 2 * sent + 1);
}

TEST_F(ShardStreamsTest, WhatIsSentAgainKeepsToTheWindow) {
  options_.streams.window_bytes = 10'000;
  restart();
  Cookie stream = open(open_stream(100));
  std::string const large = '"' + std::string(1'000, 'x') + '"';
  enqueue_jobs(20, "default", large);
  for (int i = 0; i < 5; ++i) tell({.stream = stream, .taken_bytes = 10'000});
  ASSERT_EQ(seen_[stream].jobs.size(), 20u);
  loop_->abandon(0, stream);

  stream = open(coming_back(open_stream(100, 2), {1, 0}));
  EXPECT_LT(seen_[stream].jobs.size(), 20u);
  for (int i = 0; i < 5; ++i) tell({.stream = stream, .taken_bytes = 10'000});

  EXPECT_EQ(seen_[stream].jobs.size(), 20u);
}

TEST_F(ShardStreamsTest, AllStreamsTogetherKeepToTheirWindow) {
  options_.streams.window_bytes_all = 3'000;
  restart();
  Cookie const one = open(open_stream(100, 1));
  Cookie const two = open(open_stream(100, 2));
  std::string const large = '"' + std::string(1'000, 'x') + '"';

  enqueue_jobs(20, "default", large);
  std::size_t const sent = seen_[one].jobs.size() + seen_[two].jobs.size();
  EXPECT_LT(sent, 20u);
  for (int i = 0; i < 20; ++i) {
    tell({.stream = one, .taken_bytes = 10'000});
    tell({.stream = two, .taken_bytes = 10'000});
  }

  EXPECT_EQ(seen_[one].jobs.size() + seen_[two].jobs.size(), 20u);
}

TEST_F(ShardStreamsTest, ManyJobsAreGivenOverSeveralTurns) {
  Cookie const one = open(open_stream(10'000, 1));
  Cookie const two = open(open_stream(10'000, 2));
  submit(enqueue(std::vector<Bytes>(10'000, spec_of_job("a"))));
  submit(enqueue(std::vector<Bytes>(10'000, spec_of_job("a"))));

  ASSERT_TRUE(loop_->turn());
  collect();
  EXPECT_LT(seen_[one].jobs.size() + seen_[two].jobs.size(), 10'000u);
  for (int i = 0; i < 20; ++i) {
    tell({.stream = one, .taken_bytes = 1u << 30});
    tell({.stream = two, .taken_bytes = 1u << 30});
  }

  EXPECT_EQ(seen_[one].jobs.size() + seen_[two].jobs.size(), 20'000u);
  std::set<JobNumber> all;
  for (Cookie const it : {one, two}) {
    for (auto const& job : seen_[it].jobs) all.insert(job.number);
  }
  EXPECT_EQ(all.size(), 20'000u);
}

TEST_F(ShardStreamsTest, TooManyStreamsAreRefused) {
  options_.streams.streams_max = 2;
  restart();
  Cookie const one = open(open_stream(1, 1));
  open(open_stream(1, 2));
  EXPECT_TRUE(loop_->streams_full());

  Cookie const three = open(open_stream(1, 3));
  EXPECT_EQ(seen_[three].errors.at(0).code, ErrorCode::overloaded);
  loop_->abandon(0, one);
  EXPECT_FALSE(loop_->streams_full());
  Cookie const four = open(open_stream(1, 4));
  EXPECT_EQ(seen_[four].opened.size(), 1u);
}

TEST_F(ShardStreamsTest, NoMoreAreWaitedForThanMayBeThere) {
  options_.streams.streams_max = 1;
  restart();
  Cookie const one = open(open_stream(1, 1));
  enqueue_jobs(2);
  loop_->abandon(0, one);
  Cookie const two = open(open_stream(1, 2));
  loop_->abandon(0, two);

  turn_all();

  EXPECT_EQ(state(seen_[one].jobs.at(0).number), JobState::ready);
  EXPECT_EQ(state(seen_[two].jobs.at(0).number), JobState::leased);
}

TEST_F(ShardStreamsTest, ATokenLimitedToSomeQueuesGetsNoOther) {
  Allowed const allowed{.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"mine"})};

  Cookie const refused = open(open_stream(1, 1, "other"), allowed);
  Cookie const taken = open(open_stream(1, 2, "mine"), allowed);

  EXPECT_EQ(seen_[refused].errors.at(0).code, ErrorCode::forbidden);
  EXPECT_EQ(seen_[taken].opened.size(), 1u);
}

TEST_F(ShardStreamsTest, WhoMaySeeAJobNoMoreDoesNotTakeItOver) {
  Cookie const stream = open(open_stream(1, 1, "other"));
  enqueue_jobs(1, "other");
  auto const job = seen_[stream].jobs.at(0);
  loop_->abandon(0, stream);
  Allowed const allowed{.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"mine"})};

  Cookie const back = open(coming_back(open_stream(1, 2, "mine"), {1, 0}), allowed);

  EXPECT_TRUE(seen_[back].jobs.empty());
  EXPECT_EQ(state(job.number), JobState::ready);
}

TEST_F(ShardStreamsTest, AClientThatHasGoneBeforeItsStreamWasOpenedOpensNone) {
  enqueue_jobs(1);
  Cookie const gone = submit(open_stream(1));
  loop_->abandon(0, gone);

  turn_all();

  EXPECT_TRUE(seen_[gone].jobs.empty());
  EXPECT_EQ(ask<LeaseReply>(lease()).jobs.size(), 1u);
}

}  // namespace
}  // namespace workmill::shard
