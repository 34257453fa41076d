#include "shard/flush_writer.h"

#include <gtest/gtest.h>

#include <atomic>

#include "log/memory/memory_log.h"
#include "shard/system_clock.h"

namespace workmill::shard {
namespace {

class FlushWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = log::open_memory_log(disk_);
    ASSERT_TRUE(opened);
    log_ = std::move(*opened);
    ASSERT_TRUE(log_->replay([](auto const&) { return Result<>{}; }, {}));
    ASSERT_TRUE(log_->own());
    ASSERT_TRUE(log_->flush());
  }
  // Waits for the wake-up after each flush.
  void await(std::atomic<int> const& wakes, int more_than) {
    while (wakes.load() <= more_than) wakes.wait(more_than);
  }

  SystemClock clock_;
  log::MemoryDisk disk_;
  std::unique_ptr<log::Log> log_;
};

TEST_F(FlushWriterTest, WhatWasAskedForIsDurableWhenItSaysSo) {
  std::atomic<int> wakes = 0;
  FlushWriter writer{*log_, clock_, [&] {
                       wakes += 1;
                       wakes.notify_all();
                     }};
  log_->stage("payload", instant_from_ms(1));

  writer.request(1);
  await(wakes, 0);

  EXPECT_EQ(writer.progress().durable, 1u);
  EXPECT_EQ(disk_.unsynced_bytes(), 0u);
}

TEST_F(FlushWriterTest, AFailureIsToldOnceAndForAll) {
  std::atomic<int> wakes = 0;
  FlushWriter writer{*log_, clock_, [&] {
                       wakes += 1;
                       wakes.notify_all();
                     }};
  disk_.fail_sync_after(1);
  log_->stage("payload", instant_from_ms(1));

  writer.request(1);
  await(wakes, 0);

  ASSERT_TRUE(writer.progress().error);
  EXPECT_EQ(writer.progress().durable, 0u);
}

}  // namespace
}  // namespace workmill::shard
