#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/time.h"

// Figures that the engine keeps of its jobs as they move. Not part of the state: they count from the start of the
// process, and a replay does not touch them.
namespace workmill {

// How long something took, by powers of two of milliseconds, since milliseconds are what the engine's time is made of:
// what took less than one counts as one or none. Plain numbers, of one thread.
struct MillisecondCounts {
  // At most 1 ms, 2 ms, 4 ms… 2^31 ms (25 days), and more than that.
  static constexpr std::size_t kBounds = 32;

  std::array<std::uint64_t, kBounds + 1> counts{};
  std::uint64_t sum_ms = 0;

  void observe(Duration took) {  // Below zero, as after a clock was set back, counts as zero.
    std::uint64_t const ms = took > Duration{0} ? static_cast<std::uint64_t>(took.count()) : 0;
    counts[ms <= 1 ? 0 : std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(ms - 1)), kBounds)] += 1;
    sum_ms += ms;
  }
};

// The life of a job, as its stamps in the log tell it: a restart in the middle of a stage does not lose it.
enum class JobStage : std::uint8_t {
  enqueued_to_ready,  // The first time: 0 without a delay. What follows a failure does not count.
  ready_to_leased,    // Each time.
  leased_to_done,     // Each attempt that was completed, failed or ran out.
};
inline constexpr std::size_t kJobStages = 3;
using JobStageFigures = std::array<MillisecondCounts, kJobStages>;

struct TypeFigures {
  std::string type;
  std::uint64_t enqueued = 0;
  std::uint64_t completed = 0;
  std::uint64_t failed = 0;  // Attempts, whatever came next.

  std::uint64_t sum() const { return enqueued + completed + failed; }
};
// What the line of all other types is called: not a name that a type can have.
inline constexpr char const* kOtherTypes = "(other)";

}  // namespace workmill
