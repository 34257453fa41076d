#pragma once
#include <memory>

#include "app/config.h"
#include "base/error.h"
#include "log/file/verifier.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace workmill::app {

// Starts what reads the log again in the background: findings go to `logger`, figures to `metrics`. Null where the
// configuration has it off. What is lent outlives it, and `metrics` is rendered no more once it has ended.
Result<std::unique_ptr<log::Verifier>> start_verifier(Config const& config, Clock const& clock,
                                                      telemetry::Logger& logger, telemetry::Metrics& metrics);

}  // namespace workmill::app
