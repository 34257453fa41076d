#pragma once
#include <cstddef>
#include <memory>

#include "policies.h"

// The cache's own policy (src/cache/policy.h) over arrays, as the others in policies.h are, so that what it costs can
// be put beside what they cost: the same rules, with the cache's table of who was sent away, and without its entries.
// That it hits as often as the cache itself is looked at whenever it is measured.
namespace workmill::bench {

std::unique_ptr<Simulated> own_policy(Trace const& trace, std::size_t capacity);

}  // namespace workmill::bench
