#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/guarded.h"
#include "telemetry/log_levels.h"

// Holds back what is said again and again: of the same message of one component and level so many lines are let
// through in a window, and the rest is counted, to be told in one line when the window is over.
//
// Any thread. Bounded: a table of kPlaces messages. Where it has no place for one more, that message is let through: a
// line too many is better than one that nobody counted, and the queue behind has a bound of its own.
namespace workmill::telemetry {

class LogRepeats {
 public:
  using Time = std::chrono::nanoseconds;  // Of the monotonic clock.

  static constexpr std::size_t kPlaces = 256;

  // So many lines of one message were held back in the window that has ended.
  struct Held {
    LogComponent component{};
    LogLevel level{};
    std::uint64_t lines = 0;
    std::string message;  // Its first kMessageBytesMax bytes.
  };
  static constexpr std::size_t kMessageBytesMax = 200;

  // `lines_max` 0: nothing is held back. The window begins with the first line of a message.
  LogRepeats(std::uint32_t lines_max, Time window) : lines_max_(lines_max), window_(window) {}

  struct Verdict {
    bool is_held_back = false;
    std::optional<Held> ended;  // Tell this first: the window before had held some back.
  };
  Verdict judge(LogComponent component, LogLevel level, std::string_view message, Time now);

  // Whether anything is held back: false is the common case, and costs one load.
  bool has_held() const { return messages_held_.load(std::memory_order_relaxed) > 0; }
  // What windows have ended by `now`, and are to be told of. Each is handed out once.
  std::vector<Held> take_ended(Time now);
  // All, their windows over or not: at the end of the program.
  std::vector<Held> take_all();

  Time window() const { return window_; }
  // Lines held back so far.
  std::uint64_t held_lines() const { return held_lines_.load(std::memory_order_relaxed); }

 private:
  // A message's place is one of so many next to each other, beginning where its hash says.
  static constexpr std::size_t kProbes = 8;

  struct Place {
    std::uint64_t key = 0;  // 0: free.
    Time since{};
    std::uint32_t seen = 0;  // Let through in this window.
    Held held;               // Its message only where something is held back.
  };
  using Table = std::array<Place, kPlaces>;

  std::vector<Held> take(std::optional<Time> ended_by);
  std::optional<Held> end_window(Place& place);

  std::uint32_t const lines_max_;
  Time const window_;
  std::atomic<std::uint32_t> messages_held_{0};
  std::atomic<std::uint64_t> held_lines_{0};
  Guarded<Table> table_;
};

}  // namespace workmill::telemetry
