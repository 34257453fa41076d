#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// WebSocket (RFC 6455), the server's side, without extensions: bytes into messages and back. Pure: no socket, no
// clock. Fuzzed.
//
// Our own, as the bytes come and go through the connection that plain requests use: an idle stream then keeps no buffer
// of its own, all messages that have come are handled at once, and all that go out leave in one send (docs/adr/0016).
namespace workmill::http::websocket {

// What the `Sec-WebSocket-Accept` of the answer to this key is. Empty where it is no key: 16 bytes in base64.
std::string accept_of(std::string_view key);

enum class CloseCode : std::uint16_t {
  none = 0,  // Nothing was said.
  normal = 1000,
  going_away = 1001,
  protocol_error = 1002,
  unsupported_data = 1003,
  invalid_text = 1007,
  policy = 1008,
  too_big = 1009,
  internal = 1011,
  try_again_later = 1013,
};

enum class Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

// Reads what a client sends. One for each connection.
class FrameReader {
 public:
  // `message_bytes_max`: of a message, over all its frames.
  explicit FrameReader(std::size_t message_bytes_max) : message_bytes_max_(message_bytes_max) {}

  enum class Status : std::uint8_t {
    need_more,  // Call again when there are more bytes behind these; at once where some were consumed: a part of a
                // message was.
    message,    // A whole text message: payload().
    ping,       // payload() is to be sent back in a pong.
    pong,
    close,    // The client ends it: close_code() and, for people, payload().
    refused,  // See close_code() and error(). Nothing that follows can be understood.
  };
  // Looks at `in`, all that has come and was not consumed. Always drop the first consumed() bytes of it afterwards.
  // What payload() shows is in `scratch`, which readers of one thread may share: it is good until its next use. Once a
  // message is told, the reader holds nothing of it.
  Status next(std::string_view in, std::string& scratch);
  std::size_t consumed() const { return consumed_; }
  std::string_view payload() const { return payload_; }

  // After `close` and `refused`.
  CloseCode close_code() const { return close_code_; }
  // After `refused`.
  std::string_view error() const { return error_; }

  // A message has begun and is not whole.
  bool is_in_message() const { return is_in_message_; }
  // Held for a message of several frames.
  std::size_t memory_bytes() const { return parts_.capacity(); }

 private:
  struct Header {
    Opcode opcode{};
    bool is_last = false;
    std::uint64_t length = 0;
    std::size_t bytes = 0;  // Of the header itself, the mask included.
    std::string_view mask;
  };

  Status read_header(std::string_view in, Header& header);
  Status take_data(Header const& header, std::string_view masked, std::string& scratch);
  Status take_control(Header const& header, std::string_view masked, std::string& scratch);
  Status take_close();
  Status refuse(CloseCode code, char const* why);

  std::size_t const message_bytes_max_;
  std::string parts_;  // The frames before the last, of a message of several.
  bool is_in_message_ = false;
  std::size_t consumed_ = 0;
  std::string_view payload_;
  CloseCode close_code_ = CloseCode::none;
  char const* error_ = "";
};

// Appends a whole frame: not masked, as servers do not.
void append_frame(Opcode opcode, std::string_view payload, std::string& out);
void append_close(CloseCode code, std::string_view reason, std::string& out);

// A text frame whose payload is written straight to where it is sent from.
class TextFrame {
 public:
  // The payload is to be appended to `out`, and to nothing else until end().
  explicit TextFrame(std::string& out);
  void end();

 private:
  std::string& out_;
  std::size_t const at_;
};

}  // namespace workmill::http::websocket
