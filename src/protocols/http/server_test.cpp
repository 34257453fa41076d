#include "protocols/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unordered_map>

#include "base/variant.h"
#include "net/send_crew.h"
#include "protocols/http/server_harness_test.h"

namespace workmill::http {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

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
  EXPECT_TRUE(holds<Enqueue>(service.asked[0].command));
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
  EXPECT_TRUE(holds<Released>(batch.reports[0].outcome));
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
