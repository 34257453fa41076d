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
  while (!stopping_) {
    poll();
    Duration const sleep = turn_ ? turn_() : kForever;
    if (stopping_) break;
    ++round_;  // The handler that ends the sleep belongs to the time after it.
    if (sleep > Duration::zero()) {
      poller_.wake_context();
      context_.run_one_for(std::min(sleep, kForever));
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

// What is Asio's is rare. It gets its share in any case: a connection that is accepted takes several handlers, one
// behind the other, which must not wait for a round each while others' sockets go on.
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
