#include "net/socket_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <string>
#include <system_error>

namespace workmill::net {
namespace {

using Bytes16 = std::array<std::uint8_t, 16>;

template <class Bytes4>
Bytes16 mapped(Bytes4 const& v4) {
  Bytes16 bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  std::ranges::copy(v4, bytes.begin() + 12);
  return bytes;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

std::optional<Bytes16> parse_ip(std::string_view text) {
  bool const is_v6 = text.starts_with('[') && text.ends_with(']');
  std::string const number{is_v6 ? text.substr(1, text.size() - 2) : text};  // It wants a zero at the end.
  if (number.size() >= INET6_ADDRSTRLEN || number.find('\0') != std::string::npos) return std::nullopt;
  if (is_v6) {
    Bytes16 v6{};
    return ::inet_pton(AF_INET6, number.c_str(), v6.data()) == 1 ? std::optional{v6} : std::nullopt;
  }
  std::array<std::uint8_t, 4> v4{};
  return ::inet_pton(AF_INET, number.c_str(), v4.data()) == 1 ? std::optional{mapped(v4)} : std::nullopt;
}

}  // namespace

SocketAddress socket_address_of(boost::asio::ip::address const& address, std::uint16_t port) {
  return {.ip = address.is_v4() ? mapped(address.to_v4().to_bytes()) : address.to_v6().to_bytes(), .port = port};
}

std::optional<SocketAddress> parse_socket_address(std::string_view text) {
  std::size_t const colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto const ip = parse_ip(text.substr(0, colon));
  auto const port = parse_port(text.substr(colon + 1));
  if (!ip || !port) return std::nullopt;
  return SocketAddress{.ip = *ip, .port = *port};
}

}  // namespace workmill::net
