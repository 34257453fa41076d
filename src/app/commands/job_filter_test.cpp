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

  EXPECT_FALSE(filter.is_empty());
  EXPECT_EQ(filter.query(), "&state=dead&tag=a%3Ab");
  EXPECT_EQ(filter.json(), R"({"state":"dead","tag":"a:b"})");
}

}  // namespace
}  // namespace workmill::app
