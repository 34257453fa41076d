#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "workmill/error.h"

namespace boost::asio {
class io_context;  // NOLINT(readability-identifier-naming): theirs.
}

// The one thread of a client or worker: sockets, timers, and all state that they touch. No lock is needed for what
// only this thread touches.
namespace workmill::client::detail {

class Loop {
 public:
  using Work = std::move_only_function<void()>;
  using TimerId = std::uint64_t;
  using Clock = std::chrono::steady_clock;

  Loop();
  ~Loop();  // Ends the thread. What is posted from then on is dropped.
  Loop(Loop const&) = delete;
  Loop& operator=(Loop const&) = delete;

  // Any thread. In order; a bunch of them costs one wake-up.
  void post(Work work);
  bool is_current() const { return std::this_thread::get_id() == thread_id_; }
  // Ends the thread once what was posted before has run. Not from the loop itself. Once only; the destructor does it.
  void stop();

  // On the loop's thread only. A timer that has fired or was cancelled is forgotten; 0 is none.
  TimerId after(Duration delay, Work work);
  void cancel(TimerId id);

  boost::asio::io_context& context();

 private:
  struct State;  // Asio's.

  void run_posted();
  void arm();
  void fire();

  std::mutex mutex_;
  std::vector<Work> posted_;

  std::map<std::pair<Clock::time_point, TimerId>, Work> timers_;
  std::unordered_map<TimerId, Clock::time_point> due_;
  TimerId next_timer_ = 1;
  Clock::time_point armed_ = Clock::time_point::max();

  std::unique_ptr<State> state_;
  std::thread thread_;  // Last: it uses all the others.
  std::thread::id thread_id_;
};

}  // namespace workmill::client::detail
