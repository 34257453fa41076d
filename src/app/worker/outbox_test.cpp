#include "app/worker/outbox.h"

#include <gtest/gtest.h>

namespace workmill::app {
namespace {

OutboxItem item(std::string report, OutboxItem::Kind kind = OutboxItem::Kind::completed) {
  return {.job = {"job-1", "00ff"}, .kind = kind, .report = std::move(report)};
}

std::string reports_of(std::vector<OutboxItem> const& batch) {
  std::string all;
  for (auto const& each : batch) all += each.report;
  return all;
}

TEST(Outbox, WhatWasNotAcceptedComesFirstTheNextTime) {
  Outbox outbox;
  outbox.add(item("a", OutboxItem::Kind::log));
  outbox.add(item("b"));
  auto batch = outbox.take_batch();
  outbox.add(item("c"));

  outbox.put_back(std::move(batch), true);

  auto const again = outbox.take_batch();
  EXPECT_EQ(reports_of(again), "abc");
  EXPECT_TRUE(again[1].sent_before);
  EXPECT_FALSE(again[2].sent_before);
  EXPECT_TRUE(outbox.empty());
}

TEST(Outbox, ABatchHasABoundInItemsAndInBytes) {
  Outbox outbox;
  for (std::size_t i = 0; i < Outbox::kItemsMax + 1; ++i) outbox.add(item("x"));
  EXPECT_EQ(outbox.take_batch().size(), Outbox::kItemsMax);
  EXPECT_EQ(outbox.take_batch().size(), 1u);

  for (int i = 0; i < 3; ++i) outbox.add(item(std::string(Outbox::kBatchBytes, 'x')));
  EXPECT_EQ(outbox.take_batch().size(), 1u);
  EXPECT_EQ(outbox.size(), 2u);
}

TEST(Outbox, AfterARefusalBatchesAreSmaller) {
  Outbox outbox;
  for (int i = 0; i < 8; ++i) outbox.add(item("x"));

  outbox.shrink_below(8);
  EXPECT_EQ(outbox.take_batch().size(), 4u);
  outbox.shrink_below(1);
  EXPECT_EQ(outbox.take_batch().size(), 1u);
}

}  // namespace
}  // namespace workmill::app
