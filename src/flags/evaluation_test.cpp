#include "flags/evaluation.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cmath>
#include <string>

#include "flags/flag_set.h"

namespace workmill::flags {
namespace {

enum : std::uint32_t { kOn, kOff };

Flag on_off() {
  return {.variants = {{.name = "on", .value = boolean_value(true)}, {.name = "off", .value = boolean_value(false)}},
          .default_variant = kOff};
}

Rule where(std::string attribute, std::vector<Value> values, std::uint32_t variant) {
  return {.conditions = {{.attribute = std::move(attribute), .values = std::move(values)}}, .variant = variant};
}

Rule rollout(std::uint32_t on, std::uint32_t off) {
  return {.is_rollout = true, .shares = {{.variant = kOn, .weight = on}, {.variant = kOff, .weight = off}}};
}

std::pair<std::uint32_t, Reason> evaluated(Flag const& flag, Context const& context) {
  Evaluation const got = evaluate("f", flag, context);
  return {got.variant, got.reason};
}

TEST(Evaluation, WithoutRulesAllGetTheDefault) {
  EXPECT_EQ(evaluated(on_off(), Context{"u"}), std::pair(std::uint32_t{kOff}, Reason::fixed));
}

TEST(Evaluation, TheFirstRuleThatHoldsDecides) {
  Flag flag = on_off();
  flag.rules = {where("plan", {string_value("pro"), string_value("team")}, kOn),
                where("plan", {string_value("team")}, kOff)};
  Context context{"u"};
  context.add("plan", string_value("team"));

  EXPECT_EQ(evaluated(flag, context), std::pair(std::uint32_t{kOn}, Reason::targeting_match));
}

TEST(Evaluation, WhereNoRuleHoldsTheDefaultIsServed) {
  Flag flag = on_off();
  flag.rules = {where("plan", {string_value("pro")}, kOn)};
  Context context{"u"};
  context.add("plan", boolean_value(true));

  EXPECT_EQ(evaluated(flag, context), std::pair(std::uint32_t{kOff}, Reason::unknown));
  EXPECT_EQ(evaluated(flag, Context{"u"}), std::pair(std::uint32_t{kOff}, Reason::unknown));
}

TEST(Evaluation, ARuleHoldsOnlyWhereAllItsConditionsDo) {
  Flag flag = on_off();
  Rule both = where("plan", {string_value("pro")}, kOn);
  both.conditions.push_back({.attribute = "beta", .values = {boolean_value(true)}});
  flag.rules = {both};
  Context context{"u"};
  context.add("plan", string_value("pro"));
  EXPECT_EQ(evaluated(flag, context).first, kOff);

  context.add("beta", boolean_value(true));

  EXPECT_EQ(evaluated(flag, context).first, kOn);
}

TEST(Evaluation, TheTargetingKeyIsAnAttributeToo) {
  Flag flag = on_off();
  flag.rules = {where("targetingKey", {string_value("u-7")}, kOn)};

  EXPECT_EQ(evaluated(flag, Context{"u-7"}).first, kOn);
  EXPECT_EQ(evaluated(flag, Context{"u-8"}).first, kOff);
}

TEST(Evaluation, AnAttributeThatComesTwiceCountsAsItCameLast) {
  Flag flag = on_off();
  flag.rules = {where("plan", {string_value("pro")}, kOn)};
  Context context{"u"};
  context.add("plan", string_value("pro"));
  context.add("plan", string_value("free"));

  EXPECT_EQ(evaluated(flag, context).first, kOff);
}

TEST(Evaluation, SwitchedOffAllGetTheDefaultWhateverTheRules) {
  Flag flag = on_off();
  flag.rules = {rollout(1, 0)};
  EXPECT_EQ(evaluated(flag, Context{"u"}), std::pair(std::uint32_t{kOn}, Reason::split));

  flag.enabled = false;

  EXPECT_EQ(evaluated(flag, Context{"u"}), std::pair(std::uint32_t{kOff}, Reason::disabled));
}

// Were these ever others, users would change sides with an upgrade.
TEST(Evaluation, TheHashOfARollOutIsWhatItWas) {
  EXPECT_EQ(rollout_hash("new-mailer", "user-1"), UINT64_C(553659889039704052));
  EXPECT_EQ(rollout_hash("", ""), UINT64_C(362675829607944414));
}

TEST(Evaluation, AShareIsAsWideAsItsWeight) {
  std::vector<Share> const shares{
      {.variant = 0, .weight = 1}, {.variant = 1, .weight = 0}, {.variant = 2, .weight = 3}};

  EXPECT_EQ(share_of(shares, 0), 0U);
  EXPECT_EQ(share_of(shares, (std::uint64_t{1} << 62) - 1), 0U);
  EXPECT_EQ(share_of(shares, std::uint64_t{1} << 62), 2U);
  EXPECT_EQ(share_of(shares, UINT64_MAX), 2U);
}

TEST(Evaluation, AKeyAndATargetingKeyDoNotRunIntoEachOther) {
  EXPECT_NE(rollout_hash("ab", "c"), rollout_hash("a", "bc"));
}

// Of n users in equal parts, the chi-square of ten parts stays under 27.9 in 999 of 1,000 cases; the keys are fixed, so
// that the test always says the same.
TEST(Evaluation, ARollOutIsSpreadEvenly) {
  constexpr int kUsers = 100'000;
  std::vector<Share> shares;
  for (std::uint32_t i = 0; i < 10; ++i) shares.push_back({.variant = i, .weight = 10});
  for (std::string const flag : {"new-mailer", "x", "checkout.v2"}) {
    std::array<int, 10> counts{};
    for (int user = 0; user < kUsers; ++user) {
      ++counts[share_of(shares, rollout_hash(flag, "user-" + std::to_string(user)))];
    }
    double chi_square = 0;
    for (int const count : counts) chi_square += std::pow(count - kUsers / 10.0, 2) / (kUsers / 10.0);
    EXPECT_LT(chi_square, 27.9) << flag;
  }
}

TEST(Evaluation, FlagsDrawTheirTenthsIndependently) {
  int in_both = 0;
  std::vector<Share> const tenth{{.variant = kOn, .weight = 1}, {.variant = kOff, .weight = 9}};
  for (int user = 0; user < 100'000; ++user) {
    std::string const key = "user-" + std::to_string(user);
    bool const first = share_of(tenth, rollout_hash("a", key)) == kOn;
    in_both += first && share_of(tenth, rollout_hash("b", key)) == kOn ? 1 : 0;
  }
  EXPECT_NEAR(in_both, 1'000, 120);
}

RC_GTEST_PROP(EvaluationProperty, AShareThatGrowsKeepsAllWhomItHad, (std::string const& user, std::uint16_t weight)) {
  std::uint32_t const before = weight % 100;
  for (std::uint32_t now = before; now <= 100; now += 10) {
    auto const hash = rollout_hash("f", user);
    if (share_of({{.variant = kOn, .weight = before}, {.variant = kOff, .weight = 100 - before}}, hash) != kOn) return;
    RC_ASSERT(share_of({{.variant = kOn, .weight = now}, {.variant = kOff, .weight = 100 - now}}, hash) == kOn);
  }
}

RC_GTEST_PROP(EvaluationProperty, OnlyThePartsOfTheWeightsCount, (std::uint64_t hash, std::uint8_t part)) {
  std::uint32_t const on = part % 101;
  auto const hundredths = share_of({{.variant = kOn, .weight = on}, {.variant = kOff, .weight = 101 - on}}, hash);
  auto const finer =
      share_of({{.variant = kOn, .weight = on * 1'000}, {.variant = kOff, .weight = (101 - on) * 1'000}}, hash);

  RC_ASSERT(hundredths == finer);
}

FlagEntryPtr entry(std::string key, Flag const& flag) {
  Bytes bytes;
  encode_flag(flag, bytes);
  return make_entry(key, bytes, 1, Instant{}, {}).value();
}

TEST(FlagSet, FindsByKeyAndGoesOnBehindOne) {
  FlagSet const set{{entry("a", on_off()), entry("c", on_off())}};

  EXPECT_EQ(set.find("c")->key, "c");
  EXPECT_EQ(set.find("b"), nullptr);
  EXPECT_EQ(set.first_after(""), 0U);
  EXPECT_EQ(set.first_after("a"), 1U);
  EXPECT_EQ(set.first_after("c"), 2U);
}

TEST(FlagSet, AnotherDefinitionIsAnotherFingerprint) {
  Flag off = on_off();
  off.enabled = false;

  EXPECT_EQ(FlagSet{{entry("a", off)}}.fingerprint(), FlagSet{{entry("a", off)}}.fingerprint());
  EXPECT_NE(FlagSet{{entry("a", off)}}.fingerprint(), FlagSet{{entry("a", on_off())}}.fingerprint());
  EXPECT_NE(FlagSet{{entry("a", off)}}.fingerprint(), FlagSet{{entry("b", off)}}.fingerprint());
  EXPECT_NE(FlagSet{{entry("a", off)}}.fingerprint(), FlagSet{}.fingerprint());
}

TEST(FlagSet, ATypeIsOpenWhereAllFlagsThatGateItAre) {
  Flag on = on_off();
  on.default_variant = kOn;
  on.gates = {"mail", "export"};
  Flag off = on_off();
  off.gates = {"export", "report"};

  EXPECT_EQ(closed_types(FlagSet{{entry("a", on), entry("b", off)}}), (std::vector<std::string>{"export", "report"}));
}

TEST(FlagSet, AGateSeesTheTypeAsItsContext) {
  Flag flag = on_off();
  flag.gates = {"mail", "export"};
  flag.rules = {where("type", {string_value("mail")}, kOn)};

  EXPECT_EQ(closed_types(FlagSet{{entry("a", flag)}}), (std::vector<std::string>{"export"}));
}

}  // namespace
}  // namespace workmill::flags
