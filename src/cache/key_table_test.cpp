#include "cache/key_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <string>

#include "base/rng.h"

namespace workmill::cache {
namespace {

constexpr std::uint64_t kSeed = 5;

// Up to some thousand keys, so that it grows over many parts, and down to none.
TEST(KeyTable, FindsAllThatAreInIt) {
  EntryStore entries;
  KeyTable table{entries, kSeed};
  std::map<std::string, EntryIndex> model;
  Rng rng{1};
  for (int round = 0; round < 4; ++round) {
    std::size_t const wanted = round % 2 == 0 ? 3'000 : round == 1 ? 200 : 0;
    while (model.size() != wanted) {
      if (model.size() < wanted) {
        std::string const key = std::to_string(rng.next());
        EntryIndex const index = entries.take();
        entries[index].block = CacheValue::make(key, {}, {});
        table.insert(hash_of(key, kSeed), index);
        model.emplace(key, index);
      } else {
        auto const some = model.lower_bound(std::to_string(rng.next()));
        auto const gone = some != model.end() ? some : model.begin();
        table.erase(hash_of(gone->first, kSeed), gone->second);
        entries.give(gone->second);
        ASSERT_EQ(table.find(hash_of(gone->first, kSeed), gone->first), kNoEntry);
        model.erase(gone);
      }
      ASSERT_EQ(table.size(), model.size());
    }
    for (auto const& [key, index] : model) ASSERT_EQ(table.find(hash_of(key, kSeed), key), index);
  }
}

TEST(KeyTable, DoesNotTakeOneKeyForAnother) {
  EntryStore entries;
  KeyTable table{entries, kSeed};
  EntryIndex const index = entries.take();
  entries[index].block = CacheValue::make("a", {}, {});
  table.insert(hash_of("a", kSeed), index);

  EXPECT_EQ(table.find(hash_of("b", kSeed), "b"), kNoEntry);
  // As if their hashes were the same.
  EXPECT_EQ(table.find(hash_of("a", kSeed), "b"), kNoEntry);
}

}  // namespace
}  // namespace workmill::cache
