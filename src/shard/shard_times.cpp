#include "shard/shard_times.h"

namespace workmill::shard {

using telemetry::Stage;

ShardTimes::ShardTimes(telemetry::Metrics& metrics)
    : stages(metrics),
      flush_seconds(metrics.histogram("workmill_log_flush_seconds", "How long flushes of the log to disk took.",
                                      telemetry::latency_buckets())),
      turn_commands(metrics.histogram("workmill_turn_commands", "Commands decided in a turn that had any.",
                                      telemetry::count_buckets())),
      batch_bytes(metrics.histogram("workmill_log_batch_bytes", "What a turn wrote to the log, where it wrote.",
                                    telemetry::byte_buckets())) {}

void TurnRecorder::decided(Time took, std::uint64_t commands) {
  if (times_ == nullptr || commands == 0) return;
  times_->turn_commands.observe_as_owner(commands);
  times_->stages[Stage::decide].observe_as_owner(took, commands);
}

void TurnRecorder::staged(std::uint64_t batch, Time at, std::uint64_t answers, std::size_t bytes) {
  if (times_ == nullptr) return;
  times_->batch_bytes.observe_as_owner(bytes);
  if (answers > 0) staged_.push_back({.batch = batch, .at = at, .answers = answers});
}

void TurnRecorder::durable(std::uint64_t batch, Time at) {
  while (!staged_.empty() && staged_.front().batch <= batch) {
    times_->stages[Stage::flush].observe_as_owner(at - staged_.front().at, staged_.front().answers);
    staged_.pop_front();
  }
}

void TurnRecorder::flushed(Time took, std::uint64_t times) {
  if (times_ != nullptr) times_->flush_seconds.observe_as_owner(took, times);
}

}  // namespace workmill::shard
