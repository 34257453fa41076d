#include "net/io_loop.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace workmill::net {

// Sockets and timers are touched by the loop's thread alone, so the reactor needs no locks for them; the scheduler
// keeps its own, as post() comes from anywhere.
IoLoop::IoLoop() : context_(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO) {}

void IoLoop::run() {
  context_.restart();
  auto const work = boost::asio::make_work_guard(context_);
  // A socket has ended the sleep: what is Asio's was looked for a moment ago, and is looked for again by the next
  // sleep. So it waits for one turn at most, and a byte that comes by itself costs a call of the kernel less.
  bool by_socket = false;
  while (!stopping_) {
    ++round_;
    poll_sockets();
    if (!by_socket) poll_context();
    by_socket = false;
    Duration const sleep = turn_ ? turn_() : kForever;
    if (stopping_) break;
    ++round_;  // The handler that ends the sleep belongs to the time after it.
    if (sleep > Duration::zero()) {
      poller_.wake_context();
      by_socket = context_.run_one_for(std::min(sleep, kForever)) > 0 && !poller_.is_to_wake_context();
    }
  }
  poll();
}

bool IoLoop::step() {
  context_.restart();  // Without a work guard, running dry stops a context.
  std::size_t const handlers = poll();
  bool const wants_more = turn_ && turn_() == Duration::zero();
  return handlers > 0 || wants_more;
}

std::size_t IoLoop::poll() {
  ++round_;
  std::size_t const events = poll_sockets();
  return events + poll_context();
}

std::size_t IoLoop::poll_sockets() {
  // Until nothing more has come: whoever asks while others are being read shares their turn, and their flush.
  std::size_t events = 0;
  while (events < kHandlersPerPoll) {
    std::size_t const count = poller_.poll();
    if (count == 0) break;
    events += count;
  }
  return events;
}

// What is Asio's is rare. It gets its share, as it may be what ends a flood of events.
std::size_t IoLoop::poll_context() {
  std::size_t handlers = 0;
  while (handlers < kHandlersPerPoll && context_.poll_one() > 0) ++handlers;
  return handlers;
}

void IoLoop::stop() {
  post([this] { stopping_ = true; });
}

void IoLoop::post(std::move_only_function<void()> work) { boost::asio::post(context_, std::move(work)); }

}  // namespace workmill::net
