#pragma once
#include <span>
#include <string>
#include <vector>

#include "model/reply.h"
#include "telemetry/metrics.h"

namespace workmill::http {

// How full one I/O thread's bounds are, as `workmill_bound_used{bound}` and `workmill_bound_limit{bound}`. The gauges
// are shared by all I/O threads, so each adds what has changed, and what is shown is their sum. On the I/O thread.
class BoundGauges {
 public:
  // `metrics` outlives this.
  explicit BoundGauges(telemetry::Metrics& metrics) : metrics_(metrics) {}
  ~BoundGauges();  // Takes back what it has added.
  BoundGauges(BoundGauges const&) = delete;
  BoundGauges& operator=(BoundGauges const&) = delete;

  // Some, always the same.
  void publish(std::span<Fullness const> bounds);

 private:
  struct Line {
    std::string name;
    telemetry::Gauge& used;
    telemetry::Gauge& limit;
    double used_published = 0;
    double limit_published = 0;
  };
  Line& ensure(std::string const& name);

  telemetry::Metrics& metrics_;
  std::vector<Line> lines_;
};

}  // namespace workmill::http
