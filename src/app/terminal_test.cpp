#include "app/terminal.h"

#include <gtest/gtest.h>

namespace workmill::app {
namespace {

using std::chrono::seconds;

TEST(Terminal, ColumnsLineUpWhateverTheirAlphabet) {
  TextTable table;
  table.column("NAME").column("READY", TextTable::Align::right).column("NOTE");
  table.row({{"grün"}, {"7"}, {"first"}});
  table.row({{"longer-name"}, {"12,345"}, {""}});

  EXPECT_EQ(table.render(false, 0),
            "NAME          READY  NOTE\n"
            "grün              7  first\n"
            "longer-name  12,345\n");
}

TEST(Terminal, OnlyTheLastColumnIsCutToFit) {
  TextTable table;
  table.column("ID").column("ERROR");
  table.row({{"0123456789"}, {"a very long message"}});

  EXPECT_EQ(table.render(false, 20), "ID          ERROR\n0123456789  a very …\n");
}

TEST(Terminal, ColoursDoNotMoveColumns) {
  TextTable table;
  table.column("STATE").column("N");
  table.row({{"dead", Colour::red}, {"1"}});

  EXPECT_EQ(table.render(true, 0), "\x1b[1mSTATE\x1b[0m  \x1b[1mN\x1b[0m\n\x1b[31mdead\x1b[0m   1\n");
}

TEST(Terminal, WhatComesFromAJobCannotCommandTheTerminal) { EXPECT_EQ(cut_to("a\x1b[2Jb\nc", 80), "a [2Jb c"); }

TEST(Terminal, TextIsCutBetweenCharacters) {
  EXPECT_EQ(cut_to("äöü", 3), "äöü");
  EXPECT_EQ(cut_to("äöüß", 3), "äö…");
  EXPECT_EQ(cut_to("abc", 0), "");
}

TEST(Terminal, LargeNumbersAreGrouped) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1'000), "1,000");
  EXPECT_EQ(with_commas(12'345'678), "12,345,678");
  EXPECT_EQ(counted(1, "job"), "1 job");
  EXPECT_EQ(counted(2'000, "job"), "2,000 jobs");
}

TEST(Terminal, AnAgeHasTheTwoUnitsThatMatter) {
  auto const now = instant_from_ms(1'000'000'000);
  EXPECT_EQ(age(now, now), "now");
  EXPECT_EQ(age(now + seconds{5}, now), "now");
  EXPECT_EQ(age(now - seconds{59}, now), "59s");
  EXPECT_EQ(age(now - seconds{3'600}, now), "1h");
  EXPECT_EQ(age(now - seconds{86'400 + 61}, now), "1d");
  EXPECT_EQ(age(now - seconds{2 * 86'400 + 3 * 3'600 + 5}, now), "2d 3h");
}

TEST(Terminal, ProgressTellsHowMuchIsLeft) {
  EXPECT_EQ(progress_line("enqueued", 500, 1'000, seconds{5}, 0),
            "enqueued [###############               ]  50 %  500 of 1,000  100/s  6s left");
  EXPECT_EQ(progress_line("enqueued", 1'500, std::nullopt, seconds{1}, 0), "enqueued  1,500  1,500/s");
  EXPECT_EQ(columns_of(progress_line("enqueued", 500, 1'000, seconds{5}, 40)), 39u);
}

}  // namespace
}  // namespace workmill::app
