#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/variant.h"
#include "protocols/http/calls/cache_calls.h"
#include "protocols/http/server_harness_test.h"

// The calls of the cache, from their bytes to the index or the command, and back.
namespace workmill::http {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using namespace std::chrono_literals;

constexpr cache::Place kOnDisk{.at = Position{.segment = 1, .offset = 64}, .bytes = 100};
constexpr std::string_view kJob = R"({"job":{"type":"report","queue":"reports"}})";

struct CacheHttpTest : ServerTest {
  CacheHttpTest() { service.cached = &cache; }

  Instant now() const { return clock.now(); }
  CacheTimes times(Duration fresh = 60s, Duration stale = 60s, Duration compute_time = 0ms) const {
    return {.stored_at = now(),
            .fresh_until = now() + fresh,
            .stale_until = now() + fresh + stale,
            .compute_time = compute_time,
            .etag = 0x1234};
  }
  void keep(std::string_view key, std::string_view body, CacheTimes const& times,
            std::string_view type = "application/json") {
    cache.put(key, CacheValue::make(key, type, body), times, {}, {});
  }
  // The command that a request becomes, and `reply` to it.
  template <class T>
  T command(std::string_view request, Reply const& reply = DoneReply{}) {
    auto const answered = ask_once(request, reply);
    EXPECT_EQ(commands.size(), 1U) << answered;
    T* const found = commands.empty() ? nullptr : std::get_if<T>(&commands.front());
    EXPECT_NE(found, nullptr) << answered;
    return found == nullptr ? T{} : std::move(*found);
  }
  // One exchange: what is answered, and in `commands` what was asked of the shard, which said `reply`.
  std::string ask_once(std::string_view request, Reply const& reply = DoneReply{}) {
    TestClient client{port};
    commands.clear();
    client.send(request);
    until([&] {
      service.answer_all([&](Command const& command) {
        commands.push_back(command);
        return reply;
      });
      client.read();
      return client.received.find("\r\n\r\n") != std::string::npos;
    });
    settle();
    client.read();
    return client.received;
  }
  static std::string put(std::string_view target, std::string_view body, std::string_view headers = "") {
    std::string text = "PUT ";
    text.append(target).append(" HTTP/1.1\r\nHost: h\r\nContent-Length: ").append(std::to_string(body.size()));
    return text.append("\r\n").append(headers).append("\r\n").append(body);
  }
  static std::string remove(std::string_view target) {
    return std::string{"DELETE "}.append(target).append(" HTTP/1.1\r\nHost: h\r\n\r\n");
  }
  double counted(std::string_view result) {
    return static_cast<double>(metrics
                                   .counter("workmill_cache_requests_total",
                                            "Calls for a cached value, by what came of them.", {{"result", result}})
                                   .value());
  }

  cache::Cache cache{{.memory_bytes = 64 << 20, .disk_bytes = 64 << 20}};
  std::vector<Command> commands;
};

// ---- GET, HEAD

TEST_F(CacheHttpTest, AFreshValueIsAnsweredWithoutTheShard) {
  keep("user:1", R"({"n":1})", times());
  clock.advance(2500ms);

  auto const answer = ask_once(get("/v1/cache/user:1"));

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(answer, HasSubstr("ETag: \"0000000000001234\"\r\nAge: 2\r\n"));
  EXPECT_THAT(answer, HasSubstr("Cache-Status: workmill; hit; ttl=57\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n{\"n\":1}"));
  EXPECT_TRUE(commands.empty());
  EXPECT_EQ(counted("hit"), 1);
}

TEST_F(CacheHttpTest, AStaleValueSaysSo) {
  keep("k", "1", times(1s, 60s));
  clock.advance(3s);

  auto const answer = ask_once(get("/v1/cache/k"));

  EXPECT_THAT(answer, HasSubstr("Cache-Status: workmill; hit; ttl=-2\r\n"));
  EXPECT_EQ(counted("stale"), 1);
}

TEST_F(CacheHttpTest, AValueThatIsOverIsNotThere) {
  keep("k", "1", times(1s, 1s));
  clock.advance(2s);

  auto const answer = ask_once(get("/v1/cache/k"));

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n"));
  EXPECT_THAT(answer, HasSubstr("Cache-Status: workmill; fwd=uri-miss\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"("code":"cache_miss","class":"user")"));
  EXPECT_EQ(counted("miss"), 1);
}

TEST_F(CacheHttpTest, HeadHasTheLengthAndNoBody) {
  keep("k", "12345", times());

  auto const answer = ask_once("HEAD /v1/cache/k HTTP/1.1\r\nHost: h\r\n\r\n");

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length:          5\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(CacheHttpTest, AKeyIsPercentDecoded) {
  keep("a/b c\xc3\xa9", "1", times());

  EXPECT_THAT(ask_once(get("/v1/cache/a%2Fb%20c%C3%A9")), StartsWith("HTTP/1.1 200 "));
}

TEST_F(CacheHttpTest, AKeyThatIsNoneIsRefusedByName) {
  std::string const long_key(kCacheKeyBytesMax + 1, 'k');
  for (std::string const key : {"a%0Ab", "%ff", "a%2", "a%zz", "%00", "%c2%80", long_key.c_str()}) {
    for (std::string const& request : {get("/v1/cache/" + key), put("/v1/cache/" + key, "1"),
                                       post("/v1/cache/" + key, kJob), remove("/v1/cache/" + key)}) {
      auto const answer = ask_once(request);
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << request;
      EXPECT_THAT(answer, HasSubstr(R"("field":"key")")) << request;
    }
  }
  EXPECT_TRUE(commands.empty());
}

TEST_F(CacheHttpTest, WhoHasTheValueIsSentNoBody) {
  keep("k", "12345", times());

  for (std::string const tags : {R"("0000000000001234")", R"("x", W/"0000000000001234")", "*"}) {
    auto const answer = ask_once(get("/v1/cache/k", "If-None-Match: " + tags + "\r\n"));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 304 Not Modified\r\nDate: ")) << tags;
    EXPECT_THAT(answer, HasSubstr("ETag: \"0000000000001234\"\r\nAge: 0\r\n")) << tags;
    EXPECT_THAT(answer, Not(HasSubstr("Content-"))) << tags;
    EXPECT_THAT(answer, EndsWith("\r\n\r\n")) << tags;
  }
  EXPECT_THAT(ask_once(get("/v1/cache/k", "If-None-Match: \"0000000000001235\"\r\n")), EndsWith("\r\n\r\n12345"));
}

TEST_F(CacheHttpTest, AValueThatABrowserMightRunIsShownInASandbox) {
  keep("page", "<script>", times(), "text/html");
  keep("json", "1", times());

  EXPECT_THAT(ask_once(get("/v1/cache/page")),
              HasSubstr("X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; sandbox\r\n"));
  EXPECT_THAT(ask_once(get("/v1/cache/json")), Not(HasSubstr("Content-Security-Policy")));
}

TEST_F(CacheHttpTest, AValueOnDiskIsReadByTheShard) {
  cache.put("k", CacheValue::make_head("k", "text/plain", 5), times(), {}, kOnDisk);
  CachedReply const cached{.value = CacheValue::make("k", "text/plain", "12345"), .times = times()};

  auto const read = command<ReadCached>(get("/v1/cache/k"), cached);
  EXPECT_EQ(read.key, "k");
  EXPECT_THAT(ask_once(get("/v1/cache/k"), cached), EndsWith("\r\n\r\n12345"));
  EXPECT_THAT(ask_once(get("/v1/cache/k", "If-None-Match: \"0000000000001235\"\r\n"), cached),
              EndsWith("\r\n\r\n12345"));
  EXPECT_THAT(ask_once(get("/v1/cache/k"), CacheMissed{}), HasSubstr(R"("code":"cache_miss")"));
}

TEST_F(CacheHttpTest, WhoWantsNoBodyDoesNotWaitForTheDisk) {
  cache.put("k", CacheValue::make_head("k", "text/html", 12'345), times(), {}, kOnDisk);

  auto const head = ask_once("HEAD /v1/cache/k HTTP/1.1\r\nHost: h\r\n\r\n");
  auto const known = ask_once(get("/v1/cache/k", "If-None-Match: \"0000000000001234\"\r\n"));

  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Length:      12345\r\n"));
  EXPECT_THAT(head, HasSubstr("ETag: \"0000000000001234\"\r\nAge: 0\r\nCache-Control: no-cache\r\n"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
  EXPECT_THAT(known, StartsWith("HTTP/1.1 304 Not Modified\r\n"));
  EXPECT_THAT(known, HasSubstr("ETag: \"0000000000001234\"\r\n"));
  EXPECT_THAT(known, EndsWith("\r\n\r\n"));
  EXPECT_TRUE(commands.empty());
  EXPECT_EQ(counted("hit"), 2);
}

TEST_F(CacheHttpTest, AValueThatWasOverBeforeItsAnswerIsNotShown) {
  cache.put("k", CacheValue::make_head("k", "text/plain", 5), times(1s, 1s), {}, kOnDisk);
  CachedReply cached{.value = CacheValue::make("k", "text/plain", "12345"), .times = times(1s, 1s)};
  TestClient client{port};
  client.send(get("/v1/cache/k"));
  ASSERT_TRUE(asked(1));

  clock.advance(2s);
  service.answer_all([&](Command const&) { return cached; });

  EXPECT_TRUE(received(client, "cache_miss"));
}

TEST_F(CacheHttpTest, WhoeverComputesAndGetsAValueThatIsOverIsToAskAgain) {
  CachedReply cached{.value = CacheValue::make("k", "text/plain", "12345"), .times = times(1s, 1s)};
  TestClient client{port};
  client.send(post("/v1/cache/k", kJob));
  ASSERT_TRUE(asked(1));

  clock.advance(2s);
  service.answer_all([&](Command const&) { return cached; });

  EXPECT_TRUE(received(client, R"("class":"retryable")"));
  EXPECT_EQ(client.received.find("12345"), std::string::npos);

  cached.computed = true;  // Whoever waited for it gets it.
  TestClient other{port};
  other.send(post("/v1/cache/k", kJob));
  ASSERT_TRUE(asked(1));
  service.answer_all([&](Command const&) { return cached; });

  EXPECT_TRUE(received(other, "12345"));
}

TEST_F(CacheHttpTest, AValueForWhichThereIsNoMemoryIsNotCopiedForEachWhoWaits) {
  remake({.buffered_bytes_max = 1 << 20});
  CachedReply const cached{
      .value = CacheValue::make("k", "text/plain", std::string(2 << 20, 'x')), .times = times(), .computed = true};

  auto const answer = ask_once(post("/v1/cache/k", kJob), cached);

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr(R"("code":"overloaded")"));
  EXPECT_THAT(ask_once(put("/v1/cache/k", "1"), cached), StartsWith("HTTP/1.1 204 "));
}

TEST_F(CacheHttpTest, LargeAnswersThatWaitForAnotherCountAsMemory) {
  remake({.buffered_bytes_max = 3 << 20});
  cache.put("k", CacheValue::make_head("k", "text/plain", 5), times(), {}, kOnDisk);
  CachedReply cached{.value = CacheValue::make("k", "text/plain", std::string(1 << 20, 'x')), .times = times()};
  TestClient client{port};
  std::string gets;
  for (int i = 0; i < 8; ++i) gets += get("/v1/cache/k");
  client.send(post("/v1/leases", R"({"queues":["q"],"wait":"20s"})") + gets);
  ASSERT_TRUE(asked(9));

  auto const lease = service.asked.front();
  service.asked.erase(service.asked.begin());
  service.answer_all([&](Command const&) { return cached; });
  service.asked = {lease};
  service.answer_all([&](Command const&) { return LeaseReply{}; });

  ASSERT_TRUE(received(client, R"("code":"overloaded")"));
  EXPECT_GT(client.received.size(), 1U << 20);
}

TEST_F(CacheHttpTest, ALargeValueComesWhole) {
  std::string const body(3 << 20, 'x');
  keep("k", body, times(), "application/octet-stream");
  TestClient client{port};

  client.send(get("/v1/cache/k") + get("/v1/cache/k") + get("/healthz"));

  ASSERT_TRUE(received(client, "ok\n"));
  std::size_t const first = client.received.find("\r\n\r\n") + 4;
  EXPECT_EQ(client.received.compare(first, body.size(), body), 0);
  std::size_t const second = client.received.find("\r\n\r\n", first + body.size()) + 4;
  EXPECT_EQ(client.received.compare(second, body.size(), body), 0);
}

TEST_F(CacheHttpTest, LargeAnswersBehindOneThatWaitsAreNotMadeInAdvance) {
  keep("k", std::string(1 << 20, 'x'), times(), "application/octet-stream");
  TestClient client{port};
  std::string gets;
  for (int i = 0; i < 10; ++i) gets += get("/v1/cache/k");
  client.send(post("/v1/leases", R"({"queues":["q"],"wait":"20s"})") + gets);
  ASSERT_TRUE(asked(1));
  settle();

  EXPECT_EQ(counted("hit"), 1);
  service.answer_all([](Command const&) { return LeaseReply{}; });
  ASSERT_TRUE(until([&] {
    client.read();
    return client.received.size() > 10 << 20;
  }));
  EXPECT_EQ(counted("hit"), 10);
}

// It is looked up by this thread, and what comes before it goes through the shard.
TEST_F(CacheHttpTest, AReadWaitsForTheChangesBeforeItOnItsConnection) {
  struct Case {
    std::string change;
    Reply reply;
  };
  std::string const report = R"({"reports":[{"id":"x","lease":"1","outcome":"completed"}]})";
  std::vector<Case> const cases{{put("/v1/cache/k", "new"), CachedReply{.times = times()}},
                                {remove("/v1/cache/k"), DoneReply{}},
                                {remove("/v1/cache?tag=t"), CountReply{}},
                                {post("/v1/reports", report), ReportsReply{.reports = {ReportResult{}}}}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    std::string const key = "k" + std::to_string(i);
    TestClient client{port};
    client.send(cases[i].change + get("/v1/cache/" + key));
    ASSERT_TRUE(asked(1)) << cases[i].change;
    settle();

    keep(key, "there now", times());
    service.answer_all([&](Command const&) -> Reply { return cases[i].reply; });

    EXPECT_TRUE(received(client, "there now")) << cases[i].change;
  }
  EXPECT_EQ(counted("miss"), 0);
}

TEST_F(CacheHttpTest, AReadDoesNotWaitForCallsThatChangeNothingOfIt) {
  keep("k", "there", times());
  TestClient client{port};

  client.send(post("/v1/jobs", kJob) + get("/v1/cache/k"));

  ASSERT_TRUE(until([&] { return counted("hit") == 1; }));
}

// ---- POST

TEST_F(CacheHttpTest, AnAbsentValueIsComputedByAJobThatKnowsItsKey) {
  auto const compute = command<ComputeCached>(
      post("/v1/cache/a%2Fb", R"({"job":{"type":"report","queue":"q","payload":{"x":1},"tags":["t"]},"fresh":"5m",)"
                              R"("stale":"1h","wait":"10s","error_for":"20s","tags":["v","w"]})"));

  EXPECT_EQ(compute.key, "a/b");
  EXPECT_EQ(compute.wait, 10s);
  EXPECT_FALSE(compute.quiet);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(compute.spec, spec));
  EXPECT_TRUE(check_spec(spec));
  EXPECT_EQ(spec.type, "report");
  EXPECT_EQ(spec.payload, R"({"x":1})");
  EXPECT_EQ(spec.cache_key, "a/b");
  EXPECT_EQ(spec.cache_fresh, 5min);
  EXPECT_EQ(spec.cache_stale, 1h);
  EXPECT_EQ(spec.cache_error_for, 20s);
  EXPECT_EQ(spec.tags, std::vector<std::string_view>{"t"});
  EXPECT_EQ(spec.cache_tags, (std::vector<std::string_view>{"v", "w"}));
}

TEST_F(CacheHttpTest, WhatIsNotSaidOfAComputationHasItsDefault) {
  auto const compute = command<ComputeCached>(post("/v1/cache/k", kJob));

  EXPECT_EQ(compute.wait, 30s);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(compute.spec, spec));
  EXPECT_EQ(spec.cache_fresh, 1min);
  EXPECT_EQ(spec.cache_stale, 0s);
  EXPECT_EQ(spec.cache_error_for, 0s);
}

TEST_F(CacheHttpTest, AComputedValueSaysWhoBeganItsFlight) {
  CachedReply reply{.value = CacheValue::make("k", "application/json", "7"), .times = times()};
  reply.computed = reply.stored = true;

  auto const first = ask_once(post("/v1/cache/k", kJob), reply);
  reply.collapsed = true;
  auto const second = ask_once(post("/v1/cache/k", kJob), reply);

  EXPECT_THAT(first, HasSubstr("Cache-Status: workmill; fwd=uri-miss; stored\r\n"));
  EXPECT_THAT(first, EndsWith("\r\n\r\n7"));
  EXPECT_THAT(second, HasSubstr("Cache-Status: workmill; fwd=uri-miss; stored; collapsed\r\n"));
  EXPECT_EQ(counted("computed"), 1);
  EXPECT_EQ(counted("coalesced"), 1);
}

TEST_F(CacheHttpTest, OfAComputedValueThatIsNotKeptItIsNotSaidThatItIsStored) {
  CachedReply const reply{
      .value = CacheValue::make("k", "application/json", "7"), .times = times(), .computed = true, .collapsed = true};

  auto const answer = ask_once(post("/v1/cache/k", kJob), reply);

  EXPECT_THAT(answer, HasSubstr("Cache-Status: workmill; fwd=uri-miss; collapsed\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n7"));
}

TEST_F(CacheHttpTest, WhoHasWaitedLongEnoughIsToldOfTheJob) {
  CachePending const pending{.job = JobNumber{1}, .client_id = "its-id", .state = JobState::leased};

  auto const answer = ask_once(post("/v1/cache/k", kJob), pending);

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 202 Accepted\r\n"));
  EXPECT_THAT(answer, HasSubstr("Location: /v1/jobs/its-id\r\n"));
  EXPECT_THAT(answer, HasSubstr("Cache-Status: workmill; fwd=uri-miss\r\n"));
  EXPECT_THAT(answer, EndsWith(R"({"job_id":"its-id","state":"leased"})"));
  EXPECT_EQ(counted("pending"), 1);
}

TEST_F(CacheHttpTest, AFailureHasTheClassOfTheJobsError) {
  ComputeFailed failed{.failure = {.error_class = ErrorClass::user, .code = "no_such", .message = "no row 7"}};

  auto const answer = ask_once(post("/v1/cache/k", kJob), failed);

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 502 Bad Gateway\r\n"));
  EXPECT_THAT(answer, HasSubstr("Cache-Status: workmill; fwd=uri-miss; fwd-status=502\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("Retry-After")));
  EXPECT_THAT(answer, HasSubstr(R"("detail":"no_such: no row 7","code":"compute_failed","class":"user")"));
  EXPECT_THAT(answer, HasSubstr(R"("cause":{"class":"user","code":"no_such","message":"no row 7"})"));
  EXPECT_EQ(counted("failed"), 1);
}

TEST_F(CacheHttpTest, ARetryableFailureSaysWhenToComeBack) {
  ComputeFailed failed{
      .failure = {.error_class = ErrorClass::retryable, .code = "busy", .message = "later", .until = now() + 20s}};

  for (int i = 0; i < 20; ++i) {  // Never before it is forgotten, and soon after.
    auto const answer = ask_once(post("/v1/cache/k", kJob), failed);

    EXPECT_THAT(answer, HasSubstr(R"("class":"retryable")"));
    std::size_t const at = answer.find("Retry-After: ");
    ASSERT_NE(at, std::string::npos);
    EXPECT_GE(std::stoi(answer.substr(at + 13)), 20);
    EXPECT_LE(std::stoi(answer.substr(at + 13)), 22);
  }
}

TEST_F(CacheHttpTest, ARememberedFailureIsAnsweredAtOnceAndBeginsNothing) {
  cache.put_failure("k", {.error_class = ErrorClass::fatal, .code = "c", .message = "m", .until = now() + 5s}, {});

  auto const answer = ask_once(post("/v1/cache/k", kJob));

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 502 "));
  EXPECT_THAT(answer, HasSubstr("fwd-status=502; detail=negative\r\n"));
  EXPECT_TRUE(commands.empty());
  EXPECT_THAT(ask_once(get("/v1/cache/k")), StartsWith("HTTP/1.1 404 "));

  clock.advance(5s);
  command<ComputeCached>(post("/v1/cache/k", kJob));
}

TEST_F(CacheHttpTest, OfManyWhoFindAStaleValueOneHasItComputedAnew) {
  keep("k", "1", times(1s, 60s));
  Instant const stored_at = now();
  clock.advance(2s);

  for (int i = 0; i < 5; ++i) {
    TestClient client{port};
    client.send(post("/v1/cache/k", kJob));
    ASSERT_TRUE(received(client, "ttl=-1\r\n"));
  }

  ASSERT_EQ(service.asked.size(), 1U);
  auto const& refresh = std::get<ComputeCached>(service.asked.front().command);
  EXPECT_TRUE(refresh.quiet);
  EXPECT_EQ(refresh.seen, stored_at);
  EXPECT_EQ(refresh.key, "k");
  EXPECT_EQ(service.asked.front().give_up_at, service::kNever);
  EXPECT_EQ(counted("stale"), 5);
}

TEST_F(CacheHttpTest, AStaleValueIsNotComputedAnewWhileAFailureIsRemembered) {
  keep("k", "1", times(1s, 60s));
  clock.advance(2s);
  cache.put_failure("k", {.error_class = ErrorClass::retryable, .code = "c", .message = "m", .until = now() + 5s}, {});

  EXPECT_THAT(ask_once(post("/v1/cache/k", kJob)), EndsWith("\r\n\r\n1"));
  EXPECT_TRUE(service.asked.empty() && commands.empty());
}

TEST_F(CacheHttpTest, AStaleValueIsNotComputedAnewWhereNoWorkIsTaken) {
  keep("k", "1", times(1s, 60s));
  clock.advance(2s);

  for (auto const by : {service::Hindrances{.disk_full = true}, service::Hindrances{.draining = true}}) {
    service.hindered = by;
    EXPECT_THAT(ask_once(post("/v1/cache/k", kJob)), HasSubstr("workmill; hit; ttl=-1"));
  }
  EXPECT_TRUE(commands.empty());
  service.hindered = {};
  ask_once(post("/v1/cache/k", kJob));
  EXPECT_EQ(commands.size() + service.asked.size(), 1U);
}

TEST_F(CacheHttpTest, AFreshValueIsNotComputedAnew) {
  keep("k", "1", times(60s, 60s, 1ms));

  EXPECT_THAT(ask_once(post("/v1/cache/k", kJob)), HasSubstr("workmill; hit; ttl=60"));
  EXPECT_TRUE(commands.empty());
}

TEST_F(CacheHttpTest, AComputationThatMakesNoSenseIsRefusedWhetherTheValueIsThereOrNot) {
  keep("there", "1", times());
  struct Case {
    std::string_view body, field;
  };
  for (auto const& [body, field] : {
           Case{R"({"fresh":"1m"})", "job"},
           Case{R"({"job":{"queue":"q"}})", "job.type"},
           Case{R"({"job":{"type":"t","unique":{"key":"k"}}})", "job.unique"},
           Case{R"({"job":{"type":"t","id":"mine"}})", "job.id"},
           Case{R"({"job":{"type":"t","delay":"1s"}})", "job.delay"},
           Case{R"({"job":{"type":"t","run_at":"2026-11-22T09:00:00Z"}})", "job.run_at"},
           Case{R"({"job":{"type":"t","batch":"b"}})", "job.batch"},
           Case{R"({"job":{"type":"t","after":["a"]}})", "job.after"},
           Case{R"({"job":{"type":"t","jobs":[]}})", "job.jobs"},
           Case{R"({"job":{"type":"t","priority":10}})", "job.priority"},
           Case{R"({"job":{"type":"t"},"fresh":"soon"})", "fresh"},
           Case{R"({"job":{"type":"t"},"fresh":"364d","stale":"2d"})", "stale"},
           Case{R"({"job":{"type":"t"},"wait":"6m"})", "wait"},
           Case{R"({"job":{"type":"t"},"error_for":"25h"})", "error_for"},
           Case{R"({"job":{"type":"t"},"tags":["a","b c"]})", "tags[1]"},
           Case{R"({"job":{"type":"t"},"key":"k"})", "key"},
       }) {
    for (std::string const key : {"there", "absent"}) {
      auto const answer = ask_once(post("/v1/cache/" + key, body));
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << body;
      EXPECT_THAT(answer, HasSubstr("\"field\":\"" + std::string{field} + "\"")) << body;
    }
  }
  EXPECT_TRUE(commands.empty());
}

TEST_F(CacheHttpTest, TheTraceOfTheRequestGoesWithTheJobThatComputes) {
  constexpr std::string_view kTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  auto const compute =
      command<ComputeCached>(post("/v1/cache/k", kJob, "traceparent: " + std::string{kTraceparent} + "\r\n"));

  JobSpecView spec;
  ASSERT_TRUE(decode_spec(compute.spec, spec));
  EXPECT_EQ(spec.traceparent, kTraceparent);
}

// It is the disk that they wait for: to the others nothing is slow, and nothing full.
TEST_F(CacheHttpTest, WhoReadsFromTheDiskIsInNobodysWay) {
  HttpLimits limits;
  limits.admission.in_flight_min = limits.admission.in_flight_max = 4;
  remake(limits);
  cache.put("cold", CacheValue::make_head("cold", "text/plain", 1), times(), {}, kOnDisk);
  std::vector<std::unique_ptr<TestClient>> readers;
  for (int i = 0; i < 6; ++i) {
    readers.push_back(std::make_unique<TestClient>(port));
    readers.back()->send(get("/v1/cache/cold"));
  }
  ASSERT_TRUE(asked(6));

  TestClient other{port};
  other.send(post("/v1/jobs", R"({"type":"t"})"));
  EXPECT_TRUE(asked(7));
}

// A server with so many requests that nothing more is let in which makes work.
class BusyCacheHttpTest : public CacheHttpTest {
 protected:
  BusyCacheHttpTest() {
    HttpLimits limits;
    limits.admission.in_flight_min = limits.admission.in_flight_max = 4;
    remake(limits);
    for (int i = 0; i < 5; ++i) {
      crowd_.push_back(std::make_unique<TestClient>(port));
      crowd_.back()->send(post("/v1/jobs", R"({"type":"t"})"));
    }
    EXPECT_TRUE(asked(4));
    settle();
  }
  static std::string head(std::string_view key, std::size_t body_bytes) {
    return std::string{"POST /v1/cache/"}
               .append(key)
               .append(" HTTP/1.1\r\nHost: h\r\nContent-Length: ")
               .append(std::to_string(body_bytes)) +
           "\r\n\r\n";
  }

  std::vector<std::unique_ptr<TestClient>> crowd_;
};

TEST_F(BusyCacheHttpTest, AHitIsServedAndNothingIsBegun) {
  keep("k", "1", times());

  TestClient hit{port};
  hit.send(post("/v1/cache/k", kJob));
  EXPECT_TRUE(received(hit, "workmill; hit"));
  TestClient miss{port};
  miss.send(post("/v1/cache/absent", kJob));
  EXPECT_TRUE(received(miss, "HTTP/1.1 503 "));
  for (auto const& it : service.asked) EXPECT_FALSE(holds<ComputeCached>(it.command));
}

TEST_F(BusyCacheHttpTest, WhoWouldComputeIsRefusedBeforeHisBodyIsReadAndWhoWouldNotIsNot) {
  keep("fresh", "1", times());
  CacheTimes old = times();
  old.stored_at -= 61s;
  old.fresh_until -= 61s;
  keep("stale", "1", old);
  cache.put("cold", CacheValue::make_head("cold", "text/plain", 1), times(), {}, kOnDisk);
  cache.put_failure("failed", {.error_class = ErrorClass::fatal, .code = "c", .message = "m", .until = now() + 60s},
                    {});

  for (std::string const key : {"absent", "cold"}) {
    TestClient computes{port};
    computes.send(head(key, kJob.size()));
    EXPECT_TRUE(received(computes, "HTTP/1.1 503 ")) << key;
    TestClient malformed{port};
    malformed.send(post("/v1/cache/" + key, "this is not JSON"));
    EXPECT_TRUE(received(malformed, "HTTP/1.1 503 ")) << key;
  }
  for (auto const& [key, expected] :
       {std::pair{"fresh", "200 OK"}, {"stale", "ttl=-1"}, {"failed", "detail=negative"}, {"%zz", "400 Bad Request"}}) {
    TestClient served{port};
    served.send(head(key, kJob.size()));
    settle();
    served.read();
    EXPECT_EQ(served.received, "") << key;
    served.send(kJob);
    EXPECT_TRUE(received(served, expected)) << key;
  }
}

// ---- PUT, DELETE

TEST_F(CacheHttpTest, WhatIsPutIsKeptWithItsType) {
  std::string const bytes{"\0\xff\r\n", 4};
  auto const kept =
      command<PutCache>(put("/v1/cache/k?fresh=5m&stale=1h&tags=a,b", bytes, "Content-Type: image/png\r\n"));

  EXPECT_EQ(kept.key, "k");
  EXPECT_EQ(kept.set.content_type, "image/png");
  EXPECT_EQ(kept.set.body, bytes);
  EXPECT_EQ(kept.set.fresh, 5min);
  EXPECT_EQ(kept.set.stale, 1h);
  EXPECT_EQ(kept.set.tags, (std::vector<std::string>{"a", "b"}));
}

TEST_F(CacheHttpTest, WhatIsNotSaidOfAPutHasItsDefault) {
  auto const kept = command<PutCache>(put("/v1/cache/k", ""));

  EXPECT_EQ(kept.set.content_type, "application/octet-stream");
  EXPECT_EQ(kept.set.fresh, 1min);
  EXPECT_EQ(kept.set.stale, 0s);
  EXPECT_TRUE(kept.set.tags.empty());
}

TEST_F(CacheHttpTest, APutIsAnsweredWithTheTagOfWhatIsKept) {
  CachedReply const kept{.value = CacheValue::make("k", "text/plain", "abc"), .times = times()};
  auto const answer = ask_once(put("/v1/cache/k", "abc", "Content-Type: text/plain\r\n"), kept);

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 204 No Content\r\n"));
  EXPECT_THAT(answer, HasSubstr("ETag: \"0000000000001234\"\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("Content-Length")));
}

TEST_F(CacheHttpTest, APutThatMakesNoSenseIsRefused) {
  struct Case {
    std::string request;
    std::string_view expected;
  };
  for (auto const& [request, expected] : {
           Case{put("/v1/cache/k?fresh=soon", "1"), R"("field":"fresh")"},
           Case{put("/v1/cache/k?stale=366d", "1"), R"("field":"stale")"},
           Case{put("/v1/cache/k?tags=a,,b", "1"), R"("field":"tags[1]")"},
           Case{put("/v1/cache/k?tags=a%20b", "1"), R"("field":"tags[0]")"},
           Case{put("/v1/cache/k?ttl=1s", "1"), R"("code":"unknown_field")"},
           Case{put("/v1/cache/k", "1", "Content-Type: t\xc3\xa9xt/plain\r\n"), R"("field":"content_type")"},
           Case{put("/v1/cache/k", "1", "Content-Encoding: gzip\r\n"), R"("code":"unsupported_media_type")"},
       }) {
    EXPECT_THAT(ask_once(request), HasSubstr(expected)) << request;
    EXPECT_TRUE(commands.empty()) << request;
  }
}

TEST_F(CacheHttpTest, AKeyIsForgotten) {
  EXPECT_EQ(command<ForgetCached>(remove("/v1/cache/a%2Fb")).key, "a/b");
  EXPECT_THAT(ask_once(remove("/v1/cache/k")), StartsWith("HTTP/1.1 204 No Content\r\n"));
  EXPECT_THAT(ask_once(remove("/v1/cache/k"), CacheMissed{}), HasSubstr(R"("code":"cache_miss")"));
}

TEST_F(CacheHttpTest, ManyKeysAreForgottenByATagOrAPrefix) {
  EXPECT_EQ(command<ForgetCachedBy>(remove("/v1/cache?tag=a"), CountReply{.count = 3}).tag, "a");
  EXPECT_EQ(command<ForgetCachedBy>(remove("/v1/cache?prefix=user%3A%2F"), CountReply{.count = 3}).prefix, "user:/");
  EXPECT_THAT(ask_once(remove("/v1/cache?tag=a"), CountReply{.count = 3}), EndsWith(R"({"count":3})"));

  for (std::string const query : {"", "?tag=a&prefix=b", "?tag=", "?prefix=", "?tag=a%20b", "?prefix=%0a", "?key=a"}) {
    EXPECT_THAT(ask_once(remove("/v1/cache" + query)), StartsWith("HTTP/1.1 400 ")) << query;
    EXPECT_TRUE(commands.empty()) << query;
  }
}

// ---- Early refresh

TEST(EarlyRefresh, IsMoreLikelyTheNearerTheEndAndTheLongerItTakes) {
  CacheTimes times{.stored_at = instant_from_ms(0),
                   .fresh_until = instant_from_ms(10'000),
                   .stale_until = instant_from_ms(20'000),
                   .compute_time = 1s};

  // exp(-3) = 0.0498: three seconds ahead, of what takes one.
  EXPECT_FALSE(wants_early_refresh(instant_from_ms(7'000), times, 0.06));
  EXPECT_TRUE(wants_early_refresh(instant_from_ms(7'000), times, 0.04));
  EXPECT_FALSE(wants_early_refresh(instant_from_ms(5'000), times, 0.04));
  EXPECT_TRUE(wants_early_refresh(instant_from_ms(9'999), times, 0.9));
  times.compute_time = 5s;
  EXPECT_TRUE(wants_early_refresh(instant_from_ms(5'000), times, 0.04));
}

TEST(EarlyRefresh, IsForWhatAJobHasComputed) {
  CacheTimes const times{.fresh_until = instant_from_ms(1), .stale_until = instant_from_ms(2)};
  EXPECT_FALSE(wants_early_refresh(instant_from_ms(0), times, 0x1p-53));
}

}  // namespace
}  // namespace workmill::http
