#include "net/task_scope.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <exception>
#include <utility>

#include "base/assert.h"

namespace workmill::net {
namespace {

constexpr int kRoundsMax = 100;  // Far more than any task has waits one behind the other.

}  // namespace

TaskScope::~TaskScope() {
  refuse();
  tell_nobody();  // Who wanted to know, such as a drain that was not waited for, has gone ahead of us.
  // A wait that is over, though its task does not know yet, can no longer be cancelled: a timer that ran out while
  // thousands of other tasks were ended, say. Such a task may go on to its next wait, and hears of that one's end. So
  // as soon as nothing is ready any more, whoever is left is cancelled again.
  bool cancelled = false;
  for (int round = 0; round < kRoundsMax && !tasks_.empty(); ++round) {
    context_.restart();
    cancelled = false;
    // From inside the context. From outside, Asio sends a signal by way of its queue, where it would find a task gone
    // that ends ahead of it.
    boost::asio::post(context_, [this, &cancelled] {
      cancel();
      cancelled = true;
    });
    while ((!tasks_.empty() || !cancelled) && context_.poll_one() > 0) {
    }
  }
  WM_ASSERT(tasks_.empty());  // A task that waits for what cannot be cancelled would outlive its owner.
}

bool TaskScope::spawn(boost::asio::awaitable<void> task) {
  if (refusing_) return false;
  auto const place = tasks_.emplace(tasks_.end());
  auto const on_end = [this, place](std::exception_ptr const& failure) {
    WM_ASSERT(!failure);
    ended(place);
  };
  boost::asio::co_spawn(context_, std::move(task), boost::asio::bind_cancellation_slot(place->slot(), on_end));
  return true;
}

void TaskScope::cancel() {
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    auto const next = std::next(task);  // Should a task end under our hands.
    task->emit(boost::asio::cancellation_type::terminal);
    task = next;
  }
}

void TaskScope::when_empty(std::move_only_function<void()> on_empty) {
  if (tasks_.empty()) return on_empty();
  on_empty_ = std::move(on_empty);
}

void TaskScope::ended(Tasks::iterator task) {
  tasks_.erase(task);
  if (!tasks_.empty() || !on_empty_) return;
  auto on_empty = std::exchange(on_empty_, nullptr);
  on_empty();
}

}  // namespace workmill::net
