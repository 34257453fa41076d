#include "app/descriptors.h"

#include <gtest/gtest.h>

#include "protocols/http/limits.h"

namespace workmill::app {
namespace {

TEST(Descriptors, ConnectionsGetWhatOthersLeave) {
  for (std::uint32_t const threads : {1U, 2U, 7U}) {
    auto const room = share_descriptors(10'000, 9, threads);

    ASSERT_TRUE(room);
    std::uint64_t const kept = kDescriptorsKept + kDescriptorsKeptEachThread * threads;
    EXPECT_EQ(room->connections_from, 10'000 - kept);
    std::uint64_t const taken = 9 + (room->connections_max + http::kTurnedAwayMax) * std::uint64_t{threads};
    EXPECT_LE(taken, room->connections_from) << "all of them, and those that are told to go, are below";
    EXPECT_GT(taken + threads, room->connections_from) << "none is given away";
  }
}

TEST(Descriptors, TooFewForAServerAreRefused) {
  EXPECT_FALSE(share_descriptors(64, 4, 1));
  auto const many_threads = share_descriptors(1'024, 4, 64);
  ASSERT_FALSE(many_threads);
  EXPECT_EQ(many_threads.error().code, ErrorCode::bad_configuration);
  EXPECT_NE(many_threads.error().message.find("64 I/O threads"), std::string::npos);

  auto const least = share_descriptors(4 + 72 + 64 + kConnectionsLeast, 4, 1);
  ASSERT_TRUE(least);
  EXPECT_EQ(least->connections_max, kConnectionsLeast);
}

TEST(Descriptors, NoLimitIsAsManyAsThereCanBe) {
  auto const room = share_descriptors(~std::uint64_t{0}, 4, 1);

  ASSERT_TRUE(room);
  EXPECT_GT(room->connections_max, 1'000'000U);
}

}  // namespace
}  // namespace workmill::app
