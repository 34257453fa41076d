#include "net/client_key.h"

#include "base/rng.h"

namespace workmill::net {
namespace {

// In front of an IPv4 address: a part of ::/8, which nobody is given.
constexpr std::uint64_t kIpv4 = std::uint64_t{0xffff} << 32;

}  // namespace

ClientKey client_key_of(boost::asio::ip::address const& peer) {
  namespace ip = boost::asio::ip;
  // Mixed, which maps no two onto one, as tables take its low bits for a place.
  if (peer.is_v4()) return ClientKey{mix64(kIpv4 | peer.to_v4().to_uint())};
  ip::address_v6 const address = peer.to_v6();
  if (address.is_v4_mapped()) return ClientKey{mix64(kIpv4 | ip::make_address_v4(ip::v4_mapped, address).to_uint())};
  std::uint64_t prefix = 0;
  auto const bytes = address.to_bytes();
  for (std::size_t i = 0; i < 8; ++i) prefix = prefix << 8 | bytes[i];
  return ClientKey{mix64(prefix)};
}

}  // namespace workmill::net
