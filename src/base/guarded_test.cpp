#include "base/guarded.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace workmill {
namespace {

TEST(Guarded, ManyThreadsLoseNoUpdate) {
  constexpr int kThreads = 4;
  constexpr int kUpdates = 5'000;
  Guarded<int> sum;
  {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < kUpdates; ++j) sum.with([](int& value) { ++value; });
      });
    }
  }

  EXPECT_EQ(sum.with([](int const& value) { return value; }), kThreads * kUpdates);
}

TEST(Guarded, OwnsWhatCannotBeCopiedAndHandsItOutByMove) {
  Guarded<std::unique_ptr<int>> box{std::make_unique<int>(7)};

  auto const taken = box.with([](std::unique_ptr<int>& value) { return std::move(value); });

  EXPECT_EQ(*taken, 7);
  EXPECT_TRUE(box.with([](std::unique_ptr<int> const& value) { return value == nullptr; }));
}

TEST(Guarded, AConstOneLendsItsDataConst) {
  Guarded<std::vector<int>> const numbers{std::vector<int>{1, 2, 3}};

  auto const size = numbers.with([](auto& value) {
    static_assert(std::is_same_v<decltype(value), std::vector<int> const&>);
    return value.size();
  });

  EXPECT_EQ(size, 3u);
}

class Mailbox {
 public:
  void put(int value) {
    {
      Lock const lock{mutex_};
      value_ = value;
    }
    filled_.notify_one();
  }
  int take() {
    Lock const lock{mutex_};
    while (value_ == 0) filled_.wait_until(mutex_, std::chrono::steady_clock::now() + std::chrono::minutes{1});
    return std::exchange(value_, 0);
  }
  bool wait_in_vain() {
    Lock const lock{mutex_};
    return filled_.wait_until(mutex_, std::chrono::steady_clock::now());
  }

 private:
  Mutex mutex_;
  Condition filled_;
  int value_ WM_GUARDED_BY(mutex_) = 0;
};

TEST(Condition, AWaiterIsWokenByTheOneThatChangesTheState) {
  Mailbox mailbox;
  std::jthread const sender{[&] { mailbox.put(5); }};

  EXPECT_EQ(mailbox.take(), 5);
}

TEST(Condition, APassedDeadlineIsAnswered) {
  Mailbox mailbox;

  EXPECT_FALSE(mailbox.wait_in_vain());
}

}  // namespace
}  // namespace workmill
