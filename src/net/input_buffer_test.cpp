#include "net/input_buffer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace workmill::net {
namespace {

TEST(InputBuffer, HoldsNothingAndNoMemoryAtFirst) {
  InputBuffer const buffer;

  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.view(), "");
  EXPECT_EQ(buffer.capacity(), 0U);
}

TEST(InputBuffer, GivesBackWhatGrewLarge) {
  InputBuffer buffer;
  buffer.append(std::string(100'000, 'x'));
  buffer.shrink(4096);
  EXPECT_GE(buffer.capacity(), 100'000U);  // There is still something in it.
  buffer.consume(100'000);

  buffer.shrink(4096);

  EXPECT_EQ(buffer.capacity(), 0U);
  buffer.append("again");
  EXPECT_EQ(buffer.view(), "again");
}

TEST(InputBuffer, DoesNotGrowWhileAsMuchLeavesAsComes) {
  InputBuffer buffer;
  buffer.append(std::string(3000, 'x'));
  for (int i = 0; i < 1000; ++i) {
    buffer.append(std::string(100, 'y'));
    buffer.consume(100);
  }
  EXPECT_LE(buffer.capacity(), 8192U);
}

// The model is a string.
RC_GTEST_PROP(InputBuffer, IsAQueueOfBytes, (std::vector<std::pair<std::string, std::uint16_t>> steps)) {
  InputBuffer buffer;
  std::string model;
  for (auto const& [bytes, count] : steps) {
    buffer.append(bytes);
    model.append(bytes);
    std::size_t const taken = std::min<std::size_t>(count % 64, model.size());
    buffer.consume(taken);
    model.erase(0, taken);
    RC_ASSERT(buffer.view() == model);
  }
}

}  // namespace
}  // namespace workmill::net
