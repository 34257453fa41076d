#include "protocols/http/pages/job_stages.h"

namespace workmill::http {

std::string_view job_stage_name(std::size_t stage) {
  switch (static_cast<JobStage>(stage)) {
    case JobStage::enqueued_to_ready: return "enqueued_to_ready";
    case JobStage::ready_to_leased: return "ready_to_leased";
    case JobStage::leased_to_done: return "leased_to_done";
  }
  return "";
}

telemetry::HistogramSnapshot snapshot_of(MillisecondCounts const& counts) {
  telemetry::HistogramSnapshot snapshot{.buckets = {.bounds = {}, .unit = 1e-3}, .counts = {}, .sum = counts.sum_ms};
  for (std::size_t i = 0; i < MillisecondCounts::kBounds; ++i) snapshot.buckets.bounds.push_back(std::uint64_t{1} << i);
  snapshot.counts.assign(counts.counts.begin(), counts.counts.end());
  return snapshot;
}

}  // namespace workmill::http
