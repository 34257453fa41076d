#include "telemetry/stage_times.h"

namespace workmill::telemetry {

std::string_view to_string(Stage stage) {
  switch (stage) {
    case Stage::parse: return "parse";
    case Stage::wait: return "wait";
    case Stage::decide: return "decide";
    case Stage::flush: return "flush";
    case Stage::reply: return "reply";
  }
  return "";
}

StageTimes::StageTimes(Metrics& metrics) {
  for (std::size_t i = 0; i < kStages; ++i) {
    histograms_[i] = &metrics.histogram("workmill_stage_seconds",
                                        "Where the time of a request goes, from its bytes to its answer's.",
                                        latency_buckets(), {{"stage", to_string(static_cast<Stage>(i))}});
  }
}

}  // namespace workmill::telemetry
