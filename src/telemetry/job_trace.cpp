#include "telemetry/job_trace.h"

#include <utility>

#include "base/rng.h"

namespace workmill::telemetry {
namespace {

// Another span of the same trace, whose id follows from `seed`.
TraceContext derived(TraceContext context, std::uint64_t seed) {
  for (std::uint8_t const byte : context.trace_id) seed = mix64(seed ^ byte);
  while (seed == 0) seed = mix64(seed);  // All zeros mean no id.
  for (std::size_t i = 0; i < context.parent_id.size(); ++i) {
    context.parent_id[i] = static_cast<std::uint8_t>(seed >> (8 * i));
  }
  return context;
}

}  // namespace

TraceContext attempt_context(TraceContext const& creation, LeaseToken lease) {
  return derived(creation, std::to_underlying(lease));
}

TraceContext report_context(TraceContext const& attempt) {
  std::uint64_t seed = 0;
  for (std::uint8_t const byte : attempt.parent_id) seed = seed << 8 | byte;
  return derived(attempt, seed);
}

}  // namespace workmill::telemetry
