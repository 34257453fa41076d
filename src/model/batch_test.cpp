#include "model/batch.h"

#include <gtest/gtest.h>

#include <string>

namespace workmill {
namespace {

std::string fault_of(JobSpecView const& spec, CallbackKind kind = CallbackKind::success) {
  auto const checked = check_callback(kind, spec);
  return checked ? "none" : checked.error().field;
}

TEST(Callback, IsAJobLikeOthers) {
  JobSpecView const spec{
      .type = "mail", .queue = "q", .priority = 9, .delay = Duration{1}, .group = "g", .tags = {"t"}, .meta = "{}"};

  EXPECT_EQ(fault_of(spec), "none");
  EXPECT_EQ(fault_of({.type = "a b"}), "on_success.type");
  EXPECT_EQ(fault_of({.type = "t", .priority = 10}, CallbackKind::finish), "on_finish.priority");
}

TEST(Callback, HasNothingThatCouldKeepItFromBeingEnqueuedLater) {
  EXPECT_EQ(fault_of({.type = "t", .id = "i"}), "on_success.id");
  EXPECT_EQ(fault_of({.type = "t", .unique_key = "k"}), "on_success.unique");
  EXPECT_EQ(fault_of({.type = "t", .batch = "b"}, CallbackKind::finish), "on_finish.batch");
  EXPECT_EQ(fault_of({.type = "t", .cache_key = "k", .cache_fresh = Duration{1}}), "on_success.cache");
}

TEST(Callback, IsBoundedAsItWaitsInMemory) {
  std::string const payload(kCallbackBytesMax, '1');
  JobSpecView spec{.type = "t", .payload_kind = PayloadKind::json, .payload = payload};
  ASSERT_FALSE(check_callback(CallbackKind::success, spec));
  EXPECT_EQ(check_callback(CallbackKind::success, spec).error().code, ErrorCode::payload_too_large);
  EXPECT_EQ(fault_of(spec), "on_success");

  spec.payload.remove_suffix(100);
  EXPECT_EQ(fault_of(spec), "none");
}

}  // namespace
}  // namespace workmill
