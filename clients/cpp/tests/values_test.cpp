#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <set>

#include "frames.h"
#include "wire.h"
#include "workmill/json.h"

namespace workmill::client {
namespace {

using namespace std::chrono_literals;

struct Inner {
  std::string name;
  std::optional<int> size;
  static constexpr auto json_fields() { return std::tuple{field("name", &Inner::name), field("size", &Inner::size)}; }
  bool operator==(Inner const&) const = default;
};
struct Outer {
  std::vector<Inner> parts;
  std::map<std::string, double> weights;
  bool on = false;
  std::uint8_t small = 0;
  static constexpr auto json_fields() {
    return std::tuple{field("parts", &Outer::parts), field("weights", &Outer::weights), field("on", &Outer::on),
                      field("small", &Outer::small)};
  }
  bool operator==(Outer const&) const = default;
};

TEST(Json, ATypeWithFieldsGoesToTextAndBack) {
  Outer const value{.parts = {{.name = "a\"\n\x01ü", .size = 3}, {.name = "", .size = {}}},
                    .weights = {{"x", 0.5}, {"y", -1e300}},
                    .on = true,
                    .small = 255};

  std::string const text = to_json(value);

  EXPECT_EQ(
      text,
      R"({"parts":[{"name":"a\"\n\u0001ü","size":3},{"name":""}],"weights":{"x":0.5,"y":-1e+300},"on":true,"small":255})");
  EXPECT_EQ(from_json<Outer>(text), value);
}

TEST(Json, WhatDoesNotFitIsNamedByItsField) {
  EXPECT_EQ(from_json<Outer>(R"({"parts":[{"name":7}]})").error().field, "parts.name");
  EXPECT_EQ(from_json<Outer>(R"({"small":256})").error().field, "small");
  EXPECT_EQ(from_json<Outer>(R"({"small":-1})").error().code, "bad_json");
  EXPECT_EQ(from_json<Outer>("[]").error().code, "bad_json");
  EXPECT_EQ(from_json<Outer>("{").error().code, "bad_json");
}

TEST(Json, WhatIsMissingKeepsItsValueAndWhatIsUnknownIsIgnored) {
  EXPECT_EQ(from_json<Outer>(R"({"colour":"red"})"), Outer{});
}

TEST(Json, BytesThatAreNoUtf8AreReplaced) {
  EXPECT_EQ(to_json(std::string{"a\xff"
                                "b\xe2\x82"}),
            "\"a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

TEST(Json, TextNestedTooDeepIsRefused) {
  EXPECT_TRUE(Json::parse(std::string(100, '[') + std::string(100, ']')));
  EXPECT_FALSE(Json::parse(std::string(1'000, '[') + std::string(1'000, ']')));
}

RC_GTEST_PROP(Json, EveryStringComesBackAsItWas, (std::vector<std::uint32_t> points)) {
  std::string text;
  for (std::uint32_t point : points) {
    point %= 0x110000;
    if (point >= 0xD800 && point < 0xE000) continue;
    if (point < 0x80) {
      text.push_back(static_cast<char>(point));
    } else if (point < 0x800) {
      text.push_back(static_cast<char>(0xC0 | point >> 6));
      text.push_back(static_cast<char>(0x80 | (point & 63)));
    } else if (point < 0x10000) {
      text.push_back(static_cast<char>(0xE0 | point >> 12));
      text.push_back(static_cast<char>(0x80 | (point >> 6 & 63)));
      text.push_back(static_cast<char>(0x80 | (point & 63)));
    } else {
      text.push_back(static_cast<char>(0xF0 | point >> 18));
      text.push_back(static_cast<char>(0x80 | (point >> 12 & 63)));
      text.push_back(static_cast<char>(0x80 | (point >> 6 & 63)));
      text.push_back(static_cast<char>(0x80 | (point & 63)));
    }
  }
  RC_ASSERT(from_json<std::string>(to_json(text)).value() == text);
}

RC_GTEST_PROP(Base64, BytesComeBackAsTheyWere, (std::string bytes)) {
  RC_ASSERT(decode_base64(encode_base64(bytes)).value() == bytes);
}

TEST(Base64, OnlyTheStrictFormIsTaken) {
  for (char const* const bad : {"QQ=", "QQ", "=QQQ", "Q=Q=", "QQ== ", " QQ=", "QQ*="}) {
    EXPECT_FALSE(decode_base64(bad)) << bad;
  }
}

// ---- Frames

class Frames : public testing::Test {
 protected:
  Result<> read(std::string text) {
    text_ = std::move(text);
    text_.reserve(text_.size() + detail::FrameReader::padding());
    return reader_.read(text_, frame_);
  }
  std::string text_;
  detail::FrameReader reader_;
  detail::Frame frame_;
};

TEST_F(Frames, JobsAreReadAsTheyStand) {
  ASSERT_TRUE(read(R"({"jobs": [{"id": "a", "type": "t", "queue": "q", "payload": {"x": [1, "}"]} , "attempt": 2,
    "max_attempts": 20, "lease": "0f", "lease_expires_at": "2026-11-28T00:00:00.000Z", "checkpoint": [7], "new": {"y": 1}},
    {"id": "b", "type": "t", "queue": "q", "payload_base64": "QQ==", "attempt": 1, "max_attempts": 1, "lease": "10",
    "checkpoint": null, "payload": 12, "batch": "b7" }]})"));

  ASSERT_EQ(frame_.jobs.size(), 2U);
  EXPECT_EQ(frame_.jobs[0].payload, R"({"x": [1, "}"]})");
  EXPECT_EQ(frame_.jobs[0].checkpoint, "[7]");
  EXPECT_EQ(frame_.jobs[0].attempt, 2U);
  EXPECT_EQ(frame_.jobs[0].lease, "0f");
  EXPECT_TRUE(frame_.jobs[1].payload_is_bytes);
  EXPECT_EQ(frame_.jobs[1].checkpoint, "");
  EXPECT_EQ(frame_.jobs[0].batch, "");
  EXPECT_EQ(frame_.jobs[1].batch, "b7");
}

TEST_F(Frames, OfAnswersOnlyTheRemarkableAreKept) {
  ASSERT_TRUE(
      read(R"({"reports":[{"id":"a","ok":true},{"id":"b","ok":false,"error":{"code":"lease_lost","class":"fatal",
    "status":409,"detail":"gone"}},{"id":"c","ok":true,"cancel_requested":true}]})"));

  EXPECT_EQ(frame_.answers, 3U);
  ASSERT_EQ(frame_.remarkable.size(), 2U);
  EXPECT_EQ(frame_.remarkable[0].index, 1U);
  EXPECT_EQ(frame_.remarkable[0].error->code, "lease_lost");
  EXPECT_EQ(frame_.remarkable[1].id, "c");
  EXPECT_TRUE(frame_.remarkable[1].cancel_requested);
}

TEST_F(Frames, TheRareOnesAreKnown) {
  ASSERT_TRUE(read(R"({"subscribed":{"resume":"T","resumed":true,"lease":"60s"}})"));
  EXPECT_TRUE(frame_.subscribed && frame_.subscribed->resumed && frame_.subscribed->resume == "T");
  EXPECT_FALSE(frame_.subscribed->direct);
  ASSERT_TRUE(read(R"({"subscribed":{"resume":"T","resumed":false,"lease":"60s","direct":true}})"));
  EXPECT_TRUE(frame_.subscribed->direct);
  ASSERT_TRUE(read(R"({"cancel":["a","b"]})"));
  EXPECT_EQ(frame_.cancel, (std::vector<std::string>{"a", "b"}));
  ASSERT_TRUE(read(R"({"drained":true})"));
  EXPECT_TRUE(frame_.drained);
}

TEST_F(Frames, WhatIsNoFrameIsAProtocolError) {
  for (char const* const bad : {"",
                                "null",
                                "[]",
                                "{",
                                R"({"jobs":{}})",
                                R"({"jobs":[null]})",
                                R"({"jobs":[{"id":"a"}]})",
                                R"({"jobs":[{"id":"a","lease":null,"type":"t"}]})",
                                R"({"reports":[null]})",
                                R"({"reports":[{}]})",
                                R"({"reports":[{"ok":"yes"}]})",
                                R"({"reports":[{"ok":false}]})",
                                R"({"reports":[{"ok":false,"error":null}]})",
                                R"({"reports":[{"ok":false,"error":{}}]})",
                                R"({"cancel":"a"})",
                                R"({"cancel":[1]})",
                                R"({"subscribed":true})",
                                R"({"subscribed":{}})",
                                R"({"error":true})",
                                R"({"error":{"code":"overloaded"}})"}) {
    EXPECT_EQ(read(bad).error().code, "protocol_error") << bad;
  }
}

// ---- Wire

TEST(Wire, AJobIsWrittenWithWhatWasSaidAndNothingElse) {
  EXPECT_EQ(detail::enqueue_body(make_job("t", NoPayload{})), R"({"type":"t"})");
  EXPECT_EQ(detail::enqueue_body(make_job("t", Bytes{"A"}, {.queue = "q", .priority = 0, .delay = Duration{1'500}})),
            R"({"type":"t","queue":"q","payload_base64":"QQ==","priority":0,"delay":"1500ms"})");
  EXPECT_EQ(
      detail::enqueue_body(make_job("t", 1, {.run_at = Time{Duration{0}}, .tags = {"x"}, .more = {{"after", "j"}}})),
      R"({"type":"t","payload":1,"run_at":"1970-01-01T00:00:00.000Z","tags":["x"],"after":"j"})");
}

TEST(Wire, AnswersOfOthersAreTold) {
  EXPECT_EQ(detail::read_problem({.status = 404, .body = "<html>"}).code, "protocol_error");
  EXPECT_EQ(detail::read_problem({.status = 404, .body = "<html>"}).error_class, ErrorClass::fatal);
  EXPECT_EQ(detail::read_problem({.status = 503, .body = "<html>"}).error_class, ErrorClass::retryable);
  EXPECT_EQ(detail::read_enqueued("{}").error().code, "protocol_error");
}

TEST(Wire, ATimeForTheNextAttemptThatTheServerWouldRefuseIsNotSent) {
  auto const sent = [](Duration in) {
    return Report::failed({.id = "j", .lease = "1"}, retry_later("busy", "", in).error()).json();
  };
  Duration const most = std::chrono::days{36'525};

  EXPECT_TRUE(sent(0ms).ends_with(R"(},"retry_in":"0ms"})"));
  EXPECT_TRUE(sent(most).ends_with(R"(},"retry_in":"3155760000000ms"})"));
  EXPECT_FALSE(sent(most + 1ms).contains("retry_in"));
  EXPECT_FALSE(sent(-1ms).contains("retry_in"));
}

TEST(Wire, EachPartOfABulkHasAKeyOfItsOwnThatTheServerTakes) {
  EXPECT_EQ(detail::part_key("", 7), "");
  EXPECT_EQ(detail::part_key("k", 0), "k");
  EXPECT_EQ(detail::part_key("k", 12), "k.12");
  std::string const long_key(253, 'k');
  EXPECT_EQ(detail::part_key(long_key, 1), long_key + ".1");
  // As the clients of other languages make it.
  EXPECT_EQ(detail::part_key(std::string(255, 'k'), 1),
            "sha256:767527047c4621915da44b8a2aa3165e70ee554e2563526df03765e8ed8d091e.1");
  std::set<std::string> keys;
  for (std::string const& key : {std::string(254, 'k'), std::string(255, 'k'), std::string(254, 'k') + "l"}) {
    EXPECT_EQ(detail::part_key(key, 0), key);
    EXPECT_EQ(detail::part_key(key, 1), detail::part_key(key, 1));
    for (std::size_t part = 0; part < 20; ++part) {
      EXPECT_LE(detail::part_key(key, part).size(), 255U);
      keys.insert(detail::part_key(key, part));
    }
  }
  EXPECT_EQ(keys.size(), 60U);
}

TEST(Address, UrlsAreTakenApart) {
  auto const of = [](std::string url) { return detail::resolve_address({.url = std::move(url)}); };
  EXPECT_EQ(of("http://example.org:80/")->host, "example.org");
  EXPECT_EQ(of("https://[::1]:7330")->host, "::1");
  EXPECT_TRUE(of("https://x")->tls);
  EXPECT_EQ(of("https://x")->port, "443");
  EXPECT_EQ(of("localhost:7330")->port, "7330");
  for (char const* const bad :
       {"ftp://x", "http://", "http://x:y", "http://x/path", "http://u@x", "http://x:1?q", "http://[::1"}) {
    EXPECT_EQ(of(bad).error().code, "bad_configuration") << bad;
  }
}

}  // namespace
}  // namespace workmill::client
