#include "protocols/http/stream/stream_session.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/variant.h"
#include "protocols/http/server_harness_test.h"

namespace workmill::http {
namespace {

// A short text frame, masked with zeros: the payload stands there as it is.
std::string message(std::string_view text) {
  std::string frame{"\x81"};
  frame.push_back(static_cast<char>(0x80 | text.size()));
  return frame.append(4, '\0').append(text);
}

constexpr std::string_view kSubscribe = R"({"subscribe":{"queues":["q"],"credit":1}})";

class StreamSessionTest : public ServerTest {
 protected:
  static constexpr std::string_view kUpgrade =
      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

  // What has been asked then, by its cookie.
  service::Cookie subscribe(TestClient& client, std::string_view how = kSubscribe) {
    client.send(get("/v1/worker", kUpgrade) + message(how));
    EXPECT_TRUE(asked(1));
    service::Cookie const cookie = service.asked.at(0).cookie;
    service.asked.clear();
    return cookie;
  }
  static std::string subscribe_from(std::string const& address) {
    return R"({"subscribe":{"queues":["q"],"credit":1,"from":")" + address + R"("}})";
  }
  static std::string address_of(TestClient const& client) { return "127.0.0.1:" + std::to_string(client.own_port()); }
  static StreamJobs one_job() {
    StreamJobs jobs;
    jobs.jobs.emplace_back();
    return jobs;
  }
};

TEST_F(StreamSessionTest, AWordThatIsNotTakenBeforeTheStreamIsOpenLeavesNoStreamBehind) {
  TestClient client{port};
  service::Cookie const stream = subscribe(client);
  client.send(message(R"({"credit":5})"));
  ASSERT_TRUE(asked(1));

  // The shard refuses the word while it still has to open the stream.
  service.answer(stream, Error{.code = ErrorCode::overloaded, .message = "full"});
  service.abandoned.clear();
  service.answer(stream, StreamOpened{});

  EXPECT_TRUE(received(client, "overloaded"));
  EXPECT_EQ(service.abandoned, std::vector{stream});
}

TEST_F(StreamSessionTest, OfWordsThatComeTogetherTheLastIsPassedOnBeforeTheReportsBehindThem) {
  TestClient client{port};
  service::Cookie const stream = subscribe(client);
  service.answer(stream, StreamOpened{});
  std::string many;
  for (int credit = 0; credit < 100; ++credit) {
    many.append(message(R"({"credit":)" + std::to_string(credit) + "}"));
  }
  std::string const report = R"({"reports":[{"id":"a","lease":"0123456789abcdef","outcome":"completed"}]})";
  client.send(many + message(report) + message(R"({"drain":true})"));

  ASSERT_TRUE(asked(3));

  auto const* before = std::get_if<TellStream>(&service.asked[0].command);
  auto const* behind = std::get_if<TellStream>(&service.asked[2].command);
  ASSERT_TRUE(before != nullptr && behind != nullptr);
  EXPECT_TRUE(holds<ReportBatch>(service.asked[1].command));
  EXPECT_EQ(before->credit, 99u);
  EXPECT_EQ(before->stream, stream);
  EXPECT_FALSE(behind->credit);
  EXPECT_TRUE(behind->drain);
}

TEST_F(StreamSessionTest, ReportsAreCountedByWhatCameOfThemAndTimedByTheMessage) {
  TestClient client{port};
  service.answer(subscribe(client), StreamOpened{});
  std::string const report = R"({"id":"a","lease":"0123456789abcdef","outcome":"released"})";
  client.send(message(R"({"reports":[)" + report + "]}") + message(R"({"reports":[)" + report + "]}"));
  ASSERT_TRUE(asked(2));
  ReportsReply done;
  done.reports.emplace_back();
  ReportsReply lost;
  lost.reports.push_back({.error = Error{.code = ErrorCode::lease_lost, .message = "the lease is over"}});
  auto const asked_now = std::exchange(service.asked, {});

  clock.advance(std::chrono::milliseconds{30});
  service.answer(asked_now[0].cookie, done);
  clock.advance(std::chrono::milliseconds{40});
  service.answer(asked_now[1].cookie, lost);

  ASSERT_TRUE(received(client, "lease_lost"));
  auto const text = metrics.render({});
  EXPECT_NE(text.find("workmill_reports_total{protocol=\"stream\",result=\"ok\"} 1\n"), text.npos);
  EXPECT_NE(text.find("workmill_reports_total{protocol=\"stream\",result=\"lease_lost\"} 1\n"), text.npos);
  EXPECT_NE(text.find("workmill_reports_total{protocol=\"http\",result=\"lease_lost\"} 0\n"), text.npos);
  EXPECT_NE(text.find("workmill_stream_report_seconds_count 2\n"), text.npos);
  EXPECT_NE(text.find("workmill_stream_report_seconds_sum 0.1\n"), text.npos);
}

TEST_F(StreamSessionTest, WhoHasAnsweredIsNotSilentWhereThisThreadStoodStill) {
  TestClient speaks{port};
  service.answer(subscribe(speaks), StreamOpened{});
  TestClient silent{port};
  service.answer(subscribe(silent), StreamOpened{});
  ASSERT_TRUE(received(speaks, "subscribed") && received(silent, "subscribed"));

  speaks.send(message(R"({"credit":2})"));
  advance(std::chrono::hours{1});
  settle();
  advance(std::chrono::seconds{60});  // Of which the one that has not answered had 50 left.

  EXPECT_TRUE(closed(silent));
  ASSERT_TRUE(asked(1));
  EXPECT_TRUE(holds<TellStream>(service.asked[0].command));
  EXPECT_TRUE(until([&] { return server->connections() == 1; }));
}

TEST_F(StreamSessionTest, AnAddressThatIsNoneIsRefused) {
  for (std::string const none : {"", "127.0.0.1", "localhost:80", "127.0.0.1:0"}) {
    TestClient client{port};
    client.send(get("/v1/worker", kUpgrade) + message(subscribe_from(none)));

    EXPECT_TRUE(received(client, R"("field":"subscribe.from")")) << none;
  }
  EXPECT_TRUE(service.asked.empty());
}

// ---- Streams at rest, which not every sweep looks at.

class StreamAtRest : public StreamSessionTest {
 protected:
  static constexpr std::string_view kPing{"\x89\0", 2};
  static constexpr std::string_view kPong{"\x8A\x80\0\0\0\0", 6};

  void SetUp() override {
    remake(limits);
    client.emplace(port);
    open(kSubscribe);
  }
  // The first message that came back.
  std::string open(std::string_view how) {
    stream = subscribe(*client, how);
    service.answer(stream, StreamOpened{});
    EXPECT_TRUE(received(*client, "subscribed"));
    return std::exchange(client->received, {});
  }
  void sweep_for(std::chrono::seconds time) {
    for (std::chrono::seconds passed{0}; passed < time; passed += std::chrono::seconds{1}) {
      advance(std::chrono::seconds{1});
      settle();
    }
    client->read();
  }
  bool is_kept_alive_by_the_kernel() const {
    int is_on = 0;
    for (int fd = 3; fd < 1'024; ++fd) {  // Which is the server's end of it, nobody tells us.
      sockaddr_in peer{};
      socklen_t size = sizeof peer;
      if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0 || peer.sin_family != AF_INET) continue;
      socklen_t option = sizeof is_on;
      if (ntohs(peer.sin_port) == client->own_port()) ::getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &is_on, &option);
    }
    return is_on != 0;
  }
  std::size_t pings() const {
    std::size_t count = 0;
    for (auto at = client->received.find(kPing); at != std::string::npos; at = client->received.find(kPing, at + 2)) {
      ++count;
    }
    return count;
  }

  HttpLimits limits{.stream_ping = std::chrono::seconds{5}, .stream_idle_ping = std::chrono::seconds{50}};
  std::optional<TestClient> client;
  service::Cookie stream{};
};

TEST_F(StreamAtRest, IsPingedWhenItWasQuietForTheIntervalAndAgainAfterItsAnswer) {
  sweep_for(std::chrono::seconds{49});
  EXPECT_EQ(pings(), 0u);
  sweep_for(std::chrono::seconds{2});
  EXPECT_EQ(pings(), 1u);

  client->send(kPong);
  settle();
  sweep_for(std::chrono::seconds{49});
  EXPECT_EQ(pings(), 1u);
  sweep_for(std::chrono::seconds{2});

  EXPECT_EQ(pings(), 2u);
}

TEST_F(StreamAtRest, IsDroppedWhenItWasSilentForTwiceTheInterval) {
  sweep_for(std::chrono::seconds{99});
  EXPECT_FALSE(client->closed);
  sweep_for(std::chrono::seconds{3});

  EXPECT_TRUE(closed(*client));
}

TEST_F(StreamAtRest, IsWatchedCloselyAsSoonAsItGetsJobs) {
  sweep_for(std::chrono::seconds{10});
  EXPECT_EQ(pings(), 0u);

  service.answer(stream, one_job());
  sweep_for(std::chrono::seconds{6});
  EXPECT_EQ(pings(), 1u);
  sweep_for(std::chrono::seconds{6});

  EXPECT_TRUE(closed(*client));
}

TEST_F(StreamAtRest, GoesByTheNewIntervalFromTheNextSweepOn) {
  sweep_for(std::chrono::seconds{6});
  limits.stream_idle_ping = std::chrono::seconds{5};

  server->set_limits(limits);
  sweep_for(std::chrono::seconds{1});

  EXPECT_EQ(pings(), 1u);
}

TEST_F(StreamAtRest, IsLeftToTheKernelWhereIdleStreamsAreNotPinged) {
  EXPECT_FALSE(is_kept_alive_by_the_kernel());
  limits.stream_idle_ping = Duration{0};
  server->set_limits(limits);

  advance(std::chrono::hours{1});
  sweep_for(std::chrono::seconds{120});

  EXPECT_EQ(pings(), 0u);
  EXPECT_FALSE(client->closed);
  EXPECT_TRUE(is_kept_alive_by_the_kernel());

  service.answer(stream, one_job());  // And is watched closely all the same when it gets one.
  sweep_for(std::chrono::seconds{6});
  EXPECT_EQ(pings(), 1u);
  sweep_for(std::chrono::seconds{6});
  EXPECT_TRUE(closed(*client));
}

// ---- Nobody is between, as the worker has shown.

class DirectStreamAtRest : public StreamAtRest {
 protected:
  void SetUp() override {
    remake(limits);
    client.emplace(port);
    first = open(subscribe_from(address_of(*client)));
  }
  std::string first;
};

TEST_F(DirectStreamAtRest, IsToldSoAndLeftToTheKernel) {
  EXPECT_NE(first.find(R"("direct":true)"), std::string::npos) << first;

  advance(std::chrono::hours{1});
  sweep_for(std::chrono::seconds{120});

  EXPECT_EQ(pings(), 0u);
  EXPECT_FALSE(client->closed);
  EXPECT_TRUE(is_kept_alive_by_the_kernel());
}

TEST_F(DirectStreamAtRest, IsWatchedCloselyWhileItHasJobsAndThenLeftToTheKernelAgain) {
  service.answer(stream, one_job());
  sweep_for(std::chrono::seconds{6});
  EXPECT_EQ(pings(), 1u);
  client->send(message(R"({"reports":[{"id":"a","lease":"0123456789abcdef","outcome":"completed"}]})"));
  ASSERT_TRUE(asked(1));
  ReportsReply done;
  done.reports.emplace_back();
  service.answer(service.asked[0].cookie, done);

  advance(std::chrono::hours{1});
  sweep_for(std::chrono::seconds{120});

  EXPECT_EQ(pings(), 1u);
  EXPECT_FALSE(client->closed);

  service.answer(stream, one_job());
  sweep_for(std::chrono::seconds{12});
  EXPECT_EQ(pings(), 2u);
  EXPECT_TRUE(closed(*client));
}

TEST_F(DirectStreamAtRest, IsPingedLikeOthersAsSoonAsThatIsNotToBeBelievedAnyMore) {
  limits.stream_direct = false;

  server->set_limits(limits);
  sweep_for(std::chrono::seconds{51});

  EXPECT_EQ(pings(), 1u);
}

TEST_F(StreamAtRest, IsNotDirectWhereItsWorkerSaysNothingOrAnotherAddress) {
  std::uint16_t const another = client->own_port() == 1 ? 2 : 1;
  client.emplace(port);

  std::string const first = open(subscribe_from("127.0.0.1:" + std::to_string(another)));

  EXPECT_EQ(first.find("direct"), std::string::npos) << first;
  sweep_for(std::chrono::seconds{51});
  EXPECT_EQ(pings(), 1u);
  EXPECT_FALSE(is_kept_alive_by_the_kernel());
}

TEST_F(StreamAtRest, IsNotDirectWhereThatIsNotToBeBelieved) {
  limits.stream_direct = false;
  server->set_limits(limits);
  client.emplace(port);

  std::string const first = open(subscribe_from(address_of(*client)));

  EXPECT_EQ(first.find("direct"), std::string::npos) << first;
  limits.stream_direct = true;  // It was told nothing, so it waits for our pings.
  server->set_limits(limits);
  sweep_for(std::chrono::seconds{51});
  EXPECT_EQ(pings(), 1u);
}

TEST_F(StreamAtRest, IsAskedBeforeItIsDroppedWhereIdleStreamsArePingedAgain) {
  limits.stream_idle_ping = Duration{0};
  server->set_limits(limits);
  advance(std::chrono::hours{1});
  sweep_for(std::chrono::seconds{2});
  limits.stream_idle_ping = std::chrono::seconds{50};

  server->set_limits(limits);
  sweep_for(std::chrono::seconds{40});

  EXPECT_EQ(pings(), 1u);
  EXPECT_FALSE(client->closed);
  sweep_for(std::chrono::seconds{15});
  EXPECT_TRUE(closed(*client));
}

TEST_F(StreamAtRest, IsAskedBeforeItIsDroppedWhereTheSweepIsLate) {
  service.answer(stream, one_job());
  sweep_for(std::chrono::seconds{1});

  advance(std::chrono::seconds{30});
  sweep_for(std::chrono::seconds{1});

  EXPECT_EQ(pings(), 1u);
  EXPECT_FALSE(client->closed);
}

TEST_F(StreamAtRest, IsAskedForItsTokenByTheNextSweepWhereTokensHaveChanged) {
  sweep_for(std::chrono::seconds{10});

  tokens.set({});  // From here on each call needs one, and it has shown none.
  sweep_for(std::chrono::seconds{1});

  EXPECT_TRUE(received(*client, "unauthorized"));
}

}  // namespace
}  // namespace workmill::http
