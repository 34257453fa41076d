#include "model/retry_policy.h"

#include <algorithm>
#include <bit>

namespace workmill {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::int64_t kMsMax = kDurationMax.count();

// A positive number, mantissa * 2^exponent, with the mantissa's top bit set. Integers only, so that every machine gets
// the same; 64 bits, so that the error stays far below a millisecond in a hundred years.
struct Scaled {
  std::uint64_t mantissa;
  int exponent;

  static Scaled of(Wide value) {  // `value` > 0.
    auto const high = static_cast<std::uint64_t>(value >> 64);
    int const shift = high != 0 ? 64 - std::countl_zero(high) : -std::countl_zero(static_cast<std::uint64_t>(value));
    Wide const mantissa = shift > 0 ? value >> shift : value << -shift;
    return {static_cast<std::uint64_t>(mantissa), shift};
  }
  Scaled operator*(Scaled other) const {
    Scaled product = of(Wide{mantissa} * other.mantissa);
    product.exponent += exponent + other.exponent;
    return product;
  }
  // Rounded to the nearest whole number, `limit` at most.
  std::int64_t rounded(std::int64_t limit) const {
    if (exponent >= -1) return limit;  // 2^62 at least: over any limit of ours.
    if (exponent < -64) return 0;
    std::uint64_t const whole = ((mantissa >> (-exponent - 1)) + 1) >> 1;  // Half of: twice the value, and one.
    return whole > static_cast<std::uint64_t>(limit) ? limit : static_cast<std::int64_t>(whole);
  }
};

// first * (factor / 1,000)^power, `cap` at most. By squaring: 14 steps for 10,000 attempts.
std::int64_t grow(std::int64_t first, std::uint32_t factor_permille, std::uint32_t power, std::int64_t cap) {
  if (first >= cap) return cap;
  if (first == 0 || factor_permille == 1'000) return first;
  Scaled wait = Scaled::of(static_cast<std::uint64_t>(first));
  Scaled factor = Scaled::of((Wide{factor_permille} << 100) / 1'000);
  factor.exponent -= 100;
  // From exponent 0 on, a value is above any cap, and what is multiplied further only grows.
  for (; power != 0; power >>= 1) {
    if (power & 1) wait = wait * factor;
    if (wait.exponent >= 0) return cap;
    if (power > 1) {
      if (factor.exponent >= 0) return cap;  // Some bit of `power` is still to take it.
      factor = factor * factor;
    }
  }
  return wait.rounded(cap);
}

}  // namespace

Duration backoff_after(Backoff const& backoff, std::uint32_t attempt, std::uint64_t chance) {
  std::int64_t const first = std::clamp<std::int64_t>(backoff.first.count(), 0, kMsMax);
  std::int64_t const cap = std::clamp<std::int64_t>(backoff.cap.count(), 0, kMsMax);
  std::uint32_t const factor = std::clamp<std::uint32_t>(backoff.factor_permille, 1'000, 100'000);
  std::uint32_t const jitter = std::min<std::uint32_t>(backoff.jitter_permille, 1'000);
  std::uint32_t const power = std::clamp<std::uint32_t>(attempt, 1, kMaxAttemptsLimit) - 1;

  std::int64_t const wait = grow(first, factor, power, cap);
  std::int64_t const spread = wait * jitter / 1'000;  // 42 bits times 10: fits.
  auto const width = static_cast<std::uint64_t>(2 * spread + 1);
  auto const drawn = static_cast<std::int64_t>((Wide{chance} * width) >> 64);
  return Duration{wait - spread + drawn};
}

}  // namespace workmill
