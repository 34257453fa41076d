#include "shard/flag_board.h"

#include <gtest/gtest.h>

#include "flags/flag.h"
#include "shard/shard_fixture_test.h"

namespace workmill::shard {
namespace {

// Flushes when it is told to.
class ToldFlusher final : public Flusher {
 public:
  struct Door {
    std::uint64_t requested = 0;
    std::uint64_t durable = 0;
  };
  ToldFlusher(log::Log& log, Door& door) : log_(log), door_(door) {}

  void request(std::uint64_t staged) override { door_.requested = staged; }
  Progress progress() const override {
    if (door_.durable > done_) {
      EXPECT_TRUE(log_.flush().has_value());
      done_ = door_.durable;
      flushes_ += 1;
    }
    Progress progress;
    progress.durable = done_;
    progress.flushes = flushes_;
    return progress;
  }

 private:
  log::Log& log_;
  Door& door_;
  mutable std::uint64_t done_ = 0;
  mutable std::uint64_t flushes_ = 0;
};

class FlagBoardTest : public ShardTest {
 protected:
  static flags::Flag gate(std::string type, bool is_open) {
    return {.variants = {{.name = "open", .value = flags::boolean_value(true)},
                         {.name = "shut", .value = flags::boolean_value(false)}},
            .default_variant = is_open ? 0U : 1U,
            .gates = {std::move(type)}};
  }
  static SetFlag set(std::string key, flags::Flag const& flag) {
    SetFlag command{.key = std::move(key), .by = "ops"};
    flags::encode_flag(flag, command.definition);
    return command;
  }
  std::uint64_t version(std::string_view key) { return reader_.newest(loop_->flags()).find(key)->version; }

  FlagReader reader_;
};

TEST_F(FlagBoardTest, AFlagIsThereForAllWhenItsChangeIsAnswered) {
  EXPECT_EQ(reader_.newest(loop_->flags()).find("f"), nullptr);

  EXPECT_EQ(ask<FlagReply>(set("f", gate("mail", true))).newest.version, 1U);
  EXPECT_EQ(version("f"), 1U);
  EXPECT_EQ(ask<FlagReply>(set("f", gate("mail", false))).newest.version, 2U);
  EXPECT_EQ(version("f"), 2U);

  ask<DoneReply>(RemoveFlag{.key = "f"});
  EXPECT_EQ(reader_.newest(loop_->flags()).find("f"), nullptr);
}

TEST_F(FlagBoardTest, WhatIsNotDurableIsSeenByNobody) {
  ToldFlusher::Door door;
  stop();
  options_.flush_by = FlushBy::writer;
  options_.make_flusher = [&door](log::Log& log) { return std::make_unique<ToldFlusher>(log, door); };
  start();
  turn();

  Cookie const first = submit(set("f", gate("mail", true)));
  turn();
  Cookie const second = submit(set("f", gate("mail", false)));
  turn();
  EXPECT_FALSE(answered(first));
  EXPECT_EQ(reader_.newest(loop_->flags()).find("f"), nullptr);

  door.durable = door.requested - 1;
  turn();
  EXPECT_TRUE(answered(first));
  EXPECT_FALSE(answered(second));
  EXPECT_EQ(version("f"), 1U);

  door.durable = door.requested;
  turn();
  EXPECT_TRUE(answered(second));
  EXPECT_EQ(version("f"), 2U);
}

TEST_F(FlagBoardTest, AfterARestartFlagsAreThereFromTheStart) {
  ask<FlagReply>(set("f", gate("mail", false)));
  ask<EnqueueReply>(enqueue({spec_of_job("mail")}));

  restart();

  FlagReader fresh;
  EXPECT_EQ(fresh.newest(loop_->flags()).find("f")->version, 1U);
  EXPECT_TRUE(ask<LeaseReply>(lease()).jobs.empty());
  EXPECT_EQ(ask<StatusReply>(GetStatus{}).gated_jobs, 1U);
}

TEST_F(FlagBoardTest, WhoWaitsGetsWhatIsLetThroughInThatTurn) {
  ask<FlagReply>(set("f", gate("mail", false)));
  ask<EnqueueReply>(enqueue({spec_of_job("mail")}));
  Cookie const waiting = submit(lease("default", 1, std::chrono::seconds{20}));
  turn();
  EXPECT_FALSE(answered(waiting));

  submit(set("f", gate("mail", true)));
  turn();

  EXPECT_EQ(take<LeaseReply>(waiting).jobs.size(), 1U);
}

TEST_F(FlagBoardTest, WhoWaitsIsNotServedByJobsThatAreHeldBack) {
  ask<FlagReply>(set("f", gate("mail", false)));
  Cookie const waiting = submit(lease("default", 1, std::chrono::seconds{20}));
  turn();

  ask<EnqueueReply>(enqueue({spec_of_job("mail"), spec_of_job("mail")}));

  EXPECT_FALSE(answered(waiting));
  EXPECT_EQ(engine_->check_invariants(), "");
}

}  // namespace
}  // namespace workmill::shard
