#include "engine/number_index.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <vector>

namespace workmill::engine {
namespace {

RC_GTEST_PROP(NumberIndex, FindsAndWalksAsAMapDoes, (std::vector<std::uint8_t> draws)) {
  NumberIndex index;
  std::map<JobNumber, JobIndex> model;
  for (std::uint8_t const draw : draws) {
    JobNumber const number{std::uint64_t{draw / 2u} << 30};  // Across the border of the two halves.
    if (!model.contains(number)) {
      index.insert(number, JobIndex{draw});
      model.emplace(number, JobIndex{draw});
    } else {
      index.erase(number);
      model.erase(number);
    }
    JobNumber const before{std::uint64_t{draw} << 29};
    auto expected = model.lower_bound(before);
    index.walk_older(before, [&](JobNumber found, JobIndex job) {
      RC_ASSERT(expected != model.begin());
      --expected;
      RC_ASSERT(expected->first == found && expected->second == job);
      return true;
    });
    RC_ASSERT(expected == model.begin());
  }
  RC_ASSERT(index.size() == model.size());
  for (auto const& [number, job] : model) RC_ASSERT(index.find(number) == job);
  RC_ASSERT(index.find(JobNumber{3}) == kNone<JobIndex>);
}

}  // namespace
}  // namespace workmill::engine
