#pragma once
#include <compare>
#include <cstdint>
#include <functional>

// Where a record stands in the log. The engine keeps positions instead of payloads, and never looks inside one.
namespace workmill {

// A segment and the byte in it at which a record starts. Positions grow with the log: later record, larger position.
struct Position {
  std::uint32_t segment = 0;  // Ordinal of the segment, from 1; 0 is no position at all.
  std::uint32_t offset = 0;   // Bytes from the start of the segment's file.

  constexpr explicit operator bool() const { return segment != 0; }
  constexpr auto operator<=>(Position const&) const = default;
};
static_assert(sizeof(Position) == 8);

}  // namespace workmill
