#include "telemetry/thread_times.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/thread_name.h"

namespace workmill::telemetry {
namespace {

using std::chrono::seconds;

TEST(ThreadTimes, ReadsTheLineOfTheKernel) {
  ThreadStat stat;

  ASSERT_TRUE(parse_thread_stat("77 (a (b) c) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 5", stat));

  EXPECT_EQ(stat.name, "a (b) c");
  EXPECT_EQ(stat.ticks, 300U);
}

TEST(ThreadTimes, RefusesWhatIsNoSuchLine) {
  ThreadStat stat;
  for (char const* text : {"", "77", "77 (a", "77 (a)", "77 (a) S 1 2", ")(", "7 (a) S 1 7 7 0 -1 4 1 2 3 4 x 50 0"}) {
    EXPECT_FALSE(parse_thread_stat(text, stat)) << text;
  }
}

TEST(ThreadTimes, ReadsHowLongAThreadHadNoCore) {
  EXPECT_EQ(parse_waiting("773988685 287056683 171\n"), std::chrono::nanoseconds{287056683});

  for (char const* text : {"", "7", "7 ", "7 x 1", "7 -5 1", "7 99999999999999999999 1"}) {
    EXPECT_EQ(parse_waiting(text), std::chrono::nanoseconds{}) << text;
  }
}

TEST(ThreadTimes, KnowsEachThreadByItsName) {
  std::atomic<bool> stop{false};
  std::atomic<bool> named{false};
  std::jthread const worker{[&] {
    name_this_thread("wm-test-worker");
    named = true;
    named.notify_one();
    stop.wait(false);
  }};
  named.wait(false);
  ThreadTimes times;
  times.sample(seconds{10});
  auto const threads = times.read();
  stop = true;
  stop.notify_one();

  auto const has = [&](std::string_view name) {
    return std::ranges::any_of(threads, [&](ThreadTime const& it) { return it.name == name; });
  };
  EXPECT_TRUE(has("workmill"));
  EXPECT_TRUE(has("wm-test-worker"));
}

TEST(ThreadTimes, ARatioIsNeverBelowNoneNorAboveAll) {
  ThreadTimes times;
  EXPECT_TRUE(times.read().empty());
  for (int second = 1; second < 20; ++second) times.sample(seconds{second});

  for (ThreadTime const& thread : times.read()) {
    EXPECT_GE(thread.busy, 0);
    EXPECT_LE(thread.busy, 1);
    EXPECT_GE(thread.waiting, 0);
    EXPECT_LE(thread.waiting, 1);
    EXPECT_GE(thread.cpu_seconds, 0);
  }
}

}  // namespace
}  // namespace workmill::telemetry
