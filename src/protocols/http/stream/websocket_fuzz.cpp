#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "protocols/http/stream/websocket.h"

// Any bytes, once all at a time and once in pieces (the first byte says of what size): the same messages come out, none
// longer than the limit, and nothing behind what is refused.
namespace {

using workmill::http::websocket::FrameReader;
constexpr std::size_t kMessageMax = 1'000;

std::vector<std::string> read(std::string_view bytes, std::size_t piece) {
  FrameReader reader{kMessageMax};
  std::string scratch;
  std::vector<std::string> seen;
  std::size_t arrived = 0, used = 0;
  while (used < bytes.size()) {
    arrived = std::min(bytes.size(), arrived + piece);
    for (bool more = true; more && used < arrived;) {
      auto const status = reader.next(bytes.substr(used, arrived - used), scratch);
      used += reader.consumed();
      WM_ASSERT(used <= arrived);
      switch (status) {
        case FrameReader::Status::need_more: more = reader.consumed() > 0; break;
        case FrameReader::Status::message: WM_ASSERT(reader.payload().size() <= kMessageMax); [[fallthrough]];
        case FrameReader::Status::ping:
        case FrameReader::Status::pong: seen.emplace_back(reader.payload()); break;
        case FrameReader::Status::close:
        case FrameReader::Status::refused:
          seen.push_back(std::to_string(static_cast<int>(reader.close_code())) + std::string{reader.payload()});
          return seen;
      }
    }
    if (arrived == bytes.size()) break;  // What is left is a part of a frame.
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view const bytes{reinterpret_cast<char const*>(data) + 1, size - 1};
  std::size_t const piece = std::size_t{data[0]} % 17 + 1;
  WM_ASSERT(read(bytes, piece) == read(bytes, std::max<std::size_t>(bytes.size(), 1)));
  static_cast<void>(workmill::http::websocket::accept_of(bytes));
  return 0;
}
