#include "service/client_shares.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace workmill::service {
namespace {

void ask(ClientShares& shares, std::uint64_t client, std::uint32_t times) {
  shares.of(ClientKey{client}).asked += times;
}

TEST(ClientShares, WhatQuietClientsLeaveIsDividedAmongTheOthers) {
  ClientShares shares;
  ask(shares, 1, 10);
  ask(shares, 2, 500);
  ask(shares, 3, 700);

  auto const share = shares.end_window(610);

  EXPECT_DOUBLE_EQ(share.most, 300);
  EXPECT_DOUBLE_EQ(share.even, 610 / 3.0);
}

TEST(ClientShares, OneClientAloneHasNoShare) {
  ClientShares shares;
  ask(shares, 1, 1'000);

  EXPECT_EQ(shares.end_window(10).most, 0);
}

TEST(ClientShares, EachWindowBeginsAnew) {
  ClientShares shares;
  ask(shares, 1, 5);
  ask(shares, 2, 5);
  shares.end_window(10);

  EXPECT_EQ(shares.active(), 0U);
  EXPECT_EQ(shares.of(ClientKey{1}).asked, 0U);
}

TEST(ClientShares, MoreClientsThanThereArePlacesAreCountedTogether) {
  ClientShares shares;
  for (std::uint64_t client = 0; client < 100'000; ++client) ask(shares, client * 0x9e3779b97f4a7c15U, 1);

  EXPECT_LE(shares.active(), 1'025U);
  EXPECT_GT(shares.end_window(1'000).most, 0);
}

// Against the definition: all get what they ask for or the same share, and together no more than there is.
RC_GTEST_PROP(ClientShares, AreMaxMinFair,
              (std::map<std::uint8_t, std::uint16_t> const& asked, std::uint16_t capacity)) {
  RC_PRE(asked.size() > 1 && capacity > 0);
  ClientShares shares;
  double wanted = 0;
  for (auto const& [client, times] : asked) {
    ask(shares, client * std::uint64_t{4}, times);
    wanted += times;
  }

  double const share = shares.end_window(capacity).most;

  double given = 0;
  for (auto const& [client, times] : asked) given += std::min<double>(times, share);
  RC_ASSERT(given <= capacity + 1e-6);
  RC_ASSERT(given + 1e-6 >= std::min<double>(wanted, capacity));
}

}  // namespace
}  // namespace workmill::service
