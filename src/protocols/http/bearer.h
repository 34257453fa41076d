#pragma once
#include <optional>
#include <string_view>

namespace workmill::http {

// The credentials of "Bearer xyz" (RFC 6750, 2.1; the scheme in any case, RFC 9110, 11.1): "xyz", lent from `header`.
// Nothing for another scheme, for no credentials, and for bytes that credentials cannot have. Fuzzed.
std::optional<std::string_view> parse_bearer(std::string_view header);

}  // namespace workmill::http
