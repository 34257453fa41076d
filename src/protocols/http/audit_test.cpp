#include "protocols/http/audit.h"

#include <gtest/gtest.h>

#include "flags/flag.h"

namespace workmill::http {
namespace {

TEST(DescribeChanges, OfAQueueNamesWhatIsSetWithItsValue) {
  EXPECT_EQ(describe_changes(PatchQueue{.name = "q"}), "");
  EXPECT_EQ(describe_changes(PatchQueue{.name = "q", .paused = false}), "paused=false");
  EXPECT_EQ(describe_changes(PatchQueue{
                .name = "q", .paused = true, .max_depth = std::optional{10U}, .when_full = WhenFull::drop_oldest}),
            "paused=true max_depth=10 when_full=drop_oldest");
  PatchQueue lifted{.name = "q"};
  lifted.max_depth.emplace();
  EXPECT_EQ(describe_changes(lifted), "max_depth=null");
}

TEST(DescribeChanges, OfAJobSaysOfItsTagsOnlyThatTheyAreOther) {
  EXPECT_EQ(describe_changes(JobChanges{}), "");
  EXPECT_EQ(describe_changes(JobChanges{.priority = 9,
                                        .run_at = instant_from_ms(1'795'334'400'000),
                                        .queue = "mail",
                                        .tags = {{"alice"}},
                                        .max_attempts = 3}),
            "priority=9 run_at=2026-11-22T08:00:00.000Z queue=mail tags max_attempts=3");
}

TEST(DescribeChanges, OfAFlagSaysWhatDecidesAndHowMuchThereIsOfTheRest) {
  flags::Flag flag;
  flag.variants = {{.name = "on", .value = flags::boolean_value(true)},
                   {.name = "off", .value = flags::boolean_value(false)}};
  flag.default_variant = 1;
  flag.enabled = false;
  flag.gates = {"thumbnail"};
  SetFlag set{.key = "f"};
  flags::encode_flag(flag, set.definition);

  EXPECT_EQ(describe_changes(set), "enabled=false default=off variants=2 rules=0 gates=1");
  EXPECT_EQ(describe_changes(SetFlag{.key = "f", .definition = "no flag"}), "");
}

}  // namespace
}  // namespace workmill::http
