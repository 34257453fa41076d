#include "protocols/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unordered_map>

#include "net/send_crew.h"
#include "protocols/http/server_harness_test.h"

namespace workmill::http {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
  return count;
}
// Where each of the parts stands; increasing if they are in order.
bool in_order(std::string_view text, std::initializer_list<std::string_view> parts) {
  std::size_t at = 0;
  for (std::string_view const part : parts) {
    at = text.find(part, at);
    if (at == std::string_view::npos) return false;
  }
  return true;
}

TEST_F(ServerTest, AJobThatIsPostedIsAnsweredWith201AfterTheServiceHasAnswered) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(asked(1));
  client.read();
  EXPECT_EQ(client.received, "");

  service.answer_all([](Command const&) { return enqueued("my-id"); });
  client.read();

  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(client.received, HasSubstr("Date: Sun, 22 Nov 2026 09:00:00 GMT\r\n"));
  EXPECT_THAT(client.received, testing::EndsWith(R"({"id":"my-id","state":"ready","duplicate":false})"));
}

TEST_F(ServerTest, ARequestMayComeByteByByte) {
  TestClient client{port};
  for (char const byte : post("/v1/jobs", R"({"type":"t"})")) {
    client.send({&byte, 1});
    settle();
  }

  ASSERT_TRUE(asked(1));
  EXPECT_TRUE(std::holds_alternative<Enqueue>(service.asked[0].command));
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInTheirOrderWhateverTheOrderOfTheAnswers) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"a"})") + post("/v1/jobs", R"({"type":"b"})") + get("/healthz") +
              post("/v1/jobs", R"({"type":"c"})"));
  ASSERT_TRUE(asked(3));

  service.answer(service.asked[2].cookie, enqueued("third"));
  service.answer(service.asked[1].cookie, enqueued("second"));
  client.read();
  EXPECT_EQ(client.received, "");
  service.answer(service.asked[0].cookie, enqueued("first"));
  client.read();

  EXPECT_TRUE(in_order(client.received, {"first", "second", "ok\n", "third"})) << client.received;
}

TEST_F(ServerTest, AnswersOfOneBunchLeaveInOneSend) {
  TestClient client{port};
  std::string requests;
  for (int i = 0; i < 10; ++i) requests += post("/v1/jobs", R"({"type":"t"})");
  client.send(requests);
  ASSERT_TRUE(asked(10));

  service.answer_all([](Command const&) { return enqueued("id"); });
  client.read();

  EXPECT_EQ(count_of(client.received, "201 Created"), 10U);
}

TEST_F(ServerTest, MoreRequestsThanMayBeUnderWayWaitForTheAnswersBeforeThem) {
  remake({.pipelined_max = 4});
  TestClient client{port};
  std::string requests;
  for (int i = 0; i < 10; ++i) requests += post("/v1/jobs", R"({"type":"t"})");
  client.send(requests);
  ASSERT_TRUE(asked(4));
  settle();
  EXPECT_EQ(service.asked.size(), 4U);

  ASSERT_TRUE(until([&] {
    service.answer_all([](Command const&) { return enqueued("id"); });
    client.read();
    return count_of(client.received, "201 Created") == 10;
  }));
}

TEST_F(ServerTest, AWaitingPollThatHangsUpIsAbandoned) {
  TestClient client{port};
  client.send(post("/v1/leases", R"({"queues":["q"],"wait":"20s","worker":"w"})"));
  ASSERT_TRUE(asked(1));

  client.close();

  ASSERT_TRUE(until([&] { return !service.abandoned.empty(); }));
  EXPECT_EQ(service.abandoned[0], service.asked[0].cookie);
  ASSERT_TRUE(until([&] { return server->connections() == 0; }));
}

TEST_F(ServerTest, AClientThatOnlyClosedItsSendingSideStillGetsAnAnswerThatIsDecidedAtOnce) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));
  client.shutdown_send();
  ASSERT_TRUE(asked(1));
  settle();

  service.answer_all([](Command const&) { return enqueued("late"); });

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, HasSubstr("late"));
  EXPECT_TRUE(service.abandoned.empty());
}

TEST_F(ServerTest, JobsLeasedForAClientThatHasGoneAreGivenBack) {
  TestClient client{port};
  client.send(post("/v1/leases", R"({"queues":["q"],"wait":"20s"})"));
  ASSERT_TRUE(asked(1));
  auto const cookie = service.asked[0].cookie;
  client.close();
  ASSERT_TRUE(until([&] { return server->connections() == 0; }));
  service.asked.clear();

  LeaseReply reply;
  reply.jobs.emplace_back();
  reply.jobs.back().number = JobNumber{99};
  reply.jobs.back().token = LeaseToken{5};
  service.answer(cookie, std::move(reply));

  ASSERT_EQ(service.asked.size(), 1U);
  auto const& batch = std::get<ReportBatch>(service.asked[0].command);
  ASSERT_EQ(batch.reports.size(), 1U);
  EXPECT_EQ(batch.reports[0].job.number, JobNumber{99});
  EXPECT_EQ(batch.reports[0].lease, LeaseToken{5});
  EXPECT_TRUE(std::holds_alternative<Released>(batch.reports[0].outcome));
}

TEST_F(ServerTest, AnAnswerForAFormerConnectionDoesNotReachTheNextOneInItsPlace) {
  TestClient first{port};
  first.send(post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(asked(1));
  auto const stale = service.asked[0].cookie;
  first.break_off();
  ASSERT_TRUE(until([&] { return server->connections() == 0; }));
  TestClient second{port};
  second.send(post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(asked(2));

  service.answer(stale, enqueued("old"));
  service.answer(service.asked[1].cookie, enqueued("new"));

  ASSERT_TRUE(received(second, "new"));
  EXPECT_THAT(second.received, Not(HasSubstr("old")));
}

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

TEST_F(ServerTest, OneConnectionTooManyIsToldSo) {
  remake({.connections_max = 1});
  TestClient first{port};
  ASSERT_TRUE(until([&] { return server->connections() == 1; }));
  TestClient second{port};
  second.send(get("/healthz"));

  ASSERT_TRUE(closed(second));
  EXPECT_THAT(second.received, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(second.received, HasSubstr(R"("code":"overloaded","class":"retryable")"));
  first.send(get("/healthz"));
  EXPECT_TRUE(received(first, "200 OK"));
}

TEST_F(ServerTest, WhatTheServiceRefusesIsAProblemAndTheConnectionStays) {
  service.refusal = Error{.code = ErrorCode::overloaded, .message = "the inbox is full"};
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})"));

  ASSERT_TRUE(received(client, "503 Service Unavailable"));
  EXPECT_THAT(client.received, HasSubstr("Content-Type: application/problem+json\r\n"));
  EXPECT_THAT(client.received, HasSubstr("Retry-After: "));
  client.send(get("/healthz"));
  ASSERT_TRUE(received(client, "200 OK"));
}

TEST_F(ServerTest, ConnectionCloseIsHonoured) {
  TestClient client{port};
  client.send(get("/healthz", "Connection: close\r\n"));

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, HasSubstr("Connection: close\r\n"));
}

TEST_F(ServerTest, Http10ClosesUnlessAskedToKeepAlive) {
  TestClient plain{port};
  plain.send("GET /healthz HTTP/1.0\r\n\r\n");
  ASSERT_TRUE(closed(plain));
  EXPECT_THAT(plain.received, StartsWith("HTTP/1.1 200 OK\r\n"));

  TestClient kept{port};
  kept.send("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  ASSERT_TRUE(received(kept, "ok\n"));
  EXPECT_THAT(kept.received, HasSubstr("Connection: keep-alive\r\n"));
  settle();
  kept.read();
  EXPECT_FALSE(kept.closed);
}

TEST_F(ServerTest, AClientThatAsksBeforeItSendsItsBodyIsToldToGoOn) {
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n");
  ASSERT_TRUE(received(client, "HTTP/1.1 100 Continue\r\n\r\n"));

  client.send(R"({"type":"t"})");

  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) { return enqueued("id"); });
  ASSERT_TRUE(received(client, "201 Created"));
  EXPECT_EQ(count_of(client.received, "100 Continue"), 1U);
}

TEST_F(ServerTest, ContinueIsSaidInItsTurn) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"t"})") +
              "POST /v1/jobs HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n");
  ASSERT_TRUE(asked(1));
  client.read();
  EXPECT_EQ(client.received, "");

  service.answer_all([](Command const&) { return enqueued("id"); });

  ASSERT_TRUE(received(client, "100 Continue"));
  EXPECT_TRUE(in_order(client.received, {"201 Created", "100 Continue"}));
}

TEST_F(ServerTest, AChunkedBodyIsPutTogether) {
  TestClient client{port};
  client.send("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"typ\r\n");
  settle();
  client.send("7;ext=1\r\ne\":\"t\"}\r\n0\r\nTrailer: x\r\n\r\n" + get("/healthz"));

  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) { return enqueued("id"); });
  ASSERT_TRUE(received(client, "ok\n"));
  EXPECT_TRUE(in_order(client.received, {"201 Created", "200 OK"}));
}

TEST_F(ServerTest, DrainingClosesIdleConnectionsAnswersTheRestAndThenIsDone) {
  TestClient idle{port};
  idle.send(get("/healthz"));
  ASSERT_TRUE(received(idle, "200 OK"));
  TestClient busy{port};
  busy.send(post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(asked(1));
  std::optional<net::Drained> done;

  server->drain(std::chrono::seconds{10}, [&](net::Drained how) { done = how; });

  ASSERT_TRUE(closed(idle));
  EXPECT_FALSE(done);
  service.answer_all([](Command const&) { return enqueued("id"); });
  ASSERT_TRUE(closed(busy));
  EXPECT_THAT(busy.received, HasSubstr("201 Created"));
  EXPECT_THAT(busy.received, HasSubstr("Connection: close"));
  ASSERT_TRUE(until([&] { return done.has_value(); }));
  EXPECT_EQ(*done, net::Drained::in_time);
  TestClient late{port};
  EXPECT_FALSE(late.connected());
}

TEST_F(ServerTest, AConnectionThatIsNewAsTheDrainBeginsHasAMomentToAsk) {
  TestClient asks{port};
  TestClient silent{port};
  ASSERT_TRUE(until([&] { return server->connections() == 2; }));
  settle();
  std::optional<net::Drained> done;

  server->drain(std::chrono::seconds{60}, [&](net::Drained how) { done = how; });
  settle();
  asks.send(get("/healthz"));

  ASSERT_TRUE(closed(asks));
  EXPECT_THAT(asks.received, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(asks.received, HasSubstr("Connection: close\r\n"));
  EXPECT_FALSE(done);
  advance(std::chrono::seconds{2});
  EXPECT_TRUE(closed(silent));
  EXPECT_TRUE(until([&] { return done.has_value(); }));
}

TEST_F(ServerTest, ARequestThatHasArrivedAsTheDrainBeginsIsAnswered) {
  TestClient client{port};
  client.send(get("/healthz"));
  ASSERT_TRUE(received(client, "200 OK"));
  settle();
  client.received.clear();
  client.send(get("/healthz"));  // In the kernel; nobody has looked.

  server->drain(std::chrono::seconds{60}, [](net::Drained) {});

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 200 OK\r\n"));
}

// A connection that one thread hands to another is neither's for a moment. A drain that begins then must not lose it.
TEST_F(ServerTest, AConnectionHandedOverAsTheDrainBeginsIsAnswered) {
  net::IoLoop other_loop;
  FakeService other_service{clock};
  HttpServer other{other_loop, other_service, tokens, clock, HttpLimits{}, logger, metrics, Rng{8}};
  other_service.set_sink(&other);
  server->share_with({&other});
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<TestClient>(port));
    clients.back()->send(get("/healthz"));
  }
  for (int i = 0; i < 3; ++i) loop.step();  // Some are accepted, and on their way to the other loop; some are not yet.

  int drained = 0;
  server->stop_accepting([&] {
    for (auto const& [its_loop, its_server] : {std::pair{&loop, server.get()}, std::pair{&other_loop, &other}}) {
      its_loop->post([&drained, its_server] {
        its_server->drain(std::chrono::seconds{10}, [&drained](net::Drained) { ++drained; });
      });
    }
  });
  EXPECT_TRUE(until([&] {
    while (other_loop.step()) {
    }
    return drained == 2;
  }));

  for (auto& client : clients) {
    client->read();
    EXPECT_TRUE(client->received.starts_with("HTTP/1.1 200 ")) << client->received;
    EXPECT_FALSE(client->reset);
  }
}

TEST_F(ServerTest, ADrainThatTakesTooLongCutsOff) {
  TestClient busy{port};
  busy.send(post("/v1/jobs", R"({"type":"t"})"));
  ASSERT_TRUE(asked(1));
  std::optional<net::Drained> done;

  server->drain(Duration::zero(), [&](net::Drained how) { done = how; });

  ASSERT_TRUE(until([&] { return done.has_value(); }));
  EXPECT_EQ(*done, net::Drained::cut_off);
  EXPECT_EQ(service.abandoned.size(), 1U);
  ASSERT_TRUE(closed(busy));
}

TEST_F(ServerTest, ARequestThatWasHalfInWhenTheDrainBeganIsStillAnswered) {
  TestClient client{port};
  client.send("GET /healthz HTTP/1.1\r\n");
  settle();
  server->drain(std::chrono::seconds{10}, [](net::Drained) {});
  settle();
  client.send("Host: h\r\n\r\n");

  ASSERT_TRUE(closed(client));
  EXPECT_THAT(client.received, HasSubstr("200 OK"));
}

TEST_F(ServerTest, AServerThatGoesTakesItsConnectionsAlong) {
  TestClient client{port};
  client.send(post("/v1/leases", R"({"queues":["q"],"wait":"20s"})"));
  ASSERT_TRUE(asked(1));

  server.reset();

  client.read();
  EXPECT_TRUE(client.closed);
  EXPECT_EQ(service.abandoned.size(), 1U);
}

TEST_F(ServerTest, AThousandClientsAtOnceEachGetTheirOwnAnswer) {
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 1000; ++i) {
    clients.push_back(std::make_unique<TestClient>(port));
    clients.back()->send(get("/v1/jobs/job-" + std::to_string(i)));
    if (i % 100 == 99) settle();
  }
  ASSERT_TRUE(asked(1000));

  service.answer_all([](Command const& command) {
    JobReply reply;
    reply.job.client_id = std::get<GetJob>(command).job.text;
    return reply;
  });

  for (int i = 0; i < 1000; ++i) {
    clients[static_cast<std::size_t>(i)]->read();
    ASSERT_THAT(clients[static_cast<std::size_t>(i)]->received, HasSubstr("\"id\":\"job-" + std::to_string(i) + "\""));
  }
}

// So many answers in one bunch that others help to send them.
TEST_F(ServerTest, AHostOfCallersAreEachAnsweredInTheirOrderByACrew) {
  net::SendCrew crew{2};
  server->set_crew(&crew);
  std::vector<std::unique_ptr<TestClient>> clients;
  constexpr std::size_t kClients = 100;
  constexpr std::size_t kEach = 12;
  for (std::size_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<TestClient>(port));
    std::string requests;
    for (std::size_t k = 0; k < kEach; ++k) requests += post("/v1/jobs", R"({"type":"t"})");
    clients.back()->send(requests);
  }
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(asked(kClients * kEach));
    std::unordered_map<std::uint64_t, int> of_connection;  // Answers so far.
    service.answer_each([&](service::Cookie cookie) {
      int const number = of_connection[cookie >> CookieParts::kSequenceBits]++;
      return enqueued("r" + std::to_string(round) + "-" + std::to_string(number) + ".");
    });

    for (auto& client : clients) {
      ASSERT_TRUE(received(*client, "-" + std::to_string(kEach - 1) + "."));
      std::size_t at = 0;
      for (std::size_t k = 0; k < kEach; ++k) {
        at = client->received.find("r" + std::to_string(round) + "-" + std::to_string(k) + ".", at);
        ASSERT_NE(at, std::string::npos) << client->received;
      }
      EXPECT_EQ(count_of(client->received, "HTTP/1.1 201"), kEach);
      client->received.clear();
      std::string requests;
      for (std::size_t k = 0; k < kEach; ++k) requests += post("/v1/jobs", R"({"type":"t"})");
      client->send(requests);
    }
  }
}

TEST_F(ServerTest, OneAnswerMayBeForManyOfWhomSomeHaveGone) {
  std::vector<std::unique_ptr<TestClient>> clients;
  for (std::size_t i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<TestClient>(port));
    clients.back()->send(post("/v1/jobs", R"({"type":"t"})"));
  }
  ASSERT_TRUE(asked(clients.size()));
  clients[0]->break_off();
  clients[100]->break_off();
  ASSERT_TRUE(until([&] { return service.abandoned.size() == 2; }));

  service.answer_as_one(enqueued("for-all"));

  for (std::size_t i = 0; i < clients.size(); ++i) {
    if (i % 100 == 0) continue;
    ASSERT_TRUE(received(*clients[i], "for-all"));
    EXPECT_EQ(count_of(clients[i]->received, "HTTP/1.1 201"), 1u);
  }
}

}  // namespace
}  // namespace workmill::http
