#include "base/json_writer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

namespace workmill {
namespace {

std::string as_json(std::string_view text) {
  std::string out;
  append_json_string(text, out);
  return out;
}

TEST(JsonWriter, SetsCommasBetweenMembersAndElementsOnly) {
  std::string out;
  JsonWriter json{out};

  json.begin_object()
      .member("a", 1)
      .key("b")
      .begin_array()
      .value("x")
      .value(true)
      .begin_object()
      .end_object()
      .end_array();
  json.key("c").begin_object().member("d", std::uint64_t{2}).end_object().key("e").null().end_object();

  EXPECT_EQ(out, R"({"a":1,"b":["x",true,{}],"c":{"d":2},"e":null})");
}

TEST(JsonWriter, WritesNumbersAsTheyReadBack) {
  std::string out;
  JsonWriter json{out};

  json.begin_array();
  json.value(std::numeric_limits<std::uint64_t>::max()).value(std::numeric_limits<std::int64_t>::min());
  json.value(0.1).value(2.0).value(1e300).value(std::numeric_limits<double>::infinity()).value(std::uint8_t{7});
  json.end_array();

  EXPECT_EQ(out, "[18446744073709551615,-9223372036854775808,0.1,2,1e+300,null,7]");
}

TEST(JsonWriter, WritesTimesInUtcWithMilliseconds) {
  std::string out;
  JsonWriter{out}.value(instant_from_ms(1'500));

  EXPECT_EQ(out, R"("1970-01-01T00:00:01.500Z")");
}

TEST(JsonWriter, PutsInWhatIsJsonAlready) {
  std::string out;
  JsonWriter json{out};

  json.begin_object().key("payload").raw(R"({"x":[1, 2]})").key("id").plain("abc").end_object();

  EXPECT_EQ(out, R"({"payload":{"x":[1, 2]},"id":"abc"})");
}

TEST(JsonString, EscapesWhatMustBeEscaped) {
  EXPECT_EQ(as_json("plain"), R"("plain")");
  EXPECT_EQ(as_json(""), R"("")");
  EXPECT_EQ(as_json("a\"b\\c/d"), R"("a\"b\\c/d")");
  EXPECT_EQ(as_json("\b\f\n\r\t"), R"("\b\f\n\r\t")");
  EXPECT_EQ(as_json(std::string_view{"\0\x1f\x7f", 3}), "\"\\u0000\\u001f\x7f\"");
}

TEST(JsonString, LeavesUtf8AsItIs) {
  EXPECT_EQ(as_json("gr\xc3\xbc\xc3\x9f, \xe2\x82\xac, \xf0\x9f\x98\x80"),
            "\"gr\xc3\xbc\xc3\x9f, \xe2\x82\xac, \xf0\x9f\x98\x80\"");
}

TEST(JsonString, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(as_json("a\xff"
                    "b"),
            "\"a\xef\xbf\xbd"
            "b\"");
  EXPECT_EQ(as_json("\xc0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");                  // overlong
  EXPECT_EQ(as_json("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");  // a surrogate
  EXPECT_EQ(as_json("\xf4\x90\x80\x80").size(), 2U + 4 * 3);                       // above U+10FFFF
  EXPECT_EQ(as_json("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");                  // cut off
}

// The model goes byte by byte.
RC_GTEST_PROP(JsonString, EscapesEveryByteOfAsciiAtEveryPlace, ()) {
  auto const text = *rc::gen::container<std::string>(
      rc::gen::map(rc::gen::inRange(0, 128), [](int c) { return static_cast<char>(c); }));
  std::string expected = "\"";
  for (char const c : text) expected += as_json(std::string_view{&c, 1}).substr(1, as_json({&c, 1}).size() - 2);
  expected += '"';

  RC_ASSERT(as_json(text) == expected);
}

RC_GTEST_PROP(JsonString, NeverLeavesAByteThatMayNotStandThere, (std::string const& text)) {
  std::string const json = as_json(text);

  for (std::size_t i = 1; i + 1 < json.size(); ++i) {
    auto const byte = static_cast<unsigned char>(json[i]);
    RC_ASSERT(byte >= 0x20);
    if (byte == '"') RC_ASSERT(json[i - 1] == '\\');
  }
  RC_ASSERT(as_json(json.substr(1, json.size() - 2)).find("\xef\xbf\xbd") == std::string::npos ||
            json.find("\xef\xbf\xbd") != std::string::npos);
}

}  // namespace
}  // namespace workmill
