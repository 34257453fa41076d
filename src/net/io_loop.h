#pragma once
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/time.h"
#include "net/poller.h"

// One I/O thread's loop: it polls all that is ready, then calls the turn, and sleeps when neither has work.
//
// The turn is whatever the wiring hangs in: by default it runs the shard itself (decide, flush, answer), so that a
// request goes from its bytes to its answer without changing threads. The loop belongs to the thread that calls run();
// stop() and post() are for any thread.
namespace workmill::net {

class IoLoop {
 public:
  // Answers how long the loop may sleep: zero where there is more to do at once, kForever where only an event counts.
  using Turn = std::move_only_function<Duration()>;
  static constexpr Duration kForever = std::chrono::hours{1};

  IoLoop();
  IoLoop(IoLoop const&) = delete;
  IoLoop& operator=(IoLoop const&) = delete;

  // Before run(), or from the loop's own thread.
  void set_turn(Turn turn) { turn_ = std::move(turn); }

  // Until stop(). What was posted before stop() has run when it returns.
  void run();
  // Polls once and turns once, without sleeping. For tests, and for draining what is left. Answers whether any handler
  // ran or the turn wants to go on.
  bool step();

  void stop();
  // Runs `work` on the loop's thread, soon; wakes the loop.
  void post(std::move_only_function<void()> work);

  // Grows whenever the loop may have slept or turned: what was read off a clock in this round is still fresh, which
  // saves a request its own look at the clock. On the loop's thread.
  std::uint64_t round() const { return round_; }

  boost::asio::io_context& context() { return context_; }
  // For sockets with much traffic.
  Poller& poller() { return poller_; }

 private:
  // Answers how many events and handlers there were, some kHandlersPerPoll of each at most: so a flood cannot put off
  // the turn, and with it all answers, for long.
  std::size_t poll();
  std::size_t poll_sockets();
  std::size_t poll_context();

  static constexpr std::size_t kHandlersPerPoll = 256;

  boost::asio::io_context context_;
  Poller poller_{context_};
  Turn turn_;
  std::uint64_t round_ = 0;
  bool stopping_ = false;
};

}  // namespace workmill::net
