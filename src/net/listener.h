#pragma once
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/io_loop.h"
#include "net/task_scope.h"

// Accepts connections on one address and hands each to a callback.
namespace workmill::net {

struct Address {
  boost::asio::ip::address host;
  std::uint16_t port = 0;  // 0: the kernel chooses.
};
// "127.0.0.1:7330", "[::1]:7330", "localhost:7330" (the loopback address of IPv4), ":7330" and "*:7330" (every
// address of the machine). bad_configuration for every other text; names are not looked up.
Result<Address> parse_address(std::string_view text);
std::string format_address(Address const& address);

// Belongs to one I/O thread. Accepting stops with close() or with the destruction.
class Listener {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using OnSocket = std::move_only_function<void(Socket)>;  // On the loop's thread.

  // Binds and listens, and accepts from the loop's next poll on. bad_configuration, with the reason, where the address
  // cannot be had.
  static Result<std::unique_ptr<Listener>> open(IoLoop& loop, Address const& address, OnSocket on_socket);
  Listener(Listener const&) = delete;
  Listener& operator=(Listener const&) = delete;

  Address address() const;  // With the port that the kernel chose.
  // Connections that are under way to us in the kernel are refused from now on.
  void close();
  // How often accepting had to pause because the process or the machine had no descriptor or memory left.
  std::uint64_t pauses() const { return pauses_; }

 private:
  Listener(IoLoop& loop, boost::asio::ip::tcp::acceptor acceptor, OnSocket on_socket);
  boost::asio::awaitable<void> accept_all();

  boost::asio::ip::tcp::acceptor acceptor_;
  OnSocket on_socket_;
  std::uint64_t pauses_ = 0;
  TaskScope scope_;  // Last, so that it ends first: its task uses the others.
};

}  // namespace workmill::net
