#include "app/server_telemetry.h"

#include "app/allocations.h"
#include "app/revision.h"
#include "telemetry/process_metrics.h"

namespace workmill::app {

ServerTelemetry::ServerTelemetry(Config const& config, Clock const& clock) {
  if (config.telemetry) shard_times_.emplace(metrics_);
  metrics_
      .gauge("workmill_build_info", "Always 1; which build this is says its labels.",
             {{"version", WM_VERSION}, {"revision", revision()}})
      .set(1);
  metrics_.add_collector([this, started_at = clock.now()](telemetry::MetricsWriter& out) {
    telemetry::write_process_metrics(started_at, out);
    telemetry::write_thread_metrics(thread_times_, out);
    if (auto const made = allocations()) {
      out.counter("workmill_allocations_total", "Pieces of memory that C++ code asked for.", {},
                  static_cast<double>(*made));
    }
  });
}

void ServerTelemetry::attach(http::HttpServer& server) {
  server.set_thread_times(thread_times_);
  if (shard_times_) server.set_stage_times(shard_times_->stages);
}

}  // namespace workmill::app
