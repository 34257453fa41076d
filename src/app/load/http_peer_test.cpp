#include "app/load/http_peer.h"

#include <gtest/gtest.h>

namespace workmill::app {
namespace {

TEST(HttpPeer, AnAnswerIsWholeWhenItsBodyIs) {
  std::string const text = "HTTP/1.1 201 Created\r\nServer: x\r\ncontent-length: 4\r\n\r\nbody";

  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    auto const partial = parse_answer(text.substr(0, cut));
    ASSERT_TRUE(partial);
    EXPECT_FALSE(partial->has_value()) << cut;
  }
  auto const whole = parse_answer(text + "next");
  ASSERT_TRUE(whole && whole->has_value());
  auto const parsed = whole->value_or(ParsedAnswer{});
  EXPECT_EQ(parsed.answer.status, 201);
  EXPECT_EQ(parsed.bytes, text.size());
}

TEST(HttpPeer, NoContentHasNoLength) {
  auto const answer = parse_answer("HTTP/1.1 204 No Content\r\n\r\n");

  ASSERT_TRUE(answer && answer->has_value());
  EXPECT_EQ(answer->value_or(ParsedAnswer{}).answer.status, 204);
}

TEST(HttpPeer, WhatIsNoAnswerIsAnError) {
  EXPECT_FALSE(parse_answer("SSH-2.0-x\r\n\r\n"));
  EXPECT_FALSE(parse_answer("HTTP/1.1 200 OK\r\n\r\n"));  // Without a length nobody knows its end.
  EXPECT_FALSE(parse_answer("HTTP/1.1 2x0 OK\r\ncontent-length: 1\r\n\r\nx"));
}

TEST(HttpPeer, ARequestIsComplete) {
  EXPECT_EQ(post_request("h:1", "", "/p", "{}"),
            "POST /p HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_NE(post_request("h", "secret", "/p", "").find("Authorization: Bearer secret\r\n"), std::string::npos);
}

}  // namespace
}  // namespace workmill::app
