#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/guarded.h"

// How busy each thread of the process is, as the operating system counts it (/proc/self/task, in steps of 10 ms).
namespace workmill::telemetry {

struct ThreadTime {
  std::string name;
  double busy = 0;  // 0 to 1 over about the last five seconds.
  double cpu_seconds = 0;
};

// One thread's line of /proc/self/task/*/stat. Times in ticks.
struct ThreadStat {
  std::string name;
  std::uint64_t ticks = 0;  // User and system.
};
// False where `text` is no such line.
bool parse_thread_stat(std::string_view text, ThreadStat& out);

// Any thread may call it.
class ThreadTimes {
 public:
  // To be called about once a second, with the monotonic clock; more often does no harm.
  void sample(std::chrono::nanoseconds now);
  // As of the last sample, by name. Threads of one name are one line: their time together, and the busiest's ratio.
  std::vector<ThreadTime> read() const;

 private:
  static constexpr std::size_t kSamplesMax = 6;  // So the oldest is five seconds old.
  static constexpr std::size_t kThreadsMax = 1'024;

  struct Line {
    std::string name;
    double cpu_seconds = 0;
  };
  struct Sample {
    std::chrono::nanoseconds at{};
    std::map<std::uint64_t, Line> threads;  // By thread id.
  };
  struct History {
    std::vector<Sample> samples;  // Oldest first.
  };

  static Sample take_sample(std::chrono::nanoseconds now);

  Guarded<History> history_;
};

}  // namespace workmill::telemetry
