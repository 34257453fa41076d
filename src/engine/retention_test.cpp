#include "engine/retention.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <vector>

#include "base/rng.h"

namespace workmill::engine {
namespace {

RC_GTEST_PROP(Retention, ATimeToKeepIsRoundedUpByAnEighthAtMost, (std::uint32_t ms)) {
  Duration const keep{ms};
  Duration const rounded = rounded_keep(keep);

  RC_ASSERT(rounded >= keep);
  RC_ASSERT(rounded <= keep + keep / 8);
  RC_ASSERT(rounded_keep(rounded) == rounded);
}

// The model: all finished jobs in a vector.
RC_GTEST_PROP(Retention, JobsGoWhenTheirTimeIsUpAndTheOldestGoesFirst, (std::uint64_t seed)) {
  Rng rng{seed};
  JobSlots slots;
  QueueTable queues;
  Retention retention{slots, queues};
  QueueIndex const queue = queues.ensure("q");
  struct Kept {
    JobIndex job;
    Instant finished;
    bool is_dead;
    Duration keep;
  };
  std::vector<Kept> model;
  Instant now = instant_from_ms(1'000'000);
  auto const forget = [&](JobIndex job) {
    auto const kept = std::find_if(model.begin(), model.end(), [job](Kept const& k) { return k.job == job; });
    RC_ASSERT(kept != model.end());
    retention.remove(job, queue, kept->is_dead, kept->keep);
    slots.give(job);
    model.erase(kept);
  };
  for (int i = 0; i < 400; ++i) {
    switch (rng.below(4)) {
      case 0:
      case 1: {
        Kept const kept{slots.take(), now, rng.chance(200), Duration{rng.below(5) * 1'000}};
        slots[kept.job].due = now;
        retention.add(kept.job, queue, kept.is_dead, kept.keep);
        model.push_back(kept);
        break;
      }
      case 2: {
        JobIndex const oldest = retention.oldest_kept(queues[queue]);
        auto const first = std::find_if(model.begin(), model.end(), [](Kept const& k) { return !k.is_dead; });
        RC_ASSERT((oldest == kNone<JobIndex>) == (first == model.end()));
        if (oldest == kNone<JobIndex>) break;
        RC_ASSERT(slots[oldest].due == first->finished);
        forget(oldest);
        break;
      }
      default: {
        now += Duration{rng.below(1'500)};
        while (retention.next() && *retention.next() <= now) {
          retention.turn(now, static_cast<std::uint32_t>(1 + rng.below(3)));
          for (JobIndex job = retention.first_expired(now); job != kNone<JobIndex>;
               job = retention.first_expired(now)) {
            forget(job);
          }
        }
        for (Kept const& kept : model) RC_ASSERT(kept.finished + kept.keep > now);
      }
    }
  }
}

}  // namespace
}  // namespace workmill::engine
