#pragma once
#include <functional>
#include <memory>

#include "app/config.h"
#include "base/error.h"
#include "log/file/verifier.h"
#include "model/ids.h"
#include "shard/shard_loop.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace workmill::app {

// Starts what reads the log again in the background: findings go to `logger`, figures to `metrics`. Null where the
// configuration has it off. What is lent outlives it, and `metrics` is rendered no more once it has ended.
Result<std::unique_ptr<log::Verifier>> start_verifier(Config const& config, Clock const& clock,
                                                      telemetry::Logger& logger, telemetry::Metrics& metrics);

// What a shard calls for each job of which something could not be read back: an error in the log, with file and offset,
// and a figure. What is lent outlives it.
std::function<void(JobNumber, Error const&)> damage_reporter(JobIdCodec const& ids, telemetry::Logger& logger,
                                                             telemetry::Metrics& metrics);

// What a shard calls for cached values that could not be read back, and are forgotten: an error in the log. Their
// number is among the figures of the cache.
std::function<void(Error const&)> cache_damage_reporter(telemetry::Logger& logger);

// What a shard calls when the disk or the memory for jobs becomes short, and when it no longer is: a line in the log.
std::function<void(shard::Shortage const&)> shortage_reporter(telemetry::Logger& logger);

}  // namespace workmill::app
