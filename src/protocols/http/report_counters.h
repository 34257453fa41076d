#pragma once
#include <span>
#include <string_view>

#include "model/reply.h"
#include "telemetry/metrics.h"

namespace workmill::http {

// What came of reports, by the wire that they came over: `workmill_reports_total{protocol,result}`. Shared by all I/O
// threads.
class ReportCounters {
 public:
  // `metrics` outlives this.
  ReportCounters(telemetry::Metrics& metrics, std::string_view protocol);

  // Those that were answered together.
  void count(std::span<ReportResult const> results);

 private:
  telemetry::Counter& ok_;
  telemetry::Counter& stale_;  // Under a lease that was over: lease_lost.
  telemetry::Counter& refused_;
};

}  // namespace workmill::http
