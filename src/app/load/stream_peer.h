#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "app/load/peer_loop.h"
#include "base/error.h"
#include "base/rng.h"

// The cheapest client of the worker stream (GET /v1/worker) that still keeps to its rules: the upgrade, masked text
// frames out, whole messages in, pings answered. RFC 6455 without extensions.
namespace workmill::app {

enum class Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

// A frame as a server sends it, lent for the length of the call.
struct ServerFrame {
  Opcode opcode{};
  bool is_last = false;  // Of its message.
  std::string_view payload;
  std::size_t bytes = 0;  // Of the whole frame.
};
// The first whole frame in `in`; nothing where it is not whole yet. protocol_error where no server may send it: masked,
// with reserved bits or an opcode that is none, a control frame that is cut up or longer than 125 bytes, or one of more
// than 64 MiB.
Result<std::optional<ServerFrame>> parse_frame(std::string_view in);
// Appends a frame as a client sends it: whole, masked with `mask`.
void append_frame(Opcode opcode, std::string_view payload, std::uint32_t mask, std::string& out);

class StreamPeer final : public Peer {
 public:
  using OnMessage = std::function<void(StreamPeer&, std::string_view)>;  // A whole text message, lent for the call.

  // Asks for the upgrade at once. `on_message` may send.
  StreamPeer(PeerLoop& loop, std::size_t index, FileDescriptor socket, std::string_view token, OnMessage on_message);

  // A text message. Before the upgrade is answered it waits for that.
  void send(std::string_view message);

 private:
  Result<std::size_t> take(std::string_view in) override;
  Result<std::optional<std::size_t>> take_head(std::string_view in);
  Result<> take_frame(ServerFrame const& frame);

  OnMessage on_message_;
  Rng masks_;
  bool is_open_ = false;
  std::string before_open_;  // Frames that wait for the upgrade.
  std::string frame_;        // Reused.
  std::string pieces_;       // Of a message that comes in several frames.
};

}  // namespace workmill::app
