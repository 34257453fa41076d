#pragma once
#include <chrono>
#include <cstdint>
#include <deque>

#include "telemetry/metrics.h"
#include "telemetry/stage_times.h"

// What a shard measures as it turns.
namespace workmill::shard {

// The instruments, in a registry that outlives them. Written by the shard's thread alone, but for StageTimes' parse and
// reply, which are not the shard's.
struct ShardTimes {
  explicit ShardTimes(telemetry::Metrics& metrics);

  telemetry::StageTimes stages;
  telemetry::Histogram& flush_seconds;
  telemetry::Histogram& turn_commands;
  telemetry::Histogram& batch_bytes;
};

// Turns the loop's looks at the clock into observations: two or three a turn, whatever the number of commands. On the
// shard's thread. Without instruments it does nothing.
class TurnRecorder {
 public:
  using Time = std::chrono::nanoseconds;

  explicit TurnRecorder(ShardTimes* times) : times_(times) {}

  // A command that was parsed at `parsed_at` (zero: nobody knows) is decided in the turn that began at `turn_at`.
  void waited(Time parsed_at, Time turn_at) {
    if (times_ != nullptr && parsed_at > Time{0}) {
      times_->stages[telemetry::Stage::wait].observe_as_owner(turn_at - parsed_at);
    }
  }
  // A turn that decided so many has come to its batch.
  void decided(Time took, std::uint64_t commands);
  // A batch that so many answers rest on goes to the disk.
  void staged(std::uint64_t batch, Time at, std::uint64_t answers, std::size_t bytes);
  void durable(std::uint64_t batch, Time at);
  void flushed(Time took, std::uint64_t times);

 private:
  struct Staged {
    std::uint64_t batch = 0;
    Time at{};
    std::uint64_t answers = 0;
  };

  ShardTimes* times_;
  std::deque<Staged> staged_;  // Not durable yet: bounded as the loop's own batches are.
};

}  // namespace workmill::shard
