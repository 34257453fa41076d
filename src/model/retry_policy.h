#pragma once
#include <compare>
#include <cstdint>

#include "base/time.h"

// When a failed job runs again: pure functions, without floats, so that every machine decides the same.
namespace workmill {

struct Backoff {
  Duration first = std::chrono::seconds{15};
  std::uint32_t factor_permille = 2000;  // 1,000 to 100,000.
  Duration cap = std::chrono::hours{1};  // >= first.
  std::uint32_t jitter_permille = 200;   // 0 to 1,000: up to this share is added or taken away.
  auto operator<=>(Backoff const&) const = default;
};

inline constexpr std::uint32_t kMaxAttemptsDefault = 20;
inline constexpr std::uint32_t kMaxAttemptsLimit = 10'000;

// The wait after attempt number `attempt` (1 is the first) failed: min(cap, first * factor^(attempt-1)), spread evenly
// over ± jitter by `chance`, any 64 random bits. Whole milliseconds, the nearest. Never negative; never above
// cap * (1 + jitter). Values outside of their ranges are taken as the nearest one inside.
Duration backoff_after(Backoff const& backoff, std::uint32_t attempt, std::uint64_t chance);

}  // namespace workmill
