#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "base/variant.h"
#include "engine/engine_fixture_test.h"
#include "engine/flag_table.h"
#include "flags/flag.h"

namespace workmill::engine {
namespace {

using ::testing::ElementsAre;

class Flags : public EngineTest {
 protected:
  static flags::Flag gate(std::vector<std::string> types, bool is_on) {
    return {.variants = {{.name = "on", .value = flags::boolean_value(true)},
                         {.name = "off", .value = flags::boolean_value(false)}},
            .default_variant = is_on ? 0U : 1U,
            .gates = std::move(types)};
  }
  static Bytes definition(flags::Flag const& flag) {
    Bytes bytes;
    flags::encode_flag(flag, bytes);
    return bytes;
  }
  FlagReply set(std::string key, flags::Flag const& flag, std::string by = {}) {
    return expect<FlagReply>(SetFlag{.key = std::move(key), .definition = definition(flag), .by = std::move(by)});
  }
  std::vector<std::string> leased_ids(std::uint32_t max) {
    std::vector<std::string> ids;
    for (LeasedJob const& job : lease({"default"}, max)) ids.push_back(view(job.number).client_id);
    return ids;
  }
  std::vector<std::uint64_t> versions(std::string const& key) {
    std::vector<std::uint64_t> found;
    for (FlagChange const& change : expect<FlagHistoryReply>(GetFlagHistory{.key = key}).changes) {
      found.push_back(change.version);
    }
    return found;
  }
};

TEST_F(Flags, AHistoryIsReadInPages) {
  for (int i = 0; i < 5; ++i) set("f", gate({}, i % 2 == 0));

  GetFlagHistory page{.key = "f", .limit = 2};
  std::vector<std::uint64_t> found;
  for (int pages = 1;; ++pages) {
    auto const reply = expect<FlagHistoryReply>(page);
    for (FlagChange const& change : reply.changes) found.push_back(change.version);
    if (reply.next == 0) {
      EXPECT_EQ(pages, 3);
      break;
    }
    EXPECT_EQ(reply.changes.size(), 2U);
    page.before = reply.next;
  }

  EXPECT_EQ(found, (std::vector<std::uint64_t>{5, 4, 3, 2, 1}));
  page = {.key = "f", .limit = 5};
  EXPECT_EQ(expect<FlagHistoryReply>(page).next, 0U);  // A page that is just full is the last one.
}

TEST_F(Flags, EachChangeIsAVersionThatTheHistoryKeeps) {
  set("f", gate({}, true), "ops");
  pass(Duration{5});
  FlagReply const second = set("f", gate({}, false), "dev");

  EXPECT_EQ(second.newest.version, 2U);
  auto const changes = expect<FlagHistoryReply>(GetFlagHistory{.key = "f"}).changes;
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].version, 2U);
  EXPECT_EQ(changes[0].by, "dev");
  EXPECT_EQ(changes[0].at, now);
  EXPECT_EQ(changes[1].by, "ops");
  EXPECT_EQ(changes[1].definition, definition(gate({}, true)));
  EXPECT_EQ(engine.flags()->find("f")->version, 2U);
}

TEST_F(Flags, TheSameDefinitionAgainIsNoChange) {
  set("f", gate({}, true));
  auto const before = log.records.size();

  EXPECT_EQ(set("f", gate({}, true)).newest.version, 1U);
  EXPECT_EQ(log.records.size(), before);
}

TEST_F(Flags, AChangeOfAnotherVersionIsRefused) {
  Bytes const on = definition(gate({}, true));
  EXPECT_EQ(expect_error(SetFlag{.key = "f", .definition = on, .version = 1}), ErrorCode::wrong_state);
  expect<FlagReply>(SetFlag{.key = "f", .definition = on, .version = 0});
  // The same again, as of whoever got no answer.
  EXPECT_EQ(expect<FlagReply>(SetFlag{.key = "f", .definition = on, .version = 0}).newest.version, 1U);
  EXPECT_EQ(expect_error(SetFlag{.key = "f", .definition = definition(gate({}, false)), .version = 0}),
            ErrorCode::wrong_state);

  EXPECT_EQ(
      expect<FlagReply>(SetFlag{.key = "f", .definition = definition(gate({}, false)), .version = 1}).newest.version,
      2U);
}

TEST_F(Flags, WhatIsRemovedIsGoneWithItsHistory) {
  set("f", gate({}, true));
  set("f", gate({}, false));
  expect<DoneReply>(RemoveFlag{.key = "f"});
  EXPECT_EQ(expect_error(RemoveFlag{.key = "f"}), ErrorCode::not_found);
  EXPECT_EQ(expect_error(GetFlagHistory{.key = "f"}), ErrorCode::not_found);

  set("f", gate({}, true));
  EXPECT_EQ(versions("f").size(), 1U);
  EXPECT_TRUE(engine.check_invariants().empty());
}

TEST_F(Flags, VersionsGrowOverARemovalAndARestartWhateverIsLeftOfTheLog) {
  set("f", gate({}, true));
  set("f", gate({}, false));
  log.start_segment();
  expect<DoneReply>(RemoveFlag{.key = "f"});
  auto const without_changes = replay(log.segment());
  log.start_segment();
  engine.begin_batch({.segment = log.segment() + 1, .offset = 0}, log);
  auto const without_removal = replay(log.segment());

  for (Engine* each : {&engine, without_changes.get(), without_removal.get()}) {
    bool again = false;
    auto const made = each->execute(SetFlag{.key = "f", .definition = definition(gate({}, true)), .version = 0},
                                    {.now = now, .chance = 1}, log, &again);
    ASSERT_TRUE(holds<FlagReply>(made));
    EXPECT_EQ(std::get<FlagReply>(made).newest.version, 3U);
  }
}

TEST_F(Flags, AFlagThatWasMadeAnewByARequestWithoutAnAnswerMayBeMadeOnceMore) {
  set("f", gate({}, true));
  expect<DoneReply>(RemoveFlag{.key = "f"});
  SetFlag const make{.key = "f", .definition = definition(gate({}, true)), .version = 0};
  expect<FlagReply>(make);

  EXPECT_EQ(expect<FlagReply>(make).newest.version, 2U);

  set("f", gate({}, false));
  set("f", gate({}, true));
  EXPECT_EQ(expect_error(make), ErrorCode::wrong_state);
}

TEST_F(Flags, TheHistoryKeepsTheNewestHundred) {
  for (int i = 0; i < 120; ++i) set("f", gate({}, i % 2 == 0));

  auto const kept = versions("f");
  EXPECT_EQ(kept.size(), FlagTable::kChangesMax);
  EXPECT_EQ(kept.front(), 120U);
  EXPECT_EQ(kept.back(), 21U);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Flags, TheHistoryKeepsLessOfLargeDefinitions) {
  for (int i = 0; i < 12; ++i) {
    std::string const text(std::size_t{10} << 10, static_cast<char>('a' + i));
    set("f", {.variants = {{.name = "v", .value = flags::string_value(text)}}});
  }

  EXPECT_THAT(versions("f"), ElementsAre(12, 11, 10, 9, 8, 7));
}

TEST_F(Flags, MoreFlagsThanMayBeAreRefusedAndKnownOnesAreNot) {
  for (std::size_t i = 0; i < options.flags_max; ++i) set("f" + std::to_string(i), gate({}, true));

  EXPECT_EQ(expect_error(SetFlag{.key = "one-more", .definition = definition(gate({}, true))}), ErrorCode::wrong_state);
  EXPECT_EQ(set("f7", gate({}, false)).newest.version, 2U);
}

TEST_F(Flags, AfterAReplayFlagsHistoryAndGatesAreWhatTheyWere) {
  set("f", gate({"mail"}, true), "ops");
  set("f", gate({"mail"}, false), "ops");
  set("gone", gate({}, true));
  expect<DoneReply>(RemoveFlag{.key = "gone"});
  enqueue({.type = "mail"});

  auto const again = replay();

  EXPECT_EQ(again->check_invariants(), "");
  EXPECT_EQ(dump(*again), dump(engine));
  EXPECT_EQ(again->flags()->fingerprint(), engine.flags()->fingerprint());
  EXPECT_EQ(again->status().held_back, 1U);
  EXPECT_FALSE(again->has_ready(Lease{.queues = {{.name = "default"}}}));
}

TEST_F(Flags, ADefinitionThatIsDamagedInTheLogIsSaidSo) {
  Engine fresh{options};
  effect::FlagChanged const damaged{.key = "f", .version = 1, .definition = "\x01"};

  EXPECT_EQ(fresh.replay(damaged, {.at = {.segment = 1, .offset = 1}, .bytes = 9}, now).error().code,
            ErrorCode::log_corrupt);
}

TEST_F(Flags, OffItsJobsWaitAndOnTheyAreLeasedInTheirOrder) {
  set("f", gate({"mail"}, false));
  for (int i = 0; i < 3; ++i) {
    enqueue({.type = "mail", .id = "m" + std::to_string(i)});
    enqueue({.type = "other", .id = "o" + std::to_string(i)});
  }
  EXPECT_THAT(leased_ids(10), ElementsAre("o0", "o1", "o2"));
  EXPECT_EQ(engine.status().held_back, 3U);
  EXPECT_EQ(queue().depth[static_cast<std::size_t>(JobState::ready)], 3U);

  set("f", gate({"mail"}, true));

  EXPECT_THAT(leased_ids(10), ElementsAre("m0", "m1", "m2"));
}

TEST_F(Flags, WhoWaitsHearsOfJobsThatAreLetThrough) {
  set("f", gate({"mail"}, false));
  enqueue({.type = "mail"});
  EXPECT_TRUE(engine.take_happenings().ready_queues.empty());

  set("f", gate({"mail"}, true));

  EXPECT_THAT(engine.take_happenings().ready_queues, ElementsAre("default"));
}

TEST_F(Flags, WhoWaitsHearsOfAJobThatTheEndOfThoseBeforeItLetsThrough) {
  set("f", gate({"mail"}, false));
  enqueue({.type = "other", .id = "first"});
  for (int i = 0; i < 100; ++i) enqueue({.type = "mail", .id = "m" + std::to_string(i)});
  enqueue({.type = "other", .id = "last"});
  EXPECT_THAT(leased_ids(1), ElementsAre("first"));
  ASSERT_TRUE(leased_ids(1).empty());  // Not all of what is closed has stepped aside yet.
  (void)engine.take_happenings();

  for (int i = 0; i < 100; ++i) expect<DoneReply>(CancelJob{.job = {.number = {}, .text = "m" + std::to_string(i)}});

  EXPECT_THAT(engine.take_happenings().ready_queues, ElementsAre("default"));
  EXPECT_THAT(leased_ids(1), ElementsAre("last"));
}

TEST_F(Flags, RemovingTheFlagOpensItsGate) {
  set("f", gate({"mail"}, false));
  enqueue({.type = "mail"});

  expect<DoneReply>(RemoveFlag{.key = "f"});

  EXPECT_EQ(lease().size(), 1U);
}

TEST_F(Flags, LeasedJobsGoOnAndWaitWhenTheyComeBack) {
  enqueue({.type = "mail"});
  LeasedJob const held = lease_one();
  set("f", gate({"mail"}, false));

  EXPECT_FALSE(report(held, Progress{.percent = 50, .message = {}}).error.has_value());
  EXPECT_FALSE(report(held, Released{}).error.has_value());

  EXPECT_TRUE(lease().empty());
  EXPECT_EQ(view(held.number).state, JobState::ready);
}

TEST_F(Flags, JobsBehindVeryManyOfAClosedTypeComeAfterAFewTurns) {
  for (int i = 0; i < 5'000; ++i) enqueue({.type = "mail"});
  enqueue({.type = "other", .id = "behind"});
  set("f", gate({"mail"}, false));

  advance();  // In steps.

  EXPECT_THAT(leased_ids(10), ElementsAre("behind"));
  EXPECT_EQ(engine.status().held_back, 5'000U);
  EXPECT_EQ(engine.check_invariants(), "");
}

TEST_F(Flags, WhatAGateHoldsBackIsCountedWhereverItStandsInLine) {
  enqueue({.type = "other"});
  enqueue({.type = "mail"});
  set("f", gate({"mail"}, false));
  EXPECT_EQ(engine.status().held_back, 1U);
  auto const last = enqueue({.type = "mail"});
  EXPECT_EQ(engine.status().held_back, 2U);
  EXPECT_EQ(replay()->status().held_back, 2U);

  expect<DoneReply>(CancelJob{ref(last.number)});
  EXPECT_EQ(engine.status().held_back, 1U);
  set("f", gate({"mail"}, true));

  EXPECT_EQ(engine.status().held_back, 0U);
  EXPECT_EQ(engine.check_invariants(), "");
}

// The name of its type is the only one of its kind, and many came since.
TEST_F(Flags, AJobThatKeepsItsPlaceOverAChangeIsStillCounted) {
  auto const job = enqueue({.type = "mail"});
  for (int i = 0; i < 200; ++i) enqueue({.type = "t" + std::to_string(i)});
  set("f", gate({"mail"}, false));
  JobSpecView const spec{.type = "mail", .queue = "default", .max_attempts = 7};

  expect<JobReply>(PatchJob{.job = ref(job.number), .changes = {.max_attempts = 7}, .new_spec = bytes(spec)});

  EXPECT_EQ(engine.status().held_back, 1U);
  EXPECT_EQ(engine.check_invariants(), "");
  expect<DoneReply>(CancelJob{ref(job.number)});
  EXPECT_EQ(engine.status().held_back, 0U);
}

TEST_F(Flags, JobsThatWaitForAGateCanBeCancelledAndExpire) {
  set("f", gate({"mail"}, false));
  auto const first = enqueue({.type = "mail"});
  auto const second = enqueue({.type = "mail", .expires_in = Duration{10}});
  expect<DoneReply>(CancelJob{ref(first.number)});

  pass_and_advance(Duration{20});

  EXPECT_EQ(view(first.number).state, JobState::cancelled);
  EXPECT_EQ(view(second.number).state, JobState::dead);
  EXPECT_EQ(engine.status().held_back, 0U);
}

TEST_F(Flags, AFullQueueOfJobsThatWaitForAGateRefusesMore) {
  execute(PatchQueue{.name = "default", .max_depth = 2, .when_full = WhenFull::drop_oldest});
  set("f", gate({"mail"}, false));
  enqueue({.type = "mail"});
  enqueue({.type = "mail"});
  Bytes const one = bytes({.type = "other", .queue = "default"});
  EXPECT_EQ(expect_error(Enqueue{.specs = {one}}), ErrorCode::queue_full);

  set("f", gate({"mail"}, true));

  EXPECT_EQ(expect<EnqueueReply>(Enqueue{.specs = {one}}).jobs.size(), 1U);
  EXPECT_EQ(queue().depth[static_cast<std::size_t>(JobState::ready)], 2U);
}

TEST_F(Flags, AFullQueueTakesABulkOnlyAsFarAsItDropsJobsThatMayBeLeased) {
  execute(PatchQueue{.name = "default", .max_depth = 2, .when_full = WhenFull::drop_oldest});
  set("f", gate({"mail"}, false));
  enqueue({.type = "other"});
  enqueue({.type = "other"});
  Bytes const waits = bytes({.type = "mail", .queue = "default"});

  EXPECT_EQ(expect_error(Enqueue{.specs = {waits, waits, waits}}), ErrorCode::queue_full);
  EXPECT_EQ(expect<EnqueueReply>(Enqueue{.specs = {waits, waits}}).jobs.size(), 2U);
  EXPECT_EQ(queue().depth[static_cast<std::size_t>(JobState::ready)], 2U);
}

TEST_F(Flags, AFullQueueDropsNoneThatWaitsForAGate) {
  execute(PatchQueue{.name = "default", .max_depth = 2, .when_full = WhenFull::drop_oldest});
  set("f", gate({"mail"}, false));
  auto const waits = enqueue({.type = "mail"});
  auto const oldest = enqueue({.type = "other"});

  enqueue({.type = "other"});

  EXPECT_EQ(view(waits.number).state, JobState::ready);
  EXPECT_EQ(view(oldest.number).state, JobState::cancelled);
}

}  // namespace
}  // namespace workmill::engine
