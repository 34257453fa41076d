#include "shard/rates.h"

#include <gtest/gtest.h>

namespace workmill::shard {
namespace {

QueueView queue(std::string name, std::uint64_t enqueued) {
  QueueView view;
  view.name = std::move(name);
  view.counters.enqueued = enqueued;
  return view;
}

TEST(Rates, ApproachASteadyRateAndFallBackWhenItStops) {
  Rates rates;
  std::uint64_t total = 1'000'000;  // From before the first look: not a rate.
  auto now = instant_from_ms(1'000'000);
  for (int second = 0; second < 60; ++second, now += std::chrono::seconds{1}, total += 100) {
    rates.sample(now, {queue("a", total)});
  }
  QueueView view = queue("a", total);
  rates.fill(view);
  EXPECT_NEAR(view.enqueued_per_second, 100, 1);

  rates.sample(now + std::chrono::minutes{10}, {queue("a", total)});
  rates.fill(view);
  EXPECT_LT(view.enqueued_per_second, 1);
}

TEST(Rates, OfAQueueThatIsGoneAreForgotten) {
  Rates rates;
  rates.sample(instant_from_ms(1'000), {queue("a", 0)});
  rates.sample(instant_from_ms(2'000), {queue("a", 50)});
  rates.sample(instant_from_ms(3'000), {});

  QueueView view = queue("a", 50);
  rates.fill(view);
  EXPECT_EQ(view.enqueued_per_second, 0);
}

}  // namespace
}  // namespace workmill::shard
