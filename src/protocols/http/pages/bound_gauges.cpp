#include "protocols/http/pages/bound_gauges.h"

#include <algorithm>
#include <utility>

namespace workmill::http {

BoundGauges::~BoundGauges() {
  for (Line& line : lines_) {
    line.used.add(-line.used_published);
    line.limit.add(-line.limit_published);
  }
}

BoundGauges::Line& BoundGauges::ensure(std::string const& name) {
  auto const found = std::ranges::find(lines_, name, &Line::name);
  if (found != lines_.end()) return *found;
  return lines_.emplace_back(
      Line{.name = name,
           .used = metrics_.gauge("workmill_bound_used", telemetry::kBoundUsedHelp, {{"bound", name}}),
           .limit = metrics_.gauge("workmill_bound_limit", telemetry::kBoundLimitHelp, {{"bound", name}})});
}

void BoundGauges::publish(std::span<Fullness const> bounds) {
  for (Fullness const& bound : bounds) {
    Line& line = ensure(bound.name);
    auto const used = static_cast<double>(bound.used);
    auto const limit = static_cast<double>(bound.limit);
    line.used.add(used - std::exchange(line.used_published, used));
    line.limit.add(limit - std::exchange(line.limit_published, limit));
  }
}

}  // namespace workmill::http
