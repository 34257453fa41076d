#include "telemetry/thread_times.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <utility>

#include "telemetry/proc_file.h"

namespace workmill::telemetry {
namespace {

constexpr std::chrono::milliseconds kSampleEvery{900};  // A little under a second, as timers are late.

double ticks_per_second() {
  static double const kTicks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  return kTicks > 0 ? kTicks : 100;
}

}  // namespace

bool parse_thread_stat(std::string_view text, ThreadStat& out) {
  // "12 (name) S 1 …": a name may hold spaces and parentheses. User time is the 12th field after it, system time next.
  std::size_t const open = text.find('(');
  std::size_t const close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return false;
  out.name = text.substr(open + 1, close - open - 1);
  out.ticks = 0;
  text.remove_prefix(close + 1);
  for (int field = 1; field <= 13; ++field) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    std::string_view const word = text.substr(0, text.find(' '));
    if (word.empty()) return false;
    if (field >= 12) {
      std::uint64_t ticks = 0;
      if (std::from_chars(word.data(), word.data() + word.size(), ticks).ec != std::errc{}) return false;
      out.ticks += ticks;
    }
    text.remove_prefix(word.size());
  }
  return true;
}

std::chrono::nanoseconds parse_waiting(std::string_view text) {
  // "773988685 287056683 171": nanoseconds on a core, nanoseconds ready to run, and how often it ran.
  std::size_t const first = text.find(' ');
  if (first == std::string_view::npos) return {};
  std::string_view const word = text.substr(first + 1, text.find(' ', first + 1) - first - 1);
  std::int64_t waited = 0;
  auto const read = std::from_chars(word.data(), word.data() + word.size(), waited);
  if (read.ec != std::errc{} || waited < 0) return {};
  return std::chrono::nanoseconds{waited};
}

ThreadTimes::Sample ThreadTimes::take_sample(std::chrono::nanoseconds now) {
  Sample sample{.at = now, .threads = {}};
  auto const close = [](DIR* folder) { ::closedir(folder); };
  std::unique_ptr<DIR, decltype(close)> const folder{::opendir("/proc/self/task"), close};
  if (!folder) return sample;
  std::string const main = std::to_string(::getpid());
  ThreadStat stat;
  while (dirent const* const entry = ::readdir(folder.get())) {
    std::string const id = entry->d_name;
    if (id.starts_with('.') || sample.threads.size() == kThreadsMax) continue;
    std::string const own = "/proc/self/task/" + id;
    if (!parse_thread_stat(read_proc_file(own + "/stat"), stat)) continue;  // It has just ended.
    auto const waited = parse_waiting(read_proc_file(own + "/schedstat"));
    std::uint64_t number = 0;
    std::from_chars(id.data(), id.data() + id.size(), number);
    // The first thread has no name of its own but the file's.
    sample.threads[number] = {.name = id == main ? std::string{"workmill"} : stat.name,
                              .cpu_seconds = static_cast<double>(stat.ticks) / ticks_per_second(),
                              .waiting_seconds = std::chrono::duration<double>(waited).count()};
  }
  return sample;
}

void ThreadTimes::sample(std::chrono::nanoseconds now) {
  // The files are read without the lock. One thread does it, else a sample could come in behind a later one.
  bool const is_ours = history_.with([&](History& history) {
    bool const is_fresh = !history.samples.empty() && now - history.samples.back().at < kSampleEvery;
    return !is_fresh && !std::exchange(history.is_sampling, true);
  });
  if (!is_ours) return;
  Sample sample = take_sample(now);
  history_.with([&](History& history) {
    history.is_sampling = false;
    if (history.samples.size() == kSamplesMax) history.samples.erase(history.samples.begin());
    history.samples.push_back(std::move(sample));
  });
}

std::vector<ThreadTime> ThreadTimes::read() const {
  std::map<std::string, ThreadTime> by_name;
  history_.with([&](History const& history) {
    if (history.samples.empty()) return;
    Sample const& first = history.samples.front();
    Sample const& last = history.samples.back();
    double const seconds = std::chrono::duration<double>(last.at - first.at).count();
    for (auto const& [id, line] : last.threads) {
      auto const before = first.threads.find(id);
      Line const was = before == first.threads.end() ? Line{} : before->second;
      ThreadTime& out = by_name[line.name];
      out.name = line.name;
      out.cpu_seconds += line.cpu_seconds;
      if (seconds <= 0) continue;
      auto const ratio = [&](double since, double until) { return std::clamp((until - since) / seconds, 0.0, 1.0); };
      out.busy = std::max(out.busy, ratio(was.cpu_seconds, line.cpu_seconds));
      out.waiting = std::max(out.waiting, ratio(was.waiting_seconds, line.waiting_seconds));
    }
  });
  std::vector<ThreadTime> threads;
  for (auto& [name, line] : by_name) threads.push_back(std::move(line));
  return threads;
}

}  // namespace workmill::telemetry
