#pragma once
#include <condition_variable>
#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>

#include "workmill/error.h"

// The two types of a coroutine program: Async<T>, a call that is under way, and Task<T>, a coroutine of yours.
namespace workmill::client {

// A call that has begun. Take its answer in one of three ways, once: co_await it, give it a callback, or get() it.
// Movable; dropping it leaves the call to itself. It has one owner, on one thread at a time.
template <class T>
class Async {
 public:
  using Callback = std::move_only_function<void(Result<T>)>;

  // What the answer comes through; shared by the one who waits and the one who answers, of whom either may go first.
  class State {
   public:
    // Once. The callback runs here, on the thread that answers, or through the executor.
    void set(Result<T> result) {
      std::unique_lock lock{mutex_};
      if (!callback_) {
        result_.emplace(std::move(result));
        arrived_.notify_all();
        return;
      }
      Callback callback = std::exchange(callback_, nullptr);
      lock.unlock();
      callback(std::move(result));
    }
    // False where the answer is there already: take() it.
    bool on_answer(Callback callback) {
      std::lock_guard const lock{mutex_};
      if (result_) return false;
      callback_ = std::move(callback);
      return true;
    }
    bool is_ready() {
      std::lock_guard const lock{mutex_};
      return result_.has_value();
    }
    Result<T> take() {
      std::unique_lock lock{mutex_};
      arrived_.wait(lock, [&] { return result_.has_value(); });
      return *std::exchange(result_, std::nullopt);
    }

   private:
    std::mutex mutex_;
    std::condition_variable arrived_;
    std::optional<Result<T>> result_;
    Callback callback_;
  };

  explicit Async(std::shared_ptr<State> state, std::function<void()> cancel = {})
      : state_(std::move(state)), cancel_(std::move(cancel)) {}

  // On the client's own thread, where AsyncOptions::executor says nothing else; at once where the answer is there.
  void then(Callback callback) && {
    auto state = std::move(state_);
    auto shared = std::make_shared<Callback>(std::move(callback));
    if (!state->on_answer([shared](Result<T> result) { (*shared)(std::move(result)); })) (*shared)(state->take());
  }
  // Blocks. Never on the client's own thread.
  Result<T> get() && { return state_->take(); }
  // The answer is call_cancelled then, if it has not come yet. Only while nobody has awaited it, or from elsewhere by
  // the stop token of CallOptions.
  void cancel() {
    if (cancel_) cancel_();
  }

  bool await_ready() { return state_->is_ready(); }
  bool await_suspend(std::coroutine_handle<> waiter) {
    // The coroutine may run on, and end, before this returns: nothing of it is touched after on_answer().
    auto state = state_;
    return state->on_answer([this, waiter](Result<T> result) {
      result_.emplace(std::move(result));
      waiter.resume();
    });
  }
  Result<T> await_resume() {
    if (result_) return *std::move(result_);
    return state_->take();
  }

 private:
  std::shared_ptr<State> state_;
  std::function<void()> cancel_;
  std::optional<Result<T>> result_;
};

// A coroutine that begins when it is awaited, by start(), or by sync_wait(). One owner; the frame goes with it. An
// exception that leaves it is thrown again where it is awaited.
template <class T = void>
class [[nodiscard]] Task;

namespace detail {

struct FinalAwaiter {
  bool await_ready() noexcept { return false; }
  template <class Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) noexcept {
    auto const next = done.promise().continuation;
    return next ? next : std::noop_coroutine();
  }
  void await_resume() noexcept {}
};

struct TaskPromiseBase {
  std::coroutine_handle<> continuation{};
  std::exception_ptr thrown{};
  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() { thrown = std::current_exception(); }
};

template <class T>
struct TaskPromise : TaskPromiseBase {
  std::optional<T> value{};
  Task<T> get_return_object();
  template <class From>
  void return_value(From&& from) {
    value.emplace(std::forward<From>(from));
  }
  T take() {
    if (thrown) std::rethrow_exception(thrown);
    return *std::move(value);
  }
};
template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object();
  void return_void() {}
  void take() {
    if (thrown) std::rethrow_exception(thrown);
  }
};

}  // namespace detail

template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;

  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const { return handle_.done(); }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiter) {
    handle_.promise().continuation = waiter;
    return handle_;
  }
  T await_resume() { return handle_.promise().take(); }

 private:
  std::coroutine_handle<promise_type> handle_;
};

namespace detail {
template <class T>
Task<T> TaskPromise<T>::get_return_object() {
  return Task<T>{std::coroutine_handle<TaskPromise>::from_promise(*this)};
}
inline Task<void> TaskPromise<void>::get_return_object() {
  return Task<void>{std::coroutine_handle<TaskPromise>::from_promise(*this)};
}

// Runs by itself, and its frame goes when it ends.
struct Runner {
  struct promise_type {
    Runner get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }  // Everything inside is caught.
  };
};
template <class T, class Done>
Runner run_task(Task<T> task, Done done) {
  try {
    if constexpr (std::is_void_v<T>) {
      co_await task;
      done(std::exception_ptr{});
    } else {
      auto value = co_await task;
      done(std::exception_ptr{}, std::move(value));
    }
  } catch (...) {
    if constexpr (std::is_void_v<T>)
      done(std::current_exception());
    else
      done(std::current_exception(), std::nullopt);
  }
}
}  // namespace detail

// Runs a task to its end, on this thread as far as it does not wait, and blocks until then. What it answers is the
// task's; an exception of the task's is thrown here.
template <class T>
T sync_wait(Task<T> task) {
  std::mutex mutex;
  std::condition_variable ended;
  bool is_done = false;
  std::exception_ptr thrown;
  auto const finish = [&] {
    std::lock_guard const lock{mutex};
    is_done = true;
    ended.notify_one();  // With the lock held: the waiter's stack goes as soon as it is let go.
  };
  if constexpr (std::is_void_v<T>) {
    detail::run_task(std::move(task), [&](std::exception_ptr error) {
      thrown = error;
      finish();
    });
    std::unique_lock lock{mutex};
    ended.wait(lock, [&] { return is_done; });
    if (thrown) std::rethrow_exception(thrown);
  } else {
    std::optional<T> value;
    detail::run_task(std::move(task), [&](std::exception_ptr error, std::optional<T> got) {
      thrown = error;
      value = std::move(got);
      finish();
    });
    std::unique_lock lock{mutex};
    ended.wait(lock, [&] { return is_done; });
    if (thrown) std::rethrow_exception(thrown);
    return *std::move(value);
  }
}

}  // namespace workmill::client
