#include "base/time.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <optional>

#include "base/digits.h"

namespace workmill {
namespace {

using std::chrono::days;

struct Unit {
  std::string_view name;
  std::int64_t ms;
};
constexpr std::array<Unit, 5> kUnits{{
    {"d", 86'400'000},
    {"h", 3'600'000},
    {"m", 60'000},
    {"s", 1'000},
    {"ms", 1},
}};

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

auto bad_duration() {
  return fail(ErrorCode::invalid_field, "not a duration: write it like \"250ms\", \"30s\", \"1h30m\" or \"7d\"");
}
auto bad_time() {
  return fail(ErrorCode::invalid_field, "not a time: write it like \"2026-11-22T09:00:00Z\", with its zone");
}

// Takes one piece after another off the front of a text. A piece that is not there makes ok() false for good.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  int digits(std::size_t count) {  // Exactly so many.
    if (rest_.size() < count) return refuse();
    int value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (!is_digit(rest_[i])) return refuse();
      value = value * 10 + (rest_[i] - '0');
    }
    rest_.remove_prefix(count);
    return value;
  }
  void expect(std::string_view one_of) {
    if (rest_.empty() || !one_of.contains(rest_.front())) {
      refuse();
    } else {
      rest_.remove_prefix(1);
    }
  }
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // What follows the decimal point, one digit at least: the first three count, the others are skipped.
  int milliseconds() {
    int value = 0;
    std::size_t length = 0;
    for (; length < rest_.size() && is_digit(rest_[length]); ++length) {
      if (length < 3) value = value * 10 + (rest_[length] - '0');
    }
    if (length == 0) return refuse();
    for (std::size_t i = length; i < 3; ++i) value *= 10;
    rest_.remove_prefix(length);
    return value;
  }
  bool done() const { return ok_ && rest_.empty(); }

 private:
  int refuse() {
    ok_ = false;
    rest_ = {};
    return 0;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  if (text.empty()) return bad_duration();
  std::int64_t sum = 0;
  std::size_t next_unit = 0;  // Units fall, so each pair looks only at those after the last one.
  while (!text.empty()) {
    std::int64_t number = 0;
    std::size_t length = 0;
    for (; length < text.size() && is_digit(text[length]); ++length) {
      number = number * 10 + (text[length] - '0');
      if (number > kDurationMax.count()) return bad_duration();  // Too long in any unit, and before it overflows.
    }
    if (length == 0) return bad_duration();
    text.remove_prefix(length);

    std::size_t name_length = 0;
    while (name_length < text.size() && is_lower(text[name_length])) ++name_length;
    std::string_view const name = text.substr(0, name_length);
    text.remove_prefix(name_length);
    while (next_unit < kUnits.size() && kUnits[next_unit].name != name) ++next_unit;
    if (next_unit == kUnits.size()) return bad_duration();
    std::int64_t const unit_ms = kUnits[next_unit++].ms;

    if (number > (kDurationMax.count() - sum) / unit_ms) {
      return fail(ErrorCode::invalid_field, "a duration can be 36525 days (100 years) at most");
    }
    sum += number * unit_ms;
  }
  return Duration{sum};
}

std::string format_duration(Duration duration) {
  std::int64_t left = duration.count();
  if (left <= 0) return "0s";
  std::string text;
  for (Unit const& unit : kUnits) {
    if (left < unit.ms) continue;
    text.append(std::to_string(left / unit.ms)).append(unit.name);
    left %= unit.ms;
  }
  return text;
}

Result<Instant> parse_rfc3339(std::string_view text) {
  Scanner scan{text};
  int const year = scan.digits(4);
  scan.expect("-");
  int const month = scan.digits(2);
  scan.expect("-");
  int const day = scan.digits(2);
  scan.expect("Tt");
  int const hour = scan.digits(2);
  scan.expect(":");
  int const minute = scan.digits(2);
  scan.expect(":");
  int const second = scan.digits(2);
  int const ms = scan.take('.') ? scan.milliseconds() : 0;
  int offset_minutes = 0;
  bool const east = scan.take('+');
  if (east || scan.take('-')) {
    int const offset_hour = scan.digits(2);
    scan.expect(":");
    int const offset_minute = scan.digits(2);
    if (offset_hour > 23 || offset_minute > 59) return bad_time();
    offset_minutes = (offset_hour * 60 + offset_minute) * (east ? 1 : -1);
  } else {
    scan.expect("Zz");
  }
  if (!scan.done()) return bad_time();

  std::chrono::year_month_day const date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return bad_time();
  auto const minutes =
      std::chrono::sys_days{date}.time_since_epoch() + std::chrono::minutes{hour * 60 + minute - offset_minutes};
  // A leap second comes at the end of a UTC day, and nowhere else.
  if (second == 60 && (minutes + std::chrono::minutes{1}) % days{1} != std::chrono::minutes{0}) return bad_time();
  Instant const instant{minutes + std::chrono::seconds{second} + Duration{ms}};
  if (instant < kInstantMin || instant > kInstantMax) {
    return fail(ErrorCode::invalid_field, "a time lies between the years 1970 and 9999");
  }
  return instant;
}

std::string format_rfc3339(Instant instant) {
  std::string text(kRfc3339Bytes, '\0');
  format_rfc3339_to(instant, text.data());
  return text;
}

void format_rfc3339_to(Instant instant, char* out) {
  if (instant < kInstantMin) instant = kInstantMin;
  if (instant > kInstantMax) instant = kInstantMax;
  std::int64_t const ms = to_ms(instant);
  std::int64_t const day_number = ms / 86'400'000;
  auto const ms_of_day = static_cast<std::uint32_t>(ms % 86'400'000);
  std::chrono::year_month_day const date{std::chrono::sys_days{days{day_number}}};
  auto const year = static_cast<std::uint32_t>(static_cast<int>(date.year()));
  std::uint32_t const ms_part = ms_of_day % 1'000;
  std::uint32_t const seconds = ms_of_day / 1'000;

  std::memcpy(out, "0000-00-00T00:00:00.000Z", kRfc3339Bytes);
  put_two_digits(out, year / 100);
  put_two_digits(out + 2, year % 100);
  put_two_digits(out + 5, static_cast<unsigned>(date.month()));
  put_two_digits(out + 8, static_cast<unsigned>(date.day()));
  put_two_digits(out + 11, seconds / 3'600);
  put_two_digits(out + 14, seconds / 60 % 60);
  put_two_digits(out + 17, seconds % 60);
  out[20] = static_cast<char>('0' + ms_part / 100);
  put_two_digits(out + 21, ms_part % 100);
}

}  // namespace workmill
