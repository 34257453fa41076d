#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

// When tokens were used last, as it is written aside for after a restart. Pure values: any thread may own one. Fuzzed.
namespace workmill::service {

// A secret is told from another of the same token by its salt. Nothing in here lets anybody in.
struct TokenUse {
  std::string id;
  std::array<std::uint8_t, 16> salt{};
  Instant at{};
};

// A line each. What cannot be read is left out: it costs no more than not to know when a token was used.
std::vector<TokenUse> parse_token_uses(std::string_view file);
std::string format_token_uses(std::span<TokenUse const> uses);

}  // namespace workmill::service
