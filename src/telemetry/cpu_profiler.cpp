#include "telemetry/cpu_profiler.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/thread_name.h"

#ifdef WM_PROFILER
#include <gperftools/profiler.h>
#endif

namespace workmill::telemetry {

bool CpuProfiler::is_built_in() {
#ifdef WM_PROFILER
  return true;
#else
  return false;
#endif
}

CpuProfiler::~CpuProfiler() {
  close();
  Lock const lock{thread_mutex_};
  if (thread_.joinable()) thread_.join();
}

void CpuProfiler::cut_short(std::uint64_t number) {
  {
    Lock const lock{mutex_};
    if (number != last_) return;
    stopping_ = true;
  }
  stop_.notify_all();
}

void CpuProfiler::close() {
  {
    Lock const lock{mutex_};
    closed_ = true;
    stopping_ = true;
  }
  stop_.notify_all();
}

#ifndef WM_PROFILER

Result<std::uint64_t> CpuProfiler::start(Duration, Done) {
  return fail(ErrorCode::not_found, "this build of the server has no CPU profiler: it was made with sanitizers");
}
void CpuProfiler::run(int, Duration, Done&) {}

#else

namespace {

// The library writes to a file that it opens by name. Ours is in memory, and has a name as long as we hold it.
std::string path_of(int file) { return "/proc/self/fd/" + std::to_string(file); }

Result<std::string> read_all(int file) {
  std::string text;
  off_t const size = ::lseek(file, 0, SEEK_END);
  if (size < 0) return fail(ErrorCode::io_failed, "the profile cannot be read back");
  text.resize(static_cast<std::size_t>(size));
  std::size_t done = 0;
  while (done < text.size()) {
    ssize_t const got = ::pread(file, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return fail(ErrorCode::io_failed, "the profile cannot be read back");
    done += static_cast<std::size_t>(got);
  }
  return text;
}

}  // namespace

Result<std::uint64_t> CpuProfiler::start(Duration length, Done done) {
  if (busy_.exchange(true)) return fail(ErrorCode::wrong_state, "a profile is being taken already; wait for its end");
  bool const is_closed = [&] {
    Lock const lock{mutex_};
    return closed_;
  }();
  if (is_closed) {
    busy_.store(false);
    return fail(ErrorCode::shutting_down, "the server is shutting down");
  }
  Lock const lock{thread_mutex_};
  if (thread_.joinable()) thread_.join();  // Of the one before, which is over.
  int const file = ::memfd_create("workmill-profile", MFD_CLOEXEC);
  if (file < 0 || ::ProfilerStart(path_of(file).c_str()) == 0) {
    if (file >= 0) ::close(file);
    busy_.store(false);
    return fail(ErrorCode::io_failed, "the profiler cannot be started");
  }
  std::uint64_t number = 0;
  {
    Lock const stop_lock{mutex_};
    stopping_ = closed_;  // Closed since we looked: this one is over at once.
    number = ++last_;
  }
  try {
    thread_ = std::thread{[this, file, length, done = std::move(done)]() mutable { run(file, length, done); }};
  } catch (std::system_error const&) {  // Too many threads: it stops here.
    ::ProfilerStop();
    ::close(file);
    busy_.store(false);
    return fail(ErrorCode::io_failed, "the profiler's thread cannot be started");
  }
  return number;
}

void CpuProfiler::run(int file, Duration length, Done& done) {
  name_this_thread("wm-profile");
  {
    Lock const lock{mutex_};
    for (Duration left = length; left > Duration{0} && !stopping_;) {
      // In short steps: what wakes up early must not make it longer, and there is no clock at hand.
      Duration const step = std::min(left, Duration{100});
      stop_.wait_for(mutex_, step);
      left -= step;
    }
  }
  ::ProfilerStop();
  auto profile = read_all(file);
  ::close(file);
  busy_.store(false);
  done(std::move(profile));
}

#endif

}  // namespace workmill::telemetry
