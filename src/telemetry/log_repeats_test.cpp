#include "telemetry/log_repeats.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

namespace workmill::telemetry {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kWindow{100};

bool held_back(LogRepeats& repeats, std::string_view message, milliseconds now) {
  return repeats.judge(LogComponent::http, LogLevel::warn, message, now).is_held_back;
}

TEST(LogRepeats, SoManyOfAMessageAreLetThroughInAWindow) {
  LogRepeats repeats{2, kWindow};

  EXPECT_FALSE(held_back(repeats, "a", milliseconds{0}));
  EXPECT_FALSE(held_back(repeats, "a", milliseconds{50}));
  EXPECT_TRUE(held_back(repeats, "a", milliseconds{99}));
  EXPECT_FALSE(held_back(repeats, "b", milliseconds{99}));
  EXPECT_FALSE(held_back(repeats, "a", milliseconds{100}));
  EXPECT_EQ(repeats.held_lines(), 1u);
}

TEST(LogRepeats, TheSameWordsOfAnotherComponentOrLevelAreAnotherMessage) {
  LogRepeats repeats{1, kWindow};
  EXPECT_FALSE(held_back(repeats, "a", milliseconds{0}));

  EXPECT_FALSE(repeats.judge(LogComponent::shard, LogLevel::warn, "a", milliseconds{0}).is_held_back);
  EXPECT_FALSE(repeats.judge(LogComponent::http, LogLevel::info, "a", milliseconds{0}).is_held_back);
  EXPECT_TRUE(held_back(repeats, "a", milliseconds{0}));
}

TEST(LogRepeats, TheFirstLineOfTheNextWindowTellsOfTheLast) {
  LogRepeats repeats{1, kWindow};
  for (int i = 0; i < 4; ++i) held_back(repeats, "a", milliseconds{0});

  auto const verdict = repeats.judge(LogComponent::http, LogLevel::warn, "a", kWindow);

  EXPECT_FALSE(verdict.is_held_back);
  ASSERT_TRUE(verdict.ended);
  EXPECT_EQ(verdict.ended->lines, 3u);
  EXPECT_EQ(verdict.ended->message, "a");
  EXPECT_EQ(verdict.ended->component, LogComponent::http);
  EXPECT_EQ(verdict.ended->level, LogLevel::warn);
  EXPECT_FALSE(repeats.has_held());
}

TEST(LogRepeats, AWindowThatIsOverIsTakenOnce) {
  LogRepeats repeats{1, kWindow};
  for (int i = 0; i < 3; ++i) held_back(repeats, "a", milliseconds{0});

  EXPECT_TRUE(repeats.has_held());
  EXPECT_TRUE(repeats.take_ended(milliseconds{99}).empty());
  EXPECT_EQ(repeats.take_ended(kWindow).size(), 1u);
  EXPECT_TRUE(repeats.take_ended(kWindow).empty());
  EXPECT_FALSE(repeats.has_held());
}

TEST(LogRepeats, WithoutALimitNothingIsHeldBack) {
  LogRepeats repeats{0, kWindow};

  for (int i = 0; i < 1'000; ++i) EXPECT_FALSE(held_back(repeats, "a", milliseconds{0}));
}

TEST(LogRepeats, WhereTheTableIsFullMessagesPass) {
  LogRepeats repeats{1, kWindow};
  for (std::size_t i = 0; i < 8 * LogRepeats::kPlaces; ++i) {
    std::string const message = "message " + std::to_string(i);
    EXPECT_FALSE(held_back(repeats, message, milliseconds{0}));
    held_back(repeats, message, milliseconds{0});
  }

  EXPECT_LE(repeats.take_all().size(), LogRepeats::kPlaces);
}

TEST(LogRepeats, ManyThreadsCountEveryLine) {
  LogRepeats repeats{10, std::chrono::hours{1}};
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&repeats] {
        for (int j = 0; j < 500; ++j) held_back(repeats, "a", milliseconds{0});
      });
    }
  }
  auto const held = repeats.take_all();

  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].lines, 1'990u);
}

// The model remembers every message for ever. No line is lost from the count: each was let through or is told of.
RC_GTEST_PROP(LogRepeats, EveryLineIsLetThroughOrCounted, (std::vector<std::pair<std::uint8_t, std::uint8_t>> lines)) {
  constexpr std::uint32_t kMax = 3;
  LogRepeats repeats{kMax, kWindow};
  struct Seen {
    milliseconds since{};
    std::uint32_t let_through = 0;
  };
  std::map<std::string, Seen> model;
  std::uint64_t held = 0;
  std::uint64_t told = 0;
  milliseconds now{0};
  for (auto const& [drawn, pause] : lines) {
    now += milliseconds{pause % 40};
    std::string const message(1, static_cast<char>('a' + drawn % 5));
    Seen& seen = model.try_emplace(message, Seen{.since = now, .let_through = 0}).first->second;
    if (now - seen.since >= kWindow) seen = {.since = now, .let_through = 0};
    bool const expected = seen.let_through == kMax;
    if (!expected) seen.let_through += 1;

    auto const verdict = repeats.judge(LogComponent::http, LogLevel::warn, message, now);

    RC_ASSERT(verdict.is_held_back == expected);
    held += expected ? 1 : 0;
    if (verdict.ended) told += verdict.ended->lines;
  }
  for (auto const& each : repeats.take_all()) told += each.lines;
  RC_ASSERT(told == held);
  RC_ASSERT(repeats.held_lines() == held);
}

}  // namespace
}  // namespace workmill::telemetry
