#include "engine/slab.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/rng.h"

namespace workmill::engine {
namespace {

enum class Index : std::uint32_t {};
using Texts = Slab<std::string, Index, 64>;

TEST(Slab, ARecordStaysWhereItIsWhileOthersCome) {
  Texts slab;
  Index const first = slab.take();
  std::string const* const where = &slab[first];
  for (int i = 0; i < 1'000; ++i) slab.take();

  EXPECT_EQ(&slab[first], where);
  EXPECT_EQ(slab.size(), 1'001U);
}

TEST(Slab, IndexesOfAFreshSlabAscend) {
  Texts slab;
  for (std::uint32_t i = 0; i < 200; ++i) EXPECT_EQ(slab.take(), Index{i});
}

TEST(Slab, EmptyChunksGiveTheirMemoryBack) {
  Texts slab;
  std::vector<Index> all;
  for (int i = 0; i < 64 * 100; ++i) all.push_back(slab.take());
  std::size_t const full = slab.memory_bytes();
  for (Index const index : all) slab.give(index);

  EXPECT_LT(slab.memory_bytes(), full / 10);
  EXPECT_EQ(slab.size(), 0U);
}

TEST(Slab, PlacesThatWereGivenBackAreUsedBeforeNewOnes) {
  Texts slab;
  std::vector<Index> all;
  for (int i = 0; i < 64 * 10; ++i) all.push_back(slab.take());
  std::size_t const full = slab.memory_bytes();
  for (std::size_t i = 0; i < all.size(); i += 2) slab.give(all[i]);
  for (std::size_t i = 0; i < all.size(); i += 2) slab.take();

  EXPECT_LE(slab.memory_bytes(), full + 2'000);
}

RC_GTEST_PROP(Slab, KeepsWhatIsPutIntoIt, (std::uint64_t seed)) {
  Rng rng{seed};
  Texts slab;
  std::map<Index, std::string> model;
  std::uint64_t const shrink = rng.below(1'000);
  for (int i = 0; i < 2'000; ++i) {
    bool const grows = (i / 500) % 2 == 0;
    if (model.empty() || rng.chance(grows ? 800 : static_cast<std::uint32_t>(shrink % 500))) {
      Index const index = slab.take();
      RC_ASSERT(slab[index].empty());
      slab[index] = std::to_string(rng.next());
      RC_ASSERT(model.emplace(index, slab[index]).second);
    } else {
      auto const chosen = model.lower_bound(Index{static_cast<std::uint32_t>(rng.below(2'000))});
      auto const victim = chosen == model.end() ? model.begin() : chosen;
      slab.give(victim->first);
      model.erase(victim);
    }
    RC_ASSERT(slab.size() == model.size());
  }
  for (auto const& [index, text] : model) RC_ASSERT(slab[index] == text);
}

}  // namespace
}  // namespace workmill::engine
