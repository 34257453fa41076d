#include "service/token_uses.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "service/token_text.h"
#include "service/tokens.h"

namespace workmill::service {
namespace {

constexpr std::string_view kUsesHead =
    "# When the tokens of a Workmill server were used last, as it writes it down from time to time. Nothing in here "
    "lets\n"
    "# anybody in. A line: id of the token, salt of its secret, time.\n";

}  // namespace

std::vector<TokenUse> parse_token_uses(std::string_view file) {
  std::vector<TokenUse> uses;
  // Each token has two secrets at most.
  while (!file.empty() && uses.size() < 2 * kTokensMax) {
    std::string_view line = take_until(file, '\n');
    TokenUse use;
    use.id = take_until(line, ' ');
    std::string_view const salt = take_until(line, ' ');
    auto const at = parse_rfc3339(line);
    if (use.id.size() != kTokenIdBytes || !is_lower_hex(use.id) || !from_hex(salt, use.salt) || !at) continue;
    use.at = *at;
    uses.push_back(std::move(use));
  }
  return uses;
}

std::string format_token_uses(std::span<TokenUse const> uses) {
  std::string file{kUsesHead};
  for (TokenUse const& use : uses) {
    file.append(fmt::format("{} {} {}\n", use.id, to_hex(use.salt), format_rfc3339(use.at)));
  }
  return file;
}

}  // namespace workmill::service
