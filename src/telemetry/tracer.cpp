#include "telemetry/tracer.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

namespace workmill::telemetry {
namespace {

// The wall clock tells milliseconds: what is less is no step of it.
constexpr std::int64_t kStepNs = 5'000'000;

}  // namespace

Tracer::Tracer(Clock const& clock, double ratio, std::size_t queue_spans_max)
    : clock_(clock), wall_offset_ns_(measured_offset()), spans_(queue_spans_max) {
  set_ratio(ratio);
}

void Tracer::set_ratio(double ratio) {
  constexpr double kAll = 18'446'744'073'709'551'616.0;  // 2^64.
  std::uint64_t threshold = 0;
  if (ratio >= 1) {
    threshold = std::numeric_limits<std::uint64_t>::max();
  } else if (ratio > 0) {
    threshold = static_cast<std::uint64_t>(ratio * kAll);
  }
  threshold_.store(threshold, std::memory_order_relaxed);
}

std::int64_t Tracer::measured_offset() const {
  auto const wall = std::chrono::nanoseconds{clock_.now().time_since_epoch()};
  return (wall - clock_.monotonic()).count();
}

void Tracer::adjust_clock() {
  std::int64_t const measured = measured_offset();
  if (std::abs(measured - wall_offset_ns_.load(std::memory_order_relaxed)) < kStepNs) return;
  wall_offset_ns_.store(measured, std::memory_order_relaxed);
}

void Tracer::emit(Span&& span) {
  sampled_.fetch_add(1, std::memory_order_relaxed);
  if (span.end_ns < span.start_ns) span.end_ns = span.start_ns;  // The wall clock was set in between.
  if (!spans_.try_send(std::move(span))) dropped_.fetch_add(1, std::memory_order_relaxed);
}

TraceFigures Tracer::figures() const {
  return {.sampled = sampled_.load(std::memory_order_relaxed),
          .dropped = dropped_.load(std::memory_order_relaxed),
          .queued = spans_.size(),
          .queue_spans_max = spans_.capacity()};
}

}  // namespace workmill::telemetry
