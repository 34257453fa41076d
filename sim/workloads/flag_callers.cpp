#include "sim/workloads/flag_callers.h"

#include <utility>

#include "base/assert.h"

namespace workmill::sim {
namespace {

using flags::Flag;
using flags::Value;
using flags::ValueKind;

Value number_value(std::string const& text) {
  Value value{.kind = ValueKind::number, .text = text};
  WM_ASSERT(flags::parse_number(text, value));
  return value;
}

}  // namespace

FlagUse FlagCallers::draw_use() {
  std::uint64_t left = below(weight_sum_);
  std::size_t use = 0;
  while (left >= options_.weights[use]) left -= options_.weights[use++];
  return static_cast<FlagUse>(use);
}

flags::Context FlagCallers::draw_context() {
  flags::Context context{"user-" + std::to_string(below(1'000))};
  if (chance(600)) context.add("plan", flags::string_value("p" + std::to_string(below(4))));
  if (chance(400)) context.add("beta", flags::boolean_value(chance(500)));
  if (chance(400)) context.add("n", number_value(chance(500) ? std::to_string(below(4)) : "1.0"));
  if (chance(100)) context.add("plan", flags::string_value("p0"));  // Twice: the last counts.
  return context;
}

flags::Condition FlagCallers::draw_condition() {
  switch (below(5)) {
    case 0: return {.attribute = "beta", .values = {flags::boolean_value(chance(500))}};
    case 1: return {.attribute = "n", .values = {number_value(std::to_string(below(4))), number_value("1")}};
    case 2: return {.attribute = "type", .values = {flags::string_value("t" + std::to_string(below(3)))}};
    case 3: return {.attribute = "targetingKey", .values = {flags::string_value("t0"), flags::string_value("user-1")}};
    default: break;
  }
  flags::Condition condition{.attribute = "plan", .values = {}};
  for (std::uint64_t i = 1 + below(3); i > 0; --i) {
    condition.values.push_back(flags::string_value("p" + std::to_string(below(4))));
  }
  return condition;
}

flags::Rule FlagCallers::draw_rule(Flag const& flag) {
  flags::Rule rule;
  if (chance(600)) rule.conditions.push_back(draw_condition());
  if (chance(150)) rule.conditions.push_back(draw_condition());
  rule.is_rollout = chance(400);
  if (!rule.is_rollout) {
    rule.variant = static_cast<std::uint32_t>(below(flag.variants.size()));
    return rule;
  }
  for (std::uint32_t i = 0; i < flag.variants.size(); ++i) {
    rule.shares.push_back({.variant = i, .weight = static_cast<std::uint32_t>(below(chance(500) ? 3 : 1'000'000))});
  }
  rule.shares[below(rule.shares.size())].weight += chance(500) ? 1U : 0U;
  bool is_any = false;
  for (flags::Share const& share : rule.shares) is_any = is_any || share.weight > 0;
  if (!is_any) rule.shares.front().weight = 1;
  return rule;
}

// Of booleans only.
std::vector<std::string> FlagCallers::draw_gates(Flag const& flag) {
  std::vector<std::string> gates;
  if (flag.variants.front().value.kind != ValueKind::boolean || !chance(options_.gates)) return gates;
  for (int type = 0; type < 3; ++type) {
    if (chance(450)) gates.push_back("t" + std::to_string(type));
  }
  if (chance(100)) gates.emplace_back("unheard-of");
  return gates;
}

Flag FlagCallers::draw_flag() {
  Flag flag;
  std::uint64_t const kind = below(10);
  if (kind < 7) {
    flag.variants = {{.name = "on", .value = flags::boolean_value(true)},
                     {.name = "off", .value = flags::boolean_value(false)}};
    flag.default_variant = chance(options_.open) ? 0 : 1;
  } else {
    for (std::uint64_t i = 0, count = 1 + below(3); i < count; ++i) {
      std::string const text = std::to_string(++serial_);
      Value const value = kind < 9 ? flags::string_value(text) : number_value(text);
      flag.variants.push_back({.name = "v" + std::to_string(i), .value = value});
    }
    flag.default_variant = static_cast<std::uint32_t>(below(flag.variants.size()));
  }
  flag.enabled = !chance(100);
  for (std::uint64_t i = below(4); i > 1; --i) flag.rules.push_back(draw_rule(flag));
  flag.gates = draw_gates(flag);
  return flag;
}

// As an adapter makes it of what it has parsed. A rule that never holds carries the padding.
SetFlag FlagCallers::set(std::string key, Flag const& flag, std::optional<std::uint64_t> version) {
  Flag padded = flag;
  if (options_.definition_bytes > 0 && padded.rules.size() < 10) {
    std::string const text(below(options_.definition_bytes + 1), 'x');
    std::erase_if(padded.rules, [](flags::Rule const& rule) {
      return !rule.conditions.empty() && rule.conditions.front().attribute == "pad";
    });
    padded.rules.push_back({.conditions = {{.attribute = "pad", .values = {flags::string_value(text)}}},
                            .variant = padded.default_variant});
  }
  WM_ASSERT(flags::check_flag(padded).has_value());
  SetFlag command{.key = std::move(key), .definition = {}, .version = version, .by = draw_name()};
  flags::encode_flag(padded, command.definition);
  last_ = command;
  return command;
}

SetFlag FlagCallers::make(std::string key, flags::FlagEntry const* known) {
  std::optional<std::uint64_t> version;
  if (chance(400)) version = known != nullptr && !chance(200) ? known->version : 0;
  return set(std::move(key), draw_flag(), version);
}

SetFlag FlagCallers::kill(flags::FlagEntry const& known) {
  Flag flag = known.flag;
  flag.enabled = !flag.enabled;
  return set(known.key, flag, chance(500) ? std::optional{known.version} : std::nullopt);
}

SetFlag FlagCallers::change(flags::FlagEntry const& known) {
  Flag flag = known.flag;
  if (chance(300)) {
    flag.gates = draw_gates(flag);
  } else if (chance(500)) {
    flag.default_variant = static_cast<std::uint32_t>(below(flag.variants.size()));
  } else if (flag.rules.empty() || chance(500)) {
    flag.rules.insert(flag.rules.begin(), draw_rule(flag));
    if (flag.rules.size() > 3) flag.rules.resize(3);
  } else {
    flag.rules.clear();
  }
  std::optional<std::uint64_t> version;
  if (chance(500)) version = known.version - (chance(100) ? 1U : 0U);
  return set(known.key, flag, version);
}

}  // namespace workmill::sim
