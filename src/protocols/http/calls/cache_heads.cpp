#include "protocols/http/calls/cache_heads.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>

namespace workmill::http {
namespace {

constexpr std::size_t kEtagBytes = 18;  // With its quotes.

std::array<char, kEtagBytes> format_etag(std::uint64_t etag) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::array<char, kEtagBytes> text{};
  text.front() = text.back() = '"';
  for (std::size_t i = kEtagBytes - 2; i > 0; --i, etag >>= 4) text[i] = kHex[etag & 0xf];
  return text;
}

void append_seconds(std::int64_t seconds, std::string& out) {
  std::array<char, 21> digits;
  auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), seconds).ptr;
  out.append(digits.data(), end);
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

}  // namespace

void append_etag(std::uint64_t etag, std::string& out) {
  auto const text = format_etag(etag);
  out.append(text.data(), text.size());
}

bool names_etag(std::string_view list, std::uint64_t etag) {
  auto const ours = format_etag(etag);
  std::string_view const wanted{ours.data(), ours.size()};
  bool is_first = true;
  while (!list.empty()) {
    if (is_blank(list.front()) || list.front() == ',') {  // A list may have empty places.
      list.remove_prefix(1);
      continue;
    }
    if (is_first && list.front() == '*') return list.find_first_not_of(" \t", 1) == std::string_view::npos;
    is_first = false;
    if (list.starts_with("W/")) list.remove_prefix(2);
    if (list.empty() || list.front() != '"') return false;
    std::size_t const close = list.find('"', 1);
    if (close == std::string_view::npos) return false;
    if (list.substr(0, close + 1) == wanted) return true;
    list.remove_prefix(close + 1);
    while (!list.empty() && is_blank(list.front())) list.remove_prefix(1);
    if (!list.empty() && list.front() != ',') return false;
  }
  return false;
}

void append_value_lines(ValueLines const& value, Instant now, std::string& out) {
  using std::chrono::floor;
  using std::chrono::seconds;
  out.append("ETag: ");
  append_etag(value.etag, out);
  out.append("\r\nAge: ");
  append_seconds(std::max<std::int64_t>(floor<seconds>(now - value.stored_at).count(), 0), out);
  out.append("\r\nCache-Control: no-cache\r\nCache-Status: workmill; ");
  switch (value.origin) {
    case Origin::hit:
      out.append("hit; ttl=");
      append_seconds(floor<seconds>(value.fresh_until - now).count(), out);
      break;
    case Origin::computed:
    case Origin::collapsed:
      out.append("fwd=uri-miss");
      if (value.is_stored) out.append("; stored");
      if (value.origin == Origin::collapsed) out.append("; collapsed");
      break;
  }
  out.append("\r\n");
}

}  // namespace workmill::http
