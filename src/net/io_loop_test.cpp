#include "net/io_loop.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/steady_timer.hpp>
#include <functional>
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

// A socket whose peer sends it bytes when the test says so. Its owner hears of each.
class Watched {
 public:
  Watched(IoLoop& loop, std::function<void()> on_byte) : loop_(loop), on_byte_(std::move(on_byte)) {
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_.data()), 0);
    key_ = loop_.poller().add(ends_[0]);
    wait();
  }
  ~Watched() {
    loop_.poller().wake(key_);
    loop_.step();
    loop_.poller().remove(key_);
    for (int const end : ends_) ::close(end);
  }
  Watched(Watched const&) = delete;
  Watched& operator=(Watched const&) = delete;
  void peer_sends() { EXPECT_EQ(::send(ends_[1], "x", 1, MSG_NOSIGNAL), 1); }

 private:
  void wait() {
    loop_.poller().async_wait(key_, Poller::What::readable, [this](boost::system::error_code error) {
      if (error) return;
      char byte = 0;
      EXPECT_EQ(::recv(ends_[0], &byte, 1, 0), 1);
      loop_.poller().used_up(key_, Poller::What::readable);
      wait();
      on_byte_();
    });
  }

  IoLoop& loop_;
  std::function<void()> on_byte_;
  std::array<int, 2> ends_{-1, -1};
  Poller::Key key_{};
};

TEST(IoLoop, AFloodOfSocketEventsPutsOffNeitherTheTurnNorWhatWasPosted) {
  IoLoop loop;
  int bytes = 0;
  int turns = 0;
  bool was_posted_run = false;
  Watched* watched = nullptr;
  Watched flood{loop, [&] {
                  ++bytes;
                  if (turns < 2) watched->peer_sends();
                }};
  watched = &flood;
  loop.set_turn([&] {
    if (++turns == 2) loop.stop();
    return Duration::zero();
  });
  loop.post([&] { was_posted_run = true; });
  flood.peer_sends();

  loop.run();

  EXPECT_TRUE(was_posted_run);
  EXPECT_LE(bytes, 1'000);
}

TEST(IoLoop, ASocketEndsASleepAlsoWithWhatCameJustBeforeIt) {
  IoLoop loop;
  int bytes = 0;
  Watched watched{loop, [&] { ++bytes; }};
  loop.set_turn([&] {
    if (bytes == 3) loop.stop();  // The wait that wakes the loop is begun anew for each sleep.
    if (bytes < 3) watched.peer_sends();
    return IoLoop::kForever;
  });

  loop.run();

  EXPECT_EQ(bytes, 3);
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
