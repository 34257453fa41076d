#include "app/json.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/json_writer.h"

namespace workmill::app {
namespace {

TEST(Json, AValueKeepsItsTextAsItWasWritten) {
  auto const document =
      parse_json(R"( {"payload": {"n" : 123456789012345678901234567890, "e":[1.50, -0 ]} , "x":true} )");

  ASSERT_TRUE(document);
  EXPECT_EQ(document->root().find("payload")->raw, R"({"n" : 123456789012345678901234567890, "e":[1.50, -0 ]})");
  EXPECT_TRUE(document->root().flag_at("x"));
}

TEST(Json, AStringSaysWhatItsEscapesMean) {
  auto const document = parse_json(R"({"a\u0062": "line\n\ud83d\ude00"})");

  ASSERT_TRUE(document);
  EXPECT_EQ(document->root().string_at("ab"), "line\n\xF0\x9F\x98\x80");
}

TEST(Json, ASingleScalarIsAValue) {
  for (auto const* text : {"1", "-1.5e10", "\"\"", "null", " true ", "[]", "{}"}) EXPECT_TRUE(parse_json(text)) << text;
}

TEST(Json, WhatIsNotOneValueIsRefused) {
  for (auto const* text :
       {"",  " ",  "1,2", "1 2", "[1",    "[1,]", "{\"a\":1,}", "{\"a\"}", "1]",    "], [", "[1],[2]", "01",      "1.",
        "-", "+1", "nul", "tru", "truex", "\"a",  "'a'",        "abc def", "{a:1}", "[,1]", "1e",      "\"\x01\""}) {
    EXPECT_FALSE(parse_json(text)) << text;
  }
}

TEST(Json, BytesThatAreNotUtf8AreRefused) { EXPECT_FALSE(parse_json("\"\xff\"")); }

TEST(Json, NestingHasALimit) {
  auto const nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };

  EXPECT_TRUE(parse_json(nested(kJsonDepthMax)));
  EXPECT_FALSE(parse_json(nested(kJsonDepthMax + 2)));
  EXPECT_FALSE(parse_json(nested(10 * kJsonDepthMax)));
}

TEST(Json, AMemberThatIsNullIsNotSet) {
  auto const document = parse_json(R"({"next": null, "count": 12, "rate": 0.5})");

  ASSERT_TRUE(document);
  EXPECT_NE(document->root().find("next"), nullptr);
  EXPECT_EQ(document->root().find_set("next"), nullptr);
  EXPECT_EQ(document->root().number_at("count"), 12u);
  EXPECT_EQ(document->root().number_at("rate", 7), 7u);
  EXPECT_EQ(document->root().real_at("rate"), 0.5);
}

TEST(Json, BytesThatAreNoTextAreReplacedOneByOne) {
  EXPECT_EQ(repair_utf8("a\xffz\xc3"), "a\xEF\xBF\xBDz\xEF\xBF\xBD");
  EXPECT_EQ(repair_utf8("\xed\xa0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // A surrogate is no character.
  EXPECT_EQ(repair_utf8("grün"), "grün");
}

RC_GTEST_PROP(Json, WhatIsWrittenReadsBackTheSame, (std::vector<std::uint8_t> const& bytes)) {
  std::string const text{bytes.begin(), bytes.end()};
  std::string written;
  append_json_string(text, written);

  auto const document = parse_json(written);

  RC_ASSERT(document.has_value());
  RC_ASSERT(document->root().text == repair_utf8(text));
  RC_ASSERT(is_utf8(repair_utf8(text)));
}

}  // namespace
}  // namespace workmill::app
