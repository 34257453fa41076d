#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace boost::asio::ip {
class address;  // NOLINT(readability-identifier-naming): theirs.
}

// An address with its port, in a form in which what both ends of a connection call one of them can be compared: IPv4
// stands within IPv6 (::ffff:192.0.2.7), and the zone of a link-local address, which each machine numbers for itself,
// is left out.
namespace workmill::net {

struct SocketAddress {
  std::array<std::uint8_t, 16> ip{};
  std::uint16_t port = 0;

  friend bool operator==(SocketAddress const&, SocketAddress const&) = default;
};

SocketAddress socket_address_of(boost::asio::ip::address const& address, std::uint16_t port);
// "192.0.2.7:51234", "[2001:db8::7]:51234". Numbers only, without a zone; a port from 1 to 65535.
std::optional<SocketAddress> parse_socket_address(std::string_view text);

}  // namespace workmill::net
