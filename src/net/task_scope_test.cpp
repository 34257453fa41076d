#include "net/task_scope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <vector>

#include "net/drain.h"
#include "net/io_loop.h"

namespace workmill::net {
namespace {

boost::asio::awaitable<void> count(int* runs) {
  ++*runs;
  co_return;
}

// Waits until it is cancelled, and says that it was.
boost::asio::awaitable<void> wait(IoLoop* loop, bool* was_cancelled) {
  boost::asio::steady_timer timer{loop->context(), std::chrono::hours{1}};
  auto const [error] = co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  *was_cancelled = error == boost::asio::error::operation_aborted;
}

// Its next step is in the queue as soon as it has begun.
boost::asio::awaitable<void> count_soon(IoLoop* loop, int* runs) {
  co_await boost::asio::post(loop->context(), boost::asio::use_awaitable);
  ++*runs;
}

// Goes on for as long as it hears of no cancellation, and looks for one only where it waits: as a timer does that has
// just run out, it may have something ready at the moment when it is cancelled.
boost::asio::awaitable<void> tick(IoLoop* loop, int* ticks) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  boost::asio::steady_timer timer{loop->context()};
  for (;;) {
    timer.expires_after(*ticks == 0 ? std::chrono::nanoseconds{0} : std::chrono::hours{1});
    auto const [error] = co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    if (error) co_return;
    ++*ticks;
  }
}

class TaskScopeTest : public testing::Test {
 protected:
  void settle() {
    while (loop.step()) {
    }
  }
  IoLoop loop;
};

TEST_F(TaskScopeTest, RunsWhatItIsGiven) {
  TaskScope scope{loop.context()};
  int runs = 0;
  EXPECT_TRUE(scope.spawn(count(&runs)));
  EXPECT_EQ(scope.size(), 1U);

  settle();

  EXPECT_EQ(runs, 1);
  EXPECT_EQ(scope.size(), 0U);
}

TEST_F(TaskScopeTest, RefusesOnceItIsClosing) {
  TaskScope scope{loop.context()};
  int runs = 0;
  scope.refuse();

  EXPECT_FALSE(scope.spawn(count(&runs)));

  settle();
  EXPECT_EQ(runs, 0);
}

TEST_F(TaskScopeTest, CancelsTheWaitsOfItsTasks) {
  TaskScope scope{loop.context()};
  bool was_cancelled = false;
  scope.spawn(wait(&loop, &was_cancelled));
  settle();

  scope.cancel();
  settle();

  EXPECT_TRUE(was_cancelled);
  EXPECT_EQ(scope.size(), 0U);
}

TEST_F(TaskScopeTest, MayCancelATaskThatHasNotBegun) {
  TaskScope scope{loop.context()};
  bool was_cancelled = false;
  scope.spawn(wait(&loop, &was_cancelled));

  scope.cancel();
  settle();

  EXPECT_EQ(scope.size(), 0U);
}

TEST_F(TaskScopeTest, OutlivesItsTasks) {
  bool was_cancelled = false;
  {
    TaskScope scope{loop.context()};
    scope.spawn(wait(&loop, &was_cancelled));
    settle();
  }
  EXPECT_TRUE(was_cancelled);
}

TEST_F(TaskScopeTest, SaysWhenItIsEmpty) {
  TaskScope scope{loop.context()};
  bool is_empty = false;
  bool was_cancelled = false;
  scope.spawn(wait(&loop, &was_cancelled));
  settle();
  scope.when_empty([&] { is_empty = true; });
  EXPECT_FALSE(is_empty);

  scope.cancel();
  settle();

  EXPECT_TRUE(is_empty);
}

TEST_F(TaskScopeTest, TellsNobodyWhileItGoes) {
  bool is_empty = false;
  bool was_cancelled = false;
  {
    TaskScope scope{loop.context()};
    scope.spawn(wait(&loop, &was_cancelled));
    settle();
    Drain drain{loop, scope};
    drain.begin(std::chrono::hours{1}, [&](Drained) { is_empty = true; });
  }

  EXPECT_TRUE(was_cancelled);
  EXPECT_FALSE(is_empty);
}

TEST_F(TaskScopeTest, ADrainEndsWithTheLastTask) {
  TaskScope scope{loop.context()};
  Drain drain{loop, scope};
  std::optional<Drained> how;
  int runs = 0;
  scope.spawn(count(&runs));

  drain.begin(std::chrono::hours{1}, [&](Drained it) { how = it; });
  EXPECT_FALSE(how);
  settle();

  EXPECT_EQ(how, Drained::in_time);
  EXPECT_EQ(runs, 1);
}

TEST_F(TaskScopeTest, ATaskThatIsAboutToEndMayEndWhileItsScopeGoes) {
  int runs = 0;
  {
    TaskScope scope{loop.context()};
    scope.spawn(count_soon(&loop, &runs));
    loop.context().poll_one();
  }

  EXPECT_EQ(runs, 1);
}

// Whoever serves thousands of connections takes so long to end them that timers run out meanwhile.
TEST_F(TaskScopeTest, CancelsAgainWhoeverHadSomethingReadyAtThatMoment) {
  constexpr int kTasks = 3'000;
  std::vector<int> ticks(kTasks, 0);
  {
    TaskScope scope{loop.context()};
    for (int& of_one : ticks) scope.spawn(tick(&loop, &of_one));
    for (int begun = 0; begun < kTasks; ++begun) loop.context().poll_one();
    ASSERT_EQ(scope.size(), std::size_t{kTasks});
    ASSERT_EQ(std::ranges::count(ticks, 0), kTasks);  // All their timers have run out, and none of them knows.
  }

  EXPECT_EQ(std::ranges::count(ticks, 1), kTasks);
}

TEST_F(TaskScopeTest, ADrainCancelsWhatTakesTooLong) {
  TaskScope scope{loop.context()};
  Drain drain{loop, scope};
  std::optional<Drained> how;
  bool was_cancelled = false;
  scope.spawn(wait(&loop, &was_cancelled));
  settle();

  drain.begin(Duration::zero(), [&](Drained it) { how = it; });
  while (!how) loop.context().run_one();

  EXPECT_EQ(how, Drained::cut_off);
  EXPECT_TRUE(was_cancelled);
}

}  // namespace
}  // namespace workmill::net
