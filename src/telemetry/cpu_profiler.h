#pragma once
#include <atomic>
#include <cstdint>
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

  // Begins, and comes back at once with the profile's number, which is not 0. Any thread. `length` up to kLongest.
  // wrong_state where a profile is being taken already, not_found where nothing is built in, shutting_down after
  // close(), io_failed where the system refuses what it takes; then `done` is not called.
  Result<std::uint64_t> start(Duration length, Done done);
  // Ends this profile before its time, if it is under way: it is handed over all the same. Any thread.
  void cut_short(std::uint64_t number);
  // Ends the one that is being taken, and takes no more. Any thread.
  void close();

 private:
  void run(int file, Duration length, Done& done);

  std::atomic<bool> busy_{false};
  Mutex mutex_;
  Condition stop_;
  bool stopping_ WM_GUARDED_BY(mutex_) = false;
  bool closed_ WM_GUARDED_BY(mutex_) = false;
  std::uint64_t last_ WM_GUARDED_BY(mutex_) = 0;  // Number of the last one that began.
  Mutex thread_mutex_;
  std::thread thread_ WM_GUARDED_BY(thread_mutex_);
};

}  // namespace workmill::telemetry
