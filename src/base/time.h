#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

// Time as the whole server uses it: milliseconds since 1970-01-01T00:00:00Z, handed in and never asked for.
namespace workmill {

struct EngineClock {  // No now(): who has no Clock cannot learn the time.
  using duration = std::chrono::milliseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<EngineClock, duration>;
  static constexpr bool is_steady = false;
};
using Instant = EngineClock::time_point;
using Duration = std::chrono::milliseconds;

constexpr Instant instant_from_ms(std::int64_t ms) { return Instant{Duration{ms}}; }
constexpr std::int64_t to_ms(Instant instant) { return instant.time_since_epoch().count(); }

// The one interface that tells the time. Implementations: shard/system_clock.h, and the tests' own.
// Must be callable from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;                         // Wall time; may jump.
  virtual std::chrono::nanoseconds monotonic() const = 0;  // For measuring; never goes back.
};

inline constexpr Duration kDurationMax = std::chrono::days{36'525};  // 100 years: longer is a mistake of the caller.
inline constexpr Instant kInstantMin = instant_from_ms(0);
inline constexpr Instant kInstantMax = instant_from_ms(253'402'300'799'999);  // The last one that RFC 3339 can write.
inline constexpr std::size_t kRfc3339Bytes = 24;

// "250ms", "30s", "5m", "1h30m", "7d": one or more number-unit pairs, units d h m s ms, each at most once and falling;
// whole numbers only. invalid_field where the text is none of these or the sum is over kDurationMax. "0s" is legal.
Result<Duration> parse_duration(std::string_view text);
// Large units first and no zeros, as a person writes it: "1h30m". parse_duration reads it back as the same duration.
// "0s" for zero. `duration` >= 0.
std::string format_duration(Duration duration);

// RFC 3339 with a zone ("2026-11-22T09:00:00Z", "…+02:00", fraction of any length, cut to milliseconds; a lower-case
// t or z is legal; a leap second :60 counts as the second after). invalid_field otherwise. Years 1970 to 9999.
Result<Instant> parse_rfc3339(std::string_view text);
// UTC with milliseconds: "2026-11-22T09:00:00.000Z", always 24 bytes. What lies outside of kInstantMin to kInstantMax
// is written as the nearer of the two.
std::string format_rfc3339(Instant instant);
// The same into a buffer of at least kRfc3339Bytes, without allocating.
void format_rfc3339_to(Instant instant, char* out);

}  // namespace workmill
