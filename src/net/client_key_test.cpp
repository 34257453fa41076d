#include "net/client_key.h"

#include <gtest/gtest.h>

namespace workmill::net {
namespace {

ClientKey key(char const* address) { return client_key_of(boost::asio::ip::make_address(address)); }

TEST(ClientKey, EachIpv4AddressIsAClient) {
  EXPECT_EQ(key("192.0.2.1"), key("192.0.2.1"));
  EXPECT_NE(key("192.0.2.1"), key("192.0.2.2"));
}

TEST(ClientKey, ANetworkOfIpv6IsOneClientHoweverManyAddressesItUses) {
  EXPECT_EQ(key("2001:db8:0:7::1"), key("2001:db8:0:7:ffff::2"));
  EXPECT_NE(key("2001:db8:0:7::1"), key("2001:db8:0:8::1"));
}

TEST(ClientKey, AnIpv4AddressIsTheSameClientWhenItComesByIpv6) {
  EXPECT_EQ(key("::ffff:192.0.2.1"), key("192.0.2.1"));
  EXPECT_NE(key("::1"), key("127.0.0.1"));
}

}  // namespace
}  // namespace workmill::net
