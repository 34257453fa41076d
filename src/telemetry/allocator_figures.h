#pragma once
#include <cstdint>
#include <optional>

namespace workmill::telemetry {

// What mimalloc knows of the process. Committed: memory that it has taken from the system, used or not.
struct AllocatorFigures {
  std::uint64_t resident_bytes = 0;
  std::uint64_t resident_bytes_peak = 0;
  std::uint64_t committed_bytes = 0;
  std::uint64_t committed_bytes_peak = 0;
  std::uint64_t page_faults = 0;  // That had to wait for a disk.
};
// Nothing in programs without it: those with sanitizers, and most tests.
std::optional<AllocatorFigures> allocator_figures();

}  // namespace workmill::telemetry
