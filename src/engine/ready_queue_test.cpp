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
  std::uint64_t ready_jobs = 0;

  JobIndex push(std::uint8_t priority, std::string_view group, std::string_view type = {}) {
    JobIndex const job = slots.take();
    slots[job].lane = ready.take_lane(queue, priority, group);
    slots[job].type = names.take(type);
    slots[job].state = JobState::ready;
    slots[job].order = ++order;
    ready.push(job);
    ++ready_jobs;
    return job;
  }
  void remove(JobIndex job) {
    ready.remove(job);
    ready.give_lane(slots[job].lane);
    names.give(slots[job].type);
    slots.give(job);
    --ready_jobs;
  }
  void close(std::vector<std::string> const& types) { ready.set_closed(types); }
  bool settle(std::uint32_t steps) {
    return ready.settle(steps, [](QueueIndex) {});
  }
  std::string check() const {
    return ready.check([this](QueueIndex) { return ready_jobs; });
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

TEST(ReadyQueue, JobsOfAClosedTypeAreNotOfferedAndBlockNobody) {
  Shop shop;
  shop.close({"mail"});
  JobIndex const mail = shop.push(5, "", "mail");
  EXPECT_EQ(shop.ready.first(shop.queues[shop.queue]), kNone<JobIndex>);
  EXPECT_FALSE(shop.queues[shop.queue].can_lease());

  JobIndex const other = shop.push(5, "", "other");

  EXPECT_EQ(shop.serve(), other);
  EXPECT_FALSE(shop.queues[shop.queue].can_lease());
  EXPECT_EQ(shop.ready.held_back(), 1U);
  shop.close({});
  EXPECT_EQ(shop.serve(), mail);
  EXPECT_EQ(shop.ready.held_back(), 0U);
}

TEST(ReadyQueue, OpenAgainJobsAreOfferedInTheOrderInWhichTheyCame) {
  Shop shop;
  std::vector<JobIndex> came;
  for (int i = 0; i < 3; ++i) {
    came.push_back(shop.push(5, "", "mail"));
    came.push_back(shop.push(5, "", "other"));
    came.push_back(shop.push(5, "", "export"));
  }
  shop.close({"mail", "export"});
  EXPECT_EQ(shop.serve(), came[1]);
  shop.close({"export"});
  EXPECT_EQ(shop.serve(), came[0]);
  shop.close({"mail"});
  EXPECT_EQ(shop.serve(), came[2]);
  shop.close({});

  for (std::size_t i = 3; i < came.size(); ++i) EXPECT_EQ(shop.serve(), came[i]);
  EXPECT_EQ(shop.names.size(), 0U);
}

TEST(ReadyQueue, AHigherPriorityWhoseJobsAreAllClosedHoldsUpNoLowerOne) {
  Shop shop;
  shop.close({"mail"});
  shop.push(9, "", "mail");
  JobIndex const low = shop.push(1, "g", "other");

  EXPECT_EQ(shop.serve(), low);
}

TEST(ReadyQueue, ManyThatStandAsideTakeTheirStepsAndThoseBehindThemThenCome) {
  Shop shop;
  for (int i = 0; i < 5'000; ++i) shop.push(5, "", "mail");
  JobIndex const behind = shop.push(5, "", "other");
  shop.close({"mail"});
  EXPECT_TRUE(shop.ready.is_unsettled());
  EXPECT_FALSE(shop.queues[shop.queue].can_lease());
  EXPECT_EQ(shop.check(), "");

  while (shop.settle(1'000)) EXPECT_FALSE(shop.queues[shop.queue].can_lease());

  EXPECT_EQ(shop.ready.held_back(), 5'000U);
  EXPECT_EQ(shop.serve(), behind);
  EXPECT_EQ(shop.check(), "");
}

TEST(ReadyQueue, JobsThatStandAsideCanBeTakenOutOfTheMidst) {
  Shop shop;
  shop.close({"mail"});
  JobIndex const first = shop.push(5, "", "mail");
  JobIndex const second = shop.push(5, "", "mail");
  JobIndex const third = shop.push(5, "", "mail");
  shop.remove(second);
  EXPECT_EQ(shop.check(), "");
  shop.remove(first);
  shop.close({});

  EXPECT_EQ(shop.serve(), third);
  EXPECT_EQ(shop.check(), "");
}

// Against lists that are looked through from the start each time.
RC_GTEST_PROP(ReadyQueueProperty, GatesKeepBackTheirTypesAndNothingElse, (std::uint64_t seed)) {
  Rng rng{seed};
  Shop shop;
  struct Waiting {
    JobIndex job;
    std::string type, group;
  };
  std::list<Waiting> waiting;
  std::vector<std::string> closed;
  std::vector<std::string> const types{"a", "b", "c"};
  std::vector<std::string> const groups{"", "g", "h"};
  auto const is_closed = [&](Waiting const& it) { return std::count(closed.begin(), closed.end(), it.type) > 0; };
  for (int step = 0; step < 300; ++step) {
    switch (rng.below(8)) {
      case 0:
        closed.clear();
        for (std::string const& type : types) {
          if (rng.chance(400)) closed.push_back(type);
        }
        shop.close(closed);
        break;
      case 1: {
        if (waiting.empty()) break;
        auto const victim = std::next(waiting.begin(), static_cast<std::ptrdiff_t>(rng.below(waiting.size())));
        shop.remove(victim->job);
        waiting.erase(victim);
        break;
      }
      case 2:
      case 3:
      case 4: {
        bool const any = !std::all_of(waiting.begin(), waiting.end(), is_closed);
        while (shop.settle(3)) {
        }
        RC_ASSERT(shop.queues[shop.queue].can_lease() == any);
        if (!any) break;
        JobIndex const served = shop.serve();
        auto const found =
            std::find_if(waiting.begin(), waiting.end(), [&](auto const& it) { return it.job == served; });
        RC_ASSERT(!is_closed(*found));
        for (auto before = waiting.begin(); before != found; ++before) {
          RC_ASSERT(before->group != found->group || is_closed(*before));
        }
        waiting.erase(found);
        break;
      }
      default: {
        std::string const& type = types[rng.below(types.size())];
        std::string const& group = groups[rng.below(groups.size())];
        waiting.push_back({.job = shop.push(5, group, type), .type = type, .group = group});
      }
    }
    RC_ASSERT(shop.check() == "");
  }
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
