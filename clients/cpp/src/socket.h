#pragma once
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "transport.h"

// A TCP connection, with TLS or without: one type for both, so that what is built on it is compiled once. Internal,
// and heavy: for .cpp files that need it.
namespace workmill::client::detail {

namespace asio = boost::asio;

// What it means for a request that its connection has broken.
Error broken_connection(std::string const& how, boost::system::error_code const& why);

// TLS of one server. Shared by its connections.
class TlsContext {
 public:
  static Result<std::shared_ptr<TlsContext>> make(Address const& address);
  asio::ssl::context context{asio::ssl::context::tls_client};
};

// Asio's operations keep what they work on alive: whoever starts one on a Socket holds it by shared_ptr until its
// handler has been called (docs/adr/0017).
class Socket {
 public:
  using executor_type = asio::ip::tcp::socket::executor_type;

  Socket(asio::io_context& context, std::shared_ptr<TlsContext> tls) : tcp_(context), tls_context_(std::move(tls)) {
    if (tls_context_) tls_.emplace(tcp_, tls_context_->context);
  }

  Socket(Socket const&) = delete;  // TLS refers to the socket below it.
  Socket& operator=(Socket const&) = delete;

  executor_type get_executor() { return tcp_.get_executor(); }
  asio::ip::tcp::socket& tcp() { return tcp_; }

  template <class Buffers, class Handler>
  void async_read_some(Buffers const& buffers, Handler&& handler) {
    if (tls_)
      tls_->async_read_some(buffers, std::forward<Handler>(handler));
    else
      tcp_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <class Buffers, class Handler>
  void async_write_some(Buffers const& buffers, Handler&& handler) {
    if (tls_)
      tls_->async_write_some(buffers, std::forward<Handler>(handler));
    else
      tcp_.async_write_some(buffers, std::forward<Handler>(handler));
  }

  // Resolves, connects, shakes hands. `done` once, with an error of ours; close() makes it fail.
  using Connected = std::move_only_function<void(Result<>)>;
  static void connect(std::shared_ptr<Socket> const& socket, Address const& address, Connected done);
  void close();
  // Its own address and port as they are written, "192.0.2.7:51234" or "[2001:db8::7]:51234"; empty where it has none.
  std::string own_name() const;
  // From now on the kernel looks after the other side: where it was quiet for one to two minutes (each connection has
  // its own second in there), it is asked, and where it has not answered after 40 s more the connection breaks. So it
  // does where what is sent is not confirmed for as long as both take together.
  void keep_alive();
  // The other side has closed, or said something nobody asked for: not to be used again. Does not wait.
  bool is_stale();

 private:
  asio::ip::tcp::socket tcp_;
  std::shared_ptr<TlsContext> tls_context_;  // Declared before what uses it.
  std::optional<asio::ssl::stream<asio::ip::tcp::socket&>> tls_;
  std::unique_ptr<asio::ip::tcp::resolver> resolver_;
};

}  // namespace workmill::client::detail
