#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "protocols/http/server_harness_test.h"

// What a server does with its connections as it stops.
namespace workmill::http {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

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

}  // namespace
}  // namespace workmill::http
