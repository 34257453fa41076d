#pragma once
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "telemetry/metrics.h"

// Where the time of a request goes, from its bytes to its answer's. The stages follow each other without a gap, so
// their sum is what the server adds to a client's wait; what a long poll waits for a job is in none of them.
namespace workmill::telemetry {

enum class Stage : std::uint8_t {
  parse,   // Receiving its bytes and making a command of them.
  wait,    // Until the turn that decides it, a channel between threads included.
  decide,  // That turn, until its batch is ready to be written: each command of a turn waits for all of them.
  flush,   // Until the batch is on disk.
  reply,   // Until the answer's bytes are with the operating system.
};
inline constexpr std::size_t kStages = 5;
std::string_view to_string(Stage stage);

// A histogram for each stage, in the registry as `workmill_stage_seconds{stage}`. One who asks the same registry gets
// the same histograms. Any thread.
class StageTimes {
 public:
  explicit StageTimes(Metrics& metrics);

  Histogram& operator[](Stage stage) const { return *histograms_[static_cast<std::size_t>(stage)]; }

 private:
  std::array<Histogram*, kStages> histograms_{};
};

}  // namespace workmill::telemetry
