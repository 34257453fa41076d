#include "base/block_pool.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace workmill {
namespace {

constexpr std::size_t kMax = BlockPool::kBlockBytesMax;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// A block with its bytes, all of one number, so that one block written into another shows.
struct Filled {
  unsigned char* at = nullptr;
  std::size_t bytes = 0;
  unsigned char number = 0;

  bool is_whole() const {
    return std::all_of(at, at + bytes, [this](unsigned char byte) { return byte == number; });
  }
};

Filled take_filled(BlockPool& pool, std::size_t bytes, unsigned char number) {
  auto* const at = static_cast<unsigned char*>(pool.take(bytes));
  std::memset(at, number, bytes);
  return {at, bytes, number};
}
void give_all(BlockPool& pool, std::vector<Filled>& blocks) {
  for (Filled const& block : blocks) pool.give(block.at, block.bytes);
  blocks.clear();
}
// All blocks that it asks to be moved, as whoever owns them would.
std::size_t move_all(BlockPool& pool, std::vector<Filled>& blocks) {
  std::size_t moved = 0;
  for (Filled& block : blocks) {
    if (!pool.should_move(block.at)) continue;
    Filled const copy = take_filled(pool, block.bytes, block.number);
    pool.give(block.at, block.bytes);
    block = copy;
    ++moved;
  }
  return moved;
}
// Of what is used.
double lost(BlockPool const& pool) {
  BlockPool::Figures const figures = pool.figures();
  return static_cast<double>(figures.held_bytes) / static_cast<double>(figures.used_bytes) - 1;
}

TEST(BlockPool, RoundsUpBy16BytesAndAboveEightKibibytesByA64th) {
  std::size_t before = 0;
  for (std::size_t bytes = 1; bytes <= kMax; ++bytes) {
    std::size_t const taken = BlockPool::rounded(bytes);
    ASSERT_GE(taken, bytes);
    ASSERT_LT(taken - bytes, bytes <= 8'192 ? 16 : bytes / 63);
    ASSERT_EQ(taken % 16, 0U);
    ASSERT_EQ(BlockPool::rounded(taken), taken);
    ASSERT_GE(taken, before);
    before = taken;
  }
}

TEST(BlockPool, HasABlockOfEachSize) {
  BlockPool pool;
  std::vector<Filled> blocks;
  for (std::size_t bytes = 1; bytes <= kMax; bytes += bytes < 9'000 ? 1 : 37) {
    blocks.push_back(take_filled(pool, bytes, static_cast<unsigned char>(bytes)));
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(blocks.back().at) % 16, 0U);
  }
  for (Filled const& block : blocks) ASSERT_TRUE(block.is_whole()) << block.bytes;

  give_all(pool, blocks);
  EXPECT_EQ(pool.figures().used_bytes, 0U);
}

TEST(BlockPool, WhatGrowsLosesLittleBeyondItsRounding) {
  for (std::size_t const bytes : {40U, 100U, 700U, 1'060U, 1'500U, 3'000U, 4'096U}) {
    BlockPool pool;
    std::vector<Filled> blocks;
    while (pool.figures().used_bytes < 16 * kMiB) blocks.push_back(take_filled(pool, bytes, 1));

    EXPECT_LE(lost(pool), 0.01) << bytes;
    give_all(pool, blocks);
  }
}

TEST(BlockPool, GivesBackWhatIsEmptyButForAFewPages) {
  BlockPool pool;
  std::vector<Filled> blocks;
  for (int i = 0; i < 40'000; ++i) blocks.push_back(take_filled(pool, 1'000, 1));
  ASSERT_GT(pool.figures().held_bytes, 38 * kMiB);

  give_all(pool, blocks);

  EXPECT_LE(pool.figures().held_bytes, 3 * kMiB);
}

TEST(BlockPool, MemoryThatWasGivenBackServesAnySize) {
  BlockPool pool;
  std::vector<Filled> blocks;
  for (std::size_t const bytes : {1'000U, 3'333U, 100U, 20'000U}) {
    while (pool.figures().used_bytes < 20 * kMiB) blocks.push_back(take_filled(pool, bytes, 7));
    EXPECT_LE(pool.figures().held_bytes, 24 * kMiB) << bytes;
    for (Filled const& block : blocks) ASSERT_TRUE(block.is_whole());
    give_all(pool, blocks);
  }
}

TEST(BlockPool, APlaceThatIsFreeIsTakenAgain) {
  BlockPool pool;
  std::vector<Filled> blocks;
  for (int i = 0; i < 10'000; ++i) blocks.push_back(take_filled(pool, 1'000, 1));
  std::uint64_t const held = pool.figures().held_bytes;
  for (std::size_t i = 0; i < blocks.size(); i += 100) pool.give(blocks[i].at, blocks[i].bytes);

  for (std::size_t i = 0; i < blocks.size(); i += 100) blocks[i] = take_filled(pool, 1'000, 2);

  EXPECT_EQ(pool.figures().held_bytes, held);
  for (Filled const& block : blocks) ASSERT_TRUE(block.is_whole());
  give_all(pool, blocks);
}

TEST(BlockPool, ALargerPlaceServesWhereMuchIsFree) {
  BlockPool pool;
  std::vector<Filled> blocks;
  for (int i = 0; i < 20'000; ++i) blocks.push_back(take_filled(pool, 1'000, 1));
  std::vector<Filled> kept;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i % 4 != 0) {
      kept.push_back(blocks[i]);
    } else {
      pool.give(blocks[i].at, blocks[i].bytes);
    }
  }
  std::uint64_t const held = pool.figures().held_bytes;

  for (int i = 0; i < 4'000; ++i) kept.push_back(take_filled(pool, 920, 2));
  EXPECT_EQ(pool.figures().held_bytes, held);

  for (Filled const& block : kept) ASSERT_TRUE(block.is_whole());
  // None that would lose more than an eighth.
  for (int i = 0; i < 500; ++i) kept.push_back(take_filled(pool, 800, 3));
  EXPECT_GE(pool.figures().held_bytes, held + 390'000);
  give_all(pool, kept);
}

TEST(BlockPool, NobodyHasToMoveWhilePagesAreFull) {
  BlockPool pool;
  std::vector<Filled> blocks;
  for (int i = 0; i < 40'000; ++i) blocks.push_back(take_filled(pool, 1'000, 1));

  EXPECT_FALSE(pool.is_scattered());
  EXPECT_EQ(move_all(pool, blocks), 0U);
  give_all(pool, blocks);
}

TEST(BlockPool, WhoMovesAsItAsksLetsItGiveScatteredMemoryBack) {
  BlockPool pool;
  Rng rng{5};
  std::vector<Filled> blocks;
  for (int i = 0; i < 100'000; ++i) {
    blocks.push_back(take_filled(pool, 600 + rng.below(900), static_cast<unsigned char>(i)));
  }
  std::vector<Filled> kept;
  for (Filled const& block : blocks) {
    if (rng.below(100) < 40) {
      kept.push_back(block);
    } else {
      pool.give(block.at, block.bytes);
    }
  }
  ASSERT_GT(lost(pool), 1.0);
  ASSERT_TRUE(pool.is_scattered());

  for (int round = 0; round < 8 && pool.is_scattered(); ++round) move_all(pool, kept);

  EXPECT_LE(lost(pool), 0.25);
  for (Filled const& block : kept) ASSERT_TRUE(block.is_whole());
  give_all(pool, kept);
}

TEST(BlockPool, WhoMovesFillsHolesAndTakesNoNewMemory) {
  BlockPool pool;
  Rng rng{6};
  std::vector<Filled> blocks;
  for (int i = 0; i < 100'000; ++i) blocks.push_back(take_filled(pool, 1'000, static_cast<unsigned char>(i)));
  std::vector<Filled> kept;
  for (Filled const& block : blocks) {
    if (rng.below(100) < 75) {
      kept.push_back(block);
    } else {
      pool.give(block.at, block.bytes);
    }
  }
  // In no order, so that many pages are left half moved.
  for (std::size_t i = kept.size(); i > 1; --i) std::swap(kept[i - 1], kept[rng.below(i)]);
  std::uint64_t const held = pool.figures().held_bytes;

  for (int round = 0; round < 40 && pool.is_scattered(); ++round) {
    move_all(pool, kept);
    ASSERT_LE(pool.figures().held_bytes, held + kMiB / 2) << round;
  }

  EXPECT_FALSE(pool.is_scattered());
  give_all(pool, kept);
}

TEST(BlockPool, MovingComesToAnEnd) {
  BlockPool pool;
  std::vector<Filled> blocks;
  for (int i = 0; i < 100'000; ++i) blocks.push_back(take_filled(pool, 1'000, 1));
  std::vector<Filled> kept;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i % 512 == 0) {
      kept.push_back(blocks[i]);
    } else {
      pool.give(blocks[i].at, blocks[i].bytes);
    }
  }

  int rounds = 0;
  while (move_all(pool, kept) > 0) ASSERT_LT(++rounds, 1'000);

  EXPECT_LE(pool.figures().held_bytes, 5 * kMiB);
  give_all(pool, kept);
}

RC_GTEST_PROP(BlockPool, BlocksKeepTheirBytesAndAreCounted, ()) {
  BlockPool pool;
  std::vector<Filled> blocks;
  auto const steps = *rc::gen::container<std::vector<std::pair<std::uint16_t, std::uint16_t>>>(
      rc::gen::pair(rc::gen::arbitrary<std::uint16_t>(), rc::gen::arbitrary<std::uint16_t>()));
  // Few sizes in one run, so that places are used again, and any size over the runs.
  std::size_t const sizes = *rc::gen::inRange<std::size_t>(1, 20);
  std::size_t const first = *rc::gen::inRange<std::size_t>(1, kMax - 20 * 64);
  std::uint64_t used = 0;
  for (auto const& [what, which] : steps) {
    if (what % 3 != 0 || blocks.empty()) {
      blocks.push_back(take_filled(pool, first + what % sizes * 64, static_cast<unsigned char>(which)));
      used += BlockPool::rounded(blocks.back().bytes);
    } else {
      std::swap(blocks[which % blocks.size()], blocks.back());
      RC_ASSERT(blocks.back().is_whole());
      pool.give(blocks.back().at, blocks.back().bytes);
      used -= BlockPool::rounded(blocks.back().bytes);
      blocks.pop_back();
    }
    RC_ASSERT(pool.figures().used_bytes == used);
    RC_ASSERT(pool.figures().held_bytes >= used);
  }
  for (Filled const& block : blocks) RC_ASSERT(block.is_whole());
  give_all(pool, blocks);
}

// Each takes blocks and puts them into places that all share, giving back, looking at and moving what others took.
TEST(BlockPool, ThreadsGiveBackAndMoveWhatOthersTook) {
  constexpr std::size_t kPlaces = 4'096;
  struct Place {
    Mutex mutex;
    Filled block;
  };
  BlockPool pool;
  std::vector<Place> places(kPlaces);
  std::atomic<int> broken{0};
  std::atomic<std::size_t> moved{0};
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      Rng rng{thread};
      for (std::uint64_t i = 0; i < 20'000; ++i) {
        Place& place = places[rng.below(kPlaces)];
        // Ever larger, then few: so pages of older sizes empty slowly, and there is cause to move.
        bool const fills = i < 10'000;
        Lock const lock{place.mutex};
        if (place.block.at != nullptr) {
          if (!place.block.is_whole()) broken.fetch_add(1);
          if (pool.should_move(place.block.at)) {
            Filled const copy = take_filled(pool, place.block.bytes, place.block.number);
            pool.give(place.block.at, place.block.bytes);
            place.block = copy;
            moved.fetch_add(1);
            continue;
          }
          if (!fills && rng.below(4) != 0) continue;
          pool.give(place.block.at, place.block.bytes);
          place.block = {};
        }
        if (fills) place.block = take_filled(pool, 3'000 + i / 2'500 * 600, static_cast<unsigned char>(i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(broken.load(), 0);
  EXPECT_GT(moved.load(), 0U);
  for (Place& place : places) {
    Lock const lock{place.mutex};
    if (place.block.at != nullptr) pool.give(place.block.at, place.block.bytes);
  }
  EXPECT_EQ(pool.figures().used_bytes, 0U);
}

}  // namespace
}  // namespace workmill
