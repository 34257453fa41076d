#pragma once
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/system/error_code.hpp>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

// Waits for many sockets at the price of one: an epoll of our own. The loop polls it directly while there is work; only
// for a sleep it hangs in Asio's loop, as a single descriptor.
//
// Asio tells the kernel anew about each wait for a socket (a system call a request), or tries a read that finds nothing
// (another). Here a socket is made known once, edge-triggered, and what has become ready is kept until the socket's
// owner has used it up. The numbers: docs/adr/0004-http-layer.md and 0022-loop.md. Belongs to one I/O thread.
namespace workmill::net {

class Poller {
 public:
  // Names a watched socket: place and generation, so that an event that comes too late finds nobody.
  enum class Key : std::uint64_t {};
  enum class What : std::uint8_t {
    readable,  // Bytes, or the end of them.
    writable,
    hung_up,  // Reset or gone for good.
  };

  explicit Poller(boost::asio::io_context& context);
  ~Poller();
  Poller(Poller const&) = delete;
  Poller& operator=(Poller const&) = delete;

  // Watches a non-blocking socket, which stays its owner's. Remove it before it is closed.
  Key add(int socket);
  void remove(Key key);

  // The owner has found that it is not `what` any more: a call would have blocked, or read less than there was room
  // for.
  void used_up(Key key, What what);

  // co_await poller.async_wait(…) answers one error_code: operation_aborted after wake() or a cancellation. One wait a
  // socket at a time; never completes from inside the call.
  template <class Token>
  auto async_wait(Key key, What what, Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler, Key of, What wanted) {
          if (auto slot = boost::asio::get_associated_cancellation_slot(handler); slot.is_connected()) {
            slot.assign([this, of](boost::asio::cancellation_type) { wake(of); });
          }
          begin_wait(of, wanted, Handler(std::move(handler)));
        },
        token, key, what);
  }
  // Ends the wait that is under way, soon.
  void wake(Key key);

  // Hands out what has become ready, without waiting for more: one call of the kernel. Answers how many events that
  // were, at most kEventsPerPoll.
  std::size_t poll();
  // Before the context sleeps: the next event wakes it, also one that has come by now. Once is enough until then.
  void wake_context();

  static constexpr std::size_t kEventsPerPoll = 256;

 private:
  using Handler = std::move_only_function<void(boost::system::error_code)>;
  struct Entry {
    std::uint32_t generation = 0;
    std::uint32_t ready = 0;  // Events that have come and are not used up.
    std::uint32_t wanted = 0;
    int socket = -1;
    Handler handler;  // Of the wait that is under way, if one is.
  };

  static std::uint32_t events_of(What what);
  Entry* find(Key key);
  void begin_wait(Key key, What what, Handler handler);
  void complete_later(Key key, boost::system::error_code error);
  boost::asio::io_context& context_;
  boost::asio::posix::stream_descriptor epoll_;
  bool wakes_context_ = false;  // A wait of Asio's for our epoll is under way.
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
};

}  // namespace workmill::net
