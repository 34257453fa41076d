#pragma once
#include <optional>

#include "app/config.h"
#include "base/time.h"
#include "protocols/http/server.h"
#include "shard/shard_times.h"
#include "telemetry/metrics.h"
#include "telemetry/thread_times.h"

// All that a running server measures of itself, made ahead of the parts that it measures.
namespace workmill::app {

class ServerTelemetry {
 public:
  // The registry, with what concerns the process as a whole. `clock` outlives this.
  ServerTelemetry(Config const& config, Clock const& clock);
  ServerTelemetry(ServerTelemetry const&) = delete;
  ServerTelemetry& operator=(ServerTelemetry const&) = delete;

  telemetry::Metrics& metrics() { return metrics_; }
  // None where `telemetry` is off.
  shard::ShardTimes* shard_times() { return shard_times_ ? &*shard_times_ : nullptr; }
  // Before the server listens. It must not outlive this.
  void attach(http::HttpServer& server);

 private:
  telemetry::Metrics metrics_;
  telemetry::ThreadTimes thread_times_;
  std::optional<shard::ShardTimes> shard_times_;
};

}  // namespace workmill::app
