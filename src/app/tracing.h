#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/config.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/time.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/otlp_exporter.h"
#include "telemetry/tracer.h"

// Traces and where they go: by our settings, and where those say nothing by the environment variables that all
// programs with OpenTelemetry know. docs/tracing.md has the list.
namespace workmill::app {

// Nothing where a variable is not set, or set to nothing.
using Environment = std::function<std::optional<std::string>(char const* name)>;
Environment process_environment();

struct TracingSettings {
  telemetry::OtlpOptions otlp;
  double ratio = 0;
  std::size_t queue_spans_max = telemetry::Tracer::kQueueSpansDefault;
};

// What holds of our own settings. bad_configuration, as check_config; values of headers are never in its message.
Result<> check_tracing(Config const& config);

// Nothing where no endpoint is named, or the environment turns tracing off. `config` is checked. A variable that makes
// no sense, or that we cannot follow, is as good as not set, and gets its line in `warnings`, without what may be
// secret.
std::optional<TracingSettings> tracing_settings(Config const& config, Environment const& environment,
                                                std::vector<std::string>& warnings);

// The tracer of a server and its exporter. Made before the parts, and outlives them.
class Tracing {
 public:
  // Null inside where nothing is traced. Starts a thread otherwise, which `logger`, `clock` must outlive.
  static Tracing start(Config const& config, Environment const& environment, Clock const& clock,
                       telemetry::Logger& logger, Rng chance);

  telemetry::Tracer* tracer() const { return tracer_.get(); }  // Null: nothing is traced.
  // A ratio that has changed while the server runs. Where the setting is gone, what the environment says.
  void set_sample(Config const& next) const;
  void add_metrics(telemetry::Metrics& metrics) const;
  // Once the parts are gone: sends what is still queued, for a few seconds at most.
  void flush();

 private:
  Environment environment_;
  std::unique_ptr<telemetry::Tracer> tracer_;
  std::unique_ptr<telemetry::OtlpExporter> exporter_;
};

}  // namespace workmill::app
