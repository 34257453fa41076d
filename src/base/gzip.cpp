#include "base/gzip.h"

#include <zlib.h>

#include <limits>

namespace workmill {
namespace {

constexpr int kGzipWindow = 15 + 16;  // The largest window, and gzip's header and trailer.
constexpr int kMemoryLevel = 8;

}  // namespace

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

}  // namespace workmill
