#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "flags/evaluation.h"
#include "flags/flag.h"
#include "flags/flag_set.h"
#include "model/command.h"

// Who uses feature flags: makes, changes, kills and removes a few, of which some gate the types of jobs that the others
// send, and asks what they are for somebody. Whoever changes one has read it before, as a client of the HTTP API does.
namespace workmill::sim {

enum class FlagUse : std::uint8_t {
  look,    // All of them, for somebody.
  make,    // A definition out of nothing, whatever is there.
  kill,    // Off, whatever the rules; or on again.
  change,  // The rules, the default, or what is gated.
  repeat,  // The same request again.
  remove,
  history,
};
inline constexpr std::size_t kFlagUses = 7;

struct FlagWorkload {
  std::uint32_t keys = 0;              // 0: nobody uses flags.
  std::uint32_t turns_permille = 100;  // Turns in which somebody does.
  std::array<std::uint32_t, kFlagUses> weights{300, 120, 150, 200, 40, 60, 40};
  std::uint32_t gates = 500;         // In thousandths: how many flags of booleans gate types,
  std::uint32_t open = 600;          // and have "on" for their default.
  std::size_t definition_bytes = 0;  // What is added to each, at most.
};

class FlagCallers {
 public:
  FlagCallers(FlagWorkload const& options, Rng chance) : options_(options), chance_(chance) {
    for (std::uint32_t const weight : options_.weights) weight_sum_ += weight;
  }

  bool empty() const { return options_.keys == 0; }
  bool uses_some() { return chance(options_.turns_permille); }
  FlagUse draw_use();
  std::string draw_key() { return "f" + std::to_string(below(options_.keys)); }
  // Whoever asks what flags are for him.
  flags::Context draw_context();
  // `known`: what there is under this key, or null.
  SetFlag make(std::string key, flags::FlagEntry const* known);
  SetFlag kill(flags::FlagEntry const& known);
  SetFlag change(flags::FlagEntry const& known);
  std::optional<SetFlag> repeat() const { return last_; }
  RemoveFlag remove(std::string key) { return {.key = std::move(key), .by = draw_name()}; }

 private:
  std::uint64_t below(std::uint64_t n) { return chance_.below(n); }
  bool chance(std::uint32_t permille) { return chance_.chance(permille); }
  std::string draw_name() { return chance(300) ? std::string{} : "ops" + std::to_string(below(3)); }
  flags::Flag draw_flag();
  flags::Rule draw_rule(flags::Flag const& flag);
  flags::Condition draw_condition();
  std::vector<std::string> draw_gates(flags::Flag const& flag);
  SetFlag set(std::string key, flags::Flag const& flag, std::optional<std::uint64_t> version);

  FlagWorkload options_;
  Rng chance_;
  std::uint64_t weight_sum_ = 0;
  std::uint64_t serial_ = 0;
  std::optional<SetFlag> last_;
};

}  // namespace workmill::sim
