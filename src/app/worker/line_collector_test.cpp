#include "app/worker/line_collector.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace workmill::app {
namespace {

using Lines = std::vector<std::string>;

TEST(LineCollector, ALineIsALineWhateverPiecesItComesIn) {
  LineCollector collector;
  collector.add("fir");
  collector.add("st\nsecond\r\n\nthi");

  EXPECT_EQ(collector.take(), (Lines{"first", "second", ""}));
  EXPECT_FALSE(collector.has_lines());
  collector.add("rd");
  collector.finish();
  EXPECT_EQ(collector.take(), (Lines{"third"}));
}

TEST(LineCollector, OfTooMuchTheNewestStays) {
  LineCollector collector;
  for (int i = 0; i < 1'000; ++i) collector.add(std::string(99, 'x') + "\n");
  collector.add("last\n");

  auto const lines = collector.take();

  EXPECT_EQ(lines.front(), "(345 lines are left out here)");
  EXPECT_EQ(lines.back(), "last");
  collector.add("next\n");
  EXPECT_EQ(collector.take(), (Lines{"next"}));
}

TEST(LineCollector, NoMoreLinesAreKeptThanAReportTakes) {
  LineCollector collector;
  for (int i = 0; i < 5'000; ++i) collector.add("x\n");

  EXPECT_EQ(collector.take().size(), 1'000u);
}

TEST(LineCollector, ALineWithoutAnEndIsCut) {
  LineCollector collector;
  collector.add(std::string(LineCollector::kLineBytesMax + 1, 'x'));
  collector.finish();

  auto const lines = collector.take();

  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].size(), LineCollector::kLineBytesMax);
  EXPECT_EQ(lines[1], "x");
}

TEST(LineCollector, TheLastLineWithWordsInItIsRemembered) {
  LineCollector collector;
  collector.add("error: no disk\n\n  \n");
  static_cast<void>(collector.take());

  EXPECT_EQ(collector.last_line(), "error: no disk");
}

RC_GTEST_PROP(LineCollector, HoweverTheBytesAreCutTheLinesAreTheSame, (std::vector<std::string> const& pieces)) {
  LineCollector in_pieces;
  LineCollector at_once;
  std::string all;
  for (auto const& piece : pieces) {
    in_pieces.add(piece);
    all += piece;
  }
  at_once.add(all);
  in_pieces.finish();
  at_once.finish();

  RC_ASSERT(in_pieces.take() == at_once.take());
}

}  // namespace
}  // namespace workmill::app
