#include "base/time.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

namespace workmill {
namespace {

using namespace std::chrono_literals;

std::int64_t parsed_ms(std::string_view text) {
  auto const instant = parse_rfc3339(text);
  EXPECT_TRUE(instant) << text;
  return instant ? to_ms(*instant) : -1;
}

TEST(Duration, TheContractsExamplesAreRead) {
  EXPECT_EQ(parse_duration("250ms").value(), 250ms);
  EXPECT_EQ(parse_duration("30s").value(), 30s);
  EXPECT_EQ(parse_duration("5m").value(), 5min);
  EXPECT_EQ(parse_duration("1h30m").value(), 90min);
  EXPECT_EQ(parse_duration("7d").value(), 168h);
  EXPECT_EQ(parse_duration("1d2h3m4s5ms").value(), 26h + 3min + 4s + 5ms);
  EXPECT_EQ(parse_duration("90m").value(), 90min);
  EXPECT_EQ(parse_duration("0s").value(), 0ms);
}

TEST(Duration, OtherTextsAreInvalidFields) {
  for (std::string_view const bad :
       {"",    "s",    "30",   "30 s", " 30s",  "30s ",       "-5s",
        "+5s", "1.5h", "1m1h", "1s1s", "1ms1s", "1H",         "1sec",
        "1w",  "s1",   "1h30", "1hm",  "0x1s",  "1\xc2\xb5s", "99999999999999999999999s"}) {
    auto const result = parse_duration(bad);
    ASSERT_FALSE(result) << bad;
    EXPECT_EQ(result.error().code, ErrorCode::invalid_field);
  }
  EXPECT_FALSE(parse_duration(std::string_view{"1s\0", 3}));
}

TEST(Duration, AHundredYearsAreTheMost) {
  EXPECT_EQ(parse_duration("36525d").value(), kDurationMax);
  EXPECT_EQ(parse_duration("36524d24h").value(), kDurationMax);
  EXPECT_FALSE(parse_duration("36525d1ms"));
  EXPECT_FALSE(parse_duration("36526d"));
  EXPECT_FALSE(parse_duration("3155760000001ms"));
}

TEST(Duration, IsWrittenAsAPersonWould) {
  EXPECT_EQ(format_duration(0ms), "0s");
  EXPECT_EQ(format_duration(250ms), "250ms");
  EXPECT_EQ(format_duration(90min), "1h30m");
  EXPECT_EQ(format_duration(168h), "7d");
  EXPECT_EQ(format_duration(24h + 1ms), "1d1ms");
}

RC_GTEST_PROP(Duration, WhatIsWrittenIsReadBack, ()) {
  Duration const duration{*rc::gen::inRange<std::int64_t>(0, kDurationMax.count() + 1) >> *rc::gen::inRange(0, 42)};
  RC_ASSERT(parse_duration(format_duration(duration)).value() == duration);
}

RC_GTEST_PROP(Duration, WhateverIsReadComesBackInOneForm, ()) {
  auto const text = *rc::gen::container<std::string>(rc::gen::elementOf(std::string{"0123456789dhms"}));
  auto const duration = parse_duration(text);
  if (!duration) return;
  RC_ASSERT(*duration >= 0ms && *duration <= kDurationMax);
  RC_ASSERT(parse_duration(format_duration(*duration)).value() == *duration);
}

TEST(Rfc3339, IsWrittenInUtcWithMilliseconds) {
  EXPECT_EQ(format_rfc3339(instant_from_ms(0)), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_rfc3339(instant_from_ms(1'795'338'000'000)), "2026-11-22T09:00:00.000Z");
  EXPECT_EQ(format_rfc3339(instant_from_ms(951'827'696'789)), "2000-02-29T12:34:56.789Z");
}

TEST(Rfc3339, WhatCannotBeWrittenIsWrittenAsTheNearest) {
  EXPECT_EQ(format_rfc3339(instant_from_ms(-1)), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_rfc3339(kInstantMax), "9999-12-31T23:59:59.999Z");
  EXPECT_EQ(format_rfc3339(Instant::max()), "9999-12-31T23:59:59.999Z");
}

TEST(Rfc3339, AnyZoneAndAnyFractionIsRead) {
  EXPECT_EQ(parsed_ms("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parsed_ms("2026-11-22T09:00:00Z"), 1'795'338'000'000);
  EXPECT_EQ(parsed_ms("2026-11-22t09:00:00z"), 1'795'338'000'000);
  EXPECT_EQ(parsed_ms("2026-11-22T11:00:00+02:00"), 1'795'338'000'000);
  EXPECT_EQ(parsed_ms("2026-11-22T03:30:00-05:30"), 1'795'338'000'000);
  EXPECT_EQ(parsed_ms("2026-11-22T09:00:00-00:00"), 1'795'338'000'000);
  EXPECT_EQ(parsed_ms("2026-11-22T09:00:00.5Z"), 1'795'338'000'500);
  EXPECT_EQ(parsed_ms("2026-11-22T09:00:00.1239999999999999999999Z"), 1'795'338'000'123);
  EXPECT_EQ(parsed_ms("1969-12-31T23:59:59-00:01"), 59'000);
}

TEST(Rfc3339, ALeapSecondCountsAsTheSecondAfter) {
  EXPECT_EQ(parsed_ms("2016-12-31T23:59:60Z"), parsed_ms("2017-01-01T00:00:00Z"));
  EXPECT_EQ(parsed_ms("1990-12-31T15:59:60.25-08:00"), parsed_ms("1991-01-01T00:00:00.250Z"));
}

TEST(Rfc3339, OtherTextsAreInvalidFields) {
  for (std::string_view const bad : {"",
                                     "2026-11-22",
                                     "2026-11-22T09:00:00",
                                     "2026-11-22 09:00:00Z",
                                     "2026-11-22T09:00Z",
                                     "2026-11-22T09:00:00.Z",
                                     "2026-11-22T09:00:00,5Z",
                                     "2026-11-22T09:00:00Z ",
                                     " 2026-11-22T09:00:00Z",
                                     "2026-13-01T00:00:00Z",
                                     "2026-00-01T00:00:00Z",
                                     "2026-11-31T00:00:00Z",
                                     "2026-11-00T00:00:00Z",
                                     "2025-02-29T00:00:00Z",
                                     "1900-02-29T00:00:00Z",
                                     "2026-11-22T24:00:00Z",
                                     "2026-11-22T09:60:00Z",
                                     "2026-11-22T09:00:61Z",
                                     "2026-11-22T09:00:60Z",
                                     "2026-11-22T09:00:00+24:00",
                                     "2026-11-22T09:00:00+02:60",
                                     "2026-11-22T09:00:00+0200",
                                     "2026-11-22T09:00:00+02",
                                     "2026-11-22T09:00:00ZZ",
                                     "26-11-22T09:00:00Z",
                                     "+2026-11-22T09:00:00Z",
                                     "1969-12-31T23:59:59Z",
                                     "1970-01-01T00:00:00+00:01",
                                     "9999-12-31T23:59:60Z",
                                     "9999-12-31T23:59:59-00:01"}) {
    auto const result = parse_rfc3339(bad);
    ASSERT_FALSE(result) << bad;
    EXPECT_EQ(result.error().code, ErrorCode::invalid_field);
  }
}

RC_GTEST_PROP(Rfc3339, WhatIsWrittenIsReadBack, ()) {
  Instant const instant = instant_from_ms(*rc::gen::inRange<std::int64_t>(0, to_ms(kInstantMax) + 1));
  std::string const text = format_rfc3339(instant);
  RC_ASSERT(text.size() == kRfc3339Bytes);
  RC_ASSERT(parse_rfc3339(text).value() == instant);
}

RC_GTEST_PROP(Rfc3339, TextsSortAsTimesDo, ()) {
  auto const any = rc::gen::inRange<std::int64_t>(0, to_ms(kInstantMax) + 1);
  Instant const a = instant_from_ms(*any);
  Instant const b = instant_from_ms(*any);
  RC_ASSERT((a < b) == (format_rfc3339(a) < format_rfc3339(b)));
}

RC_GTEST_PROP(Rfc3339, AnOffsetShiftsTheTimeByItself, ()) {
  std::int64_t const ms = *rc::gen::inRange<std::int64_t>(86'400'000, to_ms(kInstantMax) - 86'400'000);
  int const hours = *rc::gen::inRange(0, 24);
  int const minutes = *rc::gen::inRange(0, 60);
  std::string text = format_rfc3339(instant_from_ms(ms));
  text.back() = '+';
  auto const two = [](int value) {
    return std::string{static_cast<char>('0' + value / 10), static_cast<char>('0' + value % 10)};
  };
  text += two(hours) + ":" + two(minutes);

  RC_ASSERT(to_ms(parse_rfc3339(text).value()) == ms - (hours * 60 + minutes) * 60'000);
}

// Bytes near enough to a time to reach every branch; none of them may crash or come back out of range.
RC_GTEST_PROP(Rfc3339, AnyBytesAreReadOrRefused, ()) {
  std::string text = "2026-11-22T09:00:00.123+02:00";
  int const changes = *rc::gen::inRange(0, 4);
  for (int i = 0; i < changes; ++i) {
    text[*rc::gen::inRange<std::size_t>(0, text.size())] = *rc::gen::elementOf(std::string{"0123456789-:.+TtZz \xff"});
  }
  text.resize(*rc::gen::inRange<std::size_t>(15, text.size() + 1));
  auto const instant = parse_rfc3339(text);
  if (instant) RC_ASSERT(*instant >= kInstantMin && *instant <= kInstantMax);
}

}  // namespace
}  // namespace workmill
