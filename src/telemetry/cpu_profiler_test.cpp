#include "telemetry/cpu_profiler.h"

#include <gtest/gtest.h>

#include <future>
#include <string>

namespace workmill::telemetry {
namespace {

class CpuProfilerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!CpuProfiler::is_built_in()) GTEST_SKIP() << "no profiler beside a sanitizer";
  }
  // The longest that there is, so that what ends it is not its time.
  Result<std::uint64_t> start(std::promise<Result<std::string>>& told) {
    return profiler.start(CpuProfiler::kLongest,
                          [&told](Result<std::string> profile) { told.set_value(std::move(profile)); });
  }

  std::promise<Result<std::string>> first, second;  // The profiler tells them, and goes before them.
  CpuProfiler profiler;
};

TEST_F(CpuProfilerTest, OneThatIsCutShortIsHandedOver) {
  auto const number = start(first);
  ASSERT_TRUE(number);
  EXPECT_EQ(start(second).error().code, ErrorCode::wrong_state);

  profiler.cut_short(*number);

  EXPECT_TRUE(first.get_future().get());
}

TEST_F(CpuProfilerTest, WhoeverIsLateCutsNobodyElseShort) {
  auto const old = start(first);
  ASSERT_TRUE(old);
  profiler.cut_short(*old);
  ASSERT_TRUE(first.get_future().get());
  auto const number = start(second);
  ASSERT_TRUE(number);

  profiler.cut_short(*old);

  EXPECT_EQ(start(first).error().code, ErrorCode::wrong_state);  // Still under way.
}

TEST_F(CpuProfilerTest, AfterTheEndNoneBegins) {
  auto const number = start(first);
  ASSERT_TRUE(number);

  profiler.close();

  ASSERT_TRUE(first.get_future().get());
  EXPECT_EQ(start(second).error().code, ErrorCode::shutting_down);
}

}  // namespace
}  // namespace workmill::telemetry
