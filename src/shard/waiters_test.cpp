#include "shard/waiters.h"

#include <gtest/gtest.h>

namespace workmill::shard {
namespace {

constexpr Instant at(int ms) { return instant_from_ms(ms); }

Waiter for_queues(Cookie cookie, std::vector<std::string> const& queues, Instant deadline) {
  LeaseWait wait;
  for (std::string const& queue : queues) wait.request.queues.push_back({.name = queue, .weight = 0});
  return {.port = 0, .cookie = cookie, .deadline = deadline, .what = std::move(wait)};
}

TEST(Waiters, WhoHasWaitedLongestIsFirst) {
  Waiters waiters;
  waiters.add(for_queues(1, {"a"}, at(100)));
  waiters.add(for_queues(2, {"a"}, at(50)));

  EXPECT_EQ(waiters.first_for_queue("a")->cookie, 1u);
}

TEST(Waiters, ALeaverLeavesAllLines) {
  Waiters waiters;
  waiters.add(for_queues(1, {"a", "b", "a"}, at(100)));
  waiters.add(for_queues(2, {"b"}, at(100)));

  ASSERT_TRUE(waiters.take(0, 1));

  EXPECT_EQ(waiters.first_for_queue("a"), nullptr);
  EXPECT_EQ(waiters.first_for_queue("b")->cookie, 2u);
  EXPECT_FALSE(waiters.take(0, 1));
  EXPECT_EQ(waiters.size(), 1u);
}

TEST(Waiters, FallDueByTheirDeadline) {
  Waiters waiters;
  waiters.add(for_queues(1, {"a"}, at(100)));
  waiters.add({.port = 0, .cookie = 2, .deadline = at(50), .what = JobWait{.job = JobNumber{9}}});

  EXPECT_EQ(waiters.next_deadline(), at(50));
  EXPECT_FALSE(waiters.first_overdue(at(49)));
  auto const overdue = waiters.first_overdue(at(50));
  ASSERT_TRUE(overdue);
  EXPECT_EQ(waiters.take(*overdue)->cookie, 2u);
  EXPECT_TRUE(waiters.ids_for_job(JobNumber{9}).empty());
  EXPECT_EQ(waiters.next_deadline(), at(100));
}

TEST(Waiters, ManyMayWaitForOneJob) {
  Waiters waiters;
  for (Cookie cookie = 1; cookie <= 3; ++cookie) {
    waiters.add({.port = 0, .cookie = cookie, .deadline = at(50), .what = JobWait{.job = JobNumber{9}}});
  }

  EXPECT_EQ(waiters.ids_for_job(JobNumber{9}).size(), 3u);
}

TEST(Waiters, WhoWaitsForAKeyIsFoundByItWhicheverJobComputesIt) {
  Waiters waiters;
  EXPECT_FALSE(waiters.has_flight_waits());
  waiters.add({.port = 0, .cookie = 1, .deadline = at(50), .what = FlightWait{.job = JobNumber{9}, .key = "k"}});
  waiters.add({.port = 0, .cookie = 2, .deadline = at(50), .what = FlightWait{.job = JobNumber{8}, .key = "k"}});
  waiters.add({.port = 0, .cookie = 3, .deadline = at(50), .what = FlightWait{.job = JobNumber{10}, .key = "l"}});
  waiters.add({.port = 0, .cookie = 4, .deadline = at(50), .what = FlightWait{.job = JobNumber{9}, .key = "k"}});
  waiters.add({.port = 0, .cookie = 5, .deadline = at(50), .what = JobWait{.job = JobNumber{9}}});

  auto const found = waiters.ids_for_key("k");

  ASSERT_EQ(found.size(), 3u);  // Without who waits for the job itself.
  EXPECT_EQ(waiters.take(found[0])->cookie, 1u);
  EXPECT_EQ(waiters.take(found[1])->cookie, 2u);
  EXPECT_EQ(waiters.ids_for_key("k").size(), 1u);
  EXPECT_EQ(waiters.take(found[2])->cookie, 4u);
  EXPECT_TRUE(waiters.ids_for_key("k").empty());
  waiters.take(0, 5);
  EXPECT_TRUE(waiters.has_flight_waits());
  waiters.take(0, 3);
  EXPECT_FALSE(waiters.has_flight_waits());
}

}  // namespace
}  // namespace workmill::shard
