#include "flags/evaluation.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"

namespace workmill::flags {
namespace {

constexpr std::string_view kTargetingKey = "targetingKey";

bool holds(Condition const& condition, Context const& context) {
  Value const* const value = context.find(condition.attribute);
  return value != nullptr && std::any_of(condition.values.begin(), condition.values.end(),
                                         [&](Value const& operand) { return operand.equals(*value); });
}

bool holds(Rule const& rule, Context const& context) {
  return std::all_of(rule.conditions.begin(), rule.conditions.end(),
                     [&](Condition const& condition) { return holds(condition, context); });
}

}  // namespace

void Context::add(std::string_view name, Value value) {
  if (name == kTargetingKey && value.kind == ValueKind::string) targeting_key_ = value.text;
  attributes_.push_back({.name = std::string{name}, .value = std::move(value)});
}

Value const* Context::find(std::string_view name) const {
  auto const found =
      std::find_if(attributes_.rbegin(), attributes_.rend(), [&](Attribute const& it) { return it.name == name; });
  return found == attributes_.rend() ? nullptr : &found->value;
}

std::string_view to_string(Reason reason) {
  switch (reason) {
    case Reason::fixed: return "STATIC";
    case Reason::targeting_match: return "TARGETING_MATCH";
    case Reason::split: return "SPLIT";
    case Reason::disabled: return "DISABLED";
    case Reason::unknown: return "UNKNOWN";
  }
  return "";
}

std::uint64_t rollout_hash(std::string_view key, std::string_view targeting_key) {
  std::string text;
  text.reserve(key.size() + 1 + targeting_key.size());
  text.append(key).append(1, '\x1f').append(targeting_key);
  return XXH3_64bits(text.data(), text.size());
}

std::uint32_t share_of(std::vector<Share> const& shares, std::uint64_t hash) {
  std::uint64_t sum = 0;
  for (Share const& share : shares) sum += share.weight;
  WM_ASSERT(sum > 0);
  // The hash as a part of 2^64, of all weights: floor(hash * sum / 2^64), by halves, as no sum is over 2^26.
  static_assert(kVariantsMax * kWeightMax < (std::uint64_t{1} << 32));
  std::uint64_t const low = (hash & 0xffff'ffff) * sum >> 32;
  std::uint64_t const point = ((hash >> 32) * sum + low) >> 32;
  std::uint64_t end = 0;
  for (Share const& share : shares) {
    end += share.weight;
    if (point < end || (point == end && WM_MUTATION(share_is_too_wide))) return share.variant;
  }
  WM_ASSERT(false);  // The point lies below the sum.
  return 0;
}

Evaluation evaluate(std::string_view key, Flag const& flag, Context const& context) {
  if (!flag.enabled && !WM_MUTATION(kill_switch_is_ignored))
    return {.variant = flag.default_variant, .reason = Reason::disabled};
  if (flag.rules.empty()) return {.variant = flag.default_variant, .reason = Reason::fixed};
  for (Rule const& rule : flag.rules) {
    if (!holds(rule, context)) continue;
    if (!rule.is_rollout) return {.variant = rule.variant, .reason = Reason::targeting_match};
    return {.variant = share_of(rule.shares, rollout_hash(key, context.targeting_key())), .reason = Reason::split};
  }
  return {.variant = flag.default_variant, .reason = Reason::unknown};
}

bool is_open_for(std::string_view key, Flag const& flag, std::string_view type) {
  Context context{type};
  context.add("type", string_value(type));
  return flag.variants[evaluate(key, flag, context).variant].value.text == "true";
}

}  // namespace workmill::flags
