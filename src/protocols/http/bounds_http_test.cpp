#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/variant.h"
#include "protocols/http/server_harness_test.h"

// What bounds slow and greedy clients, each met over a real socket.
namespace workmill::http {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using BoundsTest = ServerTest;

TEST_F(BoundsTest, AHeadThatTricklesIsOverAfterItsTime) {
  TestClient client{port};
  client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n");
  for (int second = 0; second < 12; ++second) {
    settle();
    advance(seconds{1});
    client.send("X-Slow: y\r\n");
  }

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 408"));
  EXPECT_THAT(metrics.render({}), HasSubstr(R"(workmill_http_timeouts_total{kind="header"} 1)"));
}

TEST_F(BoundsTest, AHeadThatTricklesHoldsLittleMemory) {
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<TestClient>(port));
    clients.back()->send("GET /healthz HTTP/1.1\r\n");
  }
  settle();
  for (auto& client : clients) client->send("Host: h\r\n");
  settle();
  server->sweep();

  EXPECT_THAT(metrics.render({}), testing::ContainsRegex("workmill_http_buffered_bytes 10...\n"));  // 512 bytes each.
}

TEST_F(BoundsTest, ABodyHasATimeOfItsOwnBehindItsHead) {
  TestClient client{port};
  std::string const request = post("/v1/jobs", R"({"type":"t"})");
  client.send(request.substr(0, 20));
  settle();
  advance(seconds{8});
  client.send(request.substr(20, request.size() - 21));
  settle();
  advance(seconds{4});
  client.send(request.substr(request.size() - 1));

  EXPECT_TRUE(asked(1));
}

TEST_F(BoundsTest, ABodyThatTricklesIsOverLongBeforeItsTime) {
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
  for (int second = 0; second < 8; ++second) {
    settle();
    advance(seconds{1});
    client.send("x");
  }

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 408"));
  EXPECT_THAT(metrics.render({}), HasSubstr(R"(workmill_http_timeouts_total{kind="upload"} 1)"));
}

TEST_F(BoundsTest, ABodyThatComesSlowlyButFastEnoughIsTaken) {
  TestClient client{port};
  std::string const padding(20'000, ' ');
  std::string const request = post("/v1/jobs", R"({"type":"t"})" + padding);
  for (std::size_t at = 0; at < request.size(); at += 1'000) {
    client.send(request.substr(at, 1'000));
    settle();
    advance(seconds{1});
  }

  EXPECT_TRUE(asked(1));
}

TEST_F(BoundsTest, AClientThatTakesItsAnswerByDropsIsCutOff) {
  HttpLimits limits;
  limits.download_rate_min = 1'000'000;
  remake(limits);
  TestClient client{port, 16 * 1024};
  client.send(get("/v1/jobs/x/log"));
  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) {
    JobLogReply reply;
    reply.lines.assign(20, std::string(1 << 20, 'x'));
    return reply;
  });
  settle();
  for (int i = 0; i < 6 && !client.closed; ++i) {  // Something is taken in each, so that is not what ends it.
    advance(seconds{10});
    client.read();
    settle();
  }

  EXPECT_TRUE(closed(client));
  EXPECT_LT(client.received.size(), 20U << 20);
  EXPECT_THAT(metrics.render({}), HasSubstr(R"(workmill_http_timeouts_total{kind="download"} 1)"));
}

class PeaksTest : public ServerTest {
 protected:
  std::uint64_t used(std::string_view bound) {
    server->sweep();
    auto& gauge = metrics.gauge("workmill_bound_used", telemetry::kBoundUsedHelp, {{"bound", bound}});
    return static_cast<std::uint64_t>(gauge.value());
  }
};

TEST_F(PeaksTest, TheLargestRequestAndTheMostOfOneConnectionAreShownForAMinute) {
  TestClient client{port};
  std::string const body = R"({"type":"t","payload":")" + std::string(1'000, 'x') + "\"}";
  std::string const large = post("/v1/jobs", body, "X-Padding: " + std::string(500, 'x') + "\r\n");
  client.send(large + post("/v1/jobs", R"({"type":"t"})") + post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(asked(3));

  EXPECT_EQ(used("http_header_bytes"), large.size() - body.size());
  EXPECT_EQ(used("http_body_bytes"), body.size());
  EXPECT_EQ(used("http_pipelined"), 3U);
  EXPECT_EQ(used("http_output_bytes"), 0U);

  service.answer_all([](Command const&) { return enqueued("a"); });
  for (int second = 0; second <= 60; ++second) advance(seconds{1});
  EXPECT_EQ(used("http_header_bytes"), 0U);
  EXPECT_EQ(used("http_body_bytes"), 0U);
  EXPECT_EQ(used("http_pipelined"), 0U);
}

TEST_F(PeaksTest, WhatIsRefusedForItsSizeShowsItsBoundAsFull) {
  HttpLimits const limits;
  TestClient head{port};
  head.send(get("/healthz", "X-Padding: " + std::string(20'000, 'x') + "\r\n"));
  ASSERT_TRUE(received(head, "headers_too_large"));
  TestClient body{port};
  body.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 99000000\r\n\r\n");
  ASSERT_TRUE(received(body, "payload_too_large"));

  EXPECT_EQ(used("http_header_bytes"), limits.header_bytes_max);
  EXPECT_EQ(used("http_body_bytes"), limits.body_bytes_max);
}

TEST_F(PeaksTest, WhatASlowReaderLeavesIsShownUpToItsBound) {
  TestClient client{port, 16 * 1024};
  client.send(get("/v1/jobs/x/log"));
  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) {
    JobLogReply reply;
    reply.lines.assign(20, std::string(1 << 20, 'x'));
    return reply;
  });
  settle();

  EXPECT_EQ(used("http_output_bytes"), kOutputBytesMax);
}

TEST_F(BoundsTest, OneConnectionTooManyOfAnAddressIsToldSo) {
  HttpLimits limits;
  limits.connections_per_address_max = 2;
  remake(limits);
  TestClient first{port};
  TestClient second{port};
  ASSERT_TRUE(until([&] { return server->connections() == 2; }));
  TestClient third{port};
  third.send(get("/healthz"));

  ASSERT_TRUE(closed(third));
  EXPECT_THAT(third.received, StartsWith("HTTP/1.1 429 Too Many Requests\r\n"));
  EXPECT_THAT(third.received, HasSubstr("too many connections from this address"));
  first.close();
  ASSERT_TRUE(until([&] { return server->connections() == 1; }));
  TestClient fourth{port};
  fourth.send(get("/healthz"));
  EXPECT_TRUE(received(fourth, "HTTP/1.1 200"));
}

TEST_F(BoundsTest, AConnectionThatTakesADescriptorOfTheLogIsClosedAtOnce) {
  HttpLimits limits;
  limits.connections_from = 0;
  remake(limits);
  TestClient client{port};

  ASSERT_TRUE(closed(client));
  EXPECT_EQ(client.received, "");
  EXPECT_EQ(server->connections(), 0U);
  EXPECT_THAT(metrics.render({}), HasSubstr("workmill_http_connections_turned_away_total 1"));
}

TEST_F(BoundsTest, WhoIsTurnedAwayAndSaysNothingIsNotKept) {
  HttpLimits limits;
  limits.connections_max = 1;
  remake(limits);
  TestClient first{port};
  ASSERT_TRUE(until([&] { return server->connections() == 1; }));
  TestClient second{port};
  ASSERT_TRUE(until([&] { return server->connections() == 2; }));

  advance(seconds{12});

  EXPECT_TRUE(closed(second));
  EXPECT_EQ(second.received, "");
  EXPECT_FALSE(first.closed);
}

TEST_F(BoundsTest, WhileRequestsHoldAllTheMemoryThereIsNewWorkIsRefusedAndReportsPass) {
  HttpLimits limits;
  limits.buffered_bytes_max = 200'000;
  remake(limits);
  TestClient large{port};
  large.send(post("/v1/jobs", R"({"type":"t","payload":")" + std::string(190'000, 'x') + "\"}"));
  ASSERT_TRUE(asked(1));
  TestClient more{port};
  more.send(post("/v1/jobs", R"({"type":"t","payload":")" + std::string(50'000, 'x') + "\"}"));
  ASSERT_TRUE(asked(2));
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(received(client, "HTTP/1.1 503"));
  TestClient worker{port};
  worker.send(post("/v1/reports", R"({"reports":[{"id":"x","lease":"1","outcome":"completed"}]})"));
  ASSERT_TRUE(asked(3));

  service.answer_all([](Command const& command) -> Reply {
    if (holds<ReportBatch>(command)) return ReportsReply{};
    return enqueued("a");
  });
  settle();
  client.send(post("/v1/jobs", R"({"type":"t"})"));

  EXPECT_TRUE(asked(1));
}

// Of a job that is read, as of a cached value: a client may send many requests at a time, and take none of the answers.
TEST_F(BoundsTest, AnswersWithLargeJobsCountAsMemory) {
  HttpLimits limits;
  limits.buffered_bytes_max = 3 << 20;
  remake(limits);
  JobReply large;
  large.job.state = JobState::ready;
  JobSpecView spec;
  std::string const payload = '"' + std::string(1 << 20, 'x') + '"';
  spec.type = "t";
  spec.payload_kind = PayloadKind::json;
  spec.payload = payload;
  encode_spec(spec, large.job.spec);
  TestClient client{port};
  std::string gets;
  for (int i = 0; i < 8; ++i) gets += get("/v1/jobs/a");
  client.send(post("/v1/leases", R"({"queues":["q"],"wait":"20s"})") + gets);
  ASSERT_TRUE(asked(9));

  auto const lease = service.asked.front();
  service.asked.erase(service.asked.begin());
  service.answer_all([&](Command const&) { return large; });
  service.asked = {lease};
  service.answer_all([](Command const&) { return LeaseReply{}; });

  ASSERT_TRUE(received(client, R"("code":"overloaded")"));
  EXPECT_GT(client.received.size(), 1U << 20);
}

}  // namespace
}  // namespace workmill::http
