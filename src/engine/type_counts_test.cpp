#include "engine/type_counts.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace workmill::engine {
namespace {

std::map<std::string, std::uint64_t> enqueued(TypeCounts const& counts) {
  std::map<std::string, std::uint64_t> by_type;
  for (TypeFigures const& line : counts.lines()) by_type[line.type] = line.enqueued;
  return by_type;
}

std::uint64_t sum(TypeCounts const& counts) {
  std::uint64_t total = 0;
  for (TypeFigures const& line : counts.lines()) total += line.enqueued;
  return total;
}

TEST(TypeCounts, CountsEachTypeOnALineOfItsOwn) {
  NameTable names;
  TypeCounts counts{names};

  NameIndex const mail = names.take("mail");
  NameIndex const video = names.take("video");
  counts.of(mail).enqueued += 2;
  counts.of(video).enqueued += 1;

  EXPECT_EQ(enqueued(counts), (std::map<std::string, std::uint64_t>{{"(other)", 0}, {"mail", 2}, {"video", 1}}));
}

TEST(TypeCounts, ATypeWhoseJobsAreAllGoneGoesOnWhereItWasWhenItComesBack) {
  NameTable names;
  TypeCounts counts{names};
  NameIndex const first = names.take("mail");
  counts.of(first).enqueued += 2;
  names.give(first);

  NameIndex const again = names.take("mail");
  counts.of(again).enqueued += 1;

  EXPECT_EQ(enqueued(counts).at("mail"), 3U);
}

TEST(TypeCounts, AFloodOfNamesLosesNoCountAndDoesNotPushOutWhatIsBusy) {
  NameTable names;
  TypeCounts counts{names};
  NameIndex const busy = names.take("busy");
  counts.of(busy).enqueued += 1'000;

  for (int i = 0; i < 1'000; ++i) {
    NameIndex const once = names.take("once-" + std::to_string(i));
    counts.of(once).enqueued += 1;
    if (i % 2 == 0) names.give(once);
  }

  EXPECT_EQ(counts.lines().size(), TypeCounts::kLinesMax + 1);
  EXPECT_EQ(enqueued(counts).at("busy"), 1'000U);
  EXPECT_EQ(sum(counts), 2'000U);
}

TEST(TypeCounts, ATypeThatLostItsLineGetsAnother) {
  NameTable names;
  TypeCounts counts{names};
  std::vector<NameIndex> types;
  for (std::size_t i = 0; i < 3 * TypeCounts::kLinesMax; ++i) {
    types.push_back(names.take("type-" + std::to_string(i)));
    counts.of(types.back()).enqueued += 1;
  }

  for (NameIndex const type : types) counts.of(type).enqueued += 1;

  EXPECT_EQ(sum(counts), 6 * TypeCounts::kLinesMax);
}

}  // namespace
}  // namespace workmill::engine
