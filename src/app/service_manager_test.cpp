#include "app/service_manager.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace workmill::app {
namespace {

// Variables as a service manager sets them, and the socket that it listens on: one outside the file system.
class ServiceManagerTest : public testing::Test {
 protected:
  ServiceManagerTest() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;  // Without a name: the system chooses one.
    EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address.sun_family), 0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    name_.assign(address.sun_path, size - offsetof(sockaddr_un, sun_path));
    name_[0] = '@';
  }
  ~ServiceManagerTest() override {
    ::close(socket_);
    for (char const* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"})
      ::unsetenv(name);
  }

  static void set(char const* name, std::string const& value) { ::setenv(name, value.c_str(), 1); }
  std::string received() const {
    char buffer[1024];
    ssize_t const count = ::recv(socket_, buffer, sizeof buffer, 0);
    return count < 0 ? "" : std::string{buffer, static_cast<std::size_t>(count)};
  }

  int socket_;
  std::string name_;
};

TEST_F(ServiceManagerTest, IsToldWhatHappensInItsOwnWords) {
  set("NOTIFY_SOCKET", name_);
  auto const manager = ServiceManager::from_environment();

  manager.ready("serving");
  EXPECT_EQ(received(), "READY=1\nSTATUS=serving\n");
  manager.reloading(std::chrono::nanoseconds{1'234'567'000});
  EXPECT_EQ(received(), "RELOADING=1\nMONOTONIC_USEC=1234567\n");
  manager.extend(std::chrono::seconds{60}, "recovering: 1 of 2");
  EXPECT_EQ(received(), "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=recovering: 1 of 2\n");
  manager.stopping("draining\nREADY=1");
  EXPECT_EQ(received(), "STOPPING=1\nSTATUS=draining READY=1\n");
  manager.alive();
  EXPECT_EQ(received(), "WATCHDOG=1\n");
}

TEST_F(ServiceManagerTest, ThatIsNotThereIsToldNothing) {
  auto const manager = ServiceManager::from_environment();

  manager.ready("serving");

  EXPECT_FALSE(manager.is_there());
  EXPECT_EQ(manager.watchdog(), std::nullopt);
}

TEST_F(ServiceManagerTest, WhoseSocketHasGoneHarmsNobody) {
  for (std::string const& name : {std::string{"/nowhere/notify"}, std::string{"relative"}, std::string(300, '/')}) {
    set("NOTIFY_SOCKET", name);
    ServiceManager::from_environment().ready("serving");
  }
}

TEST_F(ServiceManagerTest, HasAWatchdogForThisProcessOnly) {
  set("NOTIFY_SOCKET", name_);
  set("WATCHDOG_USEC", "30000000");
  EXPECT_EQ(ServiceManager::from_environment().watchdog(), std::chrono::seconds{30});

  set("WATCHDOG_PID", std::to_string(::getpid()));
  EXPECT_EQ(ServiceManager::from_environment().watchdog(), std::chrono::seconds{30});

  set("WATCHDOG_PID", "1");
  EXPECT_EQ(ServiceManager::from_environment().watchdog(), std::nullopt);
}

TEST_F(ServiceManagerTest, HandsOverNoSocketsThatAreForAnotherProcess) {
  set("LISTEN_FDS", "2");
  set("LISTEN_PID", "1");

  auto const sockets = inherited_sockets();

  ASSERT_TRUE(sockets);
  EXPECT_TRUE(sockets->empty());
}

}  // namespace
}  // namespace workmill::app
