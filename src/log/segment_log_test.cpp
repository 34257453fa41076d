#include "log/segment_log.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>

#include "base/rng.h"
#include "log/conformance.h"
#include "log/memory/memory_disk.h"
#include "log/memory/memory_log.h"

// The log over a disk that breaks: what conformance.cpp cannot ask of every device.
namespace workmill::log {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr std::uint64_t kSegmentLogId = 0x5eed;

SegmentLogOptions small_segments(Durability durability = Durability::sync) {
  return {.segment_bytes = 4096, .durability = durability, .recent_bytes = 2'000, .log_id = kSegmentLogId};
}

Result<Opened> try_open_memory_log(MemoryDisk& disk, SegmentLogOptions const& options = small_segments()) {
  Opened opened;
  WM_TRY(opened.log, open_memory_log(disk, options));
  auto const remember = [&](ReplayedBatch const& batch) -> Result<> {
    opened.batches.push_back({batch.base, batch.at, Bytes{batch.payload}});
    return {};
  };
  WM_TRY(opened.report, opened.log->replay(remember, {}));
  WM_TRY(opened.epoch, opened.log->own());
  return opened;
}

Opened open_memory(MemoryDisk& disk, SegmentLogOptions const& options = small_segments()) {
  auto opened = try_open_memory_log(disk, options);
  if (!opened) {
    ADD_FAILURE() << describe(opened.error());
    std::abort();
  }
  return *std::move(opened);
}

bool begins_with(std::vector<KnownBatch> const& all, std::vector<KnownBatch> const& front) {
  return all.size() >= front.size() && std::equal(front.begin(), front.end(), all.begin());
}

// ---- Power cuts.

TEST(SegmentLog, UnderSyncAPowerCutTakesNothingThatWasFlushed) {
  MemoryDisk disk;
  Opened first = open_memory(disk);
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 50, 400);
  first.log.reset();

  disk.crash();

  EXPECT_EQ(open_memory(disk).batches, known);
}

TEST(SegmentLog, UnderIntervalAPowerCutTakesAtMostTheInterval) {
  MemoryDisk disk;
  Opened first = open_memory(disk, small_segments(Durability::interval));
  std::vector<KnownBatch> known;
  known.reserve(200);
  for (int i = 0; i < 200; ++i) known.push_back(append(*first.log, noise(100), i * 7));
  first.log.reset();

  disk.crash();
  std::vector<KnownBatch> const left = open_memory(disk).batches;

  EXPECT_TRUE(begins_with(known, left));
  ASSERT_FALSE(left.empty());
  EXPECT_GT(left.back().at, known.back().at - Duration{50});
}

TEST(SegmentLog, UnderOsAPowerCutLeavesAPrefixAndNeverATrimmedHole) {
  MemoryDisk disk;
  Opened first = open_memory(disk, small_segments(Durability::os));
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 20, 1'000);
  ASSERT_TRUE(first.log->trim_oldest().value());
  known.push_back(append(*first.log, "what replaces the dropped segment is on the disk when it goes"));
  std::erase_if(known, [](KnownBatch const& batch) { return batch.base.segment == 1; });
  std::size_t const durable = known.size();
  append_many(*first.log, known, 20, 1'000);
  first.log.reset();

  disk.crash_keeping_some(512);
  std::vector<KnownBatch> const left = open_memory(disk).batches;

  EXPECT_TRUE(begins_with(known, left));
  EXPECT_GE(left.size(), durable);
}

TEST(SegmentLog, WhatAnOwnerLeftUnsyncedIsDurableOnceTheNextOneOwnsTheLog) {
  MemoryDisk disk;
  Opened first = open_memory(disk, small_segments(Durability::os));
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 20, 1'000);
  first.log.reset();  // Killed: the bytes are with the operating system.
  open_memory(disk, small_segments(Durability::os)).log.reset();

  disk.crash();

  EXPECT_EQ(open_memory(disk).batches, known);
}

TEST(SegmentLog, OfATornTailNoFrameIsLeftOnTheDisk) {
  MemoryDisk disk;
  Opened first = open_memory(disk);
  append(*first.log, "before");
  KnownBatch const torn = stage(*first.log, noise(100));
  KnownBatch const whole = stage(*first.log, noise(200));
  ASSERT_TRUE(first.log->flush());
  first.log.reset();
  disk.flip_bit(1, torn.base.offset, 0);  // As if the power had gone before this part was written.

  Opened const cut = open_memory(disk);

  std::size_t const header_at = whole.base.offset - kFrameHeaderBytes;
  EXPECT_EQ(disk.bytes_of(1).substr(header_at, kFrameHeaderBytes), Bytes(kFrameHeaderBytes, '\0'));
  EXPECT_EQ(cut.report.cut_bytes, frame_bytes(100) + frame_bytes(200));
}

// ---- The k-th change of the disk fails, for every k.

// Some life of a log, with a restart in it. Ends at the first error.
struct Life {
  std::vector<KnownBatch> acknowledged;
  std::vector<KnownBatch> unknown;  // Staged, and no flush said yes.
  std::uint32_t trimmed = 0;        // Segments up to here may be gone.
  bool finished = false;

  void run(MemoryDisk& disk) {
    for (int part = 0; part < 2; ++part) {
      auto opened = try_open_memory_log(disk);
      if (!opened) return;
      for (int i = 0; i < 12; ++i) {
        for (int j = 0; j < 1 + i % 3; ++j) unknown.push_back(stage(*opened->log, noise(300), i));
        if (!opened->log->flush()) return;
        std::move(unknown.begin(), unknown.end(), std::back_inserter(acknowledged));
        unknown.clear();
        if (i % 6 == 5) {
          trimmed = opened->log->status().segments.front().ordinal;
          if (!opened->log->trim_oldest()) return;
        }
      }
    }
    finished = true;
  }

  void check(std::vector<KnownBatch> const& found) const {
    std::vector<KnownBatch> all = acknowledged;
    all.insert(all.end(), unknown.begin(), unknown.end());
    auto const drop_trimmed = [&](std::vector<KnownBatch> batches) {
      std::erase_if(batches, [&](KnownBatch const& batch) { return batch.base.segment <= trimmed; });
      return batches;
    };
    EXPECT_TRUE(begins_with(drop_trimmed(all), drop_trimmed(found)));
    EXPECT_TRUE(begins_with(drop_trimmed(found), drop_trimmed(acknowledged)));
  }
};

using Crash = std::function<void(MemoryDisk&)>;
std::vector<Crash> const& crashes() {
  static std::vector<Crash> const kAll{
      [](MemoryDisk&) {},  // Only the process dies.
      [](MemoryDisk& disk) { disk.crash(); },
      [](MemoryDisk& disk) { disk.crash_keeping(disk.unsynced_bytes() / 2); },
      [](MemoryDisk& disk) { disk.crash_keeping_some(512); },
      [](MemoryDisk& disk) { disk.crash_keeping_some(16); },
  };
  return kAll;
}

TEST(SegmentLog, LosesNothingAcknowledgedWhicheverChangeOfTheDiskFails) {
  for (std::uint64_t k = 1;; ++k) {
    bool finished = false;
    for (Crash const& crash : crashes()) {
      MemoryDisk disk{k};
      disk.fail_after(k);
      Life life;
      life.run(disk);
      finished = life.finished;
      disk.heal();
      crash(disk);

      life.check(open_memory(disk).batches);
      ASSERT_FALSE(HasFailure()) << k;
    }
    if (finished) {
      EXPECT_GT(k, 40u);  // Or the life above is too short to prove much.
      return;
    }
  }
}

TEST(SegmentLog, ARecoveryMayFailAtEachOfItsChangesAndBeginAgain) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    for (std::uint64_t k = 1;; ++k) {
      MemoryDisk disk{seed};
      disk.fail_after(10 + seed);
      Life life;
      life.run(disk);
      disk.heal();
      disk.crash_keeping_some(64);

      disk.fail_after(k);
      bool const recovered = try_open_memory_log(disk).has_value();
      disk.heal();
      disk.crash_keeping_some(64);

      life.check(open_memory(disk).batches);
      ASSERT_FALSE(HasFailure()) << seed << " " << k;
      if (recovered) break;
    }
  }
}

TEST(SegmentLog, SurvivesRandomPowerCutsAndFailuresForever) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    MemoryDisk disk{seed};
    Rng rng{seed};
    Life life;
    for (int restart = 0; restart < 6; ++restart) {
      auto opened = try_open_memory_log(disk);
      ASSERT_TRUE(opened) << seed << ": " << describe(opened.error());
      life.check(opened->batches);
      ASSERT_FALSE(HasFailure()) << seed;
      life.acknowledged = opened->batches;
      life.unknown.clear();
      disk.fail_after(1 + rng.below(40));
      for (int i = 0; i < 30; ++i) {
        std::uint64_t const count = rng.below(4);
        for (std::uint64_t j = 0; j < count; ++j) {
          life.unknown.push_back(stage(*opened->log, noise(1 + rng.below(900), rng.next())));
        }
        if (!opened->log->flush()) break;
        std::move(life.unknown.begin(), life.unknown.end(), std::back_inserter(life.acknowledged));
        life.unknown.clear();
        if (rng.chance(200)) {
          std::uint32_t const oldest = opened->log->status().segments.front().ordinal;
          if (opened->log->trim_oldest().value()) life.trimmed = oldest;
        }
      }
      disk.heal();
      crashes()[rng.below(crashes().size())](disk);
    }
  }
}

// ---- Failures are final.

TEST(SegmentLog, AfterAFailedSyncNoFlushSucceedsAnyMore) {
  MemoryDisk disk;
  Opened const opened = open_memory(disk);
  stage(*opened.log, "batch");
  disk.fail_sync_after(1);
  auto const failed = opened.log->flush();
  disk.heal();

  stage(*opened.log, "another");
  auto const again = opened.log->flush();

  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::io_failed);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), failed.error());
}

TEST(SegmentLog, AFailedSyncInTheBackgroundComesOutAtTheNextFlush) {
  MemoryDisk disk;
  auto const session = disk.open();
  SegmentLogOptions options = small_segments(Durability::interval);
  options.synced_elsewhere = true;
  auto const log = SegmentLog::open(*session, options).value();
  ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
  ASSERT_TRUE(log->own());
  append(*log, "written, not synced");

  disk.fail_sync_after(1);
  EXPECT_FALSE(log->sync_written());
  disk.heal();

  stage(*log, "another");
  auto const flushed = log->flush();
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().code, ErrorCode::io_failed);
}

TEST(SegmentLog, AFullDiskFailsTheFlushAndLosesNothing) {
  MemoryDisk disk;
  disk.set_capacity(20'000);
  Opened first = open_memory(disk);
  std::vector<KnownBatch> known;
  Result<> flushed;
  while (flushed) {
    known.push_back(stage(*first.log, noise(700)));
    flushed = first.log->flush();
  }
  known.pop_back();
  first.log.reset();

  EXPECT_EQ(flushed.error().code, ErrorCode::disk_full);
  disk.set_capacity(1 << 20);
  std::vector<KnownBatch> const found = open_memory(disk).batches;
  EXPECT_TRUE(begins_with(found, known));
  EXPECT_LE(found.size(), known.size() + 1);
}

// ---- Damage.

TEST(SegmentLog, AnyFlippedBitIsRefusedOrHarmlessOrTakesTheLastFlushAlone) {
  MemoryDisk disk;
  Opened first = open_memory(disk);
  std::vector<KnownBatch> known;
  append_many(*first.log, known, 25, 350);
  first.log.reset();
  std::vector<KnownBatch> const all_but_last{known.begin(), known.end() - 1};
  Rng rng{11};
  int refused = 0;

  for (int i = 0; i < 3'000; ++i) {
    MemoryDisk damaged = disk;
    auto const ordinal = static_cast<std::uint32_t>(1 + rng.below(disk.files().size()));
    std::uint64_t const offset = rng.below(disk.bytes_of(ordinal).size());
    ASSERT_TRUE(damaged.flip_bit(ordinal, offset, static_cast<int>(rng.below(8))));

    auto const opened = try_open_memory_log(damaged);

    if (opened) {
      ASSERT_TRUE(opened->batches == known || opened->batches == all_but_last) << ordinal << ":" << offset;
      continue;
    }
    ++refused;
    ASSERT_TRUE(opened.error().code == ErrorCode::log_corrupt || opened.error().code == ErrorCode::log_version);
    ASSERT_THAT(describe(opened.error()), HasSubstr(".wal at offset"));
  }
  EXPECT_GT(refused, 2'000);
}

TEST(SegmentLog, AfterAnOrderlyEndTheLastFlushIsProvenToo) {
  MemoryDisk disk;
  KnownBatch last;
  {
    auto const session = disk.open();
    auto const log = SegmentLog::open(*session, small_segments()).value();
    ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
    ASSERT_TRUE(log->own());
    last = append(*log, "the last");
    ASSERT_TRUE(log->seal());
  }
  EXPECT_THAT(MemoryDisk{disk}.files(), SizeIs(1));
  MemoryDisk good = disk;
  EXPECT_THAT(open_memory(good).batches, ElementsAre(last));

  disk.flip_bit(1, last.base.offset, 0);

  auto const opened = try_open_memory_log(disk);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::log_corrupt);
}

// ---- Damage while the log is open: it takes the batch that it is in, and no other.

TEST(SegmentLog, WhatIsReadBackIsLostWithItsOwnBatchOnly) {
  constexpr std::size_t kCount = 12;
  for (std::size_t damaged = 0; damaged + 1 < kCount; ++damaged) {
    for (int const place : {-40, 3}) {  // In its header, and in its payload.
      MemoryDisk disk;
      auto options = small_segments();
      options.recent_bytes = 0;
      Opened opened = open_memory(disk, options);
      std::vector<KnownBatch> known;
      append_many(*opened.log, known, kCount, 400);
      Position const at = known[damaged].base;
      ASSERT_TRUE(disk.flip_bit(at.segment, static_cast<std::uint64_t>(static_cast<int>(at.offset) + place), 5));

      for (std::size_t i = 0; i < kCount; ++i) {
        auto const read = opened.log->read(known[i].base, known[i].payload.size());
        ASSERT_EQ(read.has_value(), i != damaged) << i;
        if (read) {
          EXPECT_EQ(*read, known[i].payload) << i;
        } else {
          EXPECT_EQ(read.error().code, ErrorCode::log_corrupt);
          EXPECT_THAT(describe(read.error()), HasSubstr(".wal at offset"));
        }
      }
    }
  }
}

TEST(SegmentLog, CopyingGoesOverADamagedBatch) {
  for (bool const is_header : {false, true}) {
    MemoryDisk disk;
    auto options = small_segments();
    options.recent_bytes = 0;
    Opened opened = open_memory(disk, options);
    std::vector<KnownBatch> known;
    append_many(*opened.log, known, 12, 400);
    ASSERT_EQ(known[3].base.segment, 1u);
    Position const damaged = known[1].base;
    ASSERT_TRUE(disk.flip_bit(1, is_header ? damaged.offset - 40 : damaged.offset + 3, 5));
    std::vector<Position> found;
    Position cursor{1, 0};
    int skipped = 0;

    while (true) {
      auto const next = opened.log->next_batch(cursor);
      if (!next) {
        ASSERT_EQ(next.error().code, ErrorCode::log_corrupt);
        ASSERT_LT(++skipped, 3);
        Position const before = cursor;
        ASSERT_TRUE(opened.log->skip_damaged(cursor));
        ASSERT_GT(cursor, before);
        continue;
      }
      if (!next->has_value()) break;
      found.push_back((*next)->base);
    }

    EXPECT_EQ(skipped, 1);
    std::vector<Position> wanted;
    for (KnownBatch const& batch : known) {
      if (batch.base.segment == 1 && batch.base != damaged) wanted.push_back(batch.base);
    }
    EXPECT_EQ(found, wanted);
  }
}

// ---- The segment made ahead.

TEST(SegmentLog, TheNextSegmentIsWantedFromHalfAndThenOnlyUsed) {
  MemoryDisk disk;
  auto const session = disk.open();
  auto const log = SegmentLog::open(*session, small_segments()).value();
  ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
  ASSERT_TRUE(log->own());
  EXPECT_FALSE(log->wants_next());
  std::vector<KnownBatch> known{append(*log, noise(2'500))};
  EXPECT_TRUE(log->wants_next());

  ASSERT_TRUE(log->prepare_next());

  EXPECT_FALSE(log->wants_next());
  EXPECT_THAT(disk.files(), SizeIs(2));
  EXPECT_THAT(log->status().segments, SizeIs(1));
  disk.set_capacity(2 * 4096 + 500);  // No room for another: the one made ahead is enough.
  while (log->status().segments.size() < 2) known.push_back(append(*log, noise(500)));
  EXPECT_EQ(open_memory(disk).batches, known);
}

TEST(SegmentLog, ASegmentMadeAheadAndNeverUsedIsNoTornTail) {
  MemoryDisk disk;
  KnownBatch batch;
  {
    auto const session = disk.open();
    auto const log = SegmentLog::open(*session, small_segments()).value();
    ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
    ASSERT_TRUE(log->own());
    batch = append(*log, noise(2'500));
    ASSERT_TRUE(log->prepare_next());
  }

  Opened const opened = open_memory(disk);

  EXPECT_THAT(opened.batches, ElementsAre(batch));
  EXPECT_FALSE(opened.report.cut_at);
  EXPECT_THAT(opened.log->status().segments, SizeIs(1));
}

TEST(SegmentLog, WhereTheDiskHasLittleLeftTheNextSegmentIsWantedAtOnce) {
  MemoryDisk disk;
  disk.set_capacity(5 * 4096);
  auto const session = disk.open();
  auto const log = SegmentLog::open(*session, small_segments()).value();
  ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
  ASSERT_TRUE(log->own());
  append(*log, noise(100));
  EXPECT_FALSE(log->wants_next());  // Four are free.
  disk.set_capacity(5 * 4096 - 1);

  EXPECT_TRUE(log->wants_next());
}

TEST(SegmentLog, ThatThereWasNoRoomIsForgottenOnceThereIsThoughTheSegmentIsNotHalfFull) {
  MemoryDisk disk;
  disk.set_capacity(4096 + 100);
  auto const session = disk.open();
  auto const log = SegmentLog::open(*session, small_segments()).value();
  ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
  ASSERT_TRUE(log->own());
  append(*log, noise(100));
  ASSERT_FALSE(log->prepare_next());
  ASSERT_TRUE(log->status().next_has_no_room);
  disk.set_capacity(100 * 4096);

  EXPECT_TRUE(log->wants_next());
  EXPECT_TRUE(log->prepare_next());
  EXPECT_FALSE(log->status().next_has_no_room);
}

TEST(SegmentLog, NoRoomForTheNextSegmentIsToldAndHarmsNobodyWhileThereIsRoomInThisOne) {
  MemoryDisk disk;
  auto const session = disk.open();
  auto const log = SegmentLog::open(*session, small_segments()).value();
  ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
  ASSERT_TRUE(log->own());
  std::vector<KnownBatch> known{append(*log, noise(2'500))};
  EXPECT_FALSE(log->status().next_has_no_room);
  disk.set_capacity(4096 + 100);

  auto const refused = log->prepare_next();

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::disk_full);
  EXPECT_TRUE(log->status().next_has_no_room);
  known.push_back(append(*log, noise(500)));
  disk.set_capacity(3 * 4096);
  EXPECT_TRUE(log->status().next_has_no_room);  // As of the last try.
  ASSERT_TRUE(log->prepare_next());
  EXPECT_FALSE(log->status().next_has_no_room);
  while (log->status().segments.size() < 2) known.push_back(append(*log, noise(500)));
  EXPECT_EQ(open_memory(disk).batches, known);
}

TEST(SegmentLog, ASegmentSizeOutOfRangeIsRefused) {
  MemoryDisk disk;
  for (std::uint32_t const bytes : {0u, 4095u, (1u << 30) + 1}) {
    auto const log = open_memory_log(disk, {.segment_bytes = bytes});
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().code, ErrorCode::bad_configuration);
  }
}

}  // namespace
}  // namespace workmill::log
