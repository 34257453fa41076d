#pragma once
#include <string>

#include "base/time.h"
#include "model/reply.h"
#include "telemetry/metrics.h"

namespace workmill::http {

// Queues that have series of their own. The first so many by name; the others are summed up as queue="(other)", which
// no queue can be called, so that ten thousand queues do not become a million series.
inline constexpr std::size_t kQueuesShownMax = 200;

// GET /metrics: what the registry has, and the shard's own figures.
void append_metrics(StatusReply const& status, Instant now, telemetry::Metrics& metrics,
                    telemetry::MetricsFormat format, std::string& out);

}  // namespace workmill::http
