#pragma once
#include <cstdint>

namespace workmill {

// Who asks, as far as limits and fairness need to know: one number, made from a token's id or from a peer's address
// (net/client_key.h). Names nobody to a person, and is neither secret nor proof of anything.
enum class ClientKey : std::uint64_t {};

}  // namespace workmill
