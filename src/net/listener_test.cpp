#include "net/listener.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "net/task_scope.h"

namespace workmill::net {
namespace {

using Tcp = boost::asio::ip::tcp;

TEST(ParseAddress, ReadsWhatPeopleWrite) {
  EXPECT_EQ(format_address(*parse_address("127.0.0.1:7330")), "127.0.0.1:7330");
  EXPECT_EQ(format_address(*parse_address("localhost:80")), "127.0.0.1:80");
  EXPECT_EQ(format_address(*parse_address("[::1]:7330")), "[::1]:7330");
  EXPECT_EQ(format_address(*parse_address(":7330")), "0.0.0.0:7330");
  EXPECT_EQ(format_address(*parse_address("*:0")), "0.0.0.0:0");
}

TEST(ParseAddress, RefusesEverythingElse) {
  for (std::string_view const text : {"", "7330", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:+1",
                                      "::1:7330", "[127.0.0.1]:1", "example.org:80", "[]:1", "127.0.0.1:80 "}) {
    auto const address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, ErrorCode::bad_configuration);
  }
}

TEST(Listener, HandsOverWhatItAccepts) {
  IoLoop loop;
  std::optional<Tcp::socket> accepted;
  auto listener = Listener::open(loop, *parse_address("127.0.0.1:0"),
                                 {.on_socket = [&](Tcp::socket socket) { accepted = std::move(socket); }});
  ASSERT_TRUE(listener);
  Tcp::socket client{loop.context()};
  client.connect({(*listener)->address().host, (*listener)->address().port});

  while (!accepted) loop.context().run_one();

  EXPECT_EQ(accepted->remote_endpoint(), client.local_endpoint());
}

TEST(Listener, TwoCannotHaveOneAddress) {
  IoLoop loop;
  auto const first = Listener::open(loop, *parse_address("127.0.0.1:0"), {.on_socket = [](Tcp::socket) {}});
  ASSERT_TRUE(first);

  auto const second = Listener::open(loop, (*first)->address(), {.on_socket = [](Tcp::socket) {}});

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::bad_configuration);
  EXPECT_NE(second.error().message.find(format_address((*first)->address())), std::string::npos);
}

// Lets the process have no more descriptors than it has, but for those below that it has closed.
class NoDescriptorLeft {
 public:
  NoDescriptorLeft() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    int const next = ::dup(STDERR_FILENO);
    ::close(next);
    rlimit const none{.rlim_cur = static_cast<rlim_t>(next), .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoDescriptorLeft() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
  NoDescriptorLeft(NoDescriptorLeft const&) = delete;
  NoDescriptorLeft& operator=(NoDescriptorLeft const&) = delete;

 private:
  rlimit before_{};
};

// A wait of a task, over at once. UBSan looks at an object by way of a pipe where it sees its type for the first time,
// and takes it for a broken one where there is no descriptor for that: so it is shown what a listener's pause is made
// of.
boost::asio::awaitable<void> pause_once() {
  boost::asio::steady_timer timer{co_await boost::asio::this_coro::executor, std::chrono::milliseconds{1}};
  static_cast<void>(co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable)));
}

TEST(Listener, WithoutADescriptorItSaysSoAndTriesAgain) {
  IoLoop loop;
  {
    TaskScope scope{loop.context()};
    scope.spawn(pause_once());
    while (scope.size() > 0) loop.context().run_one();
  }
  int accepted = 0;
  std::optional<boost::system::error_code> reason;
  auto const listener =
      Listener::open(loop, *parse_address("127.0.0.1:0"),
                     {.on_socket = [&](Tcp::socket) { ++accepted; }, .on_pause = [&](auto why) { reason = why; }});
  ASSERT_TRUE(listener);
  boost::asio::ip::tcp::endpoint const there{(*listener)->address().host, (*listener)->address().port};
  Tcp::socket first{loop.context()};
  first.connect(there);
  while (accepted == 0) loop.context().run_one();
  Tcp::socket second{loop.context()};
  second.connect(there);

  {
    NoDescriptorLeft const none;
    while (!reason) loop.context().run_one();
    EXPECT_EQ(*reason, boost::system::errc::too_many_files_open);
    EXPECT_EQ(accepted, 1);
  }

  while (accepted == 1) loop.context().run_one();
}

TEST(Listener, RefusesConnectionsOnceItIsClosed) {
  IoLoop loop;
  auto const listener = Listener::open(loop, *parse_address("127.0.0.1:0"), {.on_socket = [](Tcp::socket) {}});
  ASSERT_TRUE(listener);
  auto const address = (*listener)->address();

  (*listener)->close();

  Tcp::socket client{loop.context()};
  boost::system::error_code error;
  client.connect({address.host, address.port}, error);
  EXPECT_TRUE(error);
}

TEST(Listener, StoppingHandsOverWhatTheKernelHasCompleted) {
  IoLoop loop;
  int handed_over = 0;
  auto listener =
      Listener::open(loop, *parse_address("127.0.0.1:0"), {.on_socket = [&](Tcp::socket) { ++handed_over; }});
  ASSERT_TRUE(listener);
  std::vector<std::unique_ptr<Tcp::socket>> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(std::make_unique<Tcp::socket>(loop.context()));
    clients.back()->connect({(*listener)->address().host, (*listener)->address().port});
  }

  bool stopped = false;
  (*listener)->stop([&] { stopped = true; });
  while (!stopped) loop.context().run_one();

  EXPECT_EQ(handed_over, 5);
}

TEST(Listener, StoppingLeavesTheQueueOfAnAdoptedSocketToWhoComesNext) {
  IoLoop loop;
  Tcp::acceptor kept{loop.context(), {boost::asio::ip::address_v4::loopback(), 0}};
  auto const address = kept.local_endpoint();
  int first = 0;
  auto listener = Listener::adopt(loop, ::dup(kept.native_handle()), {.on_socket = [&](Tcp::socket) { ++first; }});
  ASSERT_TRUE(listener);
  EXPECT_EQ((*listener)->address().port, address.port());
  Tcp::socket client{loop.context()};
  bool stopped = false;

  (*listener)->stop([&] { stopped = true; });
  while (!stopped) loop.context().run_one();
  listener->reset();
  client.connect(address);

  int second = 0;
  auto next = Listener::adopt(loop, ::dup(kept.native_handle()), {.on_socket = [&](Tcp::socket) { ++second; }});
  ASSERT_TRUE(next);
  while (second == 0) loop.context().run_one();
  EXPECT_EQ(first, 0);
}

TEST(Listener, WhatCannotBeAcceptedFromIsRefused) {
  IoLoop loop;

  EXPECT_FALSE(Listener::adopt(loop, -1, {.on_socket = [](Tcp::socket) {}}));
}

}  // namespace
}  // namespace workmill::net
