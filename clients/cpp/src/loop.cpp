#include "loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <csignal>

namespace workmill::client::detail {

namespace asio = boost::asio;

struct Loop::State {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard{context.get_executor()};
  asio::steady_timer timer{context};
};

Loop::Loop() : state_(std::make_unique<State>()) {
  // Signals are the program's: none is delivered to this thread, and those that it asks for come by asio::signal_set.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  for (int const fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread{[this] { state_->context.run(); }};
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  thread_id_ = thread_.get_id();
}

Loop::~Loop() { stop(); }

void Loop::stop() {
  if (!thread_.joinable()) return;
  post([this] { state_->context.stop(); });
  thread_.join();
}

asio::io_context& Loop::context() { return state_->context; }

void Loop::post(Work work) {
  bool was_empty = false;
  {
    std::lock_guard const lock{mutex_};
    was_empty = posted_.empty();
    posted_.push_back(std::move(work));
  }
  if (was_empty) asio::post(state_->context, [this] { run_posted(); });
}

void Loop::run_posted() {
  std::vector<Work> work;
  {
    std::lock_guard const lock{mutex_};
    std::swap(work, posted_);
  }
  for (Work& each : work) each();
}

Loop::TimerId Loop::after(Duration delay, Work work) {
  TimerId const id = next_timer_++;
  auto const at = Clock::now() + delay;
  timers_.emplace(std::pair{at, id}, std::move(work));
  due_.emplace(id, at);
  if (at < armed_) arm();
  return id;
}

// The timer of the system is not touched: it finds nothing due, and is set anew then. Most timers are time-outs that
// never fire.
void Loop::cancel(TimerId id) {
  auto const found = due_.find(id);
  if (found == due_.end()) return;
  timers_.erase({found->second, id});
  due_.erase(found);
}

void Loop::arm() {
  if (timers_.empty()) {
    armed_ = Clock::time_point::max();
    return;
  }
  armed_ = timers_.begin()->first.first;
  state_->timer.expires_at(armed_);
  state_->timer.async_wait([this](boost::system::error_code const& error) {
    if (!error) fire();
  });
}

void Loop::fire() {
  auto const now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto first = timers_.extract(timers_.begin());
    due_.erase(first.key().second);
    first.mapped()();
  }
  arm();
}

}  // namespace workmill::client::detail
