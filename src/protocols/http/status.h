#pragma once
#include <span>
#include <string>
#include <string_view>

#include "model/reply.h"
#include "service/service.h"
#include "telemetry/metrics.h"

// The figures of the whole server into text.
namespace workmill::http {

std::string_view to_string(service::Readiness readiness);  // "ready", "disk_full"…

// GET /v1/status. `front_end`: how full this front end's bounds are.
void append_status(StatusReply const& status, std::span<Fullness const> front_end, service::Service const& service,
                   std::string& out);
// GET /metrics: what the registry has, and the shard's own figures.
void append_metrics(StatusReply const& status, Instant now, telemetry::Metrics& metrics,
                    telemetry::MetricsFormat format, std::string& out);

}  // namespace workmill::http
