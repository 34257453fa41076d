#include "app/http_client.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace workmill::app {
namespace {

TEST(HttpClient, AnAddressMayLackItsScheme) {
  EXPECT_EQ(normal_url("localhost:7330"), "http://localhost:7330");
  EXPECT_EQ(normal_url("https://jobs.example/"), "https://jobs.example");
  EXPECT_EQ(normal_url("[::1]:80"), "http://[::1]:80");
}

TEST(HttpClient, WhatIsNoAddressIsRefused) {
  for (auto const* text : {"", "http://", "ftp://host", "http://host/path", "http://host:0", "host:port", "host:70000",
                           "http://user@host", ":7330", "a b", "http://host:80:80"}) {
    auto const url = normal_url(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().code, ErrorCode::bad_configuration);
  }
}

TEST(HttpClient, ThisMachineIsKnownByItsNameAndNumbersAlone) {
  for (auto const* here : {"http://127.0.0.1:7330", "https://127.1.2.3", "http://localhost:80", "http://localhost",
                           "https://[::1]:7330", "http://[::1]"}) {
    EXPECT_TRUE(is_loopback(here)) << here;
  }
  for (auto const* elsewhere : {"http://127.example.org", "https://localhost.example.org:80", "http://10.0.0.1",
                                "http://[::1:2]:80", "http://example.org"}) {
    EXPECT_FALSE(is_loopback(elsewhere)) << elsewhere;
  }
}

TEST(HttpClient, AProblemBecomesTheErrorThatTheServerMeant) {
  auto const answer = read_reply({.status = 422,
                                  .body = R"({"type":"/errors/invalid_field","code":"invalid_field","class":"user",)"
                                          R"("title":"t","detail":"0 to 9","field":"priority","status":422})"});

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error(), (Error{.code = ErrorCode::invalid_field, .message = "0 to 9", .field = "priority"}));
}

TEST(HttpClient, ACodeFromANewerServerKeepsItsClass) {
  auto const retryable =
      read_reply({.status = 503, .body = R"({"code":"moon_phase","class":"retryable","detail":"wait"})"});
  auto const fatal = read_reply({.status = 400, .body = R"({"code":"moon_phase","class":"user","detail":"no"})"});

  ASSERT_FALSE(retryable);
  ASSERT_FALSE(fatal);
  EXPECT_EQ(class_of(retryable.error().code), ErrorClass::retryable);
  EXPECT_EQ(class_of(fatal.error().code), ErrorClass::fatal);
  EXPECT_EQ(fatal.error().message, "moon_phase: no");
}

TEST(HttpClient, SomebodyElsesServerIsRecognised) {
  for (auto const& reply : {HttpReply{.status = 404, .body = "<html>"}, HttpReply{.status = 200, .body = "hello"},
                            HttpReply{.status = 500, .body = "{}"}}) {
    auto const answer = read_reply(reply);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::protocol_error);
  }
}

TEST(HttpClient, AnAnswerWithoutABodyIsNull) {
  auto const answer = read_reply({.status = 204, .body = ""});

  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->root().kind, JsonValue::Kind::null);
}

TEST(HttpClient, NobodyAtThePortIsNoServer) {
  HttpClient client{{.url = "http://127.0.0.1:1"}};

  auto const reply = client.send({.path = "/healthz"});

  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::no_server);
}

TEST(HttpClient, SeveralRequestsFailEachOnItsOwn) {
  HttpMulti clients{{.url = "http://127.0.0.1:1"}};
  auto const first = clients.start({.path = "/a"});
  auto const aborted = clients.start({.path = "/b"});
  auto const second = clients.start({.path = "/c"});
  clients.abort(aborted);

  std::vector<HttpMulti::Ticket> tickets;
  for (int i = 0; i < 100 && tickets.size() < 2; ++i) {
    for (auto const& finished : clients.wait({}, std::chrono::seconds{5})) {
      EXPECT_FALSE(finished.reply.has_value());
      tickets.push_back(finished.ticket);
    }
  }

  std::ranges::sort(tickets);
  EXPECT_EQ(tickets, (std::vector{first, second}));
}

TEST(HttpClient, EncodedTextIsSafeInAPath) { EXPECT_EQ(url_encoded("a b/c?d:é"), "a%20b%2Fc%3Fd%3A%C3%A9"); }

TEST(HttpClient, NoTwoIdempotencyKeysAreTheSame) { EXPECT_NE(make_idempotency_key(), make_idempotency_key()); }

}  // namespace
}  // namespace workmill::app
