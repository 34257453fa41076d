#include "protocols/http/report_counters.h"

#include <cstdint>

namespace workmill::http {
namespace {

telemetry::Counter& reports_of(telemetry::Metrics& metrics, std::string_view protocol, std::string_view result) {
  return metrics.counter("workmill_reports_total", "Reports on jobs, by what came of them.",
                         {{"protocol", protocol}, {"result", result}});
}

}  // namespace

ReportCounters::ReportCounters(telemetry::Metrics& metrics, std::string_view protocol)
    : ok_(reports_of(metrics, protocol, "ok")),
      stale_(reports_of(metrics, protocol, "lease_lost")),
      refused_(reports_of(metrics, protocol, "refused")) {}

void ReportCounters::count(std::span<ReportResult const> results) {
  std::uint64_t stale = 0;
  std::uint64_t refused = 0;
  for (ReportResult const& result : results) {
    if (!result.error) continue;
    (result.error->code == ErrorCode::lease_lost ? stale : refused) += 1;
  }
  // One write a batch: these lines are shared with other threads.
  if (std::uint64_t const ok = results.size() - stale - refused; ok > 0) ok_.add(ok);
  if (stale > 0) stale_.add(stale);
  if (refused > 0) refused_.add(refused);
}

}  // namespace workmill::http
