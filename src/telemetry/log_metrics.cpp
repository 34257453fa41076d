#include "telemetry/log_metrics.h"

namespace workmill::telemetry {

void add_log_metrics(Metrics& metrics, Logger const& logger) {
  metrics.add_collector([&logger](MetricsWriter& writer) {
    LogFigures const figures = logger.figures();
    auto const number = [](auto value) { return static_cast<double>(value); };
    writer.counter("workmill_log_lines_total", "Lines put into the queue of the log.", {}, number(figures.written));
    writer.counter("workmill_log_lines_dropped_total", "Lines that gave way in a full queue.", {},
                   number(figures.dropped));
    writer.counter("workmill_log_lines_held_back_total", "Lines held back since their message repeated.", {},
                   number(figures.held_back));
    writer.gauge("workmill_bound_used", kBoundUsedHelp, {{"bound", "log_lines"}}, number(figures.queued));
    writer.gauge("workmill_bound_limit", kBoundLimitHelp, {{"bound", "log_lines"}}, number(figures.queue_lines_max));
  });
}

}  // namespace workmill::telemetry
