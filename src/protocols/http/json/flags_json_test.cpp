#include "protocols/http/json/flags_json.h"

#include <gtest/gtest.h>

#include <string>

namespace workmill::http {
namespace {

constexpr std::string_view kDefinition =
    R"({"rules":[{"if":{"plan":["pro",1.50,true],"a \"b\"":["x"]},"variant":"on"},{"rollout":{"off":75,"on":25}}],)"
    R"("gates":["mail"],"enabled":false,"default":"off","variants":{"on":true,"off":false}})";

flags::FlagEntryPtr entry_of(std::string_view body) {
  FlagsIn in;
  auto const parsed = in.parse_definition(body, "f");
  EXPECT_TRUE(parsed.has_value()) << describe(parsed.error());
  Bytes bytes;
  flags::encode_flag(parsed->flag, bytes);
  return flags::make_entry("f", bytes, 3, instant_from_ms(0), "ops").value();
}

std::string text_of(flags::FlagEntryPtr const& entry) {
  std::string out;
  append_flag(*entry, out);
  return out;
}

Error refused(std::string_view body) {
  FlagsIn in;
  auto const parsed = in.parse_definition(body, "f");
  EXPECT_FALSE(parsed.has_value());
  return parsed ? Error{} : parsed.error();
}

std::string code_of(std::string_view body) {
  FlagsIn in;
  flags::Context context;
  std::string_view text;
  auto const bad = in.parse_context(body, context, text);
  return bad ? std::string{bad->code} : "good";
}

TEST(FlagsJson, IsWrittenAsItWasReadWhateverTheOrderOfItsMembers) {
  std::string const text = text_of(entry_of(kDefinition));

  EXPECT_EQ(text, R"({"key":"f","variants":{"on":true,"off":false},"default":"off","enabled":false,)"
                  R"("rules":[{"if":{"plan":["pro",1.50,true],"a \"b\"":["x"]},"variant":"on"},)"
                  R"({"rollout":{"off":75,"on":25}}],"gates":["mail"],"version":3,)"
                  R"("updated_at":"1970-01-01T00:00:00.000Z","updated_by":"ops"})");
  EXPECT_EQ(text_of(entry_of(text)), text);
}

TEST(FlagsJson, ObjectsAndNumbersAreKeptAsTheyWereSent) {
  EXPECT_NE(text_of(entry_of(R"({"variants":{"a":{"x": [1 ]}},"default":"a"})")).find(R"({"x": [1 ]})"),
            std::string::npos);
  EXPECT_NE(text_of(entry_of(R"({"variants":{"a":1e3},"default":"a"})")).find(R"("a":1e3)"), std::string::npos);
}

TEST(FlagsJson, WhatIsWrongIsNamed) {
  EXPECT_EQ(refused("{").code, ErrorCode::malformed_json);
  EXPECT_EQ(refused(R"({"variants":{"a":1},"default":"b"})").field, "default");
  EXPECT_EQ(refused(R"({"variants":{"a":1,"a":2},"default":"a"})").field, "variants.a");
  EXPECT_EQ(refused(R"({"variants":{"a":1e999},"default":"a"})").field, "variants.a");
  EXPECT_EQ(refused(R"({"variants":{"a":1},"default":"a","rules":[{"rollout":{"a":1,"a":2}}]})").field,
            "rules[0].rollout.a");
  EXPECT_EQ(refused(R"({"variants":{"a":1},"default":"a","rules":[{"if":{"x":[{}]},"variant":"a"}]})").field,
            "rules[0].if.x[0]");
  EXPECT_EQ(refused(R"({"variants":{"a":1},"default":"a","gates":["t"]})").field, "gates");
  EXPECT_EQ(refused(R"({"key":"g","variants":{"a":1},"default":"a"})").field, "key");
}

TEST(FlagsJson, AContextIsReadWithItsAttributes) {
  FlagsIn in;
  flags::Context context;
  std::string_view text;
  auto const bad = in.parse_context(
      R"({"odd":[1],"context":{"plan":"pro","n":2.0,"b":true,"none":null,"list":[1],"targetingKey":"u"},"more":{}})",
      context, text);

  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(context.targeting_key(), "u");
  EXPECT_EQ(context.find("plan")->text, "pro");
  EXPECT_EQ(context.find("n")->number, 2.0);
  EXPECT_EQ(context.find("b")->text, "true");
  EXPECT_EQ(context.find("none"), nullptr);
  EXPECT_EQ(context.find("list"), nullptr);
}

TEST(FlagsJson, OnlyWhatCountsOfAContextTellsItFromAnother) {
  auto const text_of_context = [](std::string_view body) {
    FlagsIn in;
    flags::Context context;
    std::string_view text;
    EXPECT_FALSE(in.parse_context(body, context, text).has_value());
    return std::string{text};
  };
  std::string const one = text_of_context(R"({"context":{"targetingKey":"u","a":1}})");

  EXPECT_EQ(one, text_of_context(R"({ "x": 2, "context": {"targetingKey":"u", "list": [1], "a":1}})"));
  EXPECT_NE(one, text_of_context(R"({"context":{"targetingKey":"u","a":"1"}})"));
  EXPECT_NE(one, text_of_context(R"({"context":{"targetingKey":"ua","a":1}})"));
}

TEST(FlagsJson, WhatIsNoContextIsSaidInTheProtocolsWords) {
  EXPECT_EQ(code_of("{"), "PARSE_ERROR");
  EXPECT_EQ(code_of(R"({"context":{"targetingKey":"u"}}x)"), "PARSE_ERROR");
  EXPECT_EQ(code_of(R"({"context":[],"x":)"), "PARSE_ERROR");
  EXPECT_EQ(code_of("[]"), "INVALID_CONTEXT");
  EXPECT_EQ(code_of("{}"), "INVALID_CONTEXT");
  EXPECT_EQ(code_of(R"({"context":null})"), "INVALID_CONTEXT");
  EXPECT_EQ(code_of(R"({"context":{"targetingKey":7}})"), "INVALID_CONTEXT");
  EXPECT_EQ(code_of(R"({"context":{"targetingKey":{}}})"), "INVALID_CONTEXT");
  EXPECT_EQ(code_of(R"({"context":{"targetingKey":null}})"), "TARGETING_KEY_MISSING");
  EXPECT_EQ(code_of(R"({"context":{"targetingKey":""}})"), "TARGETING_KEY_MISSING");
  EXPECT_EQ(code_of(R"({"context":{"a":1}})"), "TARGETING_KEY_MISSING");
  EXPECT_EQ(code_of(R"({"context":{"targetingKey":"u"}})"), "good");
}

}  // namespace
}  // namespace workmill::http
