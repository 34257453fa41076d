#include "telemetry/otlp_retry.h"

#include <algorithm>

namespace workmill::telemetry {

OtlpVerdict judge_otlp_status(long status) {
  if (status >= 200 && status < 300) return OtlpVerdict::accepted;
  switch (status) {
    case 0:
    case 429:
    case 502:
    case 503:
    case 504: return OtlpVerdict::retry;
    default: return OtlpVerdict::refused;
  }
}

std::optional<Duration> otlp_wait(OtlpBackoff const& backoff, std::uint32_t failed, std::optional<Duration> retry_after,
                                  Rng& chance) {
  if (failed >= backoff.attempts_max) return std::nullopt;
  Duration wait = backoff.first;
  for (std::uint32_t i = 1; i < failed && wait < backoff.most; ++i) wait *= 2;
  wait = std::min(wait, backoff.most);
  auto const half = static_cast<std::uint64_t>(wait.count()) / 2;
  wait = Duration{static_cast<Duration::rep>(half + chance.below(half + 1))};
  if (retry_after) wait = std::max(wait, std::min(*retry_after, backoff.retry_after_max));
  return wait;
}

}  // namespace workmill::telemetry
