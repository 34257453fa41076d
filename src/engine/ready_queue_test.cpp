#include "engine/ready_queue.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"

namespace workmill::engine {
namespace {

struct Shop {
  JobSlots slots;
  QueueTable queues;
  NameTable names;
  ReadyQueue ready{slots, queues, names};
  QueueIndex queue = queues.ensure("q");
  std::uint64_t order = 0;

  JobIndex push(std::uint8_t priority, std::string_view group) {
    JobIndex const job = slots.take();
    slots[job].lane = ready.take_lane(queue, priority, group);
    slots[job].order = ++order;
    ready.push(job);
    return job;
  }
  void remove(JobIndex job) {
    ready.remove(job);
    ready.give_lane(slots[job].lane);
    slots.give(job);
  }
  JobIndex serve() {
    JobIndex const job = ready.first(queues[queue]);
    ready.pass_turn(slots[job].lane);
    remove(job);
    return job;
  }
};

TEST(ReadyQueue, AGroupThatComesLateHasItsTurnAfterTheOthers) {
  Shop shop;
  JobIndex const a1 = shop.push(5, "a");
  JobIndex const a2 = shop.push(5, "a");
  EXPECT_EQ(shop.serve(), a1);
  JobIndex const b1 = shop.push(5, "b");

  EXPECT_EQ(shop.serve(), a2);
  EXPECT_EQ(shop.serve(), b1);
}

TEST(ReadyQueue, LanesAndNamesGoWithTheirLastJob) {
  Shop shop;
  JobIndex const one = shop.push(5, "a");
  JobIndex const two = shop.push(3, "a");
  EXPECT_EQ(shop.names.size(), 1U);
  EXPECT_EQ(shop.ready.size(), 2U);
  shop.remove(one);
  shop.remove(two);

  EXPECT_EQ(shop.names.size(), 0U);
  EXPECT_EQ(shop.ready.size(), 0U);
}

TEST(ReadyQueue, AfterReplayTheLinesAreInOrder) {
  Shop shop;
  std::vector<JobIndex> jobs;
  for (std::uint64_t const order : {3U, 1U, 2U}) {
    JobIndex const job = shop.slots.take();
    shop.slots[job].lane = shop.ready.take_lane(shop.queue, 5, "");
    shop.slots[job].order = order;
    shop.ready.push_unsorted(job);
    jobs.push_back(job);
  }
  shop.ready.finish_replay();

  EXPECT_EQ(shop.serve(), jobs[1]);
  EXPECT_EQ(shop.serve(), jobs[2]);
  EXPECT_EQ(shop.serve(), jobs[0]);
}

// The model: for each priority a list of groups, the next to be served in front, each with a list of its jobs.
RC_GTEST_PROP(ReadyQueue, ServesAsListsOfListsDo, (std::uint64_t seed)) {
  Rng rng{seed};
  Shop shop;
  struct Group {
    std::string name;
    std::list<JobIndex> jobs;
  };
  std::map<std::uint8_t, std::list<Group>, std::greater<>> model;
  std::size_t size = 0;
  for (int i = 0; i < 500; ++i) {
    auto const action = rng.below(10);
    if (action < 5) {
      auto const priority = static_cast<std::uint8_t>(rng.below(3) * 4);
      std::string const name = rng.chance(300) ? "" : std::string(1, static_cast<char>('a' + rng.below(4)));
      JobIndex const job = shop.push(priority, name);
      auto& ring = model[priority];
      auto group = std::find_if(ring.begin(), ring.end(), [&](Group const& g) { return g.name == name; });
      if (group == ring.end()) group = ring.insert(ring.end(), Group{.name = name, .jobs = {}});
      group->jobs.push_back(job);
      ++size;
    } else if (action < 8) {
      auto const ring = std::find_if(model.begin(), model.end(), [](auto const& r) { return !r.second.empty(); });
      if (ring == model.end()) {
        RC_ASSERT(shop.ready.first(shop.queues[shop.queue]) == kNone<JobIndex>);
        continue;
      }
      auto& groups = ring->second;
      RC_ASSERT(shop.serve() == groups.front().jobs.front());
      groups.front().jobs.pop_front();
      if (!groups.front().jobs.empty()) groups.push_back(std::move(groups.front()));
      groups.pop_front();
      --size;
    } else if (size > 0) {
      // Cancel any one.
      std::size_t left = rng.below(size);
      for (auto& [priority, groups] : model) {
        for (auto group = groups.begin(); group != groups.end(); ++group) {
          if (left >= group->jobs.size()) {
            left -= group->jobs.size();
            continue;
          }
          auto const job = std::next(group->jobs.begin(), static_cast<std::ptrdiff_t>(left));
          shop.remove(*job);
          group->jobs.erase(job);
          if (group->jobs.empty()) groups.erase(group);
          --size;
          goto cancelled;
        }
      }
    cancelled:;
    }
    std::uint32_t filled = 0;
    for (auto const& [priority, groups] : model) filled |= groups.empty() ? 0U : 1U << priority;
    RC_ASSERT(shop.queues[shop.queue].filled == filled);
  }
}

}  // namespace
}  // namespace workmill::engine
