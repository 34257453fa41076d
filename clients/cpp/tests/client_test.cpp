#include "workmill/client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "core.h"
#include "server_process.h"
#include "tls_server.h"
#include "work_link.h"
#include "workmill/async_client.h"
#include "workmill/worker.h"

// The clients, against servers that misbehave and against the real one.
namespace workmill::client {
namespace {

using namespace std::chrono_literals;
using namespace test;  // NOLINT(google-build-using-namespace)

constexpr std::string_view kEnqueued = R"({"id":"j","state":"ready","duplicate":false})";
constexpr RetryPolicy kSoon{.attempts = 5, .first = 1ms, .factor = 2.0, .cap = 5ms};

std::string key_of(std::string const& request) {
  std::size_t const at = request.find("Idempotency-Key: ");
  return at == std::string::npos ? "" : request.substr(at, request.find("\r\n", at) - at);
}

// ---- Servers that misbehave

TEST(Client, ACallToAServerThatNeverAnswersEndsByItsTimeOut) {
  FakeServer silent{[](int socket, int) {
    while (!read_request(socket).empty()) {
    }
  }};
  Client client{{.url = silent.url(), .request_timeout = 20ms, .retry = {.attempts = 2, .first = 1ms}}};

  auto const job = client.job("j");

  EXPECT_EQ(job.error().code, "no_server");
  EXPECT_TRUE(job.error().may_have_happened);
  EXPECT_EQ(silent.connections(), 2);  // The retry had one of its own: the first may answer late.
}

TEST(Client, ADeadlineEndsAllAttemptsTogether) {
  FakeServer silent{[](int socket, int) {
    read_request(socket);
    read_request(socket);
  }};
  Client client{{.url = silent.url()}};

  EXPECT_EQ(client.job("j", {.deadline = 50ms}).error().code, "timed_out");
}

TEST(Client, WhereNobodyListensTheErrorSaysSoAndThatNothingHappened) {
  Client client{{.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = kSoon}};

  auto const job = client.enqueue("t", 1);

  EXPECT_EQ(job.error().code, "no_server");
  EXPECT_EQ(job.error().error_class, ErrorClass::retryable);
  EXPECT_FALSE(job.error().may_have_happened);
}

TEST(Client, AnEnqueueWhoseAnswerIsLostIsSentAgainUnderTheSameKey) {
  std::mutex mutex;
  std::vector<std::string> keys;
  FakeServer server{answering([&](std::string const& request, int number) {
    std::lock_guard const lock{mutex};
    keys.push_back(key_of(request));
    return number < 3 ? std::string{} : response(201, kEnqueued);
  })};
  Client client{{.url = server.url(), .retry = kSoon}};

  EXPECT_EQ(client.enqueue("t", 1)->id, "j");
  EXPECT_EQ(client.enqueue("t", 1)->id, "j");

  ASSERT_EQ(keys.size(), 4U);
  EXPECT_NE(keys[0], "");
  EXPECT_EQ(keys[0], keys[1]);
  EXPECT_EQ(keys[0], keys[2]);
  EXPECT_NE(keys[0], keys[3]);
}

TEST(Client, WhatMustNotBeDoneTwiceIsNotTriedAgainWhenTheConnectionBreaks) {
  std::atomic<int> requests{0};
  FakeServer server{answering([&](std::string const&, int) {
    requests.fetch_add(1);
    return std::string{};
  })};
  Client client{{.url = server.url(), .retry = kSoon}};

  auto const retried = client.retry("j");

  EXPECT_EQ(retried.error().code, "outcome_unknown");
  EXPECT_TRUE(retried.error().may_have_happened);
  EXPECT_EQ(requests.load(), 1);
}

constexpr std::string_view kOverloaded = R"({"code":"overloaded","class":"retryable","detail":"full"})";

// It may have handed the call on, and lost the answer.
TEST(Client, WhatMustNotBeDoneTwiceIsNotTriedAgainWhenAGatewayGivesUp) {
  std::string said;
  std::atomic<int> requests{0};
  FakeServer server{answering([&](std::string const&, int) {
    requests.fetch_add(1);
    return said;
  })};
  Client client{{.url = server.url(), .retry = kSoon}};

  for (int const status : {502, 503, 504}) {
    for (std::string_view const words : {"upstream connect error or disconnect/reset before headers", "[1]",
                                         R"({"code":"unavailable"})", R"({"code":503,"class":null})"}) {
      said = response(status, words);
      requests = 0;

      for (Error const& error : {client.retry("j").error(), client.lease({.queues = {"q"}}).error()}) {
        EXPECT_EQ(error.code, "protocol_error") << status << words;
        EXPECT_EQ(error.error_class, ErrorClass::retryable) << status << words;
        EXPECT_TRUE(error.may_have_happened) << status << words;
      }

      EXPECT_EQ(requests, 2) << status << words;
    }
  }
}

TEST(Client, OnlyWhatAWorkmillDoesNotKnowItselfMayHaveHappened) {
  struct Case {
    int status;
    std::string_view body;
    bool may_have_happened;
    int requests;
  };
  constexpr int kAll = static_cast<int>(kSoon.attempts);
  for (auto const& [status, body, may_have_happened, expected] :
       {Case{504, R"({"code":"deadline_exceeded","class":"retryable"})", false, kAll},
        Case{502, R"({"code":"compute_failed","class":"retryable"})", false, 1}, Case{503, kOverloaded, false, kAll},
        Case{503, R"({"code":"outcome_unknown","class":"retryable"})", true, 1},
        Case{429, "slow down", false, kAll}}) {  // A gateway's: it has not handed the call on.
    std::atomic<int> requests{0};
    FakeServer server{answering([&](std::string const&, int) {
      requests.fetch_add(1);
      return response(status, body);
    })};
    Client client{{.url = server.url(), .retry = kSoon}};

    EXPECT_EQ(client.retry("j").error().may_have_happened, may_have_happened) << body;

    EXPECT_EQ(requests, expected) << body;
  }
}

TEST(Client, AReportMayHaveCountedWhereTheServerDoesNotKnow) {
  FakeServer server{answering([](std::string const&, int) {
    return response(200, R"({"reports":[{"ok":false,"error":{"code":"outcome_unknown","class":"retryable"}},)"
                         R"({"ok":false,"error":{"code":"lease_lost","class":"fatal"}}]})");
  })};
  Client client{{.url = server.url()}};

  auto const results = client.report({Report::released({"j", "1"}), Report::released({"k", "2"})});

  ASSERT_EQ(results->size(), 2U);
  EXPECT_TRUE(results->front().error.may_have_happened);
  EXPECT_FALSE(results->back().error.may_have_happened);
}

// Whatever the later attempts are answered.
TEST(Client, AnAttemptWhoseAnswerWasLostIsToldOfWithTheLastError) {
  std::string second;
  FakeServer server{
      answering([&](std::string const&, int number) { return number % 2 == 1 ? std::string{} : second; })};
  Client client{{.url = server.url(), .retry = {.attempts = 2, .first = 1ms}}};
  auto const told = [](auto const& result) {
    return result ? "" : result.error().code + (result.error().may_have_happened ? " may have happened" : "");
  };

  second = response(503, kOverloaded);
  EXPECT_EQ(told(client.enqueue("t", 1)), "overloaded may have happened");
  second = response(400, R"({"code":"invalid_field","class":"user","detail":"no"})");
  EXPECT_EQ(told(client.enqueue("t", 1)), "invalid_field may have happened");
  second = response(503, kOverloaded, "Retry-After: 40\r\n");
  Client patient{{.url = server.url(), .retry = kSoon}};
  EXPECT_EQ(told(patient.enqueue("t", 1, {}, {.deadline = 30s})), "timed_out may have happened");
  second = response(401, R"({"code":"unauthorized","class":"user","detail":"no"})");
  EXPECT_EQ(told(client.cache().get_or_compute("k", make_job("t", 1))), "unauthorized may have happened");
  second = response(200, "<html>welcome</html>");
  EXPECT_EQ(told(client.enqueue("t", 1)), "protocol_error may have happened");
}

TEST(Client, WhatIsAnsweredInAFormThatIsNotKnownMayHaveHappened) {
  FakeServer server{answering([](std::string const&, int) { return response(200, "<html>welcome</html>"); })};
  Client client{{.url = server.url()}};
  AsyncClient async{{.server = {.url = server.url()}}};
  NewJob const job = make_job("t", 1);

  for (Error const& error :
       {client.enqueue(job).error(), async.enqueue(job).get().error(), client.enqueue_all({job}).error(),
        async.enqueue_all({job}).get().error(), client.lease({.queues = {"q"}}).error(), client.purge("q").error(),
        client.cache().get_or_compute("k", job).error(), async.cache().get_or_compute("k", job).get().error()}) {
    EXPECT_EQ(error.code, "protocol_error");
    EXPECT_TRUE(error.may_have_happened) << error.message;
  }
}

TEST(Client, ACallThatIsCancelledBetweenTwoAttemptsTellsOfTheOnesBefore) {
  FakeServer server{answering([](std::string const&, int number) {
    return number == 1 ? std::string{} : response(503, kOverloaded, "Retry-After: 40\r\n");
  })};
  std::promise<void> waits;
  auto const look = [&](LogLevel, std::string_view message) {
    if (message.starts_with("attempt 2 ")) waits.set_value();
  };
  Client client{{.url = server.url(), .retry = kSoon, .log = look}};
  std::stop_source stop;
  auto call = std::async(std::launch::async, [&] { return client.enqueue("t", 1, {}, {.stop = stop.get_token()}); });
  waits.get_future().wait();

  stop.request_stop();

  Error const error = call.get().error();
  EXPECT_EQ(error.code, "call_cancelled");
  EXPECT_TRUE(error.may_have_happened);
}

TEST(Client, ARefusalIsTriedAgainAndNotBeforeRetryAfter) {
  FakeServer server{answering([](std::string const&, int number) {
    return number == 1 ? response(503, kOverloaded, "Retry-After: 1\r\n") : response(201, kEnqueued);
  })};
  Client client{{.url = server.url(), .retry = kSoon}};
  auto const began = std::chrono::steady_clock::now();

  ASSERT_TRUE(client.enqueue("t", 1));

  EXPECT_GE(std::chrono::steady_clock::now() - began, 1s);
}

TEST(Client, WhereTheServerAsksForMoreThanAMinuteTheErrorIsGivenInPlaceOfAPause) {
  for (std::string const& seconds : {std::string{"61"}, std::string{"3600"}, std::string{"99999999999"}}) {
    std::atomic<int> requests{0};
    FakeServer server{answering([&](std::string const&, int) {
      requests.fetch_add(1);
      return response(503, kOverloaded, "Retry-After: " + seconds + "\r\n");
    })};
    Client client{{.url = server.url(), .retry = kSoon}};
    AsyncClient async{{.server = {.url = server.url(), .retry = kSoon}}};
    CallOptions const call{.deadline = 30s};  // What sleeps is late.

    auto const job = client.enqueue("t", 1, {}, call);
    EXPECT_EQ(job.error().code, "overloaded");
    EXPECT_GT(job.error().retry_after, 60s);
    EXPECT_EQ(client.wait("j", 1ms, call).error().code, "overloaded");
    EXPECT_EQ(async.wait("j", 1ms, call).get().error().code, "overloaded");
    EXPECT_EQ(client.cache().get_or_compute("k", make_job("t", 1), {.wait = 1ms}, call).error().code, "overloaded");
    EXPECT_EQ(requests, 4);
  }
}

// Takes its time over each part of a bulk, and notes how much it was given.
class SlowBackend final : public detail::Backend {
 public:
  static constexpr Duration kTaken{50};

  std::unique_ptr<detail::Transport> make_transport(detail::Loop& loop) override {
    return std::make_unique<SlowTransport>(loop, given);
  }
  std::unique_ptr<detail::WorkLink> make_stream(detail::Loop&, detail::Subscription, detail::LinkEvents&) override {
    return nullptr;
  }

  std::vector<Duration> given;  // The client's; read where nothing is under way.

 private:
  class SlowTransport final : public detail::Transport {
   public:
    SlowTransport(detail::Loop& loop, std::vector<Duration>& given) : loop_(loop), given_(given) {}
    Ticket send(detail::Request request, Done done) override {
      given_.push_back(request.timeout);
      loop_.after(kTaken, [done = std::move(done)]() mutable {
        done(detail::Response{.status = 201, .body = "{\"jobs\":[" + std::string{kEnqueued} + "]}"});
      });
      return given_.size();
    }
    void abort(Ticket) override {}
    void call_off(Ticket) override {}

   private:
    detail::Loop& loop_;
    std::vector<Duration>& given_;
  };
};

// However fast the machine is, a part has no more than the one before it left over.
TEST(Client, TheDeadlineOfABulkIsThatOfAllItsParts) {
  auto const backend = std::make_shared<SlowBackend>();
  auto const waits = [] {  // The trace is asked for with each part, before it is sent.
    std::this_thread::sleep_for(SlowBackend::kTaken);
    return std::string{};
  };
  ServerOptions const options{.request_timeout = 2h, .traceparent = waits};
  CallOptions const call{.deadline = 1h};
  // More than half of what a part has: one each.
  std::vector<NewJob> const jobs(2, make_job("t", std::string(std::size_t{2} << 20, 'x')));

  ASSERT_TRUE(Client(backend, options).enqueue_all(jobs, call));
  ASSERT_TRUE(AsyncClient(backend, {.server = options}).enqueue_all(jobs, call).get());

  auto const& given = backend->given;
  ASSERT_EQ(given.size(), 4U);
  EXPECT_LE(given[1], given[0] - SlowBackend::kTaken);
  EXPECT_LE(given[3], given[2] - SlowBackend::kTaken);
}

TEST(Client, AnErrorThatWaitingDoesNotMendIsGivenAtOnce) {
  std::atomic<int> requests{0};
  FakeServer server{answering([&](std::string const&, int) {
    requests.fetch_add(1);
    return response(400, R"({"code":"invalid_field","class":"user","detail":"no","field":"type","trace_id":"t1"})");
  })};
  Client client{{.url = server.url(), .retry = kSoon}};

  auto const job = client.enqueue("t", 1);

  EXPECT_EQ(job.error().code, "invalid_field");
  EXPECT_EQ(job.error().field, "type");
  EXPECT_EQ(job.error().trace_id, "t1");
  EXPECT_EQ(job.error().status, 400);
  EXPECT_EQ(requests.load(), 1);
}

TEST(Client, WhatIsNoHttpIsAProtocolError) {
  FakeServer server{[](int socket, int) {
    read_request(socket);
    send_text(socket, "SSH-2.0-OpenSSH\r\n\r\n");
    read_request(socket);
  }};
  Client client{{.url = server.url(), .retry = kSoon}};

  EXPECT_EQ(client.job("j").error().code, "protocol_error");
}

TEST(Client, AnAnswerMayComeInAnyPieces) {
  FakeServer server{[](int socket, int) {
    while (!read_request(socket).empty()) {
      std::string const text =
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
          "chunked\r\n\r\n9\r\n{\"id\":\"j\"\r\n14\r\n,\"state\":\"complete\"}\r\n0\r\n\r\n";
      for (char const c : std::string{text}) send_text(socket, {&c, 1});
    }
  }};
  Client client{{.url = server.url(), .retry = kSoon}};

  EXPECT_EQ(client.job("j").error().message, "what came back is no answer of a Workmill: no id or state");
  EXPECT_TRUE(client.ping());
}

TEST(Client, AConnectionThatTheServerHasClosedIsNotUsedAgain) {
  FakeServer server{[](int socket, int) {  // One answer a connection, and no word that it closes.
    if (read_request(socket).empty()) return;
    send_text(socket, response(200, R"({"id":"j","state":"ready"})"));
    ::shutdown(socket, 2);
  }};
  // Without retries: the look at the connection has to do.
  Client client{{.url = server.url(), .retry = {.attempts = 1}}};

  ASSERT_TRUE(client.job("j"));
  ASSERT_TRUE(eventually([&] { return client.job("j").has_value(); }));
  EXPECT_GE(server.connections(), 2);
}

// It is refused by its head, as a server does that has enough to do. Its body is more than the kernel takes at once.
TEST(Client, AConnectionIsNotUsedAgainWhileTheRequestBeforeIsStillOnItsWay) {
  FakeServer server{[](int socket, int number) {
    std::vector<char> some(64 * 1'024);
    if (number == 1 && ::recv(socket, some.data(), 1'024, 0) > 0) {
      send_text(socket, response(503, kOverloaded));
      while (::recv(socket, some.data(), some.size(), 0) > 0) {
      }
    }
    while (!read_request(socket).empty()) send_text(socket, response(201, kEnqueued));
  }};
  Client client{{.url = server.url(), .request_timeout = 20s, .retry = {.attempts = 2, .first = 1ms}}};

  auto const job = client.enqueue("t", std::string(std::size_t{32} << 20, 'x'));

  EXPECT_TRUE(job) << describe(job.error());
  EXPECT_EQ(server.connections(), 2);
}

TEST(Client, CallsThatFindNoConnectionWaitAndBeyondABoundAreRefused) {
  std::latch go{1};
  FakeServer server{answering([&](std::string const&, int) {
    go.wait();
    return response(200, R"({"id":"j","state":"ready"})");
  })};
  AsyncClient client{
      {.server = {.url = server.url(), .retry = {.attempts = 1}, .connections_max = 2, .waiting_max = 3}}};

  std::vector<Async<Job>> calls;
  calls.reserve(8);
  for (int i = 0; i < 8; ++i) calls.push_back(client.job("j"));
  // The last ones are refused while the first wait.
  EXPECT_EQ(std::move(calls[7]).get().error().code, "pool_exhausted");
  calls.pop_back();
  go.count_down();

  int served = 0;
  for (auto& call : calls) {
    if (std::move(call).get()) ++served;
  }
  EXPECT_EQ(served, 5);  // Two at work, three that waited.
  EXPECT_LE(server.connections(), 2);
}

TEST(Client, CallsThatTheServerHoldsBackAreInNoOtherCallsWay) {
  std::latch go{1};
  std::atomic<int> held{0};
  FakeServer server{answering([&](std::string const& request, int) {
    bool const computes = request.starts_with("POST /v1/cache/");
    bool const leases = request.starts_with("POST /v1/leases");
    if (computes || leases || request.starts_with("GET /v1/jobs/j?wait=")) {
      held.fetch_add(1);
      go.wait();
    }
    if (computes) return response(200, "1", "ETag: \"5\"\r\nCache-Status: workmill; hit; ttl=5\r\n");
    if (leases) return response(200, R"({"jobs":[]})");
    return response(200, R"({"id":"j","state":"completed","duplicate":false})");
  })};
  AsyncClient client{
      {.server = {.url = server.url(), .retry = {.attempts = 1}, .connections_max = 1, .long_polls_max = 3}}};

  auto computed = client.cache().get_or_compute("k", make_job("t", 1));
  auto leased = client.lease({.wait = 60s});
  std::vector<Async<Job>> waits;
  waits.reserve(3);
  for (int i = 0; i < 3; ++i) waits.push_back(client.wait("j", 60s));
  EXPECT_TRUE(eventually([&] { return held == 3; }));  // Two more have no place.

  EXPECT_TRUE(client.ping().get());
  EXPECT_TRUE(client.enqueue("t", 1).get());
  EXPECT_EQ(server.connections(), 4);
  EXPECT_EQ(held, 3);
  go.count_down();
  EXPECT_TRUE(std::move(computed).get());
  EXPECT_TRUE(std::move(leased).get());
  for (auto& wait : waits) EXPECT_TRUE(std::move(wait).get());
  EXPECT_EQ(server.connections(), 4);
}

TEST(Client, AStopTokenEndsACallThatWaits) {
  FakeServer silent{[](int socket, int) {
    read_request(socket);
    read_request(socket);
  }};
  Client client{{.url = silent.url()}};
  std::stop_source stop;
  auto call = std::async(std::launch::async, [&] { return client.job("j", {.stop = stop.get_token()}); });
  ASSERT_TRUE(eventually([&] { return silent.connections() == 1; }));

  stop.request_stop();

  EXPECT_EQ(call.get().error().code, "call_cancelled");
}

TEST(Client, AUrlThatIsNoneIsToldByTheFirstCall) {
  Client client{{.url = "gopher://x"}};

  EXPECT_EQ(client.ping().error().code, "bad_configuration");
}

// Whoever may choose one of these texts must not choose headers, too.
TEST(Client, WhatIsNoHeaderIsRefusedBeforeAnythingIsSent) {
  FakeServer server{answering([](std::string const&, int) { return response(201, kEnqueued); })};
  Client client{{.url = server.url(), .retry = kSoon}};
  auto const field_of = [](auto const& result) {
    return result ? "" : result.error().code + " " + result.error().field;
  };

  EXPECT_EQ(field_of(client.enqueue("t", 1, {}, {.idempotency_key = "a\r\nX-Key: y"})),
            "invalid_field idempotency_key");
  EXPECT_EQ(field_of(client.enqueue("t", 1, {}, {.idempotency_key = std::string(256, 'k')})),
            "invalid_field idempotency_key");
  EXPECT_EQ(field_of(client.job("j", {.traceparent = "t\nX-Tp: y"})), "invalid_field traceparent");
  EXPECT_EQ(field_of(client.job("j", {.traceparent = "t", .tracestate = std::string{"s\0", 2}})),
            "invalid_field tracestate");
  EXPECT_EQ(field_of(client.cache().put("k", 1, {.content_type = "x\r\nX-Ct: y"})), "invalid_field content_type");
  AsyncClient async{{.server = {.url = server.url(), .traceparent = [] { return "t\rX-Tp: y"; }}}};
  EXPECT_EQ(field_of(async.job("j").get()), "invalid_field traceparent");
  EXPECT_EQ(server.connections(), 0);

  EXPECT_TRUE(client.enqueue("t", 1, {}, {.idempotency_key = "a b~"}));
}

TEST(Client, AUrlOrTokenWithControlCharactersIsNone) {
  for (std::string const& token :
       {std::string{"t\n"}, std::string{"t\x7f"}, std::string{"t\0", 2}, std::string{"t\xFC"}}) {
    EXPECT_EQ((Client{{.token = token}}.ping().error().code), "bad_configuration");
    Worker worker{{.server = {.token = token}}};
    EXPECT_EQ(worker.run().error().code, "bad_configuration");
  }
  EXPECT_EQ((Client{{.url = "http://a\tb"}}.ping().error().code), "bad_configuration");
}

// Nor is one without a scheme https.
TEST(Client, NothingGoesInClearWhereAProgramSaysWhomToBelieve) {
  FakeServer server{answering([](std::string const&, int) { return response(200, "{}"); })};
  for (std::string const& url : {server.url(), server.url().substr(sizeof "http://" - 1)}) {
    ServerOptions const options{.url = url, .token = "secret", .ca_file = "authorities.pem"};

    auto const ping = Client{options}.ping();
    EXPECT_EQ(ping.error().code, "bad_configuration");
    EXPECT_EQ(ping.error().field, "ca_file");
    EXPECT_EQ(Worker{{.server = options}}.run().error().field, "ca_file");
  }
  EXPECT_EQ(server.connections(), 0);

  ::setenv("WORKMILL_CA_FILE", "/nowhere", 1);  // That of the environment may be for other servers.
  EXPECT_TRUE((Client{{.url = server.url()}}.ping()));
  ::unsetenv("WORKMILL_CA_FILE");
}

// ---- AsyncClient

TEST(AsyncClient, WhatIsUnderWayWhenItGoesIsAnsweredAsCancelled) {
  FakeServer silent{[](int socket, int) {
    read_request(socket);
    read_request(socket);
  }};
  std::promise<std::string> code;
  {
    AsyncClient client{{.server = {.url = silent.url()}}};
    client.job("j").then([&](Result<Job> job) { code.set_value(job.error().code); });
  }
  EXPECT_EQ(code.get_future().get(), "call_cancelled");
}

// It is lost on a part that is over, where the next has not begun.
TEST(AsyncClient, AWaitThatIsCancelledBetweenTwoOfItsPartsEnds) {
  std::latch between{1};
  std::latch cancelled{1};
  std::atomic<bool> is_first{true};
  auto const stop_between = [&](LogLevel, std::string_view) {
    if (!is_first.exchange(false)) return;
    between.count_down();
    cancelled.wait();
  };
  AsyncClient client{
      {.server = {.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = kSoon, .log = stop_between}}};

  auto wait = client.wait("j", kPatience);
  between.wait();
  wait.cancel();
  cancelled.count_down();

  EXPECT_EQ(std::move(wait).get().error().code, "call_cancelled");
}

// The refusal is on its way, and finds a call that is gone.
TEST(AsyncClient, ACallThatIsRefusedWithoutAConnectionMayBeCancelledAtOnce) {
  std::stop_source stopped;
  stopped.request_stop();
  std::vector<Async<Job>> calls;
  std::function<void()> on_loop;
  AsyncClient client{{.server = {.url = "ftp://x"}, .executor = [&](std::move_only_function<void()> work) {
                        if (auto const act = std::exchange(on_loop, nullptr)) act();
                        work();
                      }}};
  on_loop = [&] {  // While the loop's thread is here it does what follows in one go: the refusals come after it.
    calls.push_back(client.job("j"));
    calls.back().cancel();
    calls.push_back(client.job("j", {.stop = stopped.get_token()}));
  };

  EXPECT_EQ(client.ping().get().error().code, "bad_configuration");
  ASSERT_EQ(calls.size(), 2U);
  for (auto& call : calls) EXPECT_EQ(std::move(call).get().error().code, "call_cancelled");
  EXPECT_EQ(client.ping().get().error().code, "bad_configuration");
}

TEST(AsyncClient, ACallThatFindsNoPlaceInThePoolMayBeCancelledAtOnce) {
  std::latch go{1};
  FakeServer server{answering([&](std::string const&, int) {
    go.wait();
    return response(200, R"({"id":"j","state":"ready"})");
  })};
  std::vector<Async<Job>> calls;
  std::function<void()> on_loop;
  AsyncClient client{{.server = {.url = server.url(), .connections_max = 1, .waiting_max = 0},
                      .executor = [&](std::move_only_function<void()> work) {
                        if (auto const act = std::exchange(on_loop, nullptr)) act();
                        work();
                      }}};
  auto first = client.job("j");
  on_loop = [&] {
    calls.push_back(client.job("k"));
    calls.back().cancel();
  };

  EXPECT_EQ(client.job("k", {.traceparent = "\n"}).get().error().code, "invalid_field");
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(std::move(calls.front()).get().error().code, "call_cancelled");
  go.count_down();
  EXPECT_TRUE(std::move(first).get());
}

// Whoever aborts it, or ends the transport, may be gone before the refusal is told.
TEST(HttpTransport, WhatIsRefusedIsToldToNobodyWhoHasAbortedItOrHasLeft) {
  detail::Loop loop;
  auto const backend = detail::make_server_backend({.url = "ftp://x"});
  std::string told;
  std::promise<void> over;
  std::unique_ptr<detail::Transport> transport;
  auto const tells = [&](char const* who) { return [&told, who](auto const&) { told.append(who); }; };

  loop.post([&] {
    transport = backend->make_transport(loop);
    transport->send({}, tells("left "));
    transport = backend->make_transport(loop);
    auto const aborted = transport->send({}, tells("aborted "));
    transport->send({}, tells("stays "));
    transport->abort(aborted);
    loop.post([&] {  // Behind the refusals.
      transport.reset();
      over.set_value();
    });
  });
  over.get_future().wait();

  EXPECT_EQ(told, "stays ");
}

// A wait in parts is done on its caller's thread, the hook's is the client's all the same.
TEST(Client, ItsLogIsCalledOnOneThreadOfItsOwnThoughManyWait) {
  constexpr int kMessages = 40;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::atomic<int> inside{0};
  std::atomic<bool> overlapped{false};
  std::atomic<int> messages{0};
  auto const look = [&](LogLevel, std::string_view) {
    if (inside.fetch_add(1) != 0) overlapped = true;
    {
      std::lock_guard const lock{mutex};
      threads.insert(std::this_thread::get_id());
    }
    inside.fetch_sub(1);
    messages.fetch_add(1);
  };
  std::stop_source stop;
  std::set<std::thread::id> callers;
  {
    Client client{{.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = kSoon, .log = look}};
    std::vector<std::jthread> waiting;
    waiting.reserve(4);
    for (int i = 0; i < 4; ++i) {
      waiting.emplace_back([&, i] {
        if (i % 2 == 0)
          EXPECT_FALSE(client.wait("j", kPatience, {.stop = stop.get_token()}));
        else
          EXPECT_FALSE(
              client.cache().get_or_compute("k", make_job("t", 1), {.wait = kPatience}, {.stop = stop.get_token()}));
      });
    }
    for (auto const& thread : waiting) callers.insert(thread.get_id());
    EXPECT_TRUE(eventually([&] { return messages >= kMessages; }));
    stop.request_stop();
  }

  EXPECT_EQ(threads.size(), 1U);
  for (auto const& caller : callers) EXPECT_FALSE(threads.contains(caller));
  EXPECT_FALSE(overlapped);
}

// Later parts are asked for on the client's own thread, which knows of no trace.
TEST(AsyncClient, AllPartsOfAWaitCarryTheTraceOfWhoWaits) {
  std::mutex mutex;
  std::vector<std::string> requests;
  FakeServer server{answering([&](std::string const& request, int) {
    std::lock_guard const lock{mutex};
    requests.push_back(request);
    return response(200,
                    requests.size() % 3 == 0 ? R"({"id":"j","state":"completed"})" : R"({"id":"j","state":"leased"})");
  })};
  auto const caller = std::this_thread::get_id();
  auto const of_caller = [caller] { return std::this_thread::get_id() == caller ? "00-hook" : ""; };
  AsyncClient hooked{{.server = {.url = server.url(), .retry = kSoon, .traceparent = of_caller}}};
  AsyncClient plain{{.server = {.url = server.url(), .retry = kSoon}}};

  EXPECT_TRUE(hooked.wait("j", kPatience).get());
  detail::current_traceparent() = "00-handler";  // As a worker does it around a handler.
  detail::current_tracestate() = "s=1";
  auto waits = plain.wait("j", kPatience);
  detail::current_traceparent().clear();
  detail::current_tracestate().clear();
  EXPECT_TRUE(std::move(waits).get());

  ASSERT_EQ(requests.size(), 6U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(requests[i].contains("traceparent: 00-hook\r\n")) << requests[i];
  for (std::size_t i = 3; i < 6; ++i) {
    EXPECT_TRUE(requests[i].contains("traceparent: 00-handler\r\ntracestate: s=1\r\n")) << requests[i];
  }
}

TEST(Client, AStateGoesWithTheTraceThatAHookHas) {
  std::mutex mutex;
  std::vector<std::string> heads;
  FakeServer server{answering([&](std::string const& request, int) {
    std::lock_guard const lock{mutex};
    heads.push_back(request);
    return response(200, "{}");
  })};
  std::string parent = "00-hook";
  Client client{
      {.url = server.url(), .traceparent = [&] { return parent; }, .tracestate = [] { return std::string{"s=hook"}; }}};

  EXPECT_TRUE(client.ping());
  EXPECT_TRUE(client.ping({.tracestate = "s=call"}));
  EXPECT_TRUE(client.ping({.traceparent = "00-call"}));
  parent.clear();
  EXPECT_TRUE(client.ping());

  ASSERT_EQ(heads.size(), 4U);
  EXPECT_TRUE(heads[0].contains("traceparent: 00-hook\r\ntracestate: s=hook\r\n")) << heads[0];
  EXPECT_TRUE(heads[1].contains("traceparent: 00-hook\r\ntracestate: s=call\r\n")) << heads[1];
  EXPECT_TRUE(heads[2].contains("traceparent: 00-call\r\n\r\n")) << heads[2];
  EXPECT_FALSE(heads[3].contains("trace")) << heads[3];
}

TEST(AsyncClient, ABlockingCallOnTheClientsOwnThreadIsRefusedAndDoesNotHang) {
  FakeServer server{answering([](std::string const&, int) { return response(200, R"({"id":"j","state":"ready"})"); })};
  Client blocking{{.url = server.url()}};
  AsyncClient client{{.server = {.url = server.url()}}};
  std::promise<bool> done;
  client.job("j").then(
      [&](Result<Job> const& job) { done.set_value(job.has_value() && blocking.job("j").has_value()); });
  EXPECT_TRUE(done.get_future().get());  // Another client's thread is fine.
}

TEST(AsyncClient, AnExecutorSaysWhereACoroutineGoesOn) {
  FakeServer server{answering([](std::string const&, int) { return response(200, R"({"id":"j","state":"ready"})"); })};
  std::mutex mutex;
  std::condition_variable arrived;
  std::vector<std::move_only_function<void()>> work;
  AsyncClient client{{.server = {.url = server.url()}, .executor = [&](std::move_only_function<void()> each) {
                        std::lock_guard const lock{mutex};
                        work.push_back(std::move(each));
                        arrived.notify_one();
                      }}};
  std::thread::id where;
  bool ended = false;
  client.job("j").then([&](Result<Job> const& job) {
    where = std::this_thread::get_id();
    ended = job.has_value();
  });
  std::unique_lock lock{mutex};
  arrived.wait(lock, [&] { return !work.empty(); });
  work.front()();

  EXPECT_TRUE(ended);
  EXPECT_EQ(where, std::this_thread::get_id());
}

// ---- The real server

class WithServer : public testing::Test {
 protected:
  void SetUp() override { server_.start(); }
  ServerProcess server_;
};

TEST_F(WithServer, AJobIsEnqueuedReadLeasedReportedAndItsResultIsThere) {
  Client client{{.url = server_.url()}};
  ASSERT_TRUE(client.ping());
  ASSERT_TRUE(client.ready());
  auto const sent = client.enqueue("sum", std::vector<int>{1, 2}, {.queue = "q", .meta = Json::Object{{"by", "me"}}},
                                   {.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"});
  ASSERT_TRUE(sent);
  EXPECT_EQ(client.job(sent->id)->payload_as<std::vector<int>>(), (std::vector<int>{1, 2}));
  EXPECT_EQ(client.queue("q")->in(JobState::ready), 1U);

  auto const leased = client.lease({.queues = {"q"}, .wait = 10s});
  ASSERT_EQ(leased->size(), 1U);
  LeasedJob const& job = leased->front();
  EXPECT_EQ(job.payload, "[1,2]");
  EXPECT_EQ(job.meta, R"({"by":"me"})");
  EXPECT_NE(job.traceparent.find("0af7651916cd43dd8448eb211c80319c"), std::string::npos);
  ReportOn const on{.id = job.id, .lease = job.lease};
  auto const told =
      client.report({Report::progress(on, 50, "half"), Report::log(on, {"a", "b"}), Report::completed(on, "3")});
  ASSERT_EQ(told->size(), 3U);
  EXPECT_TRUE((*told)[2].ok);

  EXPECT_EQ(client.result<int>(sent->id, 10s), 3);
  EXPECT_EQ(client.job_log(sent->id)->size(), 2U);
  EXPECT_EQ(client.report({Report::completed(on)})->front().error.code, "lease_lost");
}

TEST_F(WithServer, WhatBecameOfAJobIsToldByItsCode) {
  Client client{{.url = server_.url()}};
  auto const waits = client.enqueue("t", 1, {.queue = "q", .delay = 1h});
  EXPECT_EQ(client.result<int>(waits->id, 1ms).error().code, "not_finished");
  ASSERT_TRUE(client.cancel(waits->id));
  EXPECT_EQ(client.result<int>(waits->id, 1ms).error().code, "job_cancelled");
  ASSERT_TRUE(client.retry(waits->id));
  auto const leased = client.lease({.queues = {"q"}});
  ASSERT_EQ(leased->size(), 1U);
  ReportOn const on{.id = leased->front().id, .lease = leased->front().lease};
  ASSERT_TRUE(client.report({Report::failed(on, user_error("too_big", "no").error())}));
  auto const result = client.result<int>(waits->id, 10s);
  EXPECT_EQ(result.error().code, "too_big");
  EXPECT_EQ(result.error().error_class, ErrorClass::user);
  ASSERT_TRUE(client.remove(waits->id));
  EXPECT_EQ(client.job(waits->id).error().code, "job_not_found");
}

Task<int> enqueue_and_count(AsyncClient* client, int jobs) {
  std::vector<Async<Enqueued>> calls;
  calls.reserve(static_cast<std::size_t>(jobs));
  for (int i = 0; i < jobs; ++i) calls.push_back(client->enqueue("t", i, {.queue = "many"}));
  int good = 0;
  for (auto& call : calls) {
    auto const job = co_await call;
    if (job) ++good;
  }
  co_return good;
}

TEST_F(WithServer, CoroutinesAwaitManyCallsAtOnce) {
  AsyncClient client{{.server = {.url = server_.url()}}};

  EXPECT_EQ(sync_wait(enqueue_and_count(&client, 200)), 200);
  EXPECT_EQ(client.queue("many").get()->in(JobState::ready), 200U);
}

Task<Result<int>> ask(AsyncClient* client, std::string id) {
  auto const waiting = co_await client->wait(id, 1ms);
  if (!waiting) co_return std::unexpected(waiting.error());
  co_return co_await client->result<int>(id, 60s);
}

TEST_F(WithServer, ManyWaitsAndTheCallsThatEndThemGoSideBySide) {
  AsyncClient client{{.server = {.url = server_.url()}}};
  auto const sent = client.enqueue("t", 1, {.queue = "q"}).get();
  std::vector<Async<Job>> waits;
  for (unsigned i = 0; i < 3 * ServerOptions{}.connections_max; ++i) waits.push_back(client.wait(sent->id, kPatience));

  auto const leased = client.lease({.queues = {"q"}}).get();
  ASSERT_EQ(leased->size(), 1U);
  ReportOn const on{.id = leased->front().id, .lease = leased->front().lease};
  EXPECT_TRUE(client.report({Report::completed(on, "7")}).get());

  for (auto& wait : waits) EXPECT_EQ(std::move(wait).get()->result_as<int>(), 7);
}

TEST_F(WithServer, AWaitGoesOnOverARestart) {
  Client client{{.url = server_.url()}};
  AsyncClient other{{.server = {.url = server_.url()}}};
  auto const sent = client.enqueue("t", 1, {.queue = "q"});
  auto result = std::async(std::launch::async, [&] { return sync_wait(ask(&other, sent->id)); });
  auto blocking = std::async(std::launch::async, [&] { return client.result<int>(sent->id, 60s); });

  server_.kill();
  server_.start();
  Client worker{{.url = server_.url()}};
  auto const leased = worker.lease({.queues = {"q"}, .wait = 10s});
  ASSERT_EQ(leased->size(), 1U);
  ASSERT_TRUE(worker.report({Report::completed({.id = leased->front().id, .lease = leased->front().lease}, "7")}));

  EXPECT_EQ(result.get(), 7);
  EXPECT_EQ(blocking.get(), 7);
}

// With the retries that everybody has, which are over long before: a wait has a time of its own.
TEST_F(WithServer, AWaitGoesOnWhileTheServerIsAwayForLongerThanACallIsTriedAgain) {
  std::atomic<int> failed{0};
  auto const count = [&](LogLevel, std::string_view message) {
    if (message.contains("again in")) failed.fetch_add(1);
  };
  std::atomic<int> failed_too{0};
  auto const count_too = [&](LogLevel, std::string_view message) {
    if (message.contains("again in")) failed_too.fetch_add(1);
  };
  Client client{{.url = server_.url(), .log = count}};
  AsyncClient other{{.server = {.url = server_.url(), .log = count_too}}};
  auto const sent = client.enqueue("t", 1, {.queue = "q"});
  auto blocking = std::async(std::launch::async, [&] { return client.result<int>(sent->id, kPatience); });
  auto result = std::async(std::launch::async, [&] { return other.completed(sent->id, kPatience).get(); });

  server_.kill();
  int const more_than_a_call = static_cast<int>(RetryPolicy{}.attempts) + 1;
  EXPECT_TRUE(eventually([&] { return failed >= more_than_a_call && failed_too >= more_than_a_call; }));
  server_.start();
  Client worker{{.url = server_.url()}};
  auto const leased = worker.lease({.queues = {"q"}, .wait = 10s});
  ASSERT_EQ(leased->size(), 1U);
  ASSERT_TRUE(worker.report({Report::completed({.id = leased->front().id, .lease = leased->front().lease}, "7")}));

  EXPECT_EQ(result.get()->result_as<int>(), 7);
  EXPECT_EQ(blocking.get(), 7);
}

TEST(Client, AWaitEndsByTheDeadlineOfItsCallAndByWhatWaitingDoesNotMend) {
  Client away{{.url = "http://127.0.0.1:" + std::to_string(free_port())}};
  EXPECT_EQ(away.wait("j", 1h, {.deadline = 300ms}).error().code, "timed_out");
  EXPECT_EQ(away.wait("j", 1ms).error().code, "no_server");

  FakeServer server{answering([](std::string const&, int) {
    return response(404, R"({"code":"job_not_found","class":"user","detail":"no such job"})");
  })};
  Client client{{.url = server.url()}};
  EXPECT_EQ(client.wait("j", 1h).error().code, "job_not_found");
}

TEST(Client, AWaitThatEndsWhileTheServerIsAwayAnswersTheJobAsItWasSeenLast) {
  std::atomic<int> left{0};  // Answers, before it goes away.
  FakeServer server{answering([&](std::string const&, int) {
    return left.fetch_sub(1) > 0 ? response(200, R"({"id":"j","state":"leased"})") : std::string{};
  })};
  Client client{{.url = server.url(), .retry = kSoon}};
  AsyncClient async{{.server = {.url = server.url(), .retry = kSoon}}};

  left = 1;
  EXPECT_EQ(client.wait("j", 50ms)->state, JobState::leased);
  left = 1;
  EXPECT_EQ(client.result<int>("j", 50ms).error().code, "not_finished");
  left = 1;
  EXPECT_EQ(async.wait("j", 50ms).get()->state, JobState::leased);
  left = 1;
  EXPECT_EQ(async.completed("j", 50ms).get().error().code, "not_finished");
  EXPECT_EQ(client.wait("j", 50ms).error().code, "outcome_unknown");  // It has said nothing all the time.
}

TEST(Client, HoweverShortAWaitItHasTheAttemptsOfAnyCall) {
  std::atomic<int> requests{0};
  FakeServer server{answering([&](std::string const&, int number) {
    requests.fetch_add(1);
    return number == 3 ? response(200, R"({"id":"j","state":"completed"})") : std::string{};
  })};
  Client client{{.url = server.url(), .retry = kSoon}};

  EXPECT_EQ(client.wait("j", 1ms)->state, JobState::completed);
  requests = 0;
  EXPECT_EQ(client.wait("j", 0ms).error().code, "outcome_unknown");
  EXPECT_EQ(requests, static_cast<int>(kSoon.attempts));
}

TEST(Client, AServerThatIsSilentTakesNoMoreOfAShortWaitThanOneAttempt) {
  FakeServer silent{[](int socket, int) {
    while (!read_request(socket).empty()) {
    }
  }};
  Client client{{.url = silent.url(), .request_timeout = 20ms, .retry = kSoon}};

  EXPECT_EQ(client.wait("j", 1ms).error().code, "no_server");
  EXPECT_EQ(silent.connections(), 1);
}

// A server that stops lets nobody wait, and answers at once.
TEST(Client, AWaitDoesNotAskAgainAndAgainAServerThatLetsNobodyWait) {
  std::atomic<int> requests{0};
  FakeServer server{answering([&](std::string const&, int) {
    requests.fetch_add(1);
    return response(200, R"({"id":"j","state":"ready"})");
  })};
  Client client{{.url = server.url(), .retry = {.first = 1h, .cap = 1h}}};

  EXPECT_EQ(client.wait("j", 300ms)->state, JobState::ready);

  EXPECT_LE(requests.load(), 20);
}

TEST_F(WithServer, EveryEnqueueThatWasAcknowledgedIsThereOnceAfterKills) {
  constexpr int kThreads = 4;
  constexpr int kEach = 100;
  constexpr int kKills = 3;
  Client client{{.url = server_.url(), .retry = {.attempts = 1'000, .first = 1ms, .cap = 20ms}}};
  std::atomic<int> good{0};
  std::vector<std::jthread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        if (client.enqueue("t", j, {.queue = "q"})) good.fetch_add(1);
      }
    });
  }
  for (int i = 1; i <= kKills; ++i) {
    ASSERT_TRUE(eventually([&] { return good.load() >= kThreads * kEach * i / (kKills + 1); }));
    server_.kill();
    server_.start();
  }
  threads.clear();

  EXPECT_EQ(good.load(), kThreads * kEach);
  EXPECT_EQ(client.queue("q")->in(JobState::ready), std::uint64_t{kThreads * kEach});
}

TEST_F(WithServer, MoreJobsThanACallTakesGoInSeveral) {
  Client client{{.url = server_.url()}};
  std::vector<NewJob> jobs;
  jobs.reserve(10'001);
  for (int i = 0; i < 10'001; ++i) jobs.push_back(make_job("t", i, {.queue = "q"}));

  auto const answers = client.enqueue_all(jobs);

  ASSERT_EQ(answers->size(), jobs.size());
  EXPECT_EQ(client.job(answers->back().id)->payload_as<int>(), 10'000);
}

TEST_F(WithServer, MoreBytesThanACallTakesGoInSeveral) {
  Client client{{.url = server_.url()}};
  AsyncClient async{{.server = {.url = server_.url()}}};
  std::vector<NewJob> jobs;
  jobs.reserve(14);
  for (int i = 0; i < 12; ++i) jobs.push_back(make_job("t", std::string(1'000'000, 'x'), {.queue = "q"}));
  jobs.push_back(make_job("t", std::string(6'000'000, 'x'), {.queue = "q"}));  // More than a part has, by itself.
  jobs.push_back(make_job("t", 1, {.queue = "q"}));

  auto const first = client.enqueue_all(jobs, {.idempotency_key = "k"});
  ASSERT_TRUE(first) << describe(first.error());
  EXPECT_EQ(first->size(), jobs.size());
  auto const again = async.enqueue_all(jobs, {.idempotency_key = "k"}).get();
  ASSERT_TRUE(again) << describe(again.error());
  EXPECT_EQ(again->back().id, first->back().id);

  EXPECT_EQ(client.queue("q")->in(JobState::ready), jobs.size());  // The second time it was the same parts.
}

TEST_F(WithServer, AKeyAsLongAsTheyGoHoldsForAllPartsOfABulk) {
  Client client{{.url = server_.url()}};
  AsyncClient async{{.server = {.url = server_.url()}}};
  std::vector<NewJob> const jobs(10'001, make_job("t", NoPayload{}, {.queue = "q"}));
  std::string const key(255, 'k');

  auto const first = client.enqueue_all(jobs, {.idempotency_key = key});
  ASSERT_TRUE(first) << describe(first.error());
  auto const again = async.enqueue_all(jobs, {.idempotency_key = key}).get();
  ASSERT_TRUE(again) << describe(again.error());

  EXPECT_EQ(again->back().id, first->back().id);
  EXPECT_EQ(client.queue("q")->in(JobState::ready), jobs.size());
}

TEST_F(WithServer, AJobAtFaultIsNamedByItsPlaceInTheWhole) {
  Client client{{.url = server_.url()}};
  AsyncClient async{{.server = {.url = server_.url()}}};
  std::vector<NewJob> jobs(10'003, make_job("t", NoPayload{}, {.queue = "q"}));
  jobs[10'001].options.priority = 77;

  EXPECT_EQ(client.enqueue_all(jobs).error().field, "jobs[10001].priority");
  EXPECT_EQ(async.enqueue_all(jobs).get().error().field, "jobs[10001].priority");
}

TEST(Client, TheErrorOfABulkHasTheAnswersOfThePartsBeforeIt) {
  FakeServer server{answering([](std::string const&, int number) {
    return number % 2 == 1
               ? response(201, "{\"jobs\":[" + std::string{kEnqueued} + "]}")
               : response(400, R"({"code":"invalid_field","class":"user","detail":"no","field":"jobs[0].type"})");
  })};
  Client client{{.url = server.url(), .retry = kSoon}};
  AsyncClient async{{.server = {.url = server.url(), .retry = kSoon}}};
  std::vector<NewJob> const jobs(3, make_job("t", std::string(std::size_t{4} << 20, 'x')));  // A part each.

  for (auto const& all : {client.enqueue_all(jobs), async.enqueue_all(jobs).get()}) {
    ASSERT_FALSE(all);
    EXPECT_EQ(all.error().field, "jobs[1].type");
    ASSERT_EQ(all.error().enqueued.size(), 1U);
    EXPECT_EQ(all.error().enqueued.front().id, "j");
    EXPECT_EQ(all.error().enqueued.front().state, JobState::ready);
  }
}

// ---- Hooks

std::string body_of(std::string const& request) { return request.substr(request.find("\r\n\r\n") + 4); }

TEST(Hooks, SeeEachJobOneAfterAnotherAndWhatTheyMakeOfItIsSentAtEachAttempt) {
  std::mutex mutex;
  std::vector<std::string> bodies;
  FakeServer server{answering([&](std::string const& request, int number) {
    std::lock_guard const lock{mutex};
    bodies.push_back(body_of(request));
    if (number % 2 == 1) return std::string{};  // The first attempt of each.
    if (request.starts_with("POST /v1/cache/")) {
      return response(200, "1", "ETag: \"5\"\r\nCache-Status: workmill; hit; ttl=5\r\n");
    }
    return response(201, number <= 4 ? std::string{kEnqueued} : "{\"jobs\":[" + std::string{kEnqueued} + "]}");
  })};
  int seen = 0;
  auto const counts = [&](NewJob& job) -> Result<> {
    job.options.group = "g" + std::to_string(++seen);
    return {};
  };
  auto const repeats = [](NewJob& job) -> Result<> {
    job.options.tags = {job.options.group};
    return {};
  };
  ServerOptions const options{.url = server.url(), .retry = kSoon, .on_enqueue = {counts, repeats}};
  Client client{options};
  AsyncClient async{{.server = options}};
  NewJob const job = make_job("t", NoPayload{});

  EXPECT_TRUE(client.enqueue(job));
  EXPECT_TRUE(async.enqueue(job).get());
  EXPECT_TRUE(client.enqueue_all({job, job}));
  EXPECT_TRUE(async.enqueue_all({job}).get());
  EXPECT_TRUE(client.cache().get_or_compute("k", job));
  EXPECT_TRUE(async.cache().get_or_compute("k", job).get());

  auto const hooked = [](std::string const& group) {
    return R"({"type":"t","group":")" + group + R"(","tags":[")" + group + R"("]})";
  };
  ASSERT_EQ(bodies.size(), 12U);
  for (std::size_t i = 0; i < bodies.size(); i += 2) EXPECT_EQ(bodies[i].substr(0, 40), bodies[i + 1].substr(0, 40));
  EXPECT_EQ(bodies[1], hooked("g1"));
  EXPECT_EQ(bodies[3], hooked("g2"));
  EXPECT_EQ(bodies[5], "{\"jobs\":[" + hooked("g3") + "," + hooked("g4") + "]}");
  EXPECT_EQ(bodies[7], "{\"jobs\":[" + hooked("g5") + "]}");
  EXPECT_TRUE(bodies[9].starts_with("{\"job\":" + hooked("g6"))) << bodies[9];
  EXPECT_TRUE(bodies[11].starts_with("{\"job\":" + hooked("g7"))) << bodies[11];
  EXPECT_EQ(seen, 7);
}

TEST(Hooks, AnErrorOfOneIsTheCallsAndIsNotTriedAgain) {
  FakeServer server{answering([](std::string const&, int) { return response(201, kEnqueued); })};
  int seen = 0;
  auto const refuses = [&](NewJob& job) -> Result<> {
    ++seen;
    if (job.type == "throws") throw std::runtime_error{"no tenant"};
    return retry_later("no_tenant", "nobody is logged in");
  };
  ServerOptions const options{.url = server.url(), .retry = kSoon, .on_enqueue = {refuses}};
  Client client{options};
  AsyncClient async{{.server = options}};
  NewJob const job = make_job("t", NoPayload{});

  for (auto const& result : {client.enqueue(job), async.enqueue(job).get()}) {
    EXPECT_EQ(result.error().code, "no_tenant");
    EXPECT_FALSE(result.error().may_have_happened);
  }
  for (auto const& result : {client.enqueue_all({job, job}), async.enqueue_all({job, job}).get()}) {
    EXPECT_EQ(result.error().code, "no_tenant");
    EXPECT_TRUE(result.error().enqueued.empty());
  }
  for (auto const& result : {client.cache().get_or_compute("k", job), async.cache().get_or_compute("k", job).get()}) {
    EXPECT_EQ(result.error().code, "no_tenant");
  }
  auto const thrown = client.enqueue("throws", NoPayload{});
  EXPECT_EQ(thrown.error().code, "std::runtime_error");
  EXPECT_EQ(thrown.error().message, "no tenant");
  EXPECT_EQ(seen, 7);
  EXPECT_EQ(server.connections(), 0);
}

TEST(Hooks, InTheMiddleOfABulkThePartsBeforeAreEnqueuedAndTheErrorSaysSo) {
  std::atomic<int> requests{0};
  FakeServer server{answering([&](std::string const&, int) {
    requests.fetch_add(1);
    return response(201, "{\"jobs\":[" + std::string{kEnqueued} + "]}");
  })};
  auto const refuses = [](NewJob& job) -> Result<> {
    if (job.type == "third") return user_error("not_the_third", "no");
    return {};
  };
  ServerOptions const options{.url = server.url(), .on_enqueue = {refuses}};
  Client client{options};
  AsyncClient async{{.server = options}};
  std::vector<NewJob> jobs(4, make_job("t", std::string(std::size_t{4} << 20, 'x')));  // A part each.
  jobs[2].type = "third";

  for (auto const& all : {client.enqueue_all(jobs), async.enqueue_all(jobs).get()}) {
    ASSERT_FALSE(all);
    EXPECT_EQ(all.error().code, "not_the_third");
    EXPECT_EQ(all.error().enqueued.size(), 1U);  // The second waited for the third, with which it might have gone.
  }
  EXPECT_EQ(requests, 2);
}

TEST(Client, TimeOutsOfNoEndAreNotOverAtOnce) {
  FakeServer server{
      answering([](std::string const&, int) { return response(200, R"({"id":"j","state":"completed"})"); })};
  Duration const for_ever = Duration::max();
  Client client{{.url = server.url(),
                 .connect_timeout = for_ever,
                 .request_timeout = for_ever,
                 .retry = {.attempts = 1, .first = for_ever, .cap = for_ever},
                 .idle_max = for_ever}};

  EXPECT_TRUE(client.ping());
  EXPECT_TRUE(client.ping({.timeout = for_ever, .deadline = for_ever}));
  EXPECT_EQ(server.connections(), 1);
  EXPECT_TRUE(client.wait("j", for_ever));
}

TEST(Client, NoPauseIsNoneHoweverOftenItIsDoubled) {
  Client client{{.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = {.attempts = 1'100, .first = 0ms}}};
  EXPECT_EQ(client.ping().error().code, "no_server");

  Client odd{{.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = {.first = 1ms, .cap = -1ms}}};
  EXPECT_EQ(odd.ping().error().code, "no_server");
}

TEST(ClientOverTls, AServerIsBelievedWhereItsCertificateIsAndOnlyThere) {
  ServerProcess server{{}, ServerProcess::Speaks::https};
  server.start();
  Client good{{.url = server.url(), .ca_file = server.certificate()}};
  Client strange{{.url = server.url(), .retry = kSoon}};

  EXPECT_TRUE(good.enqueue("t", 1));
  EXPECT_EQ(strange.ping().error().code, "protocol_error");
  EXPECT_EQ(strange.ping().error().error_class, ErrorClass::fatal);
  EXPECT_EQ(strange.wait("j", kPatience).error().code, "protocol_error");
  EXPECT_EQ((Client{{.url = server.url(), .ca_file = "/nowhere"}}.ping().error().code), "bad_configuration");
}

std::string over_tls(std::string const& url) { return "https" + url.substr(url.find(':')); }

TEST(ClientOverTls, WhoSpeaksNoTlsIsNoServerAndWhoHangsUpMayBeOneLater) {
  FakeServer plain{[](int socket, int) { send_text(socket, response(400, "{}")); }};
  FakeServer leaving{[](int socket, int) { ::shutdown(socket, SHUT_RDWR); }};

  EXPECT_EQ((Client{{.url = over_tls(plain.url()), .retry = kSoon}}.ping().error().code), "protocol_error");
  EXPECT_EQ(plain.connections(), 1);
  EXPECT_EQ((Client{{.url = over_tls(leaving.url()), .retry = kSoon}}.ping().error().code), "no_server");
  EXPECT_EQ(leaving.connections(), static_cast<int>(kSoon.attempts));
}

TEST(ClientOverTls, WhoIsAskedWhoComesShowsACertificate) {
  TemporaryFolder const folder;
  Certificate const own = make_certificate(folder.path(), "server");
  Certificate const mine = make_certificate(folder.path(), "mine");
  Certificate const strange = make_certificate(folder.path(), "strange");
  TlsServer tls{own, mine.certificate};
  FakeServer server{[&](int socket, int) {
    auto connection = tls.accept(socket);
    if (!connection) return;
    for (std::string request = connection->read_request(); !request.empty(); request = connection->read_request()) {
      bool const is_call = request.starts_with("GET /v1/jobs/");
      connection->send(is_call ? response(200, R"({"id":"j","state":"ready"})")
                               : response(401, R"({"code":"unauthorized","class":"user","detail":"a worker"})"));
    }
  }};
  ServerOptions nobody{.url = over_tls(server.url()), .ca_file = own.certificate, .retry = kSoon};
  ServerOptions known = nobody;
  known.cert_file = mine.certificate;
  known.key_file = mine.key;
  ServerOptions unknown = nobody;
  unknown.cert_file = strange.certificate;
  unknown.key_file = strange.key;

  auto const job = Client{known}.job("j");
  EXPECT_TRUE(job) << describe(job.error());
  for (auto const transport : {WorkTransport::http, WorkTransport::stream}) {
    EXPECT_EQ((Worker{{.transport = transport, .server = known}}.run().error().message), "a worker");
  }
  EXPECT_EQ(Client{nobody}.job("j").error().code, "protocol_error");
  EXPECT_EQ(Client{unknown}.job("j").error().code, "protocol_error");

  std::string const both = folder.path() / "both.pem";
  std::ofstream{both} << std::ifstream{mine.certificate}.rdbuf() << std::ifstream{mine.key}.rdbuf();
  known.cert_file = both;
  known.key_file.clear();
  EXPECT_TRUE(Client{known}.job("j"));
}

TEST(ClientOverTls, ACertificateOfOnesOwnThatIsNoneIsToldByTheFirstCall) {
  TemporaryFolder const folder;
  Certificate const mine = make_certificate(folder.path(), "mine");
  Certificate const other = make_certificate(folder.path(), "other");
  std::string const locked = folder.path() / "locked.pem";
  std::string const command =
      "openssl ec -aes256 -passout pass:word -in " + mine.key + " -out " + locked + " 2>/dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0);
  auto const field_at_fault = [](std::string url, std::string const& certificate, std::string const& key) {
    ServerOptions const options{.url = std::move(url), .cert_file = certificate, .key_file = key, .retry = kSoon};
    Error const error = Client{options}.ping().error();
    EXPECT_EQ(Worker{{.server = options}}.run().error().field, error.field);
    return error.code + " " + error.field;
  };

  std::string const https = "https://127.0.0.1:1";
  EXPECT_EQ(field_at_fault(https, "/nowhere", mine.key), "bad_configuration cert_file");
  EXPECT_EQ(field_at_fault(https, mine.key, mine.key), "bad_configuration cert_file");
  EXPECT_EQ(field_at_fault(https, mine.certificate, "/nowhere"), "bad_configuration key_file");
  EXPECT_EQ(field_at_fault(https, mine.certificate, ""), "bad_configuration key_file");
  EXPECT_EQ(field_at_fault(https, mine.certificate, other.key), "bad_configuration key_file");
  EXPECT_EQ(field_at_fault(https, mine.certificate, locked), "bad_configuration key_file");
  EXPECT_EQ(field_at_fault(https, "", mine.key), "bad_configuration key_file");
  EXPECT_EQ(field_at_fault("http://127.0.0.1:1", mine.certificate, mine.key), "bad_configuration cert_file");
  EXPECT_EQ(field_at_fault("http://127.0.0.1:1", "", mine.key), "bad_configuration key_file");
}

// Its word that it closes is there, and nobody has read it.
TEST(ClientOverTls, AConnectionThatTheServerHasClosedIsNotUsedAgain) {
  TemporaryFolder const folder;
  Certificate const own = make_certificate(folder.path(), "server");
  TlsServer tls{own};
  std::atomic<int> read{0};
  std::atomic<int> closed{0};
  FakeServer server{[&](int socket, int number) {
    auto connection = tls.accept(socket);
    if (!connection || connection->read_request().empty()) return;
    connection->send(response(200, R"({"id":"j","state":"ready"})"));
    eventually([&] { return read >= number; });  // Else its last word would be read with the answer.
    connection->close();
    closed.fetch_add(1);
  }};
  Client client{{.url = over_tls(server.url()), .ca_file = own.certificate, .retry = {.attempts = 1}}};

  for (int i = 1; i <= 3; ++i) {
    auto const job = client.job("j");
    ASSERT_TRUE(job) << describe(job.error());
    read = i;
    ASSERT_TRUE(eventually([&] { return closed == i; }));
  }
  EXPECT_EQ(server.connections(), 3);
}

TEST(ClientOverTls, WhomTheEnvironmentNamesIsBelievedUnlessTheProgramSaysOtherwise) {
  ServerProcess server{{}, ServerProcess::Speaks::https};
  server.start();
  ::setenv("WORKMILL_CA_FILE", server.certificate().c_str(), 1);  // No client of this test has a thread yet.
  EXPECT_TRUE((Client{{.url = server.url()}}.ping()));
  ::setenv("WORKMILL_CA_FILE", "/nowhere", 1);
  EXPECT_EQ((Client{{.url = server.url()}}.ping().error().code), "bad_configuration");
  EXPECT_TRUE((Client{{.url = server.url(), .ca_file = server.certificate()}}.ping()));
  ::unsetenv("WORKMILL_CA_FILE");
}

}  // namespace
}  // namespace workmill::client
