#pragma once
#include <algorithm>
#include <cstdint>

namespace workmill::telemetry {

// The largest of what was noted of late: long enough for whoever looks once a minute, and for no longer. On one thread;
// to note costs a comparison.
class RecentPeak {
 public:
  static constexpr std::uint32_t kHalfSeconds = 30;

  void note(std::uint64_t value) { newer_ = std::max(newer_, value); }

  // Of the last 30 to 60 seconds. To be called about once a second, with the second of a clock that never goes back.
  std::uint64_t read(std::uint32_t second) {
    std::uint64_t const peak = std::max(older_, newer_);
    if (second - since_ >= kHalfSeconds) {
      older_ = newer_;
      newer_ = 0;
      since_ = second;
    }
    return peak;
  }

 private:
  std::uint64_t older_ = 0;
  std::uint64_t newer_ = 0;
  std::uint32_t since_ = 0;  // When `newer_` began.
};

}  // namespace workmill::telemetry
