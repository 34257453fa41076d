#include "app/worker/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <set>

namespace workmill::app {
namespace {

class ChildProcessTest : public testing::Test {
 protected:
  ChildProcessTest() { signal(SIGPIPE, SIG_IGN); }  // As the program does.

  static ChildProcess start(std::string script, std::string input = "", std::size_t output_bytes_max = 1 << 20) {
    ChildProcess::Spec spec;
    spec.command = {"sh", "-c", std::move(script)};
    spec.environment = {{"WORKMILL_JOB_ID", "job-1"}};
    spec.input = std::move(input);
    spec.output_bytes_max = output_bytes_max;
    auto child = ChildProcess::start(std::move(spec));
    EXPECT_TRUE(child.has_value());
    return std::move(*child);
  }

  // Waits for what happens, not for time; the bound only ends a test that would never end.
  static void run_to_end(ChildProcess& child) {
    while (!child.has_ended()) {
      std::vector<pollfd> polls;
      child.add_polls(polls);
      ASSERT_GT(poll(polls.data(), polls.size(), 60'000), 0) << "nothing happened for a minute";
      child.pump();
    }
  }

  static std::set<std::string> open_descriptors() {
    std::set<std::string> names;
    for (auto const& entry : std::filesystem::directory_iterator{"/proc/self/fd"})
      names.insert(entry.path().filename());
    return names;
  }
};

TEST_F(ChildProcessTest, InputGoesInAndOutputComesOut) {
  auto child = start("cat; echo \"$WORKMILL_JOB_ID\"; echo careful >&2", "hello ");

  run_to_end(child);

  EXPECT_EQ(child.output(), "hello job-1\n");
  EXPECT_EQ(child.errors().take(), std::vector<std::string>{"careful"});
  EXPECT_EQ(child.end().exit_code, 0);
}

TEST_F(ChildProcessTest, ItsExitCodeIsToldApartFromASignal) {
  auto failing = start("exit 65");
  auto killed = start("kill -9 $$");
  run_to_end(failing);
  run_to_end(killed);

  EXPECT_EQ(failing.end().exit_code, 65);
  EXPECT_EQ(failing.end().signal, 0);
  EXPECT_EQ(killed.end().signal, SIGKILL);
}

TEST_F(ChildProcessTest, MoreThanAPipeHoldsPassesBothWaysWithoutADeadlock) {
  std::string const input(3 << 20, 'x');
  auto child = start("tee /dev/stderr", input, 4 << 20);

  run_to_end(child);

  EXPECT_EQ(child.output(), input);
}

TEST_F(ChildProcessTest, InputThatNobodyReadsIsNoError) {
  auto child = start("exec <&-; echo done", std::string(1 << 20, 'x'));

  run_to_end(child);

  EXPECT_EQ(child.output(), "done\n");
  EXPECT_EQ(child.end().exit_code, 0);
}

TEST_F(ChildProcessTest, OutputHasABound) {
  auto child = start("head -c 300000 /dev/zero", "", 1'000);

  run_to_end(child);

  EXPECT_EQ(child.output().size(), 1'000u);
  EXPECT_TRUE(child.output_is_cut());
}

TEST_F(ChildProcessTest, WhatItLeavesBehindDoesNotHoldItsEndBack) {
  auto child = start("sleep 300 & echo $!");

  run_to_end(child);

  EXPECT_EQ(child.end().exit_code, 0);
  kill(std::stoi(child.output()), SIGKILL);
}

TEST_F(ChildProcessTest, ASignalReachesWhatItHasStarted) {
  auto child = start("sleep 300");

  child.send_signal(SIGTERM);
  run_to_end(child);

  EXPECT_EQ(child.end().signal, SIGTERM);
}

TEST_F(ChildProcessTest, AProgramThatIsNotThereIsAnError) {
  ChildProcess::Spec spec;
  spec.command = {"/no/such/program"};

  auto const child = ChildProcess::start(std::move(spec));

  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, ErrorCode::not_found);
  EXPECT_FALSE(is_runnable("/no/such/program"));
  EXPECT_FALSE(is_runnable("no-such-program-anywhere"));
  EXPECT_TRUE(is_runnable("sh"));
}

TEST_F(ChildProcessTest, NoDescriptorIsInheritedOrLeftOver) {
  auto const before = open_descriptors();
  {
    auto other = start("cat");  // Its pipes are open while the next one starts.
    auto child = start("ls /proc/self/fd | wc -l");
    run_to_end(child);
    // 0, 1, 2, and the folder that ls itself reads.
    EXPECT_EQ(child.output(), "4\n");
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace workmill::app
