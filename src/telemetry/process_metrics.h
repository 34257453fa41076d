#pragma once
#include <cstdint>

#include "base/time.h"
#include "telemetry/metrics.h"
#include "telemetry/thread_times.h"

namespace workmill::telemetry {

// Files and sockets that this process has open; 0 where the system does not say.
std::uint64_t open_files();
// What all programs tell of themselves, under the names that all use: process_cpu_seconds_total and so on.
void write_process_metrics(Instant started_at, MetricsWriter& out);
// How busy each thread is.
void write_thread_metrics(ThreadTimes const& threads, MetricsWriter& out);

}  // namespace workmill::telemetry
