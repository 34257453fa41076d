#pragma once
#include <boost/asio/ip/address.hpp>

#include "model/client.h"

namespace workmill::net {

// From the peer's address: each IPv4 address is a client, and each /64 of IPv6, as that is what one customer is given
// and may change addresses within at will. An IPv4 address that comes mapped into IPv6 is the same client as it.
// Distinct ones have distinct keys.
ClientKey client_key_of(boost::asio::ip::address const& peer);

}  // namespace workmill::net
