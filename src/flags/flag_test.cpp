#include "flags/flag.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "base/rng.h"

namespace workmill::flags {
namespace {

Flag a_switch() {
  return {.variants = {{.name = "on", .value = boolean_value(true)}, {.name = "off", .value = boolean_value(false)}},
          .default_variant = 1};
}

Value number(std::string_view text) {
  Value value;
  EXPECT_TRUE(parse_number(text, value));
  return value;
}

Bytes encoded(Flag const& flag) {
  Bytes bytes;
  encode_flag(flag, bytes);
  return bytes;
}

std::string refused_field(std::function<void(Flag&)> const& spoil) {
  Flag flag = a_switch();
  spoil(flag);
  auto const checked = check_flag(flag);
  if (checked) return "none";
  EXPECT_EQ(checked.error().code, ErrorCode::invalid_field);
  return checked.error().field;
}

TEST(Flag, NumbersAreEqualByTheirValueAndToNoText) {
  EXPECT_TRUE(number("1").equals(number("1.0")));
  EXPECT_TRUE(number("100").equals(number("1e2")));
  EXPECT_FALSE(number("1").equals(string_value("1")));
  EXPECT_FALSE(boolean_value(true).equals(string_value("true")));
  EXPECT_TRUE(string_value("a").equals(string_value("a")));
}

TEST(Flag, NumbersThatNoDoubleHoldsAreNone) {
  Value value;
  EXPECT_FALSE(parse_number("1e999", value));
  EXPECT_FALSE(parse_number("", value));
  EXPECT_FALSE(parse_number("1x", value));
  EXPECT_FALSE(parse_number(std::string(33, '1'), value));
}

TEST(Flag, WhatBreaksARuleIsRefusedByItsField) {
  EXPECT_EQ(refused_field([](Flag&) {}), "none");
  EXPECT_EQ(refused_field([](Flag& it) { it.variants[0].name = "a b"; }), "variants");
  EXPECT_EQ(refused_field([](Flag& it) { it.variants[1].value = string_value("x"); }), "variants.off");
  EXPECT_EQ(refused_field([](Flag& it) { it.variants[1].name = "on"; }), "variants.on");
  EXPECT_EQ(refused_field([](Flag& it) { it.rules.resize(kRulesMax + 1); }), "rules");
  EXPECT_EQ(refused_field([](Flag& it) { it.rules.push_back({.is_rollout = true, .shares = {{.weight = 0}}}); }),
            "rules[0].rollout");
  EXPECT_EQ(refused_field([](Flag& it) { it.rules.push_back({.conditions = {{.attribute = "a"}}}); }), "rules[0].if.a");
  EXPECT_EQ(refused_field([](Flag& it) { it.gates = {"mail", "no name"}; }), "gates[1]");
}

TEST(Flag, OnlyFlagsOfBooleansGateJobs) {
  Flag flag{.variants = {{.name = "a", .value = string_value("x")}}, .gates = {"mail"}};

  EXPECT_EQ(check_flag(flag).error().field, "gates");
}

TEST(Flag, ADefinitionThatIsTooLargeIsRefused) {
  Flag flag{.variants = {{.name = "a", .value = string_value(std::string(kFlagBytesMax, 'x'))}}};

  EXPECT_EQ(check_flag(flag).error().code, ErrorCode::payload_too_large);
}

Flag random_flag(Rng& rng) {
  Flag flag;
  auto const kind = static_cast<ValueKind>(rng.below(4));
  for (std::uint64_t i = 0, n = 1 + rng.below(4); i < n; ++i) {
    Value value = kind == ValueKind::boolean  ? boolean_value(rng.chance(500))
                  : kind == ValueKind::number ? number(std::to_string(rng.below(1'000)) + ".5")
                                              : Value{.kind = kind, .text = "{}"};
    flag.variants.push_back({.name = "v" + std::to_string(i), .value = std::move(value)});
  }
  auto const place = [&] { return static_cast<std::uint32_t>(rng.below(flag.variants.size())); };
  flag.default_variant = place();
  flag.enabled = rng.chance(500);
  for (std::uint64_t i = 0, n = rng.below(4); i < n; ++i) {
    Rule rule;
    for (std::uint64_t j = 0, m = rng.below(3); j < m; ++j) {
      rule.conditions.push_back({.attribute = "a" + std::to_string(j), .values = {string_value("x"), number("7")}});
    }
    rule.is_rollout = rng.chance(500);
    if (rule.is_rollout) {
      rule.shares = {{.variant = place(), .weight = 1}, {.variant = place(), .weight = 1'000}};
    } else {
      rule.variant = place();
    }
    flag.rules.push_back(std::move(rule));
  }
  if (kind == ValueKind::boolean && rng.chance(500)) flag.gates = {"mail", "export"};
  return flag;
}

RC_GTEST_PROP(FlagProperty, WhatIsEncodedDecodesToTheSame, (std::uint64_t seed)) {
  Rng rng{seed};
  Flag const flag = random_flag(rng);
  RC_ASSERT(check_flag(flag).has_value());

  auto const decoded = decode_flag(encoded(flag));

  RC_ASSERT(decoded.has_value());
  RC_ASSERT(encoded(*decoded) == encoded(flag));
}

RC_GTEST_PROP(FlagProperty, DamagedBytesAreRefusedOrAFlag, (std::uint64_t seed)) {
  Rng rng{seed};
  Bytes bytes = encoded(random_flag(rng));
  bytes[rng.below(bytes.size())] = static_cast<char>(rng.below(256));
  if (rng.chance(300)) bytes.resize(rng.below(bytes.size()));

  auto const decoded = decode_flag(bytes);

  if (!decoded) {
    RC_ASSERT(decoded.error().code == ErrorCode::log_corrupt);
    return;
  }
  RC_ASSERT(decoded->default_variant < decoded->variants.size());
  RC_ASSERT(encoded(*decoded) == bytes);
}

}  // namespace
}  // namespace workmill::flags
