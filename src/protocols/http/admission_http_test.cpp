#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/variant.h"
#include "protocols/http/server_harness_test.h"

// What the admission decides, as clients see it.
namespace workmill::http {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class AdmissionTest : public ServerTest {
 protected:
  // A server that lets in two requests at once, and refuses the third.
  AdmissionTest() {
    HttpLimits limits;
    limits.admission.in_flight_min = limits.admission.in_flight_max = 2;
    remake(limits);
  }

  // So that the limit is reached, and room for who asked least is, too.
  void fill() {
    for (int i = 0; i < 3; ++i) {
      clients_.push_back(std::make_unique<TestClient>(port));
      clients_.back()->send(post("/v1/jobs", R"({"type":"t"})"));
    }
    ASSERT_TRUE(asked(2));
    settle();
  }
  // What fill() has left of the budget for refusals, so that the next is held back.
  void use_up_refusals() {
    for (int i = 0; i < 63; ++i) {
      TestClient client{port};
      client.send(post("/v1/jobs", R"({"type":"t"})"));
      ASSERT_TRUE(received(client, "HTTP/1.1 503"));
    }
  }

  std::vector<std::unique_ptr<TestClient>> clients_;
};

TEST_F(AdmissionTest, ARequestTooManyIsRefusedAndTheConnectionStays) {
  fill();
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));

  ASSERT_TRUE(received(client, "overloaded"));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(client.received, HasSubstr("\r\nRetry-After: "));
  EXPECT_THAT(client.received, HasSubstr(R"("class":"retryable")"));
  EXPECT_THAT(client.received, Not(HasSubstr("Connection: close")));
  client.received.clear();
  service.answer_all([](Command const&) { return enqueued("a"); });
  client.send(post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(asked(1));
}

TEST_F(AdmissionTest, ARefusalComesBeforeTheBodyIsRead) {
  fill();
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n");
  EXPECT_TRUE(received(client, "HTTP/1.1 503"));

  TestClient malformed{port};
  malformed.send(post("/v1/jobs", "this is not JSON"));
  EXPECT_TRUE(received(malformed, "HTTP/1.1 503"));
}

TEST_F(AdmissionTest, ReportsHealthAndFiguresPassWhateverIsInFlight) {
  fill();
  TestClient worker{port};
  worker.send(post("/v1/reports", R"({"reports":[{"id":"x","lease":"1","outcome":"completed"}]})"));
  ASSERT_TRUE(until([&] { return holds<ReportBatch>(service.asked.back().command); }));
  TestClient operators{port};
  operators.send(get("/healthz"));
  EXPECT_TRUE(received(operators, "HTTP/1.1 200"));
  operators.send(get("/v1/status"));
  EXPECT_TRUE(until([&] { return holds<GetStatus>(service.asked.back().command); }));
}

TEST_F(AdmissionTest, LongPollsAreNotInFlight) {
  std::vector<std::unique_ptr<TestClient>> workers;
  for (std::size_t i = 0; i < 10; ++i) {
    workers.push_back(std::make_unique<TestClient>(port));
    workers.back()->send(post("/v1/leases", R"({"queues":["q"],"wait":"20s"})"));
    ASSERT_TRUE(asked(i + 1));
  }
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));
  EXPECT_TRUE(asked(11));
}

TEST_F(AdmissionTest, WhatIsAnsweredOrGivenUpIsNotInFlight) {
  fill();
  for (auto& client : clients_) client->break_off();
  clients_.clear();
  EXPECT_TRUE(until([&] { return server->connections() == 0; }));
  service.asked.clear();
  fill();
  service.answer_all([](Command const&) { return enqueued("a"); });
  server->sweep();

  EXPECT_THAT(metrics.render({}), HasSubstr("workmill_http_in_flight 0\n"));
}

TEST_F(AdmissionTest, RefusalsOverTheirBudgetAreHeldBackForASecondAtMost) {
  fill();
  use_up_refusals();
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})") + get("/healthz"));
  settle();
  client.read();
  EXPECT_EQ(client.received, "");  // Nor is what comes behind it looked at.

  clock.advance(std::chrono::seconds{1});

  ASSERT_TRUE(received(client, "HTTP/1.1 200"));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 503"));
}

TEST_F(AdmissionTest, AClientThatLeavesWhileItsRefusalIsHeldBackIsForgotten) {
  fill();
  use_up_refusals();
  {
    TestClient client{port};
    client.send(post("/v1/jobs", R"({"type":"t"})"));
    settle();
    client.break_off();
  }
  EXPECT_TRUE(until([&] { return server->connections() == 3; }));
  EXPECT_TRUE(service.abandoned.empty());
  clock.advance(std::chrono::seconds{1});
  EXPECT_TRUE(until([&] {
    server->sweep();
    return metrics.render({}).find("workmill_http_refusals_held 0\n") != std::string::npos;
  }));
}

TEST_F(AdmissionTest, AClientThatHasSaidItsLastWordGetsItsHeldRefusal) {
  fill();
  use_up_refusals();
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));
  client.shutdown_send();
  settle();

  clock.advance(std::chrono::seconds{1});

  EXPECT_TRUE(received(client, "HTTP/1.1 503"));
  EXPECT_TRUE(closed(client));
}

TEST_F(AdmissionTest, ARefusalThatIsHeldBackIsNotCutShortByTheTimeThatItsHeadTook) {
  fill();
  use_up_refusals();
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\n");
  settle();
  client.send("Host: h\r\nContent-Length: 100\r\n\r\n");  // Refused by its head.
  settle();

  advance(std::chrono::seconds{20});

  EXPECT_TRUE(received(client, "HTTP/1.1 503"));
}

TEST_F(AdmissionTest, AHeldRefusalGoesOutWhenTheServerStops) {
  fill();
  use_up_refusals();
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));
  settle();

  server->drain(std::chrono::seconds{1}, [](net::Drained) {});

  EXPECT_TRUE(received(client, "HTTP/1.1 503"));
  EXPECT_TRUE(closed(client));
  service.answer_all([](Command const&) { return enqueued("a"); });
}

TEST_F(ServerTest, ARequestSaysHowLongItsClientWaits) {
  service.behind = std::chrono::seconds{1};  // Nothing has happened for a while.
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})", "Request-Timeout: 2.5\r\n"));
  ASSERT_TRUE(asked(1));
  EXPECT_EQ(service.asked[0].give_up_at, clock.now() + Duration{2'500});

  service.answer_all(
      [](Command const&) -> Reply { return Error{.code = ErrorCode::deadline_exceeded, .message = "late"}; });
  ASSERT_TRUE(received(client, "deadline_exceeded"));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 504 Gateway Timeout\r\n"));
}

TEST_F(ServerTest, HowLongItsClientWaitsCountsFromItsHead) {
  TestClient client{port};
  std::string const request = post("/v1/jobs", R"({"type":"t"})", "Request-Timeout: 10\r\n");
  client.send(request.substr(0, request.size() - 5));
  settle();
  clock.advance(std::chrono::seconds{4});
  client.send(request.substr(request.size() - 5));

  ASSERT_TRUE(asked(1));
  EXPECT_EQ(service.asked[0].give_up_at, clock.now() + std::chrono::seconds{6});

  // The next one on this connection has a time of its own.
  client.send(post("/v1/jobs", R"({"type":"t"})", "Request-Timeout: 10\r\n"));
  ASSERT_TRUE(asked(2));
  EXPECT_EQ(service.asked[1].give_up_at, clock.now() + std::chrono::seconds{10});
}

TEST_F(ServerTest, WhatComesInTooSlowlyForItsClientIsNotLookedAt) {
  TestClient client{port};
  std::string const request = post("/v1/jobs", "this is not JSON", "Request-Timeout: 1\r\n");
  client.send(request.substr(0, request.size() - 5));
  settle();
  clock.advance(std::chrono::seconds{1});
  client.send(request.substr(request.size() - 5));

  ASSERT_TRUE(received(client, "deadline_exceeded"));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 504 Gateway Timeout\r\n"));
  client.received.clear();
  client.send(get("/healthz"));
  EXPECT_TRUE(received(client, "HTTP/1.1 200"));
  EXPECT_TRUE(service.asked.empty());
}

TEST_F(ServerTest, WhatWaitsForAChangeAheadOfItWaitsNoLongerThanItsClient) {
  cache::Cache cache{{}};
  service.cached = &cache;
  TestClient client{port};
  client.send("PUT /v1/cache/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1" +
              get("/v1/cache/k", "Request-Timeout: 1\r\n") + get("/v1/cache/k", "Request-Timeout: 3\r\n"));
  ASSERT_TRUE(asked(1));
  clock.advance(std::chrono::seconds{2});
  service.answer_all([](Command const&) -> Reply { return DoneReply{}; });

  ASSERT_TRUE(received(client, "cache_miss"));
  EXPECT_THAT(client.received, HasSubstr("deadline_exceeded"));
}

TEST_F(ServerTest, ATimeThatIsNoneIsRefused) {
  for (char const* text : {"0", "-1", "soon", "1e3", "90000", "nan", ""}) {
    auto const answer = ask(post("/v1/jobs", R"({"type":"t"})", std::string{"Request-Timeout: "} + text + "\r\n"));
    EXPECT_THAT(answer, HasSubstr("HTTP/1.1 400")) << text;
    EXPECT_THAT(answer, HasSubstr(R"("field":"Request-Timeout")")) << text;
  }
}

}  // namespace
}  // namespace workmill::http
