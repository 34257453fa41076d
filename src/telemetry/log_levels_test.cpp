#include "telemetry/log_levels.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace workmill::telemetry {
namespace {

TEST(LogLevels, LevelsAreReadByName) {
  EXPECT_EQ(parse_log_level("warn"), LogLevel::warn);
  EXPECT_EQ(parse_log_level("off"), LogLevel::off);
  EXPECT_EQ(parse_log_level("WARN"), std::nullopt);
  EXPECT_EQ(parse_log_level(""), std::nullopt);
}

TEST(LogLevels, ALevelAloneIsThatOfEveryComponent) {
  auto const levels = parse_log_levels("warn");

  ASSERT_TRUE(levels);
  EXPECT_EQ(*levels, LogLevels{LogLevel::warn});
  EXPECT_EQ((*levels)[LogComponent::trace], LogLevel::warn);
}

TEST(LogLevels, AComponentMayHaveALevelOfItsOwn) {
  auto const levels = parse_log_levels("warn, http=debug ,audit = off");

  ASSERT_TRUE(levels);
  EXPECT_EQ((*levels)[LogComponent::http], LogLevel::debug);
  EXPECT_EQ((*levels)[LogComponent::audit], LogLevel::off);
  EXPECT_EQ((*levels)[LogComponent::server], LogLevel::warn);
}

TEST(LogLevels, WhereNoLevelIsSaidForAllItIsInfo) {
  auto const levels = parse_log_levels("shard=debug");

  ASSERT_TRUE(levels);
  EXPECT_EQ((*levels)[LogComponent::shard], LogLevel::debug);
  EXPECT_EQ((*levels)[LogComponent::http], LogLevel::info);
}

TEST(LogLevels, WhatIsUnknownOrSaidTwiceIsRefusedByName) {
  for (auto const& [text, word] :
       std::vector<std::pair<std::string, std::string>>{{"", "''"},
                                                        {"loud", "'loud'"},
                                                        {"info,", "''"},
                                                        {"info,warn", "'warn'"},
                                                        {"info,htp=debug", "'htp'"},
                                                        {"http=", "''"},
                                                        {"http=debug,http=info", "http"},
                                                        {"http=debug=info", "'debug=info'"}}) {
    auto const levels = parse_log_levels(text);

    ASSERT_FALSE(levels) << text;
    EXPECT_EQ(levels.error().code, ErrorCode::bad_configuration);
    EXPECT_NE(levels.error().message.find(word), std::string::npos) << levels.error().message;
  }
}

TEST(LogLevels, TheTextOfLevelsIsShort) {
  LogLevels levels{LogLevel::info};
  levels.set(LogComponent::http, LogLevel::debug);

  EXPECT_EQ(to_string(levels), "info,http=debug");
  EXPECT_EQ(to_string(LogLevels{LogLevel::off}), "off");
}

RC_GTEST_PROP(LogLevels, WhatIsWrittenReadsBack, (std::array<std::uint8_t, kLogComponents> drawn)) {
  LogLevels levels;
  for (std::size_t i = 0; i < kLogComponents; ++i) {
    levels.set(static_cast<LogComponent>(i), static_cast<LogLevel>(drawn[i] % 5));
  }

  auto const back = parse_log_levels(to_string(levels));

  RC_ASSERT(back.has_value());
  RC_ASSERT(*back == levels);
}

}  // namespace
}  // namespace workmill::telemetry
