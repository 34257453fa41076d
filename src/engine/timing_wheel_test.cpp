#include "engine/timing_wheel.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "base/rng.h"

namespace workmill::engine {
namespace {

constexpr Instant at(std::int64_t ms) { return instant_from_ms(ms); }

struct Clockwork {
  JobSlots slots;
  TimingWheel wheel{slots};

  JobIndex insert(Instant due) {
    JobIndex const job = slots.take();
    slots[job].due = due;
    wheel.insert(job);
    return job;
  }
  // Everything that is due, in the order in which it comes out.
  std::vector<JobIndex> take_due(Instant now, std::uint32_t steps_max = 1'000) {
    std::vector<JobIndex> due;
    while (wheel.next() && *wheel.next() <= now) {
      wheel.turn(now, steps_max);
      for (JobIndex job = wheel.first_due(); job != kNone<JobIndex>; job = wheel.first_due()) {
        wheel.remove(job);
        due.push_back(job);
      }
    }
    wheel.turn(now, steps_max);
    return due;
  }
};

TEST(TimingWheel, AJobIsDueAtItsMillisecondAndNotBefore) {
  for (std::int64_t const delay : std::initializer_list<std::int64_t>{1, 63, 64, 65, 4'095, 4'096, 31'536'000'000}) {
    Clockwork clock;
    clock.wheel.start(at(1'234'567));
    JobIndex const job = clock.insert(at(1'234'567 + delay));

    EXPECT_TRUE(clock.take_due(at(1'234'567 + delay - 1)).empty()) << delay;
    EXPECT_EQ(clock.take_due(at(1'234'567 + delay)), std::vector{job}) << delay;
  }
}

TEST(TimingWheel, WhatIsOverdueIsDueAtOnce) {
  Clockwork clock;
  clock.wheel.start(at(1'000));
  JobIndex const job = clock.insert(at(10));

  EXPECT_EQ(clock.wheel.first_due(), job);
  EXPECT_LE(*clock.wheel.next(), at(1'000));
}

TEST(TimingWheel, TheLastInstantThereIsFits) {
  Clockwork clock;
  clock.wheel.start(at(0));
  JobIndex const job = clock.insert(kInstantMax);

  EXPECT_TRUE(clock.take_due(kInstantMax - Duration{1}).empty());
  EXPECT_EQ(clock.take_due(kInstantMax), std::vector{job});
}

TEST(TimingWheel, AJumpOverAThousandYearsTakesAFewTurns) {
  Clockwork clock;
  clock.wheel.start(at(0));
  JobIndex const job = clock.insert(at(std::int64_t{1'000} * 365 * 86'400 * 1'000));
  int turns = 0;
  while (clock.wheel.first_due() == kNone<JobIndex>) {
    clock.wheel.turn(kInstantMax, 1);
    ++turns;
  }

  EXPECT_EQ(clock.wheel.first_due(), job);
  EXPECT_LT(turns, 20);
}

TEST(TimingWheel, ManyJobsOfOneTimeAreMovedInSteps) {
  Clockwork clock;
  clock.wheel.start(at(0));
  for (int i = 0; i < 100; ++i) clock.insert(at(5'000 + i));

  clock.wheel.turn(at(10'000), 10);

  EXPECT_LE(*clock.wheel.next(), at(10'000));
  EXPECT_EQ(clock.take_due(at(10'000), 10).size(), 100U);
}

TEST(TimingWheel, AnEmptyWheelHasNothingNext) {
  Clockwork clock;
  clock.wheel.start(at(5));
  JobIndex const job = clock.insert(at(100'000));
  EXPECT_TRUE(clock.wheel.next());
  clock.wheel.remove(job);

  EXPECT_FALSE(clock.wheel.next());
  clock.wheel.turn(at(1'000'000), 10);
  EXPECT_FALSE(clock.wheel.next());
}

// The model is a sorted map, walked from the front. Times are drawn on all scales, clocks jump, and jobs are removed
// in the middle of everything, turns of few steps included.
RC_GTEST_PROP(TimingWheel, GivesWhatASortedMapGives, (std::uint64_t seed)) {
  Rng rng{seed};
  Clockwork clock;
  Instant now = at(static_cast<std::int64_t>(rng.below(2'000'000'000'000)));
  clock.wheel.start(now);
  std::multimap<Instant, JobIndex> model;
  std::map<JobIndex, Instant> due;
  auto const draw = [&rng] { return Duration{rng.below(std::uint64_t{1} << rng.below(38))}; };
  for (int i = 0; i < 300; ++i) {
    switch (rng.below(5)) {
      case 0:
      case 1:
      case 2: {
        Instant const when = now + draw();
        JobIndex const job = clock.insert(when);
        model.emplace(when, job);
        due.emplace(job, when);
        break;
      }
      case 3: {
        if (due.empty()) break;
        auto const chosen = std::next(due.begin(), static_cast<std::ptrdiff_t>(rng.below(due.size())));
        auto const range = model.equal_range(chosen->second);
        for (auto entry = range.first; entry != range.second; ++entry) {
          if (entry->second != chosen->first) continue;
          model.erase(entry);
          break;
        }
        clock.wheel.remove(chosen->first);
        clock.slots.give(chosen->first);
        due.erase(chosen);
        break;
      }
      default: {
        now += draw();
        auto const steps = static_cast<std::uint32_t>(1 + rng.below(20));
        if (rng.chance(300)) {
          clock.wheel.turn(now, steps);  // And leave it in the middle of things.
          break;
        }
        Instant last{};
        for (JobIndex const job : clock.take_due(now, steps)) {
          RC_ASSERT(due.at(job) <= now);
          last = due.at(job);
          auto const range = model.equal_range(last);
          for (auto entry = range.first; entry != range.second; ++entry) {
            if (entry->second != job) continue;
            model.erase(entry);
            break;
          }
          due.erase(job);
          clock.slots.give(job);
        }
        RC_ASSERT(model.empty() || model.begin()->first > now);
      }
    }
    RC_ASSERT(due.size() == model.size());
    auto const next = clock.wheel.next();
    RC_ASSERT(next.has_value() == !model.empty());
    if (next) RC_ASSERT(*next <= std::max(model.begin()->first, now));
    std::size_t walked = 0;
    clock.wheel.walk([&](JobIndex job) { walked += due.count(job); });
    RC_ASSERT(walked == model.size());
  }
}

// Within one level of the wheel's finest lists the order is that of time: what falls due in order comes out in order.
RC_GTEST_PROP(TimingWheel, ATurnAMillisecondGivesTheExactOrder, (std::vector<std::uint16_t> delays)) {
  Clockwork clock;
  clock.wheel.start(at(77));
  std::multiset<Instant> model;
  for (std::uint16_t const delay : delays) {
    clock.insert(at(77 + delay % 5'000));
    model.insert(at(77 + delay % 5'000));
  }
  for (std::int64_t ms = 77; ms <= 77 + 5'000; ++ms) {
    for (JobIndex const job : clock.take_due(at(ms))) {
      RC_ASSERT(clock.slots[job].due == at(ms));
      model.erase(model.begin());
    }
  }
  RC_ASSERT(model.empty());
}

}  // namespace
}  // namespace workmill::engine
