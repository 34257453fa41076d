#include "log/block_sums.h"

#include <gtest/gtest.h>

#include "log/crc32c.h"

namespace workmill::log {
namespace {

TEST(BlockSums, KnowsEveryWholeBlockHoweverItsBytesCame) {
  Bytes bytes(3 * kBlockBytes + 100, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 7);
  BlockSums sums;

  for (std::size_t i = 0, step = 1; i < bytes.size(); i += step, step = step * 3 + 1) {
    sums.add(5, BytesView{bytes}.substr(i, step));
  }

  for (std::size_t block = 0; block < 3; ++block) {
    BytesView const whole = BytesView{bytes}.substr(block * kBlockBytes, kBlockBytes);
    EXPECT_EQ(sums.find(5, block), (BlockSums::Sum{crc32c(whole), kBlockBytes}));
  }
  EXPECT_EQ(sums.find(5, 3), (BlockSums::Sum{crc32c(BytesView{bytes}.substr(3 * kBlockBytes)), 100}));
  EXPECT_FALSE(sums.find(5, 4));
  EXPECT_FALSE(sums.find(4, 0));
  EXPECT_EQ(sums.growing_bytes(), bytes.size());
}

TEST(BlockSums, KnowsTheShortLastBlockOfASegment) {
  BlockSums sums;
  sums.add(1, "sho");
  EXPECT_EQ(sums.find(1, 0), (BlockSums::Sum{crc32c("sho"), 3}));
  sums.add(1, "rt");

  sums.add(2, Bytes(kBlockBytes, 'x'));
  sums.add(3, "next");

  EXPECT_EQ(sums.find(1, 0), (BlockSums::Sum{crc32c("short"), 5}));
  ASSERT_TRUE(sums.find(2, 0));
  EXPECT_EQ(sums.find(2, 0)->bytes, kBlockBytes);
  EXPECT_FALSE(sums.find(2, 1));  // It ended with its first block.
}

TEST(BlockSums, ForgetsASegment) {
  BlockSums sums;
  sums.add(1, "one");
  sums.add(2, "two");

  sums.forget(1);

  EXPECT_FALSE(sums.find(1, 0));
}

}  // namespace
}  // namespace workmill::log
