#pragma once
#include <chrono>
#include <cstdint>
#include <optional>

#include "base/rng.h"
#include "base/time.h"

// What an answer to an export means, and when to try again. Pure.
namespace workmill::telemetry {

enum class OtlpVerdict : std::uint8_t {
  accepted,
  retry,    // 429, 502, 503, 504, or no answer at all.
  refused,  // Every other status: the same again would be refused again.
};
// `status` 0: the connection failed, or broke before the answer.
OtlpVerdict judge_otlp_status(long status);

struct OtlpBackoff {
  std::uint32_t attempts_max = 6;  // Of a batch; then it is given up.
  Duration first = std::chrono::seconds{1};
  Duration most = std::chrono::seconds{30};
  Duration retry_after_max = std::chrono::minutes{5};  // A receiver that says more is not waited for so long.
};
// How long to wait after `failed` attempts (1 or more), or nothing where it is given up. Doubles from `first` to
// `most`, and is drawn from the upper half, so that many servers do not come back at once ("equal jitter"). What the
// receiver says by Retry-After is the least.
std::optional<Duration> otlp_wait(OtlpBackoff const& backoff, std::uint32_t failed, std::optional<Duration> retry_after,
                                  Rng& chance);

}  // namespace workmill::telemetry
