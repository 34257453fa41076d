#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/guarded.h"

// How busy each thread of the process is, as the operating system counts it (/proc/self/task, in steps of 10 ms), and
// how long it waits for a core where the machine has other work.
namespace workmill::telemetry {

struct ThreadTime {
  std::string name;
  double busy = 0;     // 0 to 1 over about the last five seconds.
  double waiting = 0;  // The same: ready to run, and no core to run on. 0 where the kernel does not count it.
  double cpu_seconds = 0;
};

// One thread's line of /proc/self/task/*/stat. Times in ticks.
struct ThreadStat {
  std::string name;
  std::uint64_t ticks = 0;  // User and system.
};
// False where `text` is no such line.
bool parse_thread_stat(std::string_view text, ThreadStat& out);
// Of a line of /proc/self/task/*/schedstat: how long the thread was ready and did not run. Nothing where it is no such
// line, as on kernels without CONFIG_SCHED_INFO.
std::chrono::nanoseconds parse_waiting(std::string_view text);

// Any thread may call it.
class ThreadTimes {
 public:
  // To be called about once a second, with the monotonic clock; more often does no harm, nor do several threads.
  void sample(std::chrono::nanoseconds now);
  // As of the last sample, by name. Threads of one name are one line: their time together, and the busiest's ratio.
  std::vector<ThreadTime> read() const;

 private:
  static constexpr std::size_t kSamplesMax = 6;  // So the oldest is five seconds old.
  static constexpr std::size_t kThreadsMax = 1'024;

  struct Line {
    std::string name;
    double cpu_seconds = 0;
    double waiting_seconds = 0;
  };
  struct Sample {
    std::chrono::nanoseconds at{};
    std::map<std::uint64_t, Line> threads;  // By thread id.
  };
  struct History {
    std::vector<Sample> samples;  // Oldest first.
    bool is_sampling = false;     // Some thread reads the files now.
  };

  static Sample take_sample(std::chrono::nanoseconds now);

  Guarded<History> history_;
};

}  // namespace workmill::telemetry
