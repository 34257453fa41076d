#include "app/health/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace workmill::app::health {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kSeconds = 5;

// A server that has enough to do, and no trouble.
struct Pair {
  Pair() {
    for (Snapshot* it : {&before, &after}) {
      it->readiness = "ready";
      it->disk_free_bytes = std::uint64_t{100} << 30;
      it->now = instant_from_ms(1'795'334'400'000);
      it->threads = {{.name = "wm-io-0", .busy = 0.4}, {.name = "wm-shard", .busy = 0.3}};
      it->bounds = {{.name = "http_connections", .used = 20, .limit = 20'000}};
      it->http = HttpCounts{};
    }
    after.now += std::chrono::seconds{5};
    after.http = HttpCounts{.connections = 1, .requests = 5'000, .refused = 0};
    after.flushes = 1'000;
    after.flush_seconds = 0.2;
    after.decide_seconds = 0.5;
  }

  // A queue that has moved so between the two.
  struct Queue {
    std::string name;
    std::uint64_t enqueued = 0, taken = 0, completed = 0;
    std::uint64_t ready_before = 0, ready = 0, leased = 0;
    int waits_seconds = 0;
    bool paused = false;
    std::optional<std::uint64_t> max_depth{};
    std::uint64_t failed = 0;
  };
  void add(Queue const& it) {
    before.queues.push_back(
        {.name = it.name, .paused = it.paused, .ready = it.ready_before, .max_depth = {}, .oldest_ready_at = {}});
    QueueState state{.name = it.name,
                     .paused = it.paused,
                     .ready = it.ready,
                     .leased = it.leased,
                     .max_depth = it.max_depth,
                     .oldest_ready_at = {}};
    state.enqueued = it.enqueued;
    state.taken = it.taken;
    state.completed = it.completed;
    state.failed = it.failed;
    if (it.ready > 0) state.oldest_ready_at = after.now - std::chrono::seconds{it.waits_seconds};
    after.queues.push_back(state);
  }

  std::vector<Finding> findings() const { return diagnose(before, after, kSeconds); }
  std::vector<std::string> codes() const {
    std::vector<std::string> all;
    for (Finding const& finding : findings()) all.emplace_back(finding.code);
    return all;
  }

  Snapshot before, after;
};

TEST(Diagnosis, FindsNothingOnAServerThatDoesItsWork) {
  Pair pair;
  pair.add({.name = "q", .enqueued = 1'000, .taken = 1'000, .completed = 990, .ready = 5, .leased = 5});

  EXPECT_THAT(pair.codes(), IsEmpty());
  EXPECT_THAT(figures(pair.before, pair.after, kSeconds), HasSubstr("4 % of the time flushing (0.20 ms each)"));
}

TEST(Diagnosis, OfAServerThatSaysNothingIsNothing) { EXPECT_THAT(diagnose({}, {}, kSeconds), IsEmpty()); }

TEST(Diagnosis, NamesTheDiskFromHalfTheTimeOn) {
  Pair pair;
  pair.after.flush_seconds = 2.49;
  EXPECT_THAT(pair.codes(), IsEmpty());

  pair.after.flush_seconds = 2.5;
  pair.after.flushes = 50;
  EXPECT_THAT(pair.codes(), ElementsAre("disk_flush"));
  EXPECT_EQ(pair.findings()[0].what, "The disk limits: 50 % of the time goes into flushing, 50.0 ms each.");
}

TEST(Diagnosis, NamesACertificateFromTwoWeeksBeforeItsEndOn) {
  Pair pair;
  pair.after.certificate_end = pair.after.now + std::chrono::days{14};
  EXPECT_THAT(pair.codes(), IsEmpty());

  pair.after.certificate_end = pair.after.now + std::chrono::days{14} - Duration{1};
  EXPECT_THAT(pair.codes(), ElementsAre("certificate"));
  EXPECT_THAT(pair.findings()[0].what, HasSubstr("certificate ends at 2026-"));
  pair.after.certificate_end = pair.after.now;
  EXPECT_THAT(pair.findings()[0].what, HasSubstr("certificate has ended at"));
}

TEST(Diagnosis, NamesTheQueueWhoseJobsFailMost) {
  Pair pair;
  pair.add({.name = "fine", .taken = 100, .completed = 51, .failed = 49});
  pair.add({.name = "few", .taken = 4, .failed = 4});
  EXPECT_THAT(pair.codes(), IsEmpty());

  pair.add({.name = "bad", .taken = 10, .completed = 5, .failed = 5});
  EXPECT_THAT(pair.codes(), ElementsAre("failing_jobs"));
  EXPECT_THAT(pair.findings()[0].what, HasSubstr("Workers of bad fail: 5 of 10 attempts that ended; 0 jobs dead."));
  pair.add({.name = "worse", .taken = 6, .failed = 6});
  EXPECT_THAT(pair.findings()[0].what, HasSubstr("Workers of worse fail: 6 of 6"));
}

TEST(Diagnosis, NamesAReloadThatWasRefused) {
  Pair pair;
  pair.after.reload_refused = true;

  EXPECT_THAT(pair.codes(), ElementsAre("reload_refused"));
}

TEST(Diagnosis, NamesABusyIoThread) {
  Pair pair;
  pair.after.threads[0].busy = 0.69;
  EXPECT_THAT(pair.codes(), IsEmpty());

  pair.after.threads[0].busy = 0.7;
  EXPECT_THAT(pair.codes(), ElementsAre("io_cpu"));
  EXPECT_THAT(pair.findings()[0].what, HasSubstr("70 % of a core, at 1000/s requests"));
}

TEST(Diagnosis, NamesAnIoThreadThatOthersKeepFromItsCore) {
  Pair pair;
  pair.after.threads[0].busy = 0.45;
  pair.after.threads[0].waiting = 0.2;
  EXPECT_THAT(pair.codes(), IsEmpty());

  pair.after.threads[0].waiting = 0.5;
  EXPECT_THAT(pair.codes(), ElementsAre("io_cpu"));
  EXPECT_THAT(pair.findings()[0].what,
              HasSubstr("45 % of a core, at 1000/s requests; 50 % of the time it waits for a"));
}

TEST(Diagnosis, NamesTheBusierThreadFirst) {
  Pair pair;
  pair.after.threads = {
      {.name = "wm-io-0", .busy = 0.9}, {.name = "wm-io-1", .busy = 0.2}, {.name = "wm-shard", .busy = 0.95}};

  EXPECT_THAT(pair.codes(), ElementsAre("shard_cpu", "io_cpu"));
}

TEST(Diagnosis, NamesAShardThatDecidesAllTheTimeThoughItHasToShareItsCore) {
  Pair pair;
  pair.after.decide_seconds = 3.4;
  EXPECT_THAT(pair.codes(), IsEmpty());

  pair.after.read_seconds = 0.2;
  EXPECT_THAT(pair.codes(), ElementsAre("shard_cpu"));
}

TEST(Diagnosis, TellsOnTheOneThreadThatDoesBothWhatItsTimeGoesTo) {
  Pair pair;
  pair.after.threads = {{.name = "workmill", .busy = 0.95}};
  pair.after.decide_seconds = 1;
  EXPECT_THAT(pair.codes(), ElementsAre("io_cpu"));

  pair.after.decide_seconds = 2;
  pair.after.read_seconds = 1;
  EXPECT_THAT(pair.codes(), ElementsAre("shard_cpu"));
}

TEST(Diagnosis, NamesClientsThatDoNotKeepTheirConnectionsBeforeTheCpuThatTheyCost) {
  Pair pair;
  pair.after.threads[0].busy = 0.99;
  pair.after.http->connections = 2'499;
  EXPECT_THAT(pair.codes(), ElementsAre("io_cpu"));

  pair.after.http->connections = 2'500;
  EXPECT_THAT(pair.codes(), ElementsAre("no_keep_alive", "io_cpu"));
}

TEST(Diagnosis, DoesNotJudgeHowFewRequestsConnect) {
  Pair pair;
  pair.after.http = HttpCounts{.connections = 99, .requests = 99, .refused = 0};  // Under 20 a second.
  EXPECT_THAT(pair.codes(), IsEmpty());
  pair.after.http = HttpCounts{.connections = 100, .requests = 100, .refused = 0};
  EXPECT_THAT(pair.codes(), ElementsAre("no_keep_alive"));
}

TEST(Diagnosis, NamesFullBoundsTheFullestFirst) {
  Pair pair;
  pair.after.bounds = {{.name = "a", .used = 89, .limit = 100},
                       {.name = "b", .used = 90, .limit = 100},
                       {.name = "c", .used = 100, .limit = 100},
                       {.name = "none", .used = 5, .limit = 0}};

  EXPECT_THAT(pair.codes(), ElementsAre("full_bound", "full_bound"));
  EXPECT_EQ(pair.findings()[0].what, "The bound c is 100 % full: 100 of 100.");
}

TEST(Diagnosis, SaysWhereToLookForTheBatchesThatFillTheirBounds) {
  for (char const* name : {"batches", "batch_bytes"}) {
    Pair pair;
    pair.after.bounds = {{.name = name, .used = 10, .limit = 10}};
    ASSERT_THAT(pair.codes(), ElementsAre("full_bound"));
    EXPECT_NE(pair.findings()[0].advice.find("workmill batch list --state open"), std::string::npos);
  }
}

TEST(Diagnosis, DoesNotNameBoundsThatFillUpBehindSomethingElse) {
  Pair pair;
  for (char const* name :
       {"admission_limit", "http_in_flight", "inbox", "unflushed_bytes", "idempotency_keys", "cache_memory",
        "cache_disk", "http_header_bytes", "http_body_bytes", "http_pipelined", "http_output_bytes"}) {
    pair.after.bounds.push_back({.name = name, .used = 10, .limit = 10});
  }

  EXPECT_THAT(pair.codes(), IsEmpty());
}

TEST(Diagnosis, NamesAQueueAtItsMaxDepthBeforeTheRefusalsThatItMakes) {
  Pair pair;
  pair.after.http->connections = 5'000;
  pair.after.http->refused = 4'700;
  pair.add({.name = "roomy", .ready_before = 80, .ready = 89, .max_depth = 100});
  EXPECT_THAT(pair.codes(), ElementsAre("no_keep_alive", "refusing"));

  pair.add({.name = "q1", .ready_before = 5, .ready = 5, .waits_seconds = 70, .max_depth = 5});
  EXPECT_THAT(pair.codes(), ElementsAre("queue_full", "no_keep_alive", "no_workers"));
  EXPECT_EQ(pair.findings()[0].what,
            "Queue q1 is full: 5 of 5 jobs (max_depth); 94 % of all requests are refused, 940/s of 1000/s.");

  pair.add({.name = "larger", .ready_before = 95, .ready = 90, .leased = 5, .max_depth = 100});
  EXPECT_THAT(pair.findings()[0].what,
              HasSubstr("Queue larger is nearly full: 95 of 100 jobs (max_depth), and so 1 other queue;"));
}

TEST(Diagnosis, NamesAFullQueueThatNobodyAddsTo) {
  Pair pair;
  pair.add({.name = "q1", .ready_before = 4, .ready = 4, .leased = 1, .max_depth = 5});
  EXPECT_THAT(pair.codes(), ElementsAre("queue_full"));
  EXPECT_EQ(pair.findings()[0].what, "Queue q1 is full: 5 of 5 jobs (max_depth).");
}

TEST(Diagnosis, NamesAQueueWhoseWorkersFallBehind) {
  Pair pair;
  pair.add({.name = "mail",
            .enqueued = 500,
            .taken = 55,
            .completed = 50,
            .ready_before = 100,
            .ready = 550,
            .leased = 5,
            .waits_seconds = 8});

  EXPECT_THAT(pair.codes(), ElementsAre("slow_consumers"));
  EXPECT_THAT(
      pair.findings()[0].what,
      HasSubstr(
          "Workers of mail are too slow or too few: 100/s in, 10/s done, 550 ready, 5 leased, the first waits 8 s."));
}

TEST(Diagnosis, DoesNotBlameWorkersOfAQueueThatShrinksOrIsYoung) {
  Pair pair;
  pair.add({.name = "shrinks",
            .enqueued = 500,
            .taken = 400,
            .completed = 400,
            .ready_before = 700,
            .ready = 650,
            .waits_seconds = 8});
  pair.add({.name = "young",
            .enqueued = 500,
            .taken = 5,
            .completed = 0,
            .ready_before = 0,
            .ready = 500,
            .waits_seconds = 1});

  EXPECT_THAT(pair.codes(), IsEmpty());
}

TEST(Diagnosis, NamesTheHotQueueWhereTheOthersAreServed) {
  Pair pair;
  pair.add({.name = "hot",
            .enqueued = 900,
            .taken = 450,
            .completed = 440,
            .ready_before = 100,
            .ready = 550,
            .leased = 10,
            .waits_seconds = 3});
  pair.add({.name = "cold", .enqueued = 50, .taken = 50, .completed = 50});

  EXPECT_THAT(pair.codes(), ElementsAre("hot_queue"));
  EXPECT_THAT(pair.findings()[0].what, HasSubstr("hot has 93 % of all jobs (180/s in, 88/s done)"));
}

TEST(Diagnosis, CallsNoQueueHotThatIsAloneOrThatNobodyWorksOn) {
  Pair alone;
  alone.add({.name = "q", .enqueued = 900, .taken = 450, .completed = 440, .ready = 550, .waits_seconds = 3});
  EXPECT_THAT(alone.codes(), ElementsAre("slow_consumers"));

  Pair idle;
  idle.add({.name = "q", .enqueued = 900, .ready = 900, .waits_seconds = 3});
  idle.add({.name = "cold", .enqueued = 50, .taken = 50, .completed = 50});
  EXPECT_THAT(idle.codes(), ElementsAre("slow_consumers"));
  EXPECT_EQ(idle.findings()[0].why, "Nobody takes jobs from it.");
}

TEST(Diagnosis, NamesWhatStandsStill) {
  Pair pair;
  pair.add({.name = "held", .ready_before = 3, .ready = 3, .waits_seconds = 5, .paused = true});
  pair.add({.name = "forgotten", .ready_before = 3, .ready = 3, .waits_seconds = 60});
  pair.add({.name = "fresh", .ready_before = 3, .ready = 3, .waits_seconds = 59});

  EXPECT_THAT(pair.codes(), ElementsAre("paused_queue", "no_workers"));
  EXPECT_THAT(pair.findings()[1].what, HasSubstr("forgotten"));
}

TEST(Diagnosis, NamesJobsThatWaitForAFlagBeforeWhatThatLooksLike) {
  Pair pair;
  pair.add({.name = "sms", .ready_before = 200, .ready = 200, .waits_seconds = 90});
  pair.after.ready = 200;
  pair.after.gated = 180;

  EXPECT_THAT(pair.codes(), ElementsAre("gated_jobs", "no_workers"));
  EXPECT_EQ(pair.findings()[0].what, "180 of 200 ready jobs wait for a feature flag that is off.");
}

TEST(Diagnosis, NamesDamageAndAFullDiskBeforeAllElse) {
  Pair pair;
  pair.after.flush_seconds = 5;
  pair.after.readiness = "disk_full";
  pair.after.damaged = 2;

  EXPECT_THAT(pair.codes(), ElementsAre("damage", "disk_low", "disk_flush"));
}

TEST(Diagnosis, WarnsOfADiskBeforeItIsFull) {
  Pair pair;
  pair.after.disk_free_bytes = kDiskFreeBytes;
  EXPECT_THAT(pair.codes(), IsEmpty());
  pair.after.disk_free_bytes = kDiskFreeBytes - 1;
  EXPECT_THAT(pair.codes(), ElementsAre("disk_low"));
}

TEST(Diagnosis, NamesTheMemoryOfJobsBeforeItIsFullAndOnceItIs) {
  Pair pair;
  pair.after.bounds = {{.name = "jobs_memory", .used = 899, .limit = 1'000}};
  EXPECT_THAT(pair.codes(), IsEmpty());
  pair.after.bounds = {{.name = "jobs_memory", .used = 900, .limit = 1'000}};
  EXPECT_THAT(pair.codes(), ElementsAre("jobs_memory"));
  EXPECT_THAT(pair.findings().front().why, HasSubstr("will be refused"));
  pair.after.bounds = {{.name = "jobs_memory", .used = 1'001, .limit = 1'000}};
  EXPECT_THAT(pair.findings().front().why, HasSubstr("are refused"));
}

TEST(Diagnosis, NamesRefusalsLast) {
  Pair pair;
  pair.after.http->refused = 249;
  EXPECT_THAT(pair.codes(), IsEmpty());
  pair.after.http->refused = 250;
  pair.after.flush_seconds = 4;
  EXPECT_THAT(pair.codes(), ElementsAre("disk_flush", "refusing"));
}

TEST(Diagnosis, BearsAServerThatWasRestartedInBetween) {
  Pair pair;
  std::swap(pair.before, pair.after);  // All counters fall.
  pair.after.now = pair.before.now + std::chrono::seconds{5};

  EXPECT_THAT(pair.codes(), IsEmpty());
}

}  // namespace
}  // namespace workmill::app::health
