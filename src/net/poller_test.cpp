#include "net/poller.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <cstdio>
#include <optional>
#include <string>

#include "net/io_loop.h"

namespace workmill::net {
namespace {

using What = Poller::What;
using Outcome = std::optional<boost::system::error_code>;

class Polling : public testing::Test {
 protected:
  Polling() {
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_.data()), 0);
    key_ = poller_.add(ends_[0]);
  }
  ~Polling() override {
    if (watched_) poller_.remove(key_);
    for (int const end : ends_) {
      if (end >= 0) ::close(end);
    }
  }

  void wait(What what) {
    outcome_.reset();
    poller_.async_wait(key_, what, [this](boost::system::error_code error) { outcome_ = error; });
  }
  // What is to happen by itself has happened after a few rounds; nothing here takes time.
  void turn_the_loop() {
    for (int i = 0; i < 20; ++i) loop_.step();
  }
  void peer_sends(std::string const& bytes) {
    EXPECT_EQ(::send(ends_[1], bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  void peer_closes() { ::close(std::exchange(ends_[1], -1)); }
  void read_all() {
    std::array<char, 4096> room;
    while (::recv(ends_[0], room.data(), room.size(), 0) > 0) {
    }
    poller_.used_up(key_, What::readable);
  }
  void remove() {
    poller_.remove(key_);
    watched_ = false;
  }
  bool was_woken_by_event() const { return outcome_ && !*outcome_; }

  IoLoop loop_;
  Poller& poller_ = loop_.poller();
  std::array<int, 2> ends_{-1, -1};
  Poller::Key key_{};
  bool watched_ = true;
  Outcome outcome_;
};

TEST_F(Polling, BytesEndAWaitForThem) {
  wait(What::readable);
  turn_the_loop();
  EXPECT_FALSE(outcome_);

  peer_sends("x");
  turn_the_loop();

  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, WhatIsReadyStaysReadyUntilItIsUsedUp) {
  peer_sends("x");
  wait(What::readable);
  turn_the_loop();

  wait(What::readable);
  turn_the_loop();
  EXPECT_TRUE(was_woken_by_event());  // Though nothing has come since.

  read_all();
  wait(What::readable);
  turn_the_loop();
  EXPECT_FALSE(outcome_);

  peer_sends("y");
  turn_the_loop();
  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, BytesThatCameWhileNobodyWaitedAreNotForgotten) {
  peer_sends("x");
  turn_the_loop();

  wait(What::readable);
  turn_the_loop();

  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, WhatWasReadyForOneWaitDoesNotEndTheNext) {
  peer_sends("x");
  turn_the_loop();
  poller_.wake(key_);  // Ahead of what the wait finds ready.
  poller_.async_wait(key_, What::readable, [this](boost::system::error_code) { wait(What::hung_up); });
  turn_the_loop();
  EXPECT_FALSE(outcome_);

  peer_closes();
  turn_the_loop();
  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, AWaitNeverEndsFromInsideItsCall) {
  peer_sends("x");
  turn_the_loop();

  wait(What::readable);

  EXPECT_FALSE(outcome_);
  turn_the_loop();
  EXPECT_TRUE(outcome_);
}

TEST_F(Polling, AFullSocketIsWritableAgainOnceThePeerHasRead) {
  std::string const bytes(64 * 1024, 'x');
  while (::send(ends_[0], bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
  }
  turn_the_loop();
  poller_.used_up(key_, What::writable);
  wait(What::writable);
  turn_the_loop();
  EXPECT_FALSE(outcome_);

  std::string room(1 << 20, 0);
  while (::recv(ends_[1], room.data(), room.size(), 0) > 0) {
  }
  turn_the_loop();

  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, TheEndOfThePeerStaysReadableForEver) {
  peer_closes();
  wait(What::readable);
  turn_the_loop();
  read_all();  // Finds the end, and says "used up" like after any read.

  wait(What::readable);
  turn_the_loop();

  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, WhoeverWaitsForAHangUpIsNotWokenByBytes) {
  wait(What::hung_up);
  peer_sends("x");
  turn_the_loop();
  EXPECT_FALSE(outcome_);

  peer_closes();
  turn_the_loop();

  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, WakeEndsAWait) {
  wait(What::readable);

  poller_.wake(key_);
  turn_the_loop();

  ASSERT_TRUE(outcome_);
  EXPECT_EQ(*outcome_, boost::asio::error::operation_aborted);
}

TEST_F(Polling, WakeWithoutAWaitDoesNothing) {
  poller_.wake(key_);
  turn_the_loop();

  wait(What::readable);
  turn_the_loop();

  EXPECT_FALSE(outcome_);
  poller_.wake(key_);
  turn_the_loop();
}

TEST_F(Polling, ACancellationEndsAWait) {
  boost::asio::cancellation_signal cancellation;
  poller_.async_wait(key_, What::readable,
                     boost::asio::bind_cancellation_slot(
                         cancellation.slot(), [this](boost::system::error_code error) { outcome_ = error; }));

  cancellation.emit(boost::asio::cancellation_type::terminal);
  turn_the_loop();

  ASSERT_TRUE(outcome_);
  EXPECT_EQ(*outcome_, boost::asio::error::operation_aborted);
}

TEST_F(Polling, AnEventForASocketThatIsGoneDoesNotReachTheNextInItsPlace) {
  poller_.wake(key_);  // Is under way when its socket is removed.
  Poller::Key const gone = key_;
  remove();
  std::array<int, 2> others{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, others.data()), 0);
  Poller::Key const next = poller_.add(others[0]);
  EXPECT_NE(next, gone);
  Outcome outcome;
  poller_.async_wait(next, What::readable, [&](boost::system::error_code error) { outcome = error; });

  peer_sends("x");  // To the one that is gone.
  turn_the_loop();

  EXPECT_FALSE(outcome);
  poller_.wake(next);
  turn_the_loop();
  poller_.remove(next);
  ::close(others[0]);
  ::close(others[1]);
}

TEST_F(Polling, TheOwnerMayRemoveItsSocketFromInsideTheHandler) {
  peer_sends("x");
  poller_.async_wait(key_, What::readable, [this](boost::system::error_code error) {
    outcome_ = error;
    remove();
  });

  turn_the_loop();

  EXPECT_TRUE(was_woken_by_event());
}

TEST_F(Polling, WhatCannotBeWatchedLooksBroken) {
  std::FILE* const file = std::tmpfile();  // epoll refuses regular files.
  ASSERT_NE(file, nullptr);
  Poller::Key const key = poller_.add(::fileno(file));
  Outcome outcome;
  poller_.async_wait(key, What::hung_up, [&](boost::system::error_code error) { outcome = error; });

  turn_the_loop();

  EXPECT_TRUE(outcome && !*outcome);
  poller_.remove(key);
  std::fclose(file);
}

TEST(Poller, DealsOutMoreEventsThanItTakesAtOnce) {
  constexpr std::size_t kSockets = 400;
  IoLoop loop;
  Poller& poller = loop.poller();
  std::vector<std::array<int, 2>> pairs(kSockets);
  std::vector<Poller::Key> keys;
  std::size_t woken = 0;
  for (auto& pair : pairs) {
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair.data()), 0);
    keys.push_back(poller.add(pair[0]));
    poller.async_wait(keys.back(), What::readable, [&](boost::system::error_code) { ++woken; });
    ASSERT_EQ(::send(pair[1], "x", 1, MSG_NOSIGNAL), 1);
  }

  for (int i = 0; i < 200 && woken < kSockets; ++i) loop.step();

  EXPECT_EQ(woken, kSockets);
  for (Poller::Key const key : keys) poller.remove(key);
  for (auto const& pair : pairs) {
    ::close(pair[0]);
    ::close(pair[1]);
  }
}

}  // namespace
}  // namespace workmill::net
