#include "protocols/http/gzip.h"

#include <algorithm>
#include <charconv>

namespace workmill::http {
namespace {

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

bool is_word(std::string_view text, std::string_view lower_case) {
  return std::ranges::equal(text, lower_case, {},
                            [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
}

bool has_quality(std::string_view parameters) {
  std::size_t const at = parameters.find("q=");
  if (at == std::string_view::npos) return true;
  std::string_view const value = parameters.substr(at + 2);
  double quality = 0;
  auto const read = std::from_chars(value.data(), value.data() + value.size(), quality);
  return read.ec == std::errc{} && quality > 0;
}

}  // namespace

bool accepts_gzip(std::string_view accept_encoding) {
  bool any = false;
  while (!accept_encoding.empty()) {
    std::size_t const comma = std::min(accept_encoding.find(','), accept_encoding.size());
    std::string_view const item = accept_encoding.substr(0, comma);
    accept_encoding.remove_prefix(std::min(comma + 1, accept_encoding.size()));
    std::size_t const semicolon = std::min(item.find(';'), item.size());
    std::string_view const name = trimmed(item.substr(0, semicolon));
    bool const is_wanted = has_quality(item.substr(semicolon));
    if (is_word(name, "gzip")) return is_wanted;
    if (name == "*") any = is_wanted;
  }
  return any;
}

}  // namespace workmill::http
