#include "protocols/http/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <limits>

namespace workmill::http {
namespace {

constexpr int kGzipWindow = 15 + 16;  // The largest window, and gzip's header and trailer.
constexpr int kMemoryLevel = 8;

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

bool append_gzip(std::string_view text, std::string& out) {
  if (text.size() > std::numeric_limits<uInt>::max() / 2) return false;
  z_stream stream{};
  if (::deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow, kMemoryLevel, Z_DEFAULT_STRATEGY) != Z_OK) {
    return false;
  }
  std::size_t const before = out.size();
  uLong const room = ::deflateBound(&stream, static_cast<uLong>(text.size()));
  out.resize(before + room);
  // zlib does not write to what it reads; its field is not const for C's sake.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
  stream.avail_out = static_cast<uInt>(room);
  bool const is_whole = ::deflate(&stream, Z_FINISH) == Z_STREAM_END;  // The bound is that of all bytes.
  std::size_t const size = stream.total_out;
  ::deflateEnd(&stream);
  out.resize(is_whole ? before + size : before);
  return is_whole;
}

}  // namespace workmill::http
