#pragma once
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "net/client_key.h"
#include "net/input_buffer.h"
#include "net/poller.h"
#include "net/socket_address.h"
#include "net/tls.h"

// A TCP connection: what has come in and is not used yet, what is to go out and is not sent yet, and the waits between.
//
// Nothing here blocks: receive() and flush() do what the kernel can do at once and say how that went. Belongs to one
// coroutine on one I/O thread, but for wake(), flush() and output(), which others on that thread may call while the
// coroutine waits. There is one wait at a time.
namespace workmill::net {

enum class IoStatus : std::uint8_t {
  done,     // Bytes came in; all bytes went out.
  blocked,  // Nothing came in; some bytes are still to go out. Wait.
  closed,   // The peer has ended its side (when receiving), or the connection is broken.
  foreign,  // It was to be TLS, and the peer sent plain HTTP. What is flushed from now on goes out in the clear.
};

// What follows the output that is flushed. `end`: shutdown_output(), at once; so the last of it waits for that, and
// both go in one packet.
enum class Behind : std::uint8_t { more, end };

class Connection {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  // hung_up is for when there is nothing to read or write for the time being.
  using WaitFor = Poller::What;

  // Takes the socket out of Asio's hands into those of the poller, which outlives it, and switches Nagle's algorithm
  // off. With an identity (null: none) it speaks TLS: the handshake is part of the first receive(), which answers
  // `blocked` until it is over.
  Connection(Poller& poller, Socket socket, TlsIdentity const* identity = nullptr);
  ~Connection();
  Connection(Connection const&) = delete;
  Connection& operator=(Connection const&) = delete;

  // Whom it connects us with, as it was when it came; the unspecified address where the peer was gone by then.
  boost::asio::ip::address peer() const { return peer_.address(); }
  // Whether `own`, which the peer says its end of a connection has, is what we see of it: then this is that connection,
  // and nobody between us ends it and begins another. But for those who take the pains of using the peer's own address
  // and port.
  bool is_straight_from(SocketAddress const& own) const { return own == socket_address_of(peer(), peer_.port()); }
  ClientKey client() const { return client_; }

  // co_await connection.wait(…) answers one error_code: operation_aborted after wake() or a cancellation.
  //
  // A wait, not a read: a read tries first, and finds nothing nearly every time, as the peer is waiting for us.
  auto wait(WaitFor what) { return poller_.async_wait(key_, what, boost::asio::as_tuple(boost::asio::use_awaitable)); }
  // Ends the wait that is under way.
  void wake() { poller_.wake(key_); }

  // False while a TLS handshake is under way.
  bool is_established() const { return !tls_ || tls_->is_established(); }
  // What is to be received needs the socket to take something first: wait for `writable`, then flush().
  bool wants_write() const { return wants_write_; }

  // Takes what has arrived, behind what is there already. Where nothing is, it goes into `scratch`, which the
  // connections of a thread share: an idle connection then keeps no memory, and the bytes are read where the cache is
  // warm. input() shows all of it, until the next call that is not const.
  IoStatus receive(std::span<char> scratch);
  std::string_view input() const { return scratch_.empty() ? buffer_.view() : scratch_; }
  // Drops from the front of the input.
  void consume(std::size_t count);
  // Takes what is left of the input out of the scratch buffer. Before every wait.
  void keep_input();

  // To append to; flush() sends it.
  std::string& output() { return output_; }
  // Until a flush() has found all of it sent.
  bool has_output() const { return !output_.empty(); }
  std::size_t output_bytes() const { return output_.size() - sent_; }
  IoStatus flush(Behind behind = Behind::more);
  // Sends what the socket takes at once, as far as that needs nobody else: on any one thread, while the connection's
  // own does nothing with it. flush() is to follow on that, and says how it went. Over TLS it does nothing.
  void send_ahead();

  // From now on the kernel asks the peer's kernel, where it was quiet for one to two minutes, whether it is there, and
  // wakes nobody for it; where no answer comes for 40 s, the connection is broken. A proxy answers for itself.
  void keep_alive();

  // Bytes of memory held for input and output.
  std::size_t memory_bytes() const {
    return buffer_.capacity() + output_.capacity() + (tls_ ? TlsSession::kMemoryBytes : 0);
  }

  // Says that nothing more will come, and leaves the other direction open: so that a last answer is not lost to a reset
  // while the peer still sends.
  void shutdown_output();

 private:
  static constexpr std::size_t kKeptBytes = 16 * 1024;     // A buffer that grew beyond this is given back when empty.
  static constexpr std::size_t kReceiveBytes = 64 * 1024;  // At least this much room for a receive into our own buffer.

  IoStatus receive_some(std::span<char> room, std::size_t& count);
  IoStatus receive_tls(std::span<char> room, std::size_t& count);
  IoStatus send_some(std::size_t& count, Behind behind);
  IoStatus send_tls(std::size_t& count);
  IoStatus block_on(TlsStatus status);

  Poller& poller_;
  int socket_ = -1;
  Poller::Key key_{};
  boost::asio::ip::tcp::endpoint peer_;
  ClientKey client_{};
  std::unique_ptr<TlsSession> tls_;  // Where it speaks TLS.
  bool wants_write_ = false;
  std::string_view scratch_;  // What is in the thread's scratch buffer; empty between wake-ups.
  InputBuffer buffer_;        // Else the input is here.
  std::string output_;
  std::size_t sent_ = 0;  // Of output_.
};

}  // namespace workmill::net
