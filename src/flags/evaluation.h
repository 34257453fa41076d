#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flags/flag.h"

// Which variant of a flag somebody gets. Pure: the same flag and the same context give the same variant, on every
// server and after every restart.
namespace workmill::flags {

inline constexpr std::size_t kContextAttributesMax = 256;

// Who asks: a key by which roll-outs know him again, and what else is known of him.
class Context {
 public:
  Context() = default;
  explicit Context(std::string_view targeting_key) { add("targetingKey", string_value(targeting_key)); }

  // One that comes again counts as it came last. The name "targetingKey" is that of the key.
  void add(std::string_view name, Value value);
  std::string_view targeting_key() const { return targeting_key_; }
  Value const* find(std::string_view name) const;
  std::size_t size() const { return attributes_.size(); }

 private:
  struct Attribute {
    std::string name;
    Value value;
  };
  std::string targeting_key_;
  std::vector<Attribute> attributes_;
};

// Why this variant: OpenFeature's words, as far as its remote protocol knows them.
enum class Reason : std::uint8_t {
  fixed,            // "STATIC": the flag has no rules, and all get the same.
  targeting_match,  // A rule with conditions decided.
  split,            // A roll-out decided.
  disabled,         // The flag is switched off.
  unknown,          // It has rules, and none held: the default. ("DEFAULT" is no word of that protocol.)
};
inline constexpr std::size_t kReasons = 5;
std::string_view to_string(Reason reason);  // "TARGETING_MATCH".

struct Evaluation {
  std::uint32_t variant = 0;  // Its place in Flag::variants.
  Reason reason{};
};
// `key`: the flag's, which goes into the hash, so that not the same tenth of all users gets every novelty first.
Evaluation evaluate(std::string_view key, Flag const& flag, Context const& context);

// Where in a roll-out one stands: XXH3-64 (seed 0) of the flag's key, the byte 0x1f, and the targeting key. Over all
// keys evenly spread from 0 to 2^64. It must never change: users would change sides.
std::uint64_t rollout_hash(std::string_view key, std::string_view targeting_key);
// The share that this hash falls into: the shares lie behind each other, in their order, over the whole range, each
// as wide as its weight. So a share that is first and grows keeps all whom it had.
std::uint32_t share_of(std::vector<Share> const& shares, std::uint64_t hash);

// Is this type of jobs let through? By the context {"targetingKey": type, "type": type}.
bool is_open_for(std::string_view key, Flag const& flag, std::string_view type);

}  // namespace workmill::flags
