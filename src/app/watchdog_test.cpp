#include "app/watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdlib>
#include <string>

namespace workmill::app {
namespace {

class WatchdogTest : public testing::Test {
 protected:
  WatchdogTest() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address.sun_family), 0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    std::string name{address.sun_path, size - offsetof(sockaddr_un, sun_path)};
    name[0] = '@';
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "4000", 1);
  }
  ~WatchdogTest() override {
    ::close(socket_);
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("WATCHDOG_USEC");
  }

  int pings() const {
    int count = 0;
    char buffer[64];
    while (::recv(socket_, buffer, sizeof buffer, 0) > 0) ++count;
    return count;
  }
  // Gives the watchdog time for several looks.
  void look_around() {
    for (int i = 0; i < 8; ++i) {
      home.context().restart();
      home.context().run_one_for(std::chrono::seconds{10});  // Its timer is due long before.
    }
  }

  int socket_;
  net::IoLoop home;
  net::IoLoop other;
  std::uint64_t turns = 0;
};

TEST_F(WatchdogTest, IsFedWhileAllTurn) {
  auto const manager = ServiceManager::from_environment();
  auto const watchdog = Watchdog::start(manager, home, {&other}, [this] { return ++turns; });

  other.step();
  look_around();
  EXPECT_EQ(pings(), 1);

  other.step();
  look_around();
  EXPECT_EQ(pings(), 1);
}

TEST_F(WatchdogTest, StarvesWhereALoopDoesNotTurn) {
  auto const manager = ServiceManager::from_environment();
  auto const watchdog = Watchdog::start(manager, home, {&other}, [this] { return ++turns; });

  look_around();

  EXPECT_EQ(pings(), 0);
}

TEST_F(WatchdogTest, StarvesWhereTheShardDoesNotTurn) {
  auto const manager = ServiceManager::from_environment();
  auto const watchdog = Watchdog::start(manager, home, {}, [this] { return turns; });

  look_around();
  EXPECT_EQ(pings(), 0);

  turns = 1;
  look_around();
  EXPECT_EQ(pings(), 1);
}

TEST_F(WatchdogTest, IsNoneWhereTheManagerHasNone) {
  ::unsetenv("WATCHDOG_USEC");
  auto const manager = ServiceManager::from_environment();

  EXPECT_EQ(Watchdog::start(manager, home, {}, [] { return 0; }), nullptr);
}

}  // namespace
}  // namespace workmill::app
