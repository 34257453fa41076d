#pragma once
#include <cstdint>
#include <optional>

namespace workmill::app {

// How many pieces of memory C++ code has asked for since the process started, in any thread: this program's operators
// new count, each thread in a place of its own, which costs about a nanosecond, and hand on to the allocator's. What C
// libraries ask for is not in it, nor what asks without an exception (nothrow). Nothing in builds with sanitizers,
// which bring their own operators.
std::optional<std::uint64_t> allocations();

}  // namespace workmill::app
