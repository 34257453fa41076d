#include "model/ids.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>
#include <string>

#include "base/rng.h"

namespace workmill {
namespace {

constexpr std::uint64_t kSalt = 0x1234'5678'9abc'def0;
// 2026-11-22T09:00:00.000Z, the counter at 0xabcde.
constexpr JobNumber kNumber{std::uint64_t{1'795'338'000'000} << kCounterBits | 0xabcde};

std::string text_of(JobIdCodec const& codec, JobNumber number) {
  auto const text = codec.encode(number);
  return {text.begin(), text.end()};
}

TEST(JobId, IsAUuidV7WhoseTimeAndCounterStandWhereTheyShould) {
  std::string const text = text_of(JobIdCodec{kSalt}, kNumber);

  EXPECT_EQ(text.substr(0, 22), "01a2027b-d680-7abc-b78");  // 0b10, 0xde, and the first bits of shard 0.
  EXPECT_EQ(text[23], '-');
  EXPECT_EQ(text.size(), 36u);
}

TEST(JobId, IsAlwaysTheSameForTheSameStore) {
  EXPECT_EQ(text_of(JobIdCodec{kSalt}, kNumber), text_of(JobIdCodec{kSalt}, kNumber));
  EXPECT_NE(text_of(JobIdCodec{kSalt}, kNumber), text_of(JobIdCodec{kSalt + 1}, kNumber));
}

TEST(JobId, UpperCaseIsUnderstood) {
  JobIdCodec const codec{kSalt};
  std::string text = text_of(codec, kNumber);
  for (char& c : text) c = static_cast<char>(c >= 'a' && c <= 'f' ? c - 'a' + 'A' : c);

  EXPECT_EQ(codec.decode(text), kNumber);
}

TEST(JobId, OtherTextsAreNotIdsOfOurs) {
  JobIdCodec const codec{kSalt};
  std::string const text = text_of(codec, kNumber);
  for (std::string const& other :
       {std::string{}, text + "0", text.substr(1), "{" + text.substr(0, 34) + "}", std::string(36, '-'),
        std::string(36, '0'), std::string{"017f22e2-79b0-7cc3-98c4-dc0c0c07398f"},  // The example of RFC 9562.
        std::string{"c232ab00-9414-11ec-b3c8-9f6bdeced846"}, std::string{"invoice-42"}}) {
    EXPECT_EQ(codec.decode(other), std::nullopt) << other;
  }
}

TEST(JobId, AnotherStoreAndAnotherShardDoNotClaimIt) {
  std::string const text = text_of(JobIdCodec{kSalt, ShardId{7}}, kNumber);

  EXPECT_EQ((JobIdCodec{kSalt, ShardId{7}}.decode(text)), kNumber);
  EXPECT_EQ((JobIdCodec{kSalt, ShardId{8}}.decode(text)), std::nullopt);
  EXPECT_EQ((JobIdCodec{kSalt + 1, ShardId{7}}.decode(text)), std::nullopt);
}

RC_GTEST_PROP(JobId, EveryNumberIsReadBack, (std::uint64_t number, std::uint64_t salt)) {
  JobIdCodec const codec{salt, ShardId{*rc::gen::inRange<std::uint16_t>(0, 1'024)}};
  RC_ASSERT(codec.decode(text_of(codec, JobNumber{number})) == JobNumber{number});
}

RC_GTEST_PROP(JobId, TextsSortAsNumbersDo, (std::uint64_t a, std::uint64_t b)) {
  JobIdCodec const codec{kSalt};
  b = *rc::gen::element(b, a + 1, a + 256, a + (std::uint64_t{1} << kCounterBits));
  RC_ASSERT((a < b) == (text_of(codec, JobNumber{a}) < text_of(codec, JobNumber{b})));
}

RC_GTEST_PROP(JobId, OneChangedDigitMakesItForeign, (std::uint64_t number)) {
  JobIdCodec const codec{kSalt};
  std::string text = text_of(codec, JobNumber{number});
  auto const at = *rc::gen::inRange<std::size_t>(0, text.size());
  char const digit = *rc::gen::elementOf(std::string{"0123456789abcdefg-"});
  RC_PRE(text[at] != digit);
  text[at] = digit;
  RC_ASSERT(codec.decode(text) == std::nullopt);
}

// Anybody can make a UUIDv7 with the right time. One in 2^54 would pass: shard and check together.
TEST(JobId, ForeignUuidsOfTheSameFormAreRefused) {
  JobIdCodec const codec{kSalt};
  Rng rng{1};
  constexpr std::string_view kHex = "0123456789abcdef";
  for (int i = 0; i < 20'000; ++i) {
    std::string text = text_of(codec, kNumber);
    for (std::size_t at = 24; at < text.size(); ++at) text[at] = kHex[rng.below(16)];  // The check, but 4 bits of it.
    EXPECT_EQ(codec.decode(text), std::nullopt);
  }
}

TEST(JobId, TheNextNumberGrowsWithinAMillisecondAndWhenTheClockGoesBack) {
  std::uint64_t const first = next_in_time(0, instant_from_ms(1'000));
  std::uint64_t const second = next_in_time(first, instant_from_ms(1'000));
  std::uint64_t const back = next_in_time(second, instant_from_ms(500));
  std::uint64_t const later = next_in_time(back, instant_from_ms(1'001));

  EXPECT_EQ(first, std::uint64_t{1'000} << kCounterBits);
  EXPECT_EQ(second, first + 1);
  EXPECT_EQ(back, second + 1);
  EXPECT_EQ(later, std::uint64_t{1'001} << kCounterBits);
  EXPECT_EQ(created_at(JobNumber{back}), instant_from_ms(1'000));
}

TEST(LeaseToken, IsSixteenLowerCaseHexDigits) {
  EXPECT_EQ(format_token(LeaseToken{0x0123456789abcdef}), "0123456789abcdef");
  EXPECT_EQ(parse_token("0123456789abcdef"), LeaseToken{0x0123456789abcdef});
}

TEST(LeaseToken, OtherTextsAreRefused) {
  for (std::string_view const bad : {"", "0", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF",
                                     "0123456789abcdeg", " 123456789abcdef", "0x23456789abcdef", "-123456789abcdef"}) {
    EXPECT_EQ(parse_token(bad), std::nullopt) << bad;
  }
}

RC_GTEST_PROP(LeaseToken, WhatIsWrittenIsReadBack, (std::uint64_t value)) {
  RC_ASSERT(parse_token(format_token(LeaseToken{value})) == LeaseToken{value});
}

TEST(Name, LettersDigitsAndFourSignsAreLegal) {
  EXPECT_TRUE(is_name("a"));
  EXPECT_TRUE(is_name("AZaz09._:-"));
  EXPECT_TRUE(is_name(std::string(kNameBytesMax, 'x')));
}

TEST(Name, OtherTextsAreNoNames) {
  EXPECT_FALSE(is_name(""));
  EXPECT_FALSE(is_name(std::string(kNameBytesMax + 1, 'x')));
  EXPECT_FALSE(is_name("a b"));
  EXPECT_FALSE(is_name("a/b"));
  EXPECT_FALSE(is_name("caf\xc3\xa9"));
  EXPECT_FALSE(is_name(std::string_view{"a\0", 2}));
}

TEST(Name, ExactlySixtySixCharactersAreLegal) {
  int legal = 0;
  for (int c = 0; c < 256; ++c) legal += is_name(std::string(1, static_cast<char>(c))) ? 1 : 0;

  EXPECT_EQ(legal, 66);
}

}  // namespace
}  // namespace workmill
