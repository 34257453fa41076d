#include "protocols/http/bearer.h"

#include <algorithm>

namespace workmill::http {
namespace {

constexpr std::string_view kScheme = "bearer";

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// token68 of RFC 9110, 11.2.
bool is_credential(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view{"-._~+/="}.find(c) != std::string_view::npos;
}

}  // namespace

std::optional<std::string_view> parse_bearer(std::string_view header) {
  if (header.size() <= kScheme.size()) return std::nullopt;
  bool const is_bearer =
      std::equal(kScheme.begin(), kScheme.end(), header.begin(), [](char a, char b) { return a == lower(b); });
  if (!is_bearer || header[kScheme.size()] != ' ') return std::nullopt;
  header.remove_prefix(kScheme.size());
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  if (header.empty() || !std::all_of(header.begin(), header.end(), is_credential)) return std::nullopt;
  return header;
}

}  // namespace workmill::http
