#include "net/socket_address.h"

#include <gtest/gtest.h>

#include <boost/asio/ip/address.hpp>
#include <string>

namespace workmill::net {
namespace {

namespace ip = boost::asio::ip;

SocketAddress seen(char const* address, std::uint16_t port) {
  return socket_address_of(ip::make_address(address), port);
}

TEST(SocketAddress, IsTheSameSaidAndSeen) {
  EXPECT_EQ(parse_socket_address("192.0.2.7:51234"), seen("192.0.2.7", 51'234));
  EXPECT_EQ(parse_socket_address("[2001:db8::7]:1"), seen("2001:db8::7", 1));
  EXPECT_EQ(parse_socket_address("[2001:0DB8:0:0::0007]:65535"), seen("2001:db8::7", 65'535));
}

TEST(SocketAddress, IsTheSameWhetherIpv4StandsWithinIpv6OrNot) {
  EXPECT_EQ(parse_socket_address("192.0.2.7:80"), seen("::ffff:192.0.2.7", 80));
  EXPECT_EQ(parse_socket_address("[::ffff:192.0.2.7]:80"), seen("192.0.2.7", 80));
}

TEST(SocketAddress, IsTheSameInWhateverZoneItIsSeen) {
  EXPECT_EQ(parse_socket_address("[fe80::1]:80"),
            socket_address_of(ip::address_v6{ip::make_address_v6("fe80::1").to_bytes(), 3}, 80));
}

TEST(SocketAddress, IsAnotherWithAnotherPortOrAddress) {
  EXPECT_NE(parse_socket_address("192.0.2.7:80"), seen("192.0.2.7", 81));
  EXPECT_NE(parse_socket_address("192.0.2.7:80"), seen("192.0.2.8", 80));
  EXPECT_NE(parse_socket_address("[::192.0.2.7]:80"), seen("192.0.2.7", 80));
}

TEST(SocketAddress, IsNotMadeOfAnythingElse) {
  for (std::string const text : {"",
                                 ":",
                                 ":80",
                                 "192.0.2.7",
                                 "192.0.2.7:",
                                 "192.0.2.7:0",
                                 "192.0.2.7:65536",
                                 "192.0.2.7:80 ",
                                 "192.0.2.7:+80",
                                 " 192.0.2.7:80",
                                 "192.0.2:80",
                                 "192.0.2.07x:80",
                                 "2001:db8::7:80",
                                 "[2001:db8::7]",
                                 "[2001:db8::7]80",
                                 "[2001:db8::7:80",
                                 "[192.0.2.7]:80",
                                 "[fe80::1%eth0]:80",
                                 "[]:80",
                                 "localhost:80",
                                 "[::1]:-1"}) {
    EXPECT_FALSE(parse_socket_address(text)) << text;
  }
  EXPECT_FALSE(parse_socket_address(std::string{"192.0.2.7\0:80", 13}));
  EXPECT_FALSE(parse_socket_address(std::string(1'000, '1') + ":80"));
}

}  // namespace
}  // namespace workmill::net
