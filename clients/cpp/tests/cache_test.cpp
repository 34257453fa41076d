#include "workmill/cache.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "core.h"
#include "server_process.h"
#include "workmill/async_client.h"
#include "workmill/client.h"

// The caches of both clients, against answers that a test has written down. Against the real server:
// clients/conformance.
namespace workmill::client {
namespace {

using namespace std::chrono_literals;
using namespace test;  // NOLINT(google-build-using-namespace)

constexpr RetryPolicy kRetrySoon{.attempts = 3, .first = 1ms, .factor = 2.0, .cap = 5ms};

std::string value_answer(std::string const& body, std::string const& type, std::string const& status, int age = 0) {
  return "HTTP/1.1 200 OK\r\nContent-Type: " + type + "\r\nETag: \"00ff\"\r\nAge: " + std::to_string(age) +
         "\r\nCache-Status: " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
std::string problem_answer(int status, std::string const& code, std::string const& error_class) {
  return response(status,
                  R"({"type":"/errors/x","title":"x","status":)" + std::to_string(status) +
                      R"(,"detail":"d","code":")" + code + R"(","class":")" + error_class + R"(","trace_id":"0"})",
                  "Retry-After: 0\r\n");
}
std::string const kPending = response(202, R"({"job_id":"j","state":"leased"})");

// Gives these answers, one for each request, and then hangs up. Keeps the requests.
class Scripted {
 public:
  explicit Scripted(std::vector<std::string> answers)
      : answers_(std::move(answers)), server_([this](int socket, int) { serve(socket); }) {}
  std::string url() const { return server_.url(); }
  std::string request(std::size_t i) {
    std::lock_guard const lock{mutex_};
    return i < requests_.size() ? requests_[i] : "";
  }
  std::size_t requests() {
    std::lock_guard const lock{mutex_};
    return requests_.size();
  }

 private:
  void serve(int socket) {
    for (std::string request = read_request(socket); !request.empty(); request = read_request(socket)) {
      std::string answer;
      {
        std::lock_guard const lock{mutex_};
        if (requests_.size() < answers_.size()) answer = answers_[requests_.size()];
        requests_.push_back(std::move(request));
      }
      if (answer.empty()) {
        ::shutdown(socket, 2);
        return;
      }
      send_text(socket, answer);
    }
  }

  std::mutex mutex_;
  std::vector<std::string> const answers_;
  std::vector<std::string> requests_;
  FakeServer server_;  // Ends first.
};

TEST(Cache, TheHeadersSayHowAValueWasFound) {
  Scripted server{{value_answer("[1]", "application/json", "workmill; hit; ttl=53", 7),
                   value_answer("x", "text/plain", "workmill; hit; ttl=-10", 70),
                   value_answer("2", "application/json", "workmill; fwd=uri-miss; stored; collapsed")}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};

  auto const hit = client.cache().get("a/b c");
  auto const stale = client.cache().get("k");
  auto const joined = client.cache().get_or_compute("k", make_job("t", 1));

  ASSERT_TRUE(hit && *hit && stale && *stale && joined);
  EXPECT_EQ(*(*hit)->as<std::vector<int>>(), std::vector<int>{1});
  EXPECT_TRUE((*hit)->fresh && !(*hit)->computed);
  EXPECT_EQ((*hit)->age, 7s);
  EXPECT_EQ((*hit)->etag, "00ff");
  EXPECT_FALSE((*stale)->fresh);
  EXPECT_EQ((*stale)->as<Bytes>()->data, "x");
  EXPECT_EQ((*stale)->content_type, "text/plain");
  EXPECT_TRUE(joined->fresh && joined->computed && joined->collapsed);
  EXPECT_TRUE(server.request(0).starts_with("GET /v1/cache/a%2Fb%20c HTTP/1.1\r\n"));
}

TEST(Cache, WhereThereIsNoValueThereIsNone) {
  std::string const missed = problem_answer(404, "cache_miss", "user");
  Scripted server{{missed, missed, problem_answer(404, "not_found", "user")}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};

  auto const found = client.cache().get("k");
  auto const removed = client.cache().remove("k");
  auto const refused = client.cache().remove("k");

  ASSERT_TRUE(found && removed);
  EXPECT_FALSE(found->has_value());
  EXPECT_FALSE(*removed);
  EXPECT_EQ(refused.error().code, "not_found");
}

TEST(Cache, AJobThatIsNotDoneIsAskedForUntilTheWaitIsOver) {
  Scripted server{{kPending, kPending, value_answer("1", "application/json", "workmill; hit; ttl=5"), kPending}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};

  auto const value = client.cache().get_or_compute("k", make_job("t", 1), {.fresh = 90s, .tags = {"a"}});
  auto const pending = client.cache().get_or_compute("k", make_job("t", 1), {.wait = 0ms});

  ASSERT_TRUE(value);
  EXPECT_EQ(*value->as<int>(), 1);
  EXPECT_EQ(pending.error().code, "cache_pending");
  EXPECT_EQ(pending.error().error_class, ErrorClass::retryable);
  EXPECT_TRUE(pending.error().may_have_happened);  // The job was made.
  EXPECT_EQ(pending.error().detail, R"({"job_id":"j","state":"leased"})");
  EXPECT_NE(server.request(0).find(R"("fresh":"90000ms","tags":["a"],"wait":")"), std::string::npos);
  EXPECT_NE(server.request(3).find(R"("wait":"0ms"})"), std::string::npos);
}

TEST(Cache, ARefusalIsTriedAgainAndAJobThatHasFailedIsNot) {
  Scripted server{{problem_answer(503, "overloaded", "retryable"), problem_answer(502, "compute_failed", "retryable")}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};

  auto const failed = client.cache().get_or_compute("k", make_job("t", 1));

  EXPECT_EQ(failed.error().code, "compute_failed");
  EXPECT_EQ(failed.error().error_class, ErrorClass::retryable);
  EXPECT_EQ(server.requests(), 2U);
}

// With the retries that a call has, which are over long before: a wait has a time of its own.
TEST(Cache, AValueIsWaitedForWhileTheServerIsAwayForLongerThanACallIsTriedAgain) {
  std::vector<std::string> answers(3 * kRetrySoon.attempts);  // It hangs up.
  answers.push_back(value_answer("1", "application/json", "workmill; hit; ttl=5"));
  Scripted server{answers};
  Scripted other{answers};
  Client client{{.url = server.url(), .retry = kRetrySoon}};
  AsyncClient async{{.server = {.url = other.url(), .retry = kRetrySoon}}};

  auto const value = client.cache().get_or_compute("k", make_job("t", 1), {.wait = kPatience});
  auto const awaited = async.cache().get_or_compute("k", make_job("t", 1), {.wait = kPatience}).get();

  ASSERT_TRUE(value) << describe(value.error());
  ASSERT_TRUE(awaited) << describe(awaited.error());
  EXPECT_EQ(*value->as<int>(), 1);
  EXPECT_EQ(*awaited->as<int>(), 1);
}

TEST(Cache, AWaitThatEndsWhileTheServerIsAwayTellsTheJobAsItWasSeenLast) {
  Scripted server{{kPending}};
  Scripted other{{kPending}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};
  AsyncClient async{{.server = {.url = other.url(), .retry = kRetrySoon}}};
  Client away{{.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = kRetrySoon}};

  EXPECT_EQ(client.cache().get_or_compute("k", make_job("t", 1), {.wait = 50ms}).error().code, "cache_pending");
  EXPECT_EQ(async.cache().get_or_compute("k", make_job("t", 1), {.wait = 50ms}).get().error().code, "cache_pending");
  EXPECT_EQ(away.cache().get_or_compute("k", make_job("t", 1), {.wait = 50ms}).error().code, "no_server");
}

TEST(Cache, WhoDoesNotWaitForTheJobHasTheAttemptsOfAnyCall) {
  Scripted server{{"", "", kPending}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};

  EXPECT_EQ(client.cache().get_or_compute("k", make_job("t", 1), {.wait = 0ms}).error().code, "cache_pending");
  EXPECT_EQ(client.cache().get_or_compute("k", make_job("t", 1), {.wait = 0ms}).error().code, "outcome_unknown");
  EXPECT_EQ(server.requests(), 3 + kRetrySoon.attempts);
}

TEST(Cache, AWaitEndsByTheDeadlineOfItsCall) {
  Scripted server{std::vector<std::string>(10'000, kPending)};
  Client client{{.url = server.url(), .retry = kRetrySoon}};
  Client away{{.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = kRetrySoon}};

  EXPECT_EQ(client.cache().get_or_compute("k", make_job("t", 1), {.wait = 1h}, {.deadline = 50ms}).error().code,
            "timed_out");
  EXPECT_EQ(away.cache().get_or_compute("k", make_job("t", 1), {.wait = 1h}, {.deadline = 50ms}).error().code,
            "timed_out");
}

TEST(Cache, AValueIsSentAsWhatItIs) {
  std::string const done = "HTTP/1.1 204 No Content\r\nETag: \"5\"\r\n\r\n";
  Scripted server{{done, done, done, response(200, R"({"count":3})")}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};

  auto const etag = client.cache().put("k", Bytes{std::string("\0\xff", 2)},
                                       {.fresh = 90s, .stale = 1h, .tags = {"a", "b"}, .content_type = "image/png"});
  auto const json = client.cache().put("k", std::vector<int>{1});
  auto const empty = client.cache().put("k", Bytes{});
  auto const count = client.cache().remove_by_tag("a b");

  ASSERT_TRUE(etag && json && empty && count);
  EXPECT_EQ(*etag, "5");
  EXPECT_EQ(*count, 3U);
  EXPECT_TRUE(server.request(0).starts_with("PUT /v1/cache/k?fresh=90000ms&stale=3600000ms&tags=a%2Cb HTTP/1.1\r\n"));
  EXPECT_NE(server.request(0).find("Content-Type: image/png\r\n"), std::string::npos);
  EXPECT_TRUE(server.request(0).ends_with(std::string("\r\n\r\n\0\xff", 6)));
  EXPECT_NE(server.request(1).find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_NE(server.request(2).find("Content-Type: application/octet-stream\r\nContent-Length: 0\r\n"),
            std::string::npos);
  EXPECT_TRUE(server.request(3).starts_with("DELETE /v1/cache?tag=a%20b HTTP/1.1\r\n"));
}

TEST(Cache, WhatIsNoCachedValueIsAProtocolError) {
  Scripted server{{response(200, "1"), response(202, "{}")}};
  Client client{{.url = server.url(), .retry = kRetrySoon}};

  EXPECT_EQ(client.cache().get("k").error().code, "protocol_error");
  EXPECT_EQ(client.cache().get_or_compute("k", make_job("t", 1)).error().code, "protocol_error");
}

TEST(AsyncCache, CallsAreAwaitedAndAWaitIsSeveralPolls) {
  Scripted server{{kPending, value_answer("1", "application/json", "workmill; hit; ttl=5"),
                   value_answer("2", "application/json", "workmill; hit; ttl=5")}};
  AsyncClient client{{.server = {.url = server.url(), .retry = kRetrySoon}}};

  auto const computed = client.cache().get_or_compute("k", make_job("t", 1)).get();
  auto const found = client.cache().get("k").get();

  ASSERT_TRUE(computed && found && *found);
  EXPECT_EQ(*computed->as<int>(), 1);
  EXPECT_EQ(*(*found)->as<int>(), 2);
}

// Later polls are made on the client's own thread, which knows of no trace.
TEST(AsyncCache, AllPollsOfAWaitCarryTheTraceOfWhoWaits) {
  std::string const value = value_answer("1", "application/json", "workmill; hit; ttl=5");
  Scripted server{{kPending, kPending, value, kPending, kPending, value}};
  auto const caller = std::this_thread::get_id();
  auto const of_caller = [caller] { return std::this_thread::get_id() == caller ? "00-hook" : ""; };
  AsyncClient hooked{{.server = {.url = server.url(), .retry = kRetrySoon, .traceparent = of_caller}}};
  AsyncClient plain{{.server = {.url = server.url(), .retry = kRetrySoon}}};

  EXPECT_TRUE(hooked.cache().get_or_compute("k", make_job("t", 1)).get());
  detail::current_traceparent() = "00-handler";  // As a worker does it around a handler.
  detail::current_tracestate() = "s=1";
  auto call = plain.cache().get_or_compute("k", make_job("t", 1));
  detail::current_traceparent().clear();
  detail::current_tracestate().clear();
  EXPECT_TRUE(std::move(call).get());

  ASSERT_EQ(server.requests(), 6U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(server.request(i).contains("traceparent: 00-hook\r\n")) << i;
  for (std::size_t i = 3; i < 6; ++i) {
    EXPECT_TRUE(server.request(i).contains("traceparent: 00-handler\r\ntracestate: s=1\r\n")) << i;
  }
}

TEST(AsyncCache, WhatPausesBetweenPollsIsAnsweredWhenItsClientGoes) {
  Scripted server{{kPending, kPending, kPending}};
  RetryPolicy const never{.attempts = 1, .first = 1h, .factor = 1.0, .cap = 1h};
  auto client = std::make_unique<AsyncClient>(AsyncOptions{.server = {.url = server.url(), .retry = never}});

  auto call = client->cache().get_or_compute("k", make_job("t", 1), {.wait = 1h});
  ASSERT_TRUE(eventually([&] { return server.requests() > 0; }));
  client.reset();

  EXPECT_EQ(std::move(call).get().error().code, "call_cancelled");
}

}  // namespace
}  // namespace workmill::client
