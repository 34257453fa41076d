#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "protocols/http/bearer.h"
#include "service/tokens.h"

// Whatever an Authorization header holds: what comes out of it is its end, without a space in it. An X-API-Key header
// is taken apart as it is.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const header{reinterpret_cast<char const*>(data), size};
  if (auto const parts = workmill::service::split_token(header)) {
    WM_ASSERT(header.ends_with(parts->secret) && header.find(parts->id) != std::string_view::npos);
  }
  auto const credentials = workmill::http::parse_bearer(header);
  if (!credentials) return 0;
  WM_ASSERT(!credentials->empty() && header.ends_with(*credentials));
  WM_ASSERT(credentials->find_first_of(std::string_view{" \t\r\n\0", 5}) == std::string_view::npos);
  static_cast<void>(workmill::service::split_token(*credentials));
  return 0;
}
