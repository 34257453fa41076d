#include "telemetry/log.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

namespace workmill::telemetry {
namespace {

class StoppedClock final : public Clock {
 public:
  Instant now() const override { return instant_from_ms(1'795'338'000'000); }
  std::chrono::nanoseconds monotonic() const override { return {}; }
};

constexpr LogOptions kText{.level = LogLevel::info, .format = LogFormat::text, .delivery = LogDelivery::immediate};
constexpr LogOptions kJson{.level = LogLevel::info, .format = LogFormat::json, .delivery = LogDelivery::immediate};

// One line logged with these options.
std::string line_of(LogOptions const& options, std::string_view message, LogFields fields = {}) {
  StoppedClock const clock;
  std::string seen;
  Logger logger{clock, options, [&seen](std::string_view line) { seen = line; }};
  logger.info(message, fields);
  return seen;
}

TEST(Logger, TextIsForPeople) {
  EXPECT_EQ(line_of(kText, "listening", {{"address", "127.0.0.1"}, {"port", 7330}, {"tls", false}, {"load", 0.25}}),
            "2026-11-22T09:00:00.000Z INFO  listening address=127.0.0.1 port=7330 tls=false load=0.25");
}

TEST(Logger, JsonIsForPrograms) {
  EXPECT_EQ(line_of(kJson, "listening", {{"address", "127.0.0.1"}, {"port", 7330}, {"tls", false}, {"load", 0.25}}),
            R"({"timestamp":"2026-11-22T09:00:00.000Z","severity":"INFO","body":"listening","address":"127.0.0.1",)"
            R"("port":7330,"tls":false,"load":0.25})");
}

TEST(Logger, EveryKindOfValueKeepsItsType) {
  EXPECT_EQ(line_of(kJson, "m",
                    {{"a", std::string{"text"}},
                     {"b", std::string_view{"view"}},
                     {"c", std::numeric_limits<std::uint64_t>::max()},
                     {"d", std::numeric_limits<std::int64_t>::min()},
                     {"e", true},
                     {"f", std::numeric_limits<double>::infinity()},
                     {"g", std::uint8_t{65}},
                     {"h", 1.5f}}),
            R"({"timestamp":"2026-11-22T09:00:00.000Z","severity":"INFO","body":"m","a":"text","b":"view",)"
            R"("c":18446744073709551615,"d":-9223372036854775808,"e":true,"f":null,"g":65,"h":1.5})");
}

TEST(Logger, AValueCannotForgeALineOrSteerATerminal) {
  EXPECT_EQ(
      line_of(kText, "a\nb", {{"path", "x y"}, {"q", "say \"hi\""}, {"evil", "\x1b[2J\r\n\xc2\x9b"}, {"none", ""}}),
      "2026-11-22T09:00:00.000Z INFO  a\\nb path=\"x y\" q=\"say \\\"hi\\\"\" "
      "evil=\"\\u001b[2J\\u000d\\n\\u009b\" none=\"\"");
}

TEST(Logger, JsonEscapesAndReplacesWhatIsNotUtf8) {
  EXPECT_EQ(
      line_of(kJson, "caf\xc3\xa9 \"\\", {{"bad", "a\xff\xc0\xaf\xed\xa0\x80z\xe2\x82"}}),
      "{\"timestamp\":\"2026-11-22T09:00:00.000Z\",\"severity\":\"INFO\",\"body\":\"caf\xc3\xa9 \\\"\\\\\",\"bad\":\"a"
      "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\"}");
}

TEST(Logger, LongTextsAndManyFieldsAreCut) {
  std::string long_text(Logger::kTextBytesMax - 1, 'x');
  std::string const kept = long_text;
  long_text += "\xc3\xa9 and more";  // The limit falls into the middle of a character.

  EXPECT_EQ(line_of(kText, long_text), "2026-11-22T09:00:00.000Z INFO  " + kept + "\xe2\x80\xa6");
}

TEST(Logger, LinesBelowTheLevelAreNotWritten) {
  StoppedClock const clock;
  std::vector<std::string> lines;
  Logger logger{clock, kText, [&lines](std::string_view line) { lines.emplace_back(line.substr(25)); }};

  logger.debug("one");
  logger.info("two");
  logger.set_level(LogLevel::error);
  logger.warn("three");
  logger.error("four");
  logger.set_level(LogLevel::debug);
  logger.debug("five");
  logger.set_level(LogLevel::off);
  logger.error("six");

  EXPECT_EQ(lines, (std::vector<std::string>{"INFO  two", "ERROR four", "DEBUG five"}));
  EXPECT_FALSE(logger.is_enabled(LogLevel::error));
}

TEST(Logger, LevelsAreReadByName) {
  EXPECT_EQ(parse_log_level("warn"), LogLevel::warn);
  EXPECT_EQ(parse_log_level("off"), LogLevel::off);
  EXPECT_EQ(parse_log_level("WARN"), std::nullopt);
  EXPECT_EQ(parse_log_level(""), std::nullopt);
}

TEST(Logger, InTheBackgroundEveryLineIsWrittenInOrderBeforeItEnds) {
  StoppedClock const clock;
  LogOptions options = kText;
  options.delivery = LogDelivery::background;
  std::vector<std::string> lines;
  {
    Logger logger{clock, options, [&lines](std::string_view line) { lines.emplace_back(line); }};
    for (int i = 0; i < 100; ++i) logger.info("line", {{"number", i}});
  }

  ASSERT_EQ(lines.size(), 100u);
  EXPECT_TRUE(lines.front().ends_with("line number=0"));
  EXPECT_TRUE(lines.back().ends_with("line number=99"));
}

TEST(Logger, AReaderThatHangsStopsNobodyAndTheOldestLinesGiveWay) {
  StoppedClock const clock;
  LogOptions options = kText;
  options.delivery = LogDelivery::background;
  options.queue_lines_max = 4;
  std::binary_semaphore hanging{0};
  std::binary_semaphore go_on{0};
  std::vector<std::string> lines;
  std::uint64_t dropped = 0;
  {
    Logger logger{clock, options, [&](std::string_view line) {
                    if (lines.empty()) {
                      hanging.release();
                      go_on.acquire();
                    }
                    lines.emplace_back(line);
                  }};
    logger.info("line", {{"number", 0}});
    hanging.acquire();
    for (int i = 1; i <= 10; ++i) logger.info("line", {{"number", i}});
    dropped = logger.dropped();
    go_on.release();
  }

  EXPECT_EQ(dropped, 6u);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_TRUE(lines[1].ends_with("number=7"));
  EXPECT_TRUE(lines[4].ends_with("number=10"));
}

TEST(Logger, ManyThreadsMayLogAtOnce) {
  for (LogDelivery const delivery : {LogDelivery::immediate, LogDelivery::background}) {
    StoppedClock const clock;
    LogOptions options = kText;
    options.delivery = delivery;
    std::size_t lines = 0;
    {
      Logger logger{clock, options, [&lines](std::string_view) { ++lines; }};
      std::vector<std::jthread> threads;
      threads.reserve(4);
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&logger] {
          for (int j = 0; j < 200; ++j) logger.info("line", {{"number", j}});
        });
      }
    }
    EXPECT_EQ(lines, 800u);
  }
}

// Whatever comes in, JSON lines stay one line of printable UTF-8 within bounds.
RC_GTEST_PROP(Logger, AnyBytesGiveOneCleanLine, (std::string const& message, std::string const& value)) {
  std::string const line = line_of(kJson, message, {{"value", value}});
  RC_ASSERT(line.starts_with('{') && line.ends_with("\"}"));
  for (char const c : line) RC_ASSERT(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

}  // namespace
}  // namespace workmill::telemetry
