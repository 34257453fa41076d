#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <functional>
#include <list>

// Owns coroutines, so that none of them is let go: what a scope has spawned it can cancel, and it outlives all of them.
//
// Closing is refuse, cancel, wait, in that order. Belongs to one I/O thread.
namespace workmill::net {

class TaskScope {
 public:
  explicit TaskScope(boost::asio::io_context& context) : context_(context) {}
  TaskScope(TaskScope const&) = delete;
  TaskScope& operator=(TaskScope const&) = delete;
  // Cancels what still runs, and runs the context until it has ended. The context must not be running above us.
  ~TaskScope();

  // Starts `task` at the next poll. False where the scope is closed: then the task is dropped, unstarted. A task must
  // not let an exception out; it hears of cancellation as an operation_aborted of whatever it waits for.
  bool spawn(boost::asio::awaitable<void> task);

  void refuse() { refusing_ = true; }
  void cancel();
  // Calls back when no task is left, at once where there is none. Not while the scope is destroyed.
  void when_empty(std::move_only_function<void()> on_empty);
  void tell_nobody() { on_empty_ = nullptr; }

  std::size_t size() const { return tasks_.size(); }

 private:
  // A list, since a cancellation signal can neither move nor be copied.
  using Tasks = std::list<boost::asio::cancellation_signal>;
  void ended(Tasks::iterator task);

  boost::asio::io_context& context_;
  Tasks tasks_;
  std::move_only_function<void()> on_empty_;
  bool refusing_ = false;
};

}  // namespace workmill::net
