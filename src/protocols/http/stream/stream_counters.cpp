#include "protocols/http/stream/stream_counters.h"

namespace workmill::http {

std::string_view to_string(StreamEnd end) {
  switch (end) {
    case StreamEnd::done: return "done";
    case StreamEnd::closed: return "closed";
    case StreamEnd::gone: return "gone";
    case StreamEnd::silent: return "silent";
    case StreamEnd::slow: return "slow";
    case StreamEnd::refused: return "refused";
    case StreamEnd::replaced: return "replaced";
    case StreamEnd::denied: return "denied";
    case StreamEnd::draining: return "draining";
  }
  return "";
}

StreamCounters::StreamCounters(telemetry::Metrics& metrics)
    : open(metrics.gauge("workmill_streams", "Open worker streams.")),
      direct(metrics.gauge("workmill_streams_direct", "Open worker streams that nobody stands between, as was shown.")),
      opened(metrics.counter("workmill_streams_opened_total", "Worker streams that subscribed.")),
      resumed(metrics.counter("workmill_streams_resumed_total",
                              "Worker streams that took over the jobs of one before them.")),
      jobs(metrics.counter("workmill_stream_jobs_sent_total", "Jobs sent over worker streams.")),
      reports(metrics.counter("workmill_stream_reports_total", "Reports that came over worker streams.")),
      results(metrics, "stream"),
      report_seconds(metrics.histogram("workmill_stream_report_seconds",
                                       "From a message of reports to its answer, over worker streams.",
                                       telemetry::latency_buckets())),
      cancels(metrics.counter("workmill_stream_cancels_sent_total", "Cancellations told over worker streams.")),
      pings(metrics.counter("workmill_stream_pings_total", "Pings sent to worker streams that were quiet.")) {
  for (std::size_t i = 0; i < kStreamEnds; ++i) {
    ended[i] = &metrics.counter("workmill_streams_ended_total", "Worker streams that ended.",
                                {{"reason", to_string(static_cast<StreamEnd>(i))}});
  }
}

}  // namespace workmill::http
