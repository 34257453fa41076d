#include "app/commands/job_filter.h"

#include <gtest/gtest.h>

namespace workmill::app {
namespace {

TEST(JobFilter, OnlyWhatWasGivenIsAskedFor) {
  JobFilterOptions filter;
  EXPECT_TRUE(filter.is_empty());
  EXPECT_EQ(filter.query(), "");
  EXPECT_EQ(filter.json(), "{}");

  filter.state = "dead";
  filter.tag = "a:b";
  filter.batch = "import-7";

  EXPECT_FALSE(filter.is_empty());
  EXPECT_EQ(filter.query(), "&state=dead&tag=a%3Ab&batch=import-7");
  EXPECT_EQ(filter.json(), R"({"state":"dead","tag":"a:b","batch":"import-7"})");
}

}  // namespace
}  // namespace workmill::app
