#include "base/error.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "base/assert.h"

namespace workmill {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return fail_field(ErrorCode::invalid_field, "value", "odd");
  return value / 2;
}
Result<int> quarter(int value) {
  WM_TRY(int const first, half(value));
  WM_TRY(int const second, half(first));
  return second;
}
Result<> check_quarter(int value) {
  WM_TRY_VOID(quarter(value));
  return {};
}
Result<std::unique_ptr<int>> boxed(int value) { return std::make_unique<int>(value); }
Result<std::unique_ptr<int>> passed_on(int value) {
  WM_TRY(auto box, boxed(value));
  return box;
}

TEST(Error, EveryCodeHasATextOfItsOwn) {
  std::set<std::string_view> texts;
  int codes = 0;
  for (std::uint16_t number = 0; number < 1'000; ++number) {
    std::string_view const text = to_string(static_cast<ErrorCode>(number));
    if (text == "unknown") continue;
    ++codes;
    texts.insert(text);
  }

  EXPECT_GT(codes, 30);
  EXPECT_EQ(static_cast<int>(texts.size()), codes);
}

TEST(Error, AnUnknownCodeIsFatal) {
  EXPECT_EQ(class_of(static_cast<ErrorCode>(9'999)), ErrorClass::fatal);
  EXPECT_EQ(to_string(static_cast<ErrorCode>(9'999)), "unknown");
}

TEST(Error, OnlyAnUnknownOutcomeMayHaveHappened) {
  EXPECT_TRUE(may_have_happened(ErrorCode::outcome_unknown));
  EXPECT_FALSE(may_have_happened(ErrorCode::queue_full));
}

TEST(Error, ClassesHaveTheTextsOfTheContract) {
  EXPECT_EQ(to_string(ErrorClass::user), "user");
  EXPECT_EQ(to_string(ErrorClass::retryable), "retryable");
  EXPECT_EQ(to_string(ErrorClass::fatal), "fatal");
}

TEST(Error, TryHandsTheErrorUpUnchanged) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error(), (Error{.code = ErrorCode::invalid_field, .message = "odd", .field = "value"}));
  EXPECT_FALSE(check_quarter(6));
  EXPECT_TRUE(check_quarter(8));
}

TEST(Error, TryMovesWhatCannotBeCopied) { EXPECT_EQ(**passed_on(7), 7); }

TEST(Error, ContextGrowsOutermostFirst) {
  Error error{.code = ErrorCode::log_corrupt, .message = "bad checksum"};

  error = with_context(std::move(error), "reading batch 7");
  error = with_context(std::move(error), "opening 00000001.wal");

  EXPECT_EQ(error.context, "opening 00000001.wal: reading batch 7");
  EXPECT_EQ(describe(error), "log_corrupt: bad checksum (while opening 00000001.wal: reading batch 7)");
}

TEST(Error, ADescriptionNamesTheField) {
  EXPECT_EQ(describe(Error{.code = ErrorCode::invalid_field, .message = "odd", .field = "backoff.first"}),
            "invalid_field: backoff.first: odd");
  EXPECT_EQ(describe(Error{.code = ErrorCode::queue_full, .message = {}}), "queue_full");
}

TEST(AssertDeathTest, AFailedAssertionNamesTheConditionAndStops) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(WM_ASSERT(1 + 1 == 3), "assertion failed: 1 \\+ 1 == 3 \\(.*error_test\\.cpp:[0-9]+\\)");
}

}  // namespace
}  // namespace workmill
