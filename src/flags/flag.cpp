#include "flags/flag.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "base/assert.h"
#include "model/ids.h"

namespace workmill::flags {
namespace {

// The bits of a flag's and of a rule's first byte.
constexpr std::uint8_t kEnabled = 1U << 0;
constexpr std::uint8_t kFlagBits = 0b1;
constexpr std::uint8_t kRollout = 1U << 0;
constexpr std::uint8_t kRuleBits = 0b1;

auto invalid(std::string field, std::string message) {
  return fail_field(ErrorCode::invalid_field, std::move(field), std::move(message));
}

std::string at(char const* list, std::size_t place) { return std::string{list} + "[" + std::to_string(place) + "]"; }

std::string at_most(std::size_t max) { return "must be " + std::to_string(max) + " at most"; }

Result<> check_variants(Flag const& flag) {
  if (flag.variants.empty()) return invalid("variants", "must not be empty");
  if (flag.variants.size() > kVariantsMax) return invalid("variants", at_most(kVariantsMax));
  for (Variant const& variant : flag.variants) {
    if (!is_name(variant.name)) return invalid("variants", "names must be 1 to 128 of A-Z a-z 0-9 . _ : -");
    if (variant.value.kind != flag.variants.front().value.kind) {
      return invalid("variants." + variant.name, "must be of the same type as the other variants");
    }
    auto const same = [&](Variant const& other) { return other.name == variant.name; };
    if (std::count_if(flag.variants.begin(), flag.variants.end(), same) > 1) {
      return invalid("variants." + variant.name, "must not come twice");
    }
  }
  WM_ASSERT(flag.default_variant < flag.variants.size());
  return {};
}

Result<> check_rule(Rule const& rule, std::string const& field) {
  if (rule.conditions.size() > kConditionsMax) return invalid(field + ".if", at_most(kConditionsMax));
  for (Condition const& condition : rule.conditions) {
    if (condition.attribute.empty() || condition.attribute.size() > kAttributeBytesMax) {
      return invalid(field + ".if", "attributes' names must be of 1 to 128 bytes");
    }
    if (condition.values.empty()) return invalid(field + ".if." + condition.attribute, "must not be empty");
    if (condition.values.size() > kOperandsMax) {
      return invalid(field + ".if." + condition.attribute, at_most(kOperandsMax));
    }
  }
  if (!rule.is_rollout) return {};
  auto const has_weight = [](Share const& share) { return share.weight > 0; };
  if (std::none_of(rule.shares.begin(), rule.shares.end(), has_weight)) {
    return invalid(field + ".rollout", "needs a variant with a weight above 0");
  }
  return {};
}

void encode_value(Value const& value, ByteWriter& out) {
  out.u8(std::to_underlying(value.kind));
  out.bytes(value.text);
}

// What the bytes of a flag are read with: bounded by what is left of them, as each thing takes a byte at least.
class FlagReader : public ByteReader {
 public:
  using ByteReader::ByteReader;

  void require(bool holds) { valid_ = valid_ && holds; }
  bool good() const { return valid_ && ok(); }
  bool whole() const { return valid_ && done(); }
  std::size_t count(std::size_t max) {
    std::uint64_t const value = varint();
    require(value <= max && value <= remaining());
    return good() ? static_cast<std::size_t>(value) : 0;
  }
  std::uint32_t place(std::size_t size) {
    std::uint64_t const value = varint();
    require(value < size);
    return good() ? static_cast<std::uint32_t>(value) : 0;
  }
  std::uint8_t bits(std::uint8_t known) {
    std::uint8_t const value = u8();
    require((value & ~known) == 0);
    return value;
  }
  Value value() {
    std::uint8_t const kind = u8();
    require(kind <= std::to_underlying(ValueKind::object));
    Value value{.kind = static_cast<ValueKind>(kind), .text = std::string{bytes()}};
    if (!good()) return {};
    if (value.kind == ValueKind::boolean) require(value.text == "true" || value.text == "false");
    if (value.kind == ValueKind::number) require(parse_number(std::string{value.text}, value));
    return value;
  }

 private:
  bool valid_ = true;
};

void encode_rule(Rule const& rule, ByteWriter& out) {
  out.u8(rule.is_rollout ? kRollout : 0);
  out.varint(rule.conditions.size());
  for (Condition const& condition : rule.conditions) {
    out.bytes(condition.attribute);
    out.varint(condition.values.size());
    for (Value const& value : condition.values) encode_value(value, out);
  }
  if (!rule.is_rollout) return out.varint(rule.variant);
  out.varint(rule.shares.size());
  for (Share const& share : rule.shares) {
    out.varint(share.variant);
    out.varint(share.weight);
  }
}

Rule decode_rule(FlagReader& in, std::size_t variants) {
  Rule rule;
  rule.is_rollout = (in.bits(kRuleBits) & kRollout) != 0;
  rule.conditions.resize(in.count(kConditionsMax));
  for (Condition& condition : rule.conditions) {
    condition.attribute = in.bytes();
    condition.values.resize(in.count(kOperandsMax));
    for (Value& value : condition.values) {
      value = in.value();
      in.require(value.kind != ValueKind::object);
    }
  }
  if (!rule.is_rollout) {
    rule.variant = in.place(variants);
    return rule;
  }
  rule.shares.resize(in.count(kVariantsMax));
  std::uint64_t sum = 0;
  for (Share& share : rule.shares) {
    share.variant = in.place(variants);
    std::uint64_t const weight = in.varint();
    in.require(weight <= kWeightMax);
    share.weight = in.good() ? static_cast<std::uint32_t>(weight) : 0;
    sum += share.weight;
  }
  in.require(sum > 0);
  return rule;
}

}  // namespace

std::string_view to_string(ValueKind kind) {
  switch (kind) {
    case ValueKind::boolean: return "boolean";
    case ValueKind::string: return "string";
    case ValueKind::number: return "number";
    case ValueKind::object: return "object";
  }
  return "";
}

bool Value::equals(Value const& other) const {
  if (kind != other.kind || kind == ValueKind::object) return false;
  return kind == ValueKind::number ? number == other.number : text == other.text;
}

Value boolean_value(bool truth) { return {.kind = ValueKind::boolean, .text = truth ? "true" : "false"}; }
Value string_value(std::string_view text) { return {.kind = ValueKind::string, .text = std::string{text}}; }

bool parse_number(std::string_view text, Value& value) {
  double number = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || text.size() > kNumberBytesMax || error != std::errc{} || end != text.data() + text.size() ||
      !std::isfinite(number)) {
    return false;
  }
  value = Value{.kind = ValueKind::number, .text = std::string{text}, .number = number};
  return true;
}

Result<> check_flag(Flag const& flag) {
  WM_TRY_VOID(check_variants(flag));
  if (flag.rules.size() > kRulesMax) return invalid("rules", at_most(kRulesMax));
  for (std::size_t i = 0; i < flag.rules.size(); ++i) WM_TRY_VOID(check_rule(flag.rules[i], at("rules", i)));
  if (flag.gates.size() > kGatesMax) return invalid("gates", at_most(kGatesMax));
  for (std::size_t i = 0; i < flag.gates.size(); ++i) {
    if (!is_name(flag.gates[i])) return invalid(at("gates", i), "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
  }
  if (!flag.gates.empty() && flag.variants.front().value.kind != ValueKind::boolean) {
    return invalid("gates", "only a flag whose variants are booleans can gate jobs");
  }
  Bytes encoded;
  encode_flag(flag, encoded);
  if (encoded.size() > kFlagBytesMax) {
    return fail_field(ErrorCode::payload_too_large, {}, "a flag's definition must fit into 16 KiB");
  }
  return {};
}

void encode_flag(Flag const& flag, Bytes& bytes) {
  ByteWriter out{bytes};
  out.u8(flag.enabled ? kEnabled : 0);
  out.varint(flag.variants.size());
  for (Variant const& variant : flag.variants) {
    out.bytes(variant.name);
    encode_value(variant.value, out);
  }
  out.varint(flag.default_variant);
  out.varint(flag.rules.size());
  for (Rule const& rule : flag.rules) encode_rule(rule, out);
  out.varint(flag.gates.size());
  for (std::string const& type : flag.gates) out.bytes(type);
}

Result<Flag> decode_flag(BytesView bytes) {
  FlagReader in{bytes};
  Flag flag;
  flag.enabled = (in.bits(kFlagBits) & kEnabled) != 0;
  flag.variants.resize(in.count(kVariantsMax));
  for (Variant& variant : flag.variants) {
    variant.name = in.bytes();
    variant.value = in.value();
    in.require(variant.value.kind == flag.variants.front().value.kind);
  }
  flag.default_variant = in.place(flag.variants.size());
  flag.rules.resize(in.count(kRulesMax));
  for (Rule& rule : flag.rules) rule = decode_rule(in, flag.variants.size());
  flag.gates.resize(in.count(kGatesMax));
  for (std::string& type : flag.gates) type = in.bytes();
  bool const is_gate_of_booleans =
      flag.gates.empty() || (!flag.variants.empty() && flag.variants.front().value.kind == ValueKind::boolean);
  if (!in.whole() || !is_gate_of_booleans) return fail(ErrorCode::log_corrupt, "a flag's definition is damaged");
  return flag;
}

}  // namespace workmill::flags
