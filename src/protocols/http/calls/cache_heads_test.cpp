#include "protocols/http/calls/cache_heads.h"

#include <gtest/gtest.h>

#include <string>

namespace workmill::http {
namespace {

constexpr std::uint64_t kEtag = 0x00f0'67aa'0ba9'02b7;
constexpr std::string_view kTag = R"("00f067aa0ba902b7")";

std::string lines(ValueLines const& value, Instant now) {
  std::string out;
  append_value_lines(value, now, out);
  return out;
}

TEST(Etag, IsQuotedAndAlwaysOfTheSameLength) {
  std::string text;
  append_etag(kEtag, text);
  append_etag(1, text);

  EXPECT_EQ(text, std::string{kTag} + R"("0000000000000001")");
}

TEST(IfNoneMatch, NamesTheTagAloneOrInAList) {
  EXPECT_TRUE(names_etag(kTag, kEtag));
  EXPECT_TRUE(names_etag(R"("a", "00f067aa0ba902b7")", kEtag));
  EXPECT_TRUE(names_etag(R"(,, "a","00f067aa0ba902b7" ,)", kEtag));
  EXPECT_FALSE(names_etag(R"("a", "b")", kEtag));
  EXPECT_FALSE(names_etag("", kEtag));
}

TEST(IfNoneMatch, ComparesWeakly) { EXPECT_TRUE(names_etag(R"("a", W/"00f067aa0ba902b7")", kEtag)); }

TEST(IfNoneMatch, NamesAnyTagByAStar) {
  EXPECT_TRUE(names_etag("*", kEtag));
  EXPECT_TRUE(names_etag(" * ", kEtag));
  EXPECT_FALSE(names_etag(R"(*, "a")", kEtag));
  EXPECT_FALSE(names_etag(R"("a", *)", kEtag));
}

TEST(IfNoneMatch, TakesACommaInATagForAPartOfIt) {
  EXPECT_TRUE(names_etag(R"("a,b", "00f067aa0ba902b7")", kEtag));
  EXPECT_FALSE(names_etag(R"("a, "00f067aa0ba902b7")", kEtag));
}

TEST(IfNoneMatch, NamesNothingFromWhereItMakesNoSense) {
  EXPECT_FALSE(names_etag("00f067aa0ba902b7", kEtag));
  EXPECT_FALSE(names_etag(R"("00f067aa0ba902b7)", kEtag));
  EXPECT_FALSE(names_etag(R"(w/"00f067aa0ba902b7")", kEtag));
  EXPECT_FALSE(names_etag(R"("a" "00f067aa0ba902b7")", kEtag));
  EXPECT_FALSE(names_etag("W/", kEtag));
  EXPECT_TRUE(names_etag(R"("00f067aa0ba902b7" and more)", kEtag));
}

TEST(ValueLines, OfAFreshValueSayWhatIsLeft) {
  ValueLines const value{.etag = kEtag,
                         .stored_at = instant_from_ms(10'000),
                         .fresh_until = instant_from_ms(70'000),
                         .origin = Origin::hit};

  EXPECT_EQ(lines(value, instant_from_ms(12'999)),
            "ETag: \"00f067aa0ba902b7\"\r\nAge: 2\r\nCache-Control: no-cache\r\n"
            "Cache-Status: workmill; hit; ttl=57\r\n");
}

TEST(ValueLines, OfAStaleValueSayForHowLong) {
  ValueLines const value{
      .etag = 1, .stored_at = instant_from_ms(0), .fresh_until = instant_from_ms(1'000), .origin = Origin::hit};

  EXPECT_NE(lines(value, instant_from_ms(999)).find("ttl=0\r\n"), std::string::npos);
  EXPECT_NE(lines(value, instant_from_ms(1'001)).find("ttl=-1\r\n"), std::string::npos);
  EXPECT_NE(lines(value, instant_from_ms(3'500)).find("ttl=-3\r\n"), std::string::npos);
}

TEST(ValueLines, OfAComputedValueSayWhoBeganIt) {
  ValueLines value{.etag = 1, .stored_at = instant_from_ms(0), .fresh_until = {}, .origin = Origin::computed};
  EXPECT_NE(lines(value, {}).find("Cache-Status: workmill; fwd=uri-miss; stored\r\n"), std::string::npos);

  value.origin = Origin::collapsed;
  EXPECT_NE(lines(value, {}).find("Cache-Status: workmill; fwd=uri-miss; stored; collapsed\r\n"), std::string::npos);

  value.is_stored = false;
  EXPECT_NE(lines(value, {}).find("Cache-Status: workmill; fwd=uri-miss; collapsed\r\n"), std::string::npos);
}

TEST(ValueLines, HaveNoAgeBelowZeroWhereTheClockWentBack) {
  ValueLines const value{.etag = 1, .stored_at = instant_from_ms(5'000), .fresh_until = {}, .origin = Origin::hit};

  EXPECT_NE(lines(value, instant_from_ms(1'000)).find("Age: 0\r\n"), std::string::npos);
}

}  // namespace
}  // namespace workmill::http
