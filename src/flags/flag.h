#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

// What a flag is: its variants, which of them is served to whom, and which types of jobs wait for it.
//
// Values only: any thread may own one, and a Flag that is shared is never changed. Its JSON is the adapters'
// (protocols/http/json/flags_json.h); here is the one byte form that goes into commands and the log, and the rules of
// the contract (docs/reference/flags.md).
namespace workmill::flags {

inline constexpr std::size_t kFlagsMax = 1'000;          // In a store.
inline constexpr std::size_t kFlagBytesMax = 16 * 1024;  // As encode_flag writes it.
inline constexpr std::size_t kVariantsMax = 50;
inline constexpr std::size_t kRulesMax = 100;
inline constexpr std::size_t kConditionsMax = 10;       // In a rule.
inline constexpr std::size_t kOperandsMax = 1'000;      // In a condition.
inline constexpr std::size_t kGatesMax = 100;           // Types of jobs.
inline constexpr std::size_t kAttributeBytesMax = 128;  // Of an attribute's name.
inline constexpr std::size_t kNumberBytesMax = 32;      // Of a number's text.
inline constexpr std::uint32_t kWeightMax = 1'000'000;

enum class ValueKind : std::uint8_t { boolean, string, number, object };
std::string_view to_string(ValueKind kind);

struct Value {
  ValueKind kind = ValueKind::boolean;
  std::string text{};  // Of a string its content; else the JSON text, a number's and an object's as it was sent.
  double number = 0;   // Of a number. Follows from `text`.

  // As JSON has it: 1 and 1.0 are the same number; text and number are never the same. Objects equal nothing.
  bool equals(Value const& other) const;
};
Value boolean_value(bool truth);
Value string_value(std::string_view text);
// Nothing that a finite double holds: false.
bool parse_number(std::string_view text, Value& value);

struct Variant {
  std::string name{};  // A name.
  Value value{};
};

struct Share {
  std::uint32_t variant = 0;  // Its place in Flag::variants.
  std::uint32_t weight = 0;
};

// The attribute has one of the values.
struct Condition {
  std::string attribute{};
  std::vector<Value> values{};  // No objects.
};

// Where all conditions hold, it decides: always for the same variant, or by shares of those who ask.
struct Rule {
  std::vector<Condition> conditions{};  // None: it always holds.
  bool is_rollout = false;
  std::uint32_t variant = 0;    // Where it is no roll-out.
  std::vector<Share> shares{};  // Of a roll-out, in the order of the definition. One at least has a weight.
};

struct Flag {
  std::vector<Variant> variants{};  // All of the same kind.
  std::uint32_t default_variant = 0;
  bool enabled = true;               // Off: the default variant, whoever asks.
  std::vector<Rule> rules{};         // The first that holds decides; none: the default variant.
  std::vector<std::string> gates{};  // Types of jobs that wait while the flag is not true for them.
};

// The rules of the contract. invalid_field with the field's name where one is broken, payload_too_large where the
// definition is over kFlagBytesMax. Every adapter calls it on what it has parsed; the engine trusts it.
Result<> check_flag(Flag const& flag);

// Written down in docs/log-records.md. What decodes is what encode_flag writes for the same flag; log_corrupt where
// `in` is no flag, or one with places that lead nowhere.
void encode_flag(Flag const& flag, Bytes& out);
Result<Flag> decode_flag(BytesView in);

}  // namespace workmill::flags
