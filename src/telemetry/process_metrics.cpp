#include "telemetry/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <string>
#include <string_view>

#include "telemetry/proc_file.h"

namespace workmill::telemetry {
namespace {

double seconds_of(timeval const& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// The field of /proc/self/statm, in bytes.
double memory_bytes(std::string_view statm, int field) {
  for (; field > 0; --field) statm.remove_prefix(std::min(statm.find(' ') + 1, statm.size()));
  std::uint64_t pages = 0;
  std::from_chars(statm.data(), statm.data() + statm.size(), pages);
  return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

// Newer kernels say it as the folder's size; to count ten thousand entries takes milliseconds.
std::uint64_t open_files() {
  struct stat folder{};
  if (::stat("/proc/self/fd", &folder) == 0 && folder.st_size > 0) return static_cast<std::uint64_t>(folder.st_size);
  DIR* const entries = ::opendir("/proc/self/fd");
  if (entries == nullptr) return 0;
  std::uint64_t count = 0;
  while (dirent const* const entry = ::readdir(entries)) count += entry->d_name[0] == '.' ? 0 : 1;
  ::closedir(entries);
  return count - 1;  // Without the one that reads them.
}

void write_process_metrics(Instant started_at, MetricsWriter& out) {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  std::string const statm = read_proc_file("/proc/self/statm");

  out.counter("process_cpu_seconds_total", "CPU time of the process, user and system.", {},
              seconds_of(used.ru_utime) + seconds_of(used.ru_stime));
  out.gauge("process_virtual_memory_bytes", "Address space of the process.", {}, memory_bytes(statm, 0));
  out.gauge("process_resident_memory_bytes", "Memory of the process.", {}, memory_bytes(statm, 1));
  out.gauge("process_open_fds", "Open files and sockets.", {}, static_cast<double>(open_files()));
  out.gauge("process_max_fds", "How many there may be.", {}, static_cast<double>(files.rlim_cur));
  out.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", {},
            std::chrono::duration<double>(started_at.time_since_epoch()).count());
}

void write_thread_metrics(ThreadTimes const& threads, MetricsWriter& out) {
  for (ThreadTime const& thread : threads.read()) {
    out.counter("workmill_thread_cpu_seconds_total", "CPU time of the threads that run.", {{"thread", thread.name}},
                thread.cpu_seconds);
    out.gauge("workmill_thread_busy_ratio", "How busy a thread was over the last five seconds: 1 is all of a core.",
              {{"thread", thread.name}}, thread.busy);
    out.gauge("workmill_thread_waiting_ratio", "How much of the last five seconds it was ready to run and had no core.",
              {{"thread", thread.name}}, thread.waiting);
  }
}

}  // namespace workmill::telemetry
