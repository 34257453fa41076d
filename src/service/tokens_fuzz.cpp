#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "service/token_uses.h"
#include "service/tokens.h"

// Whatever stands in a tokens file, or is shown as a token: it is refused, or it is written again as it was read.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill::service;
  std::string_view const text{reinterpret_cast<char const*>(data), size};
  if (auto const shown = split_token(text)) {
    WM_ASSERT(std::string{"wm_"} + std::string{shown->id} + "_" + std::string{shown->secret} == text);
  }
  if (auto const scopes = parse_scopes(text)) {
    auto const again = parse_scopes(to_string(*scopes));
    WM_ASSERT(again && *again == *scopes);
  }
  if (auto const records = parse_tokens(text)) {
    std::string const written = format_tokens(*records);
    auto const again = parse_tokens(written);
    WM_ASSERT(again && format_tokens(*again) == written);
  }
  std::string const uses = format_token_uses(parse_token_uses(text));
  WM_ASSERT(format_token_uses(parse_token_uses(uses)) == uses);
  return 0;
}
