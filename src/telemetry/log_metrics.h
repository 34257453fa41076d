#pragma once
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace workmill::telemetry {

// Adds the figures of the log to what `metrics` renders: lines written, dropped and held back, and how full the queue
// is. `logger` outlives `metrics`.
void add_log_metrics(Metrics& metrics, Logger const& logger);

}  // namespace workmill::telemetry
