#include "app/load/server_cpu.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/worker/file_descriptor.h"

namespace workmill::app {
namespace {

TEST(Load, WhoListensOnAPortIsFound) {
  FileDescriptor const listener{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(listen(listener.get(), 1), 0);  // The system chooses a port.
  sockaddr_in address{};
  socklen_t length = sizeof address;
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);

  EXPECT_EQ(find_listener(ntohs(address.sin_port)), getpid());
  EXPECT_TRUE(cpu_time_of(getpid()));
  EXPECT_FALSE(cpu_time_of(-1));
}

}  // namespace
}  // namespace workmill::app
