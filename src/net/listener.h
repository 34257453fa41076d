#pragma once
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/error_code.hpp>
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
  // On the loop's thread.
  struct Events {
    std::move_only_function<void(Socket)> on_socket;
    // The process or the machine has no descriptor or no memory left: accepting pauses, and is tried again soon.
    std::move_only_function<void(boost::system::error_code)> on_pause = [](boost::system::error_code) {};
  };

  // Binds and listens, and accepts from the loop's next poll on. bad_configuration, with the reason, where the address
  // cannot be had.
  static Result<std::unique_ptr<Listener>> open(IoLoop& loop, Address const& address, Events events);
  // Accepts from a socket that listens already, and owns `descriptor` from now on, whatever it answers. When this
  // listener is done, what waits in the socket's queue is left to whoever listens on it next.
  static Result<std::unique_ptr<Listener>> adopt(IoLoop& loop, int descriptor, Events events);
  ~Listener();
  Listener(Listener const&) = delete;
  Listener& operator=(Listener const&) = delete;

  Address address() const;  // With the port that the kernel chose.
  // No more connections. Those that the kernel has completed so far are still handed over, from inside the call, but
  // for those of an adopted socket, whose queue stays. `on_stopped` is called when the last one has been handed over,
  // at once or soon, and not at all where the listener goes before that.
  void stop(std::move_only_function<void()> on_stopped);
  // No more connections: those that are under way to us in the kernel are refused from now on.
  void close();

 private:
  enum class Queue : std::uint8_t { ends_with_us, outlives_us };

  Listener(IoLoop& loop, boost::asio::ip::tcp::acceptor acceptor, Queue queue, Events events);
  boost::asio::awaitable<void> accept_all();
  void accept_the_rest();

  boost::asio::ip::tcp::acceptor acceptor_;
  Queue const queue_;
  Events events_;
  std::move_only_function<void()> on_stopped_;
  TaskScope scope_;  // Last, so that it ends first: its task uses the others.
};

}  // namespace workmill::net
