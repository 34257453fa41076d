#include "model/command.h"

#include <utility>

namespace workmill {

// In two halves, each written as a lease's token is.
std::string format_resume_token(ResumeToken const& token) {
  return format_token(LeaseToken{token[0]}) + format_token(LeaseToken{token[1]});
}

std::optional<ResumeToken> parse_resume_token(std::string_view text) {
  constexpr std::size_t kHalf = 16;
  if (text.size() != 2 * kHalf) return std::nullopt;
  auto const high = parse_token(text.substr(0, kHalf));
  auto const low = parse_token(text.substr(kHalf));
  if (!high || !low) return std::nullopt;
  return ResumeToken{std::to_underlying(*high), std::to_underlying(*low)};
}

}  // namespace workmill
