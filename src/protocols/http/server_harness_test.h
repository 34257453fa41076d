#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/io_loop.h"
#include "protocols/http/server.h"
#include "service/service.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

// The HTTP server on real loopback sockets, over a service that does what the test says, at a time that the test sets.
namespace workmill::http {

class TurnedClock final : public Clock {
 public:
  Instant now() const override { return wall + std::chrono::floor<Duration>(elapsed); }
  std::chrono::nanoseconds monotonic() const override { return elapsed; }
  void advance(Duration by) { elapsed += by; }

  Instant wall = instant_from_ms(1'795'334'400'000);  // 2026-11-22T08:00:00Z, and an hour has passed.
  std::chrono::nanoseconds elapsed = std::chrono::hours{1};
};

class FakeService final : public service::Service {
 public:
  explicit FakeService(Clock const& clock) : clock_(clock) {}

  struct Asked {
    service::Cookie cookie;
    Command command;
    Instant give_up_at{};
    Allowed allowed{};
  };

  void set_sink(service::AnswerSink* sink) override { sink_ = sink; }
  Result<> submit(service::Cookie cookie, Command command, Instant give_up_at, Allowed allowed = {}) override {
    if (refusal) return std::unexpected(*refusal);
    asked.push_back({cookie, std::move(command), give_up_at, std::move(allowed)});
    return {};
  }
  void abandon(service::Cookie cookie) override { abandoned.push_back(cookie); }
  JobIdCodec const& ids() const override { return ids_; }
  Instant now() const override { return clock_.now() - behind; }
  Duration behind{};  // So long ago was its last turn.
  service::Hindrances hindrances() const override { return hindered; }
  Duration uptime() const override { return std::chrono::seconds{90}; }
  cache::Cache* cache() override { return cached; }

  void answer(service::Cookie cookie, Reply reply) {
    std::vector<service::Answer> bunch;
    bunch.push_back({cookie, std::move(reply)});
    sink_->on_answers(bunch);
  }
  // All that was asked, in one bunch, by who asked.
  void answer_each(std::function<Reply(service::Cookie)> const& reply) {
    std::vector<service::Answer> bunch;
    for (Asked const& it : std::exchange(asked, {})) bunch.push_back({it.cookie, reply(it.cookie)});
    if (!bunch.empty()) sink_->on_answers(bunch);
  }
  // All that was asked, as one answer.
  void answer_as_one(Reply reply) {
    std::vector<Asked> const all = std::exchange(asked, {});
    if (all.empty()) return;
    std::vector<service::Answer> bunch;
    bunch.push_back({.cookie = all.front().cookie, .reply = std::move(reply)});
    for (Asked const& it : std::span{all}.subspan(1)) bunch.front().also.push_back(it.cookie);
    sink_->on_answers(bunch);
  }
  // All that was asked, in one bunch.
  void answer_all(std::function<Reply(Command const&)> const& reply) {
    std::vector<service::Answer> bunch;
    for (Asked const& it : std::exchange(asked, {})) bunch.push_back({it.cookie, reply(it.command)});
    if (!bunch.empty()) sink_->on_answers(bunch);
  }

  cache::Cache* cached = nullptr;
  std::optional<Error> refusal;
  service::Hindrances hindered{};
  std::vector<Asked> asked;
  std::vector<service::Cookie> abandoned;

 private:
  Clock const& clock_;
  JobIdCodec ids_{42};
  service::AnswerSink* sink_ = nullptr;
};

// A client of the rudest kind: it sends what it is told and keeps what comes back.
class TestClient {
 public:
  explicit TestClient(std::uint16_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // The kernel completes the connection; the server need not have accepted it yet.
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::fcntl(fd_, F_SETFL, O_NONBLOCK);
  }
  ~TestClient() { close(); }
  TestClient(TestClient const&) = delete;
  TestClient& operator=(TestClient const&) = delete;

  bool connected() const { return connected_; }
  std::uint16_t own_port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
  }
  // What the socket takes of it.
  std::size_t send(std::string_view bytes) {
    ssize_t const sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }
  void read() {
    char buffer[65536];
    for (;;) {
      ssize_t const count = ::recv(fd_, buffer, sizeof buffer, 0);
      if (count > 0) {
        received.append(buffer, static_cast<std::size_t>(count));
      } else {
        if (count == 0) closed = true;
        if (count < 0 && errno != EAGAIN && errno != EINTR) closed = reset = true;
        return;
      }
    }
  }
  void shutdown_send() { ::shutdown(fd_, SHUT_WR); }
  // Ends it the hard way: the server sees a reset.
  void break_off() {
    linger const at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  std::string received;
  bool closed = false;
  bool reset = false;

 private:
  int fd_;
  bool connected_ = false;
};

// How often `part` stands in `text`.
inline std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

struct ServerTest : testing::Test {
  ServerTest() { remake({}); }

  void remake(HttpLimits const& limits) {
    server.reset();
    server = std::make_unique<HttpServer>(loop, service, tokens, clock, limits, logger, metrics, Rng{7});
    auto const listening = server->listen("127.0.0.1:0");
    ASSERT_TRUE(listening) << describe(listening.error());
    port = *listening;
  }

  // Runs the loop until it is so. Waits for events, with a bound that only a broken server reaches.
  bool until(std::function<bool()> const& is_so) {
    for (int i = 0; i < 5'000; ++i) {
      while (loop.step()) {
      }
      if (is_so()) return true;
      loop.context().restart();
      loop.context().run_one_for(std::chrono::milliseconds{1});
    }
    return false;
  }
  // Runs all that is ready.
  void settle() {
    for (int i = 0; i < 20; ++i) {
      loop.step();
    }
  }
  bool asked(std::size_t count) {
    return until([&] { return service.asked.size() >= count; });
  }
  bool received(TestClient& client, std::string_view text) {
    return until([&] {
      client.read();
      return client.received.find(text) != std::string::npos;
    });
  }
  bool closed(TestClient& client) {
    return until([&] {
      client.read();
      return client.closed;
    });
  }
  // One exchange on a connection of its own: the answer at once, or to the one command with `reply`.
  std::string ask(std::string_view request, std::optional<Reply> reply = {}) {
    TestClient client{port};
    client.send(request);
    until([&] {
      if (reply && !service.asked.empty()) {
        service.answer_all([&](Command const&) { return *reply; });
      }
      client.read();
      return client.received.find("\r\n\r\n") != std::string::npos;
    });
    settle();
    client.read();
    return client.received;
  }
  void advance(Duration by) {
    clock.advance(by);
    server->sweep();
  }

  static EnqueueReply enqueued(std::uint64_t number) {
    EnqueueReply reply;
    reply.jobs.push_back({.number = JobNumber{number}, .client_id = {}, .state = JobState::ready, .duplicate = false});
    return reply;
  }
  static EnqueueReply enqueued(std::string id) {
    EnqueueReply reply;
    reply.jobs.push_back(
        {.number = JobNumber{1}, .client_id = std::move(id), .state = JobState::ready, .duplicate = false});
    return reply;
  }

  TurnedClock clock;
  net::IoLoop loop;
  FakeService service{clock};
  service::TokenStore tokens;
  std::vector<std::string> log_lines;
  telemetry::Logger logger{clock,
                           {.level = telemetry::LogLevel::debug, .delivery = telemetry::LogDelivery::immediate},
                           [this](std::string_view line) { log_lines.emplace_back(line); }};
  telemetry::Metrics metrics;
  std::unique_ptr<HttpServer> server;
  std::uint16_t port = 0;
};

// With Content-Length and the headers that an ordinary client sends.
inline std::string post(std::string_view path, std::string_view body, std::string_view headers = "") {
  std::string text = "POST ";
  text.append(path).append(" HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: ");
  text.append(std::to_string(body.size())).append("\r\n").append(headers).append("\r\n").append(body);
  return text;
}
inline std::string get(std::string_view target, std::string_view headers = "") {
  std::string text = "GET ";
  text.append(target).append(" HTTP/1.1\r\nHost: h\r\n").append(headers).append("\r\n");
  return text;
}

}  // namespace workmill::http
