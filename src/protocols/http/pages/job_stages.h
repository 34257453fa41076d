#pragma once
#include <cstddef>
#include <string_view>

#include "model/figures.h"
#include "telemetry/metrics.h"

namespace workmill::http {

// "enqueued_to_ready": by index, as in JobStage.
std::string_view job_stage_name(std::size_t stage);
// What the engine counts, in the form in which everything else is shown.
telemetry::HistogramSnapshot snapshot_of(MillisecondCounts const& counts);

}  // namespace workmill::http
