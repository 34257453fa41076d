#include "app/load/stream_peer.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "app/load/http_peer.h"

namespace workmill::app {
namespace {

constexpr std::size_t kFrameBytesMax = std::size_t{64} << 20;
constexpr std::size_t kControlBytesMax = 125;
constexpr std::uint8_t kLast = 0x80;
constexpr std::uint8_t kReserved = 0x70;
constexpr std::uint8_t kMasked = 0x80;
constexpr std::uint8_t kLengthOf16 = 126;
constexpr std::uint8_t kLengthOf64 = 127;
// Any 16 bytes will do: the answer to them proves to browsers' proxies that the server meant it. This is neither.
constexpr std::string_view kKey = "d29ya21pbGwgYmVuY2g9PQ==";

auto bad_stream(std::string message) { return fail(ErrorCode::protocol_error, std::move(message)); }

bool is_control(Opcode opcode) { return std::to_underlying(opcode) >= std::to_underlying(Opcode::close); }

std::uint64_t number_of(std::string_view big_endian) {
  std::uint64_t value = 0;
  for (char const byte : big_endian) value = value << 8 | static_cast<std::uint8_t>(byte);
  return value;
}

void append_big_endian(std::uint64_t value, int bytes, std::string& out) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

}  // namespace

Result<std::optional<ServerFrame>> parse_frame(std::string_view in) {
  std::optional<ServerFrame> const not_yet;
  if (in.size() < 2) return not_yet;
  auto const first = static_cast<std::uint8_t>(in[0]);
  auto const second = static_cast<std::uint8_t>(in[1]);
  ServerFrame frame{.opcode = static_cast<Opcode>(first & 0x0f), .is_last = (first & kLast) != 0, .payload = {}};
  switch (frame.opcode) {
    case Opcode::continuation:
    case Opcode::text:
    case Opcode::binary:
    case Opcode::close:
    case Opcode::ping:
    case Opcode::pong: break;
    default: return bad_stream("the server sent a frame of no known kind");
  }
  if ((first & kReserved) != 0 || (second & kMasked) != 0)
    return bad_stream("the server sent a frame that no server may");
  std::size_t const length_bytes = second == kLengthOf16 ? 2 : second == kLengthOf64 ? 8 : 0;
  std::size_t const head = 2 + length_bytes;
  if (in.size() < head) return not_yet;
  std::uint64_t const length = length_bytes == 0 ? second : number_of(in.substr(2, length_bytes));
  if (is_control(frame.opcode) && (length > kControlBytesMax || !frame.is_last)) {
    return bad_stream("the server sent a control frame that is too long or cut up");
  }
  if (length > kFrameBytesMax) return bad_stream("the server sent a frame that is too long");
  if (in.size() - head < length) return not_yet;
  frame.payload = in.substr(head, static_cast<std::size_t>(length));
  frame.bytes = head + static_cast<std::size_t>(length);
  return std::optional{frame};
}

void append_frame(Opcode opcode, std::string_view payload, std::uint32_t mask, std::string& out) {
  out.push_back(static_cast<char>(kLast | std::to_underlying(opcode)));
  if (payload.size() < kLengthOf16) {
    out.push_back(static_cast<char>(kMasked | payload.size()));
  } else if (payload.size() <= UINT16_MAX) {
    out.push_back(static_cast<char>(kMasked | kLengthOf16));
    append_big_endian(payload.size(), 2, out);
  } else {
    out.push_back(static_cast<char>(kMasked | kLengthOf64));
    append_big_endian(payload.size(), 8, out);
  }
  std::array<char, 8> key{};  // Twice the mask, so that eight bytes are done at a time.
  std::memcpy(key.data(), &mask, sizeof mask);
  std::memcpy(key.data() + sizeof mask, &mask, sizeof mask);
  out.append(key.data(), sizeof mask);
  std::size_t const at = out.size();
  out.append(payload);
  char* const bytes = out.data() + at;
  std::uint64_t word_key = 0;
  std::memcpy(&word_key, key.data(), sizeof word_key);
  std::size_t i = 0;
  for (; i + sizeof word_key <= payload.size(); i += sizeof word_key) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i, sizeof word);
    word ^= word_key;
    std::memcpy(bytes + i, &word, sizeof word);
  }
  for (; i < payload.size(); ++i) bytes[i] = static_cast<char>(bytes[i] ^ key[i % sizeof mask]);
}

StreamPeer::StreamPeer(PeerLoop& loop, std::size_t index, FileDescriptor socket, std::string_view token,
                       OnMessage on_message)
    : Peer(loop, index, std::move(socket)), on_message_(std::move(on_message)), masks_(index + 1) {
  auto const authorization = token.empty() ? std::string{} : fmt::format("Authorization: Bearer {}\r\n", token);
  write(
      fmt::format("GET /v1/worker HTTP/1.1\r\nHost: {}\r\n{}Connection: Upgrade\r\nUpgrade: websocket\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
                  loop.address().authority, authorization, kKey));
}

void StreamPeer::send(std::string_view message) {
  auto const mask = static_cast<std::uint32_t>(masks_.next());
  if (!is_open_) return append_frame(Opcode::text, message, mask, before_open_);
  frame_.clear();
  append_frame(Opcode::text, message, mask, frame_);
  write(frame_);
}

// Nothing: the head is not whole yet. Anything but an upgrade is an ordinary answer, and the end.
Result<std::optional<std::size_t>> StreamPeer::take_head(std::string_view in) {
  constexpr std::string_view kUpgraded = "HTTP/1.1 101 ";
  if (in.substr(0, kUpgraded.size()) != kUpgraded.substr(0, in.size())) {
    WM_TRY(auto const refused, parse_answer(in));
    if (!refused) return std::optional<std::size_t>{};
    return bad_stream(
        fmt::format("the server answered {} to a worker stream: {}", refused->answer.status, refused->answer.body));
  }
  auto const end = in.find("\r\n\r\n");
  if (end == std::string_view::npos) return std::optional<std::size_t>{};
  is_open_ = true;
  write(before_open_);
  before_open_ = {};
  return std::optional{end + 4};
}

Result<std::size_t> StreamPeer::take(std::string_view in) {
  std::size_t taken = 0;
  if (!is_open_) {
    WM_TRY(auto const head, take_head(in));
    if (!head) return taken;
    taken = *head;
  }
  while (true) {
    WM_TRY(auto const frame, parse_frame(in.substr(taken)));
    if (!frame) return taken;
    WM_TRY_VOID(take_frame(*frame));
    taken += frame->bytes;
  }
}

Result<> StreamPeer::take_frame(ServerFrame const& frame) {
  switch (frame.opcode) {
    case Opcode::text:
      if (frame.is_last && pieces_.empty()) {
        on_message_(*this, frame.payload);
        return {};
      }
      [[fallthrough]];
    case Opcode::continuation:
      if (pieces_.size() + frame.payload.size() > kFrameBytesMax)
        return bad_stream("the server sent too long a message");
      pieces_.append(frame.payload);
      if (!frame.is_last) return {};
      on_message_(*this, std::exchange(pieces_, {}));
      return {};
    case Opcode::ping:
      frame_.clear();
      append_frame(Opcode::pong, frame.payload, static_cast<std::uint32_t>(masks_.next()), frame_);
      write(frame_);
      return {};
    case Opcode::pong: return {};
    case Opcode::close: {
      auto const code = frame.payload.size() < 2 ? 0 : number_of(frame.payload.substr(0, 2));
      auto const reason = frame.payload.size() < 2 ? std::string_view{} : frame.payload.substr(2);
      return fail(ErrorCode::outcome_unknown, fmt::format("the server closed a worker stream: {} {}", code, reason));
    }
    case Opcode::binary: break;
  }
  return bad_stream("the server sent a binary message");
}

}  // namespace workmill::app
