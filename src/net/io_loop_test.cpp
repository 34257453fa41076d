#include "net/io_loop.h"

#include <gtest/gtest.h>

#include <boost/asio/steady_timer.hpp>
#include <thread>

namespace workmill::net {
namespace {

TEST(IoLoop, RunsWhatIsPostedAndThenTurns) {
  IoLoop loop;
  std::string order;
  loop.set_turn([&] {
    order.append("t");
    loop.stop();
    return IoLoop::kForever;
  });
  loop.post([&] { order.append("a"); });
  loop.post([&] { order.append("b"); });

  loop.run();

  EXPECT_EQ(order.substr(0, 3), "abt");
}

TEST(IoLoop, TurnsAgainAtOnceWhileTheTurnHasMoreToDo) {
  IoLoop loop;
  int turns = 0;
  loop.set_turn([&] {
    if (++turns == 5) loop.stop();
    return Duration::zero();
  });

  loop.run();

  EXPECT_GE(turns, 5);
}

TEST(IoLoop, IsWokenByOtherThreads) {
  IoLoop loop;
  std::jthread const other{[&] { loop.post([&] { loop.stop(); }); }};

  loop.run();  // Would sleep for an hour.
}

TEST(IoLoop, RunsWhatWasPostedBeforeTheStop) {
  IoLoop loop;
  bool ran = false;
  loop.stop();
  loop.post([&] { ran = true; });

  loop.run();

  EXPECT_TRUE(ran);
}

TEST(IoLoop, WhatEndsItsSleepIsInANewRound) {
  IoLoop loop;
  std::uint64_t before_sleep = 0;
  std::uint64_t after_sleep = 0;
  boost::asio::steady_timer timer{loop.context(), std::chrono::milliseconds{1}};
  timer.async_wait([&](boost::system::error_code) {
    after_sleep = loop.round();
    loop.stop();
  });
  loop.set_turn([&] {
    if (after_sleep == 0) before_sleep = loop.round();
    return IoLoop::kForever;
  });

  loop.run();

  EXPECT_GT(after_sleep, before_sleep);
}

TEST(IoLoop, AFloodOfHandlersDoesNotPutOffTheTurnForEver) {
  IoLoop loop;
  int handlers = 0;
  bool turned = false;
  std::function<void()> again = [&] {
    ++handlers;
    if (!turned) loop.post(again);
  };
  loop.set_turn([&] {
    turned = true;
    loop.stop();
    return IoLoop::kForever;
  });
  loop.post(again);

  loop.run();

  EXPECT_TRUE(turned);
  EXPECT_LE(handlers, 1000);
}

TEST(IoLoop, StepNeverSleeps) {
  IoLoop loop;
  bool ran = false;
  EXPECT_FALSE(loop.step());
  loop.post([&] { ran = true; });

  EXPECT_TRUE(loop.step());

  EXPECT_TRUE(ran);
  EXPECT_FALSE(loop.step());
}

}  // namespace
}  // namespace workmill::net
