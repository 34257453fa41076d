#pragma once
#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/guarded.h"
#include "base/time.h"

// Samples where the whole process spends its CPU time, for a while, on request (docs/adr/0013-profiling.md): a hundred
// times for each second of CPU time, by gperftools' libprofiler. While nobody asks nothing is set up and nothing runs.
namespace workmill::telemetry {

class CpuProfiler {
 public:
  // The profile, as pprof reads it. Called once for each successful start(), on the profiler's thread.
  using Done = std::move_only_function<void(Result<std::string>)>;
  static constexpr Duration kLongest = std::chrono::seconds{60};

  CpuProfiler() = default;
  ~CpuProfiler();  // Ends a profile that is being taken, and hands it over.
  CpuProfiler(CpuProfiler const&) = delete;
  CpuProfiler& operator=(CpuProfiler const&) = delete;

  // False in builds without the library: those with sanitizers.
  static bool is_built_in();

  // Begins, and comes back at once. Any thread. `length` up to kLongest. wrong_state where a profile is being taken
  // already, not_found where nothing is built in, io_failed where the system refuses what it takes; then `done` is not
  // called.
  Result<> start(Duration length, Done done);
  // Ends a profile that is being taken before its time. Any thread.
  void cut_short();

 private:
  void run(int file, Duration length, Done& done);

  std::atomic<bool> busy_{false};
  Mutex mutex_;
  Condition stop_;
  bool stopping_ WM_GUARDED_BY(mutex_) = false;
  Mutex thread_mutex_;
  std::thread thread_ WM_GUARDED_BY(thread_mutex_);
};

}  // namespace workmill::telemetry
