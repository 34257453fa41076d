#include "protocols/http/json/json_tokens.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <simdjson.h>

#include <string>

namespace workmill::http {
namespace {

using namespace std::string_literals;

bool is_json(std::string_view text) {
  JsonTokens tokens;
  std::string_view span;
  return tokens.index(text) && tokens.value(span) && tokens.done();
}

TEST(JsonTokens, TakesEveryKindOfValue) {
  for (std::string_view const text :
       {"{}", "[]", "null", "true", "false", "0", "-0", "1e9", "-1.5E-3", R"("")", R"("a")", R"({"a":{"b":[1,2,{}]}})",
        " [ 1 , \"x\" ] \n", "123456789012345678901234567890", R"("\u00fc\ud83d\ude00\n\/")", "\"\xc3\xbc\""}) {
    EXPECT_TRUE(is_json(text)) << text;
  }
}

TEST(JsonTokens, RefusesWhatIsNoJson) {
  for (std::string const& text : {""s,
                                  " "s,
                                  "{"s,
                                  "}"s,
                                  "[1,]"s,
                                  "[,1]"s,
                                  "[1 2]"s,
                                  R"({"a"})"s,
                                  R"({"a":})"s,
                                  R"({"a":1,})"s,
                                  R"({a:1})"s,
                                  R"({"a" 1})"s,
                                  R"({"a":1 "b":2})"s,
                                  R"([1}])"s,
                                  "nul"s,
                                  "True"s,
                                  "01"s,
                                  "-"s,
                                  "1."s,
                                  ".5"s,
                                  "1e"s,
                                  "+1"s,
                                  "0x1"s,
                                  "NaN"s,
                                  "1 2"s,
                                  "{} {}"s,
                                  R"("a)"s,
                                  "\"a\nb\""s,
                                  R"("\x")"s,
                                  R"("\u12")"s,
                                  R"("\ud800")"s,
                                  R"("\ud800\u0041")"s,
                                  R"("\udc00")"s,
                                  "\"\xff\""s,
                                  "\"\xed\xa0\x80\""s,
                                  "\xef\xbb\xbf{}"s,
                                  "[\"a\"b]"s,
                                  "['a']"s,
                                  "[1]\0"s,
                                  "\0"s,
                                  "[1\v]"s,
                                  "// c\n1"s}) {
    EXPECT_FALSE(is_json(text)) << text;
  }
}

TEST(JsonTokens, SaysWhatIsWrongAndWhere) {
  JsonTokens tokens;
  std::string_view span;
  ASSERT_TRUE(tokens.index(R"({"a": [1, 2} })"));

  EXPECT_FALSE(tokens.value(span));

  EXPECT_STREQ(tokens.problem(), "a comma or ] was expected");
  EXPECT_EQ(tokens.offset(), 11U);
}

TEST(JsonTokens, BoundsHowDeepBracketsMayBeNested) {
  auto const nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };

  EXPECT_TRUE(is_json(nested(kJsonDepthMax)));
  EXPECT_FALSE(is_json(nested(kJsonDepthMax + 1)));
  EXPECT_FALSE(is_json(std::string(1'000'000, '[')));
  EXPECT_FALSE(is_json(std::string(1'000'000, '{')));
}

TEST(JsonTokens, HandsOnAValueAsItWasSent) {
  JsonTokens tokens;
  std::string_view key, span;
  ASSERT_TRUE(tokens.index("{ \"p\" :  { \"x\" : [ 1.0, 2e1 ] , \"y\":\"\\u0041\" }  , \"q\": 7 }"));
  ASSERT_TRUE(tokens.take('{') && tokens.key(key));

  ASSERT_TRUE(tokens.value(span));

  EXPECT_EQ(key, "p");
  EXPECT_EQ(span, "{ \"x\" : [ 1.0, 2e1 ] , \"y\":\"\\u0041\" }");
  ASSERT_TRUE(tokens.expect(',') && tokens.key(key) && tokens.value(span));
  EXPECT_EQ(span, "7");
  EXPECT_TRUE(tokens.expect('}') && tokens.done());
}

TEST(JsonTokens, UnescapesStringsAndKeepsThemUntilTheNextText) {
  JsonTokens tokens;
  ASSERT_TRUE(tokens.index(R"(["a\"b","\ud83d\ude00\u00fc\u20ac","\b\f\n\r\t\\\/",{"s":"\u0000k"},"plain"])"));
  std::string_view first, second, third, skipped, last;

  ASSERT_TRUE(tokens.take('[') && tokens.string(first) && tokens.take(',') && tokens.string(second));
  ASSERT_TRUE(tokens.take(',') && tokens.string(third) && tokens.take(',') && tokens.value(skipped));
  ASSERT_TRUE(tokens.take(',') && tokens.string(last) && tokens.take(']') && tokens.done());

  EXPECT_EQ(first, "a\"b");
  EXPECT_EQ(second, "\xf0\x9f\x98\x80\xc3\xbc\xe2\x82\xac");
  EXPECT_EQ(third, "\b\f\n\r\t\\/");
  EXPECT_EQ(skipped, R"({"s":"\u0000k"})");
  EXPECT_EQ(last, "plain");
}

TEST(JsonTokens, OneWalkerTakesTextsOfAllSizesOneAfterAnother) {
  JsonTokens tokens;
  std::string_view span;
  for (std::size_t const size : {std::size_t{1}, std::size_t{100'000}, std::size_t{6'000'000}, std::size_t{10}}) {
    std::string const text = '"' + std::string(size, 'x') + "\\n\"";
    ASSERT_TRUE(tokens.index(text) && tokens.string(span) && tokens.done());
    EXPECT_EQ(span.size(), size + 1);
  }
}

// simdjson's own parser is the model. It alone refuses integers of more than 64 bits and doubles out of range.
bool model_is_json(std::string_view text, bool& knows) {
  static simdjson::dom::parser parser;  // NOLINT: allocated once for a million small texts.
  simdjson::dom::element element;
  auto const error = parser.parse(text.data(), text.size(), true).get(element);
  knows = error != simdjson::NUMBER_ERROR;
  return error == simdjson::SUCCESS;
}

RC_GTEST_PROP(JsonTokens, AgreesWithSimdjsonAboutWhatIsJson, ()) {
  auto const pieces = *rc::gen::container<std::vector<std::string>>(rc::gen::element(
      "{"s, "}"s, "["s, "]"s, ","s, ":"s, "\"a\""s, "\"\\n\""s, "\"\\u00e9\""s, "\"\\ud83d\\ude00\""s, "1"s, "-2.5e3"s,
      "true"s, "null"s, " "s, "\n"s, "{\"a\":1}"s, "[1,2]"s, "\""s, "\\"s, "x"s, "\xc3\xa9"s, "\xff"s));
  std::string text;
  for (std::string const& piece : pieces) text += piece;
  bool knows = false;
  bool const expected = model_is_json(text, knows);

  if (knows) RC_ASSERT(is_json(text) == expected);
}

RC_GTEST_PROP(JsonTokens, AgreesWithSimdjsonAboutDamagedJson, ()) {
  std::string text =
      R"({"type":"t","n":[1,-2.5e3,0,true,false,null],"s":"a\"\u00e9\ud83d\ude00","o":{"x":{}, "y":[]}})";
  auto const changes = *rc::gen::inRange(1, 4);
  for (int i = 0; i < changes; ++i) {
    auto const at = *rc::gen::inRange<std::size_t>(0, text.size());
    text[at] = *rc::gen::oneOf(rc::gen::element('{', '}', '[', ']', ',', ':', '"', '\\', '0', '1', 'e', ' '),
                               rc::gen::arbitrary<char>());
  }
  bool knows = false;
  bool const expected = model_is_json(text, knows);

  if (knows) RC_ASSERT(is_json(text) == expected);
}

}  // namespace
}  // namespace workmill::http
