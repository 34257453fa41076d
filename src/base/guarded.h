#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <type_traits>
#include <utility>

// Locks that clang's -Wthread-safety understands, and Guarded<T>, which is the way to share state between threads where
// a message or an atomic counter will not do.
//
// Guarded<T> owns its data, and with() is the only way in: the lambda can neither suspend nor hand out a reference, so
// no lock is held across a co_await and nothing leaks. Keep what it does to a few lines, and wait for nothing in it.
// Any thread may call everything here.

#if defined(__clang__)
#define WM_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define WM_THREAD_ATTRIBUTE(x)  // g++ has no such analysis.
#endif

#define WM_CAPABILITY(name) WM_THREAD_ATTRIBUTE(capability(name))
#define WM_SCOPED_CAPABILITY WM_THREAD_ATTRIBUTE(scoped_lockable)
#define WM_GUARDED_BY(mutex) WM_THREAD_ATTRIBUTE(guarded_by(mutex))
#define WM_REQUIRES(...) WM_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define WM_EXCLUDES(...) WM_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define WM_ACQUIRE(...) WM_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define WM_RELEASE(...) WM_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))

namespace workmill {

// std::mutex with the attributes that libstdc++'s lacks. Use it through Lock.
class WM_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(Mutex const&) = delete;
  Mutex& operator=(Mutex const&) = delete;

  void lock() WM_ACQUIRE() { mutex_.lock(); }
  void unlock() WM_RELEASE() { mutex_.unlock(); }

 private:
  friend class Condition;
  std::mutex mutex_;
};

class WM_SCOPED_CAPABILITY Lock {
 public:
  explicit Lock(Mutex& mutex) WM_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Lock() WM_RELEASE() { mutex_.unlock(); }
  Lock(Lock const&) = delete;
  Lock& operator=(Lock const&) = delete;

 private:
  Mutex& mutex_;
};

// A condition variable for a Mutex. It may wake up for no reason: wait in a loop that looks at the condition itself.
class Condition {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // False when the deadline has passed. `mutex` is held before and after, and free meanwhile.
  bool wait_until(Mutex& mutex, Deadline deadline) WM_REQUIRES(mutex) {
    std::unique_lock<std::mutex> held{mutex.mutex_, std::adopt_lock};
    bool const in_time = condition_.wait_until(held, deadline) == std::cv_status::no_timeout;
    held.release();  // Still locked: the caller's Lock ends it.
    return in_time;
  }
  // The same, for a while instead of until a time.
  bool wait_for(Mutex& mutex, std::chrono::milliseconds time) WM_REQUIRES(mutex) {
    return wait_until(mutex, std::chrono::steady_clock::now() + time);
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

template <class T>
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(T value) : value_(std::move(value)) {}
  Guarded(Guarded const&) = delete;
  Guarded& operator=(Guarded const&) = delete;

  // Calls `body(T&)` with the lock held, and answers what it answers. Not to be called from inside itself.
  template <class Body>
  auto with(Body&& body) WM_EXCLUDES(mutex_) {
    check_result<std::invoke_result_t<Body, T&>>();
    Lock const lock{mutex_};
    return std::forward<Body>(body)(value_);
  }
  template <class Body>
  auto with(Body&& body) const WM_EXCLUDES(mutex_) {
    check_result<std::invoke_result_t<Body, T const&>>();
    Lock const lock{mutex_};
    return std::forward<Body>(body)(value_);
  }

 private:
  template <class Answer>
  static constexpr void check_result() {
    static_assert(!std::is_reference_v<Answer> && !std::is_pointer_v<Answer>,
                  "what is guarded must not leave its lock: answer a value");
  }

  mutable Mutex mutex_;
  T value_ WM_GUARDED_BY(mutex_){};
};

}  // namespace workmill
