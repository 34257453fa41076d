#include "protocols/http/stream/websocket.h"

#include <openssl/evp.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/base64.h"

namespace workmill::http::websocket {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455, 1.3.
constexpr std::size_t kKeyBytes = 16;
constexpr std::size_t kControlBytesMax = 125;
constexpr std::size_t kMaskBytes = 4;
constexpr std::size_t kHeaderBytesMax = 10;  // Of a frame that is not masked.
constexpr unsigned kLast = 0x80, kReserved = 0x70, kMasked = 0x80;

unsigned byte_at(std::string_view text, std::size_t at) { return static_cast<unsigned char>(text[at]); }

// Appends the payload as it was before it was masked (RFC 6455, 5.3), eight bytes at a time.
void append_unmasked(std::string_view masked, std::string_view mask, std::string& out) {
  std::size_t const from = out.size();
  out.append(masked);
  char* at = out.data() + from;
  std::array<char, 2 * kMaskBytes> twice;
  std::memcpy(twice.data(), mask.data(), kMaskBytes);
  std::memcpy(twice.data() + kMaskBytes, mask.data(), kMaskBytes);
  std::uint64_t key = 0;
  std::memcpy(&key, twice.data(), sizeof key);
  std::size_t left = masked.size();
  for (; left >= sizeof key; left -= sizeof key, at += sizeof key) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    word ^= key;
    std::memcpy(at, &word, sizeof word);
  }
  for (std::size_t i = 0; i < left; ++i) at[i] = static_cast<char>(at[i] ^ twice[i]);
}

// Those that RFC 6455, 7.4 and its registry let an endpoint send.
bool may_be_sent(unsigned code) {
  if (code >= 3000 && code <= 4999) return true;
  return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

std::size_t put_header(Opcode opcode, std::size_t length, std::array<char, kHeaderBytesMax>& header) {
  header[0] = static_cast<char>(kLast | static_cast<unsigned>(opcode));
  if (length <= kControlBytesMax) {
    header[1] = static_cast<char>(length);
    return 2;
  }
  std::size_t const bytes = length <= 0xffff ? 2 : 8;
  header[1] = static_cast<char>(bytes == 2 ? 126 : 127);
  for (std::size_t i = 0; i < bytes; ++i) header[2 + i] = static_cast<char>(length >> (8 * (bytes - 1 - i)));
  return 2 + bytes;
}

}  // namespace

std::string accept_of(std::string_view key) {
  Bytes decoded;
  if (!decode_base64(key, decoded) || decoded.size() != kKeyBytes) return {};
  std::string const text = std::string{key}.append(kGuid);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  WM_ASSERT(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr) == 1);
  std::string accept;
  append_base64({reinterpret_cast<char const*>(digest.data()), size}, accept);
  return accept;
}

FrameReader::Status FrameReader::next(std::string_view in, std::string& scratch) {
  consumed_ = 0;
  payload_ = {};
  Header header;
  if (Status const status = read_header(in, header); status != Status::message) return status;
  if (in.size() - header.bytes < header.length) return Status::need_more;
  auto const length = static_cast<std::size_t>(header.length);  // Which is no more than a message may have.
  std::string_view const masked = in.substr(header.bytes, length);
  consumed_ = header.bytes + length;
  return header.opcode >= Opcode::close ? take_control(header, masked, scratch) : take_data(header, masked, scratch);
}

// `message`: the header is whole.
FrameReader::Status FrameReader::read_header(std::string_view in, Header& header) {
  if (in.size() < 2) return Status::need_more;
  unsigned const first = byte_at(in, 0), second = byte_at(in, 1);
  if ((first & kReserved) != 0) return refuse(CloseCode::protocol_error, "a reserved bit is set, by no extension");
  header.is_last = (first & kLast) != 0;
  switch (first & 0x0f) {
    case 0: header.opcode = Opcode::continuation; break;
    case 1: header.opcode = Opcode::text; break;
    case 2: return refuse(CloseCode::unsupported_data, "messages are text");
    case 8: header.opcode = Opcode::close; break;
    case 9: header.opcode = Opcode::ping; break;
    case 10: header.opcode = Opcode::pong; break;
    default: return refuse(CloseCode::protocol_error, "an opcode that is not known");
  }
  if ((second & kMasked) == 0) return refuse(CloseCode::protocol_error, "a client masks its frames");
  header.length = second & 0x7f;
  bool const is_control = header.opcode >= Opcode::close;
  if (is_control && (header.length > kControlBytesMax || !header.is_last)) {
    return refuse(CloseCode::protocol_error, "a control frame is short and whole");
  }
  bool const begins = header.opcode == Opcode::text;
  if (!is_control && begins == is_in_message_) {
    return refuse(CloseCode::protocol_error, begins ? "a message begins within another" : "no message has begun");
  }
  std::size_t const wide = header.length == 126 ? 2 : header.length == 127 ? 8 : 0;
  header.bytes = 2 + wide + kMaskBytes;
  if (in.size() < header.bytes) return Status::need_more;
  if (wide > 0) {
    header.length = 0;
    for (std::size_t i = 0; i < wide; ++i) header.length = header.length << 8 | byte_at(in, 2 + i);
    if (header.length < (wide == 2 ? 126U : 0x1'0000U) || (header.length >> 63) != 0) {
      return refuse(CloseCode::protocol_error, "a length is not written in as few bytes as it takes");
    }
  }
  if (!is_control && header.length > message_bytes_max_ - std::min(message_bytes_max_, parts_.size())) {
    return refuse(CloseCode::too_big, "the message is over the limit");
  }
  header.mask = in.substr(header.bytes - kMaskBytes, kMaskBytes);
  return Status::message;
}

FrameReader::Status FrameReader::take_data(Header const& header, std::string_view masked, std::string& scratch) {
  is_in_message_ = !header.is_last;
  if (is_in_message_) {
    append_unmasked(masked, header.mask, parts_);
    return Status::need_more;
  }
  if (parts_.empty()) {  // The ordinary case.
    scratch.clear();
  } else {  // Not kept here: the peer may be quiet from now on, for ever.
    scratch = std::exchange(parts_, {});
  }
  append_unmasked(masked, header.mask, scratch);
  payload_ = scratch;
  if (!simdjson::validate_utf8(payload_.data(), payload_.size())) {
    return refuse(CloseCode::invalid_text, "a message is not UTF-8");
  }
  return Status::message;
}

FrameReader::Status FrameReader::take_control(Header const& header, std::string_view masked, std::string& scratch) {
  scratch.clear();
  append_unmasked(masked, header.mask, scratch);
  payload_ = scratch;
  if (header.opcode == Opcode::ping) return Status::ping;
  if (header.opcode == Opcode::pong) return Status::pong;
  return take_close();
}

FrameReader::Status FrameReader::take_close() {
  close_code_ = CloseCode::none;
  if (payload_.empty()) return Status::close;
  unsigned const code = payload_.size() < 2 ? 0 : byte_at(payload_, 0) << 8 | byte_at(payload_, 1);
  if (!may_be_sent(code)) return refuse(CloseCode::protocol_error, "a close frame has a code of its own");
  payload_.remove_prefix(2);
  if (!simdjson::validate_utf8(payload_.data(), payload_.size())) {
    return refuse(CloseCode::invalid_text, "the reason of a close frame is not UTF-8");
  }
  close_code_ = static_cast<CloseCode>(code);
  return Status::close;
}

FrameReader::Status FrameReader::refuse(CloseCode code, char const* why) {
  close_code_ = code;
  error_ = why;
  payload_ = {};
  return Status::refused;
}

void append_frame(Opcode opcode, std::string_view payload, std::string& out) {
  std::array<char, kHeaderBytesMax> header;
  out.append(header.data(), put_header(opcode, payload.size(), header)).append(payload);
}

void append_close(CloseCode code, std::string_view reason, std::string& out) {
  std::string payload;
  if (code != CloseCode::none) {
    auto const number = static_cast<unsigned>(code);
    payload.push_back(static_cast<char>(number >> 8));
    payload.push_back(static_cast<char>(number & 0xff));
    payload.append(reason.substr(0, kControlBytesMax - 2));  // Reasons are ours, and ASCII.
  }
  append_frame(Opcode::close, payload, out);
}

TextFrame::TextFrame(std::string& out) : out_(out), at_(out.size()) { out_.append(kHeaderBytesMax, '\0'); }

// The header of a short frame is shorter than the room that was left for it.
void TextFrame::end() {
  std::size_t const length = out_.size() - at_ - kHeaderBytesMax;
  std::array<char, kHeaderBytesMax> header;
  std::size_t const bytes = put_header(Opcode::text, length, header);
  std::memcpy(out_.data() + at_, header.data(), bytes);
  if (bytes == kHeaderBytesMax) return;
  std::memmove(out_.data() + at_ + bytes, out_.data() + at_ + kHeaderBytesMax, length);
  out_.resize(at_ + bytes + length);
}

}  // namespace workmill::http::websocket
