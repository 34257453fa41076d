#include "telemetry/log.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <memory>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace workmill::telemetry {
namespace {

class StoppedClock final : public Clock {
 public:
  Instant now() const override { return instant_from_ms(1'795'338'000'000); }
  std::chrono::nanoseconds monotonic() const override { return time; }

  std::chrono::nanoseconds time{};
};

LogOptions const kText{.level = LogLevel::info, .format = LogFormat::text, .delivery = LogDelivery::immediate};
LogOptions const kJson{.level = LogLevel::info, .format = LogFormat::json, .delivery = LogDelivery::immediate};

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
            "2026-11-22T09:00:00.000Z INFO  server: listening address=127.0.0.1 port=7330 tls=false load=0.25");
}

TEST(Logger, JsonIsForPrograms) {
  EXPECT_EQ(line_of(kJson, "listening", {{"address", "127.0.0.1"}, {"port", 7330}, {"tls", false}, {"load", 0.25}}),
            R"({"timestamp":"2026-11-22T09:00:00.000Z","severity":"INFO","component":"server","body":"listening",)"
            R"("address":"127.0.0.1","port":7330,"tls":false,"load":0.25})");
}

TEST(Logger, EveryKindOfValueKeepsItsType) {
  EXPECT_EQ(
      line_of(kJson, "m",
              {{"a", std::string{"text"}},
               {"b", std::string_view{"view"}},
               {"c", std::numeric_limits<std::uint64_t>::max()},
               {"d", std::numeric_limits<std::int64_t>::min()},
               {"e", true},
               {"f", std::numeric_limits<double>::infinity()},
               {"g", std::uint8_t{65}},
               {"h", 1.5f}}),
      R"({"timestamp":"2026-11-22T09:00:00.000Z","severity":"INFO","component":"server","body":"m","a":"text","b":"view",)"
      R"("c":18446744073709551615,"d":-9223372036854775808,"e":true,"f":null,"g":65,"h":1.5})");
}

TEST(Logger, AValueCannotForgeALineOrSteerATerminal) {
  EXPECT_EQ(
      line_of(kText, "a\nb", {{"path", "x y"}, {"q", "say \"hi\""}, {"evil", "\x1b[2J\r\n\xc2\x9b"}, {"none", ""}}),
      "2026-11-22T09:00:00.000Z INFO  server: a\\nb path=\"x y\" q=\"say \\\"hi\\\"\" "
      "evil=\"\\u001b[2J\\u000d\\n\\u009b\" none=\"\"");
}

TEST(Logger, JsonEscapesAndReplacesWhatIsNotUtf8) {
  EXPECT_EQ(line_of(kJson, "caf\xc3\xa9 \"\\", {{"bad", "a\xff\xc0\xaf\xed\xa0\x80z\xe2\x82"}}),
            "{\"timestamp\":\"2026-11-22T09:00:00.000Z\",\"severity\":\"INFO\",\"component\":\"server\",\"body\":"
            "\"caf\xc3\xa9 \\\"\\\\\",\"bad\":\"a"
            "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\"}");
}

TEST(Logger, LongTextsAndManyFieldsAreCut) {
  std::string long_text(Logger::kTextBytesMax - 1, 'x');
  std::string const kept = long_text;
  long_text += "\xc3\xa9 and more";  // The limit falls into the middle of a character.

  EXPECT_EQ(line_of(kText, long_text), "2026-11-22T09:00:00.000Z INFO  server: " + kept + "\xe2\x80\xa6");
}

TEST(Logger, LinesBelowTheLevelAreNotWritten) {
  StoppedClock const clock;
  std::vector<std::string> lines;
  Logger logger{clock, kText, [&lines](std::string_view line) { lines.emplace_back(line.substr(25)); }};

  logger.debug("one");
  logger.info("two");
  logger.set_levels(LogLevel::error);
  logger.warn("three");
  logger.error("four");
  logger.set_levels(LogLevel::debug);
  logger.debug("five");
  logger.set_levels(LogLevel::off);
  logger.error("six");

  EXPECT_EQ(lines, (std::vector<std::string>{"INFO  server: two", "ERROR server: four", "DEBUG server: five"}));
  EXPECT_FALSE(logger.is_enabled(LogLevel::error));
}

TEST(Logger, EachComponentHasALevelOfItsOwnThatChangesWhileItRuns) {
  StoppedClock const clock;
  std::vector<std::string> lines;
  Logger logger{clock, kText, [&lines](std::string_view line) { lines.emplace_back(line.substr(25)); }};
  Logger& http = logger.of(LogComponent::http);
  LogLevels loud_http{LogLevel::warn};
  loud_http.set(LogComponent::http, LogLevel::debug);

  http.debug("one");
  http.of(LogComponent::server).info("two");
  http.set_levels(loud_http);
  http.debug("three");
  logger.info("four");
  logger.of(LogComponent::shard).warn("five");

  EXPECT_EQ(lines, (std::vector<std::string>{"INFO  server: two", "DEBUG http: three", "WARN  shard: five"}));
  EXPECT_EQ(logger.levels(), loud_http);
}

TEST(Logger, AFieldWithoutAValueIsLeftOut) {
  std::optional<std::string_view> const none;

  EXPECT_EQ(line_of(kText, "m", {{"trace_id", std::optional<std::string_view>{"ab"}}, {"span_id", none}}),
            "2026-11-22T09:00:00.000Z INFO  server: m trace_id=ab");
  EXPECT_EQ(line_of(kJson, "m", {{"span_id", none}}),
            R"({"timestamp":"2026-11-22T09:00:00.000Z","severity":"INFO","component":"server","body":"m"})");
}

// What a component says with these options: so many lines of one message, and what is told of them a window later.
std::vector<std::string> said_by(LogComponent component, LogOptions const& options, int lines_logged) {
  StoppedClock clock;
  std::vector<std::string> lines;
  Logger logger{clock, options, [&lines](std::string_view line) { lines.emplace_back(line.substr(25)); }};
  for (int i = 0; i < lines_logged; ++i) logger.of(component).warn("full", {{"number", i}});
  logger.tell_repeats();
  clock.time += options.repeats_window;
  logger.tell_repeats();
  logger.tell_repeats();
  return lines;
}

TEST(Logger, AMessageThatRepeatsIsHeldBackAndOneLineSaysHowOften) {
  LogOptions options = kText;
  options.repeats_max = 2;

  EXPECT_EQ(said_by(LogComponent::http, options, 5),
            (std::vector<std::string>{
                "WARN  http: full number=0", "WARN  http: full number=1",
                "WARN  http: a message that repeats was held back message=full lines=3 window_ms=10000"}));
  EXPECT_EQ(said_by(LogComponent::http, options, 2).size(), 2u);
}

TEST(Logger, WhatSaysSomethingElseEachTimeIsNeverHeldBack) {
  LogOptions options = kText;
  options.repeats_max = 2;

  EXPECT_EQ(said_by(LogComponent::audit, options, 50).size(), 50u);
  EXPECT_EQ(said_by(LogComponent::log, options, 50).size(), 50u);
  EXPECT_EQ(said_by(LogComponent::server, options, 50).size(), 50u);
}

TEST(Logger, WhatIsHeldBackAtTheEndIsToldAtTheEnd) {
  StoppedClock const clock;
  LogOptions options = kText;
  options.repeats_max = 1;
  options.delivery = LogDelivery::background;
  std::vector<std::string> lines;
  LogFigures figures;
  {
    Logger logger{clock, options, [&lines](std::string_view line) { lines.emplace_back(line.substr(25)); }};
    for (int i = 0; i < 3; ++i) logger.of(LogComponent::http).info("full");
    figures = logger.figures();
  }

  EXPECT_EQ(figures.held_back, 2u);
  EXPECT_EQ(figures.written, 1u);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(lines.back().ends_with("message=full lines=2 window_ms=10000"));
}

TEST(Logger, InTheBackgroundEveryLineIsWrittenInOrderBeforeItEnds) {
  StoppedClock const clock;
  LogOptions options = kText;
  options.delivery = LogDelivery::background;
  options.repeats_max = 0;
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
    dropped = logger.figures().dropped;
    go_on.release();
  }

  EXPECT_EQ(dropped, 6u);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_TRUE(lines[1].ends_with("number=7"));
  EXPECT_TRUE(lines[4].ends_with("number=10"));
}

// A reader that hangs until the test lets it go, and what outlives the logger meanwhile.
struct HangingReader {
  std::binary_semaphore has_line{0}, goes_on{0}, has_ended{0};
};

class HangingSink {
 public:
  explicit HangingSink(std::shared_ptr<HangingReader> reader) : reader_(std::move(reader)) {}
  HangingSink(HangingSink&&) = default;
  HangingSink& operator=(HangingSink&&) = delete;
  ~HangingSink() {
    if (reader_) reader_->has_ended.release();
  }
  void operator()(std::string_view) {
    reader_->has_line.release();
    reader_->goes_on.acquire();
  }

 private:
  std::shared_ptr<HangingReader> reader_;
};

TEST(Logger, TheEndDoesNotWaitForAReaderThatHangs) {
  StoppedClock const clock;
  auto const reader = std::make_shared<HangingReader>();
  {
    Logger logger{clock, {.close_within = std::chrono::milliseconds{1}}, HangingSink{reader}};
    logger.info("line");
    reader->has_line.acquire();

    EXPECT_FALSE(logger.close());
  }

  // What was left behind ends by itself.
  reader->goes_on.release();
  reader->has_ended.acquire();
}

TEST(Logger, TheEndSaysThatAllIsWritten) {
  StoppedClock const clock;
  std::vector<std::string> lines;
  Logger logger{clock, {}, [&lines](std::string_view line) { lines.emplace_back(line); }};
  logger.info("line");

  EXPECT_TRUE(logger.close());

  EXPECT_EQ(lines.size(), 1u);
  logger.info("too late");
  EXPECT_TRUE(logger.close());
  EXPECT_EQ(lines.size(), 1u);
}

TEST(Logger, ManyThreadsMayLogAtOnce) {
  for (LogDelivery const delivery : {LogDelivery::immediate, LogDelivery::background}) {
    StoppedClock const clock;
    LogOptions options = kText;
    options.delivery = delivery;
    options.repeats_max = 0;
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
