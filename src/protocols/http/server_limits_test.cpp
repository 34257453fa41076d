#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "protocols/http/server_harness_test.h"

// What takes too long, and what is too large.
namespace workmill::http {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST_F(ServerTest, AHeaderThatTakesTooLongIsAnswered408AndTheConnectionCloses) {
  remake({.header_timeout = std::chrono::seconds{30}});
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nX-Slow: ");
  settle();
  advance(std::chrono::seconds{20});
  client.send("l");
  settle();
  client.read();
  EXPECT_EQ(client.received, "");

  advance(std::chrono::seconds{12});

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 408 Request Timeout\r\n"));
  EXPECT_THAT(client.received, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(client.received, HasSubstr(R"("code":"request_timeout")"));
}

TEST_F(ServerTest, ABodyThatTakesTooLongIsAnswered408) {
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{");
  settle();

  advance(std::chrono::seconds{32});

  ASSERT_TRUE(received(client, "408"));
}

TEST_F(ServerTest, ASecondRequestHasItsTimeForItself) {
  remake({.header_timeout = std::chrono::seconds{30}});
  TestClient client{port};
  client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n");
  settle();
  advance(std::chrono::seconds{20});
  client.send("\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n");
  settle();
  advance(std::chrono::seconds{20});
  client.send("\r\n");

  ASSERT_TRUE(until([&] {
    client.read();
    return count_of(client.received, "200 OK") == 2;
  }));
}

TEST_F(ServerTest, AnIdleConnectionIsClosedWithoutAWord) {
  TestClient client{port};
  ASSERT_TRUE(until([&] { return server->connections() == 1; }));
  settle();

  advance(std::chrono::minutes{6});

  ASSERT_TRUE(closed(client));
  EXPECT_EQ(client.received, "");
}

TEST_F(ServerTest, EmptyLinesDoNotKeepAConnectionThatAsksForNothing) {
  remake({.idle_timeout = std::chrono::seconds{60}});
  TestClient silent{port};
  TestClient served{port};
  served.send(get("/healthz"));
  ASSERT_TRUE(received(served, "200 OK"));
  served.received.clear();

  for (int i = 0; i < 4; ++i) {
    advance(std::chrono::seconds{20});
    silent.send("\r\n\r\n");
    served.send("\r\n");
    settle();
  }

  EXPECT_TRUE(closed(silent));
  EXPECT_EQ(silent.received, "");
  EXPECT_TRUE(closed(served));
  EXPECT_EQ(served.received, "");
}

TEST_F(ServerTest, EachRequestBeginsTheTimeThatAConnectionMayBeIdleAnew) {
  remake({.idle_timeout = std::chrono::seconds{60}});
  TestClient client{port};
  for (std::size_t i = 1; i <= 4; ++i) {
    client.send("\r\n" + get("/healthz"));
    ASSERT_TRUE(until([&] {
      client.read();
      return count_of(client.received, "200 OK") == i;
    }));
    advance(std::chrono::seconds{40});
  }
  settle();
  client.read();

  EXPECT_FALSE(client.closed);
}

TEST_F(ServerTest, ALongPollIsNotIdle) {
  TestClient client{port};
  client.send(post("/v1/leases", R"({"queues":["q"],"wait":"5m"})"));
  ASSERT_TRUE(asked(1));

  advance(std::chrono::minutes{30});
  service.answer_all([](Command const&) { return LeaseReply{}; });

  ASSERT_TRUE(received(client, R"({"jobs":[]})"));
}

TEST_F(ServerTest, AClientThatDoesNotReadItsAnswersIsCutOffAndReadsNoFurtherRequests) {
  TestClient client{port, 4096};
  std::string const request = get("/v1/jobs/x/log");
  client.send(request);
  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) {
    JobLogReply reply;
    reply.lines.assign(100, std::string(1 << 20, 'x'));
    return reply;
  });
  client.send(request);
  settle();
  EXPECT_TRUE(service.asked.empty());

  advance(std::chrono::seconds{32});

  ASSERT_TRUE(until([&] { return server->connections() == 0; }));
}

TEST_F(ServerTest, ALargeAnswerArrivesWhole) {
  TestClient client{port};
  client.send(get("/v1/jobs/x/log"));
  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) {
    JobLogReply reply;
    reply.lines.assign(20, std::string(1 << 20, 'x'));
    return reply;
  });

  ASSERT_TRUE(until([&] {
    client.read();
    return client.received.size() > (20U << 20);
  }));
  client.send(get("/healthz"));
  ASSERT_TRUE(received(client, "\r\n\r\nok\n"));
}

TEST_F(ServerTest, ABodyOverTheLimitIsRefusedBeforeItIsRead) {
  remake({.body_bytes_max = 1000});
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n{");

  ASSERT_TRUE(received(client, "413 Content Too Large"));
  EXPECT_THAT(client.received, HasSubstr(R"("code":"payload_too_large","class":"user")"));
  client.send(std::string(1000, 'x'));
  ASSERT_TRUE(closed(client));
  EXPECT_FALSE(client.reset);
}

std::string head_of(std::string_view path, std::size_t length, std::string_view headers = "") {
  std::string text = "POST ";
  text.append(path).append(" HTTP/1.1\r\nHost: h\r\nContent-Length: ").append(std::to_string(length));
  text.append("\r\n").append(headers).append("\r\n");
  return text;
}

TEST_F(ServerTest, ARequestThatGoesNowhereIsRefusedByItsHeadAndTheConnectionGoesOnBehindItsBody) {
  TestClient client{port};
  client.send(head_of("/v1/nothing", 5));
  ASSERT_TRUE(received(client, "HTTP/1.1 404"));
  EXPECT_THAT(client.received, Not(HasSubstr("Connection: close")));

  client.send("hel");
  settle();
  client.send("lo" + get("/healthz"));

  EXPECT_TRUE(received(client, "HTTP/1.1 200"));
  EXPECT_FALSE(client.closed);
}

TEST_F(ServerTest, BehindABodyThatWasDroppedAConnectionMayBeIdle) {
  TestClient client{port};
  client.send(head_of("/v1/nothing", 5));
  ASSERT_TRUE(received(client, "HTTP/1.1 404"));
  client.send("hello");
  settle();

  advance(std::chrono::seconds{40});  // Longer than a request may take.
  settle();
  client.send(get("/healthz"));

  EXPECT_TRUE(received(client, "HTTP/1.1 200"));
  EXPECT_FALSE(client.closed);
}

TEST_F(ServerTest, BeforeALongBodyARefusalEndsTheConnection) {
  TestClient client{port};
  client.send(head_of("/v1/nothing", 1'000'000) + "{");

  ASSERT_TRUE(received(client, "HTTP/1.1 404"));
  EXPECT_THAT(client.received, HasSubstr("Connection: close\r\n"));
  client.send(std::string(10'000, 'x'));
  EXPECT_TRUE(closed(client));
  EXPECT_FALSE(client.reset);  // Its answer would be lost.
}

TEST_F(ServerTest, ABodyThatIsDroppedAndDoesNotComeEndsTheConnectionWithoutASecondAnswer) {
  TestClient client{port};
  client.send(head_of("/v1/nothing", 5));
  ASSERT_TRUE(received(client, "HTTP/1.1 404"));
  client.received.clear();

  advance(std::chrono::seconds{32});

  EXPECT_TRUE(closed(client));
  EXPECT_EQ(client.received, "");
}

TEST_F(ServerTest, AClientThatAsksBeforeItSendsHearsTheRefusalInsteadOfLeave) {
  TestClient client{port};
  client.send(head_of("/v1/nothing", 5, "Expect: 100-continue\r\n"));

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(client.received, HasSubstr("Connection: close\r\n"));
}

TEST_F(ServerTest, ARequestWhoseHeadCameFirstIsCountedOnce) {
  TestClient client{port};
  client.send(head_of("/v1/jobs", 12));
  settle();
  client.send(R"({"type":"t"})");
  ASSERT_TRUE(asked(1));

  server->sweep();
  EXPECT_THAT(metrics.render({}), HasSubstr("workmill_http_requests_under_way 1\n"));
  service.answer_all([](Command const&) { return enqueued("a"); });
  server->sweep();
  EXPECT_THAT(metrics.render({}), HasSubstr("workmill_http_requests_under_way 0\n"));
}

TEST_F(ServerTest, AHeaderOverTheLimitIsRefused) {
  TestClient client{port};
  client.send("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(17 * 1024, 'x'));

  ASSERT_TRUE(received(client, "431 Request Header Fields Too Large"));
  EXPECT_THAT(client.received, HasSubstr("headers_too_large"));
}

TEST_F(ServerTest, RubbishIsAnswered400AndTheConnectionCloses) {
  TestClient client{port};
  client.send("\x16\x03\x01\x02\x03 hello\r\n\r\n");

  ASSERT_TRUE(received(client, "400 Bad Request"));
  EXPECT_THAT(client.received, HasSubstr("malformed_request"));
  client.shutdown_send();
  ASSERT_TRUE(closed(client));
}

TEST_F(ServerTest, RequestsThatWaitForTheirBodiesHoldBoundedMemory) {
  remake({.buffered_bytes_max = 100'000});
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + std::string(200'000, ' '));

  ASSERT_TRUE(received(client, "503 Service Unavailable"));
  EXPECT_THAT(client.received, HasSubstr("Retry-After: "));
}

}  // namespace
}  // namespace workmill::http
