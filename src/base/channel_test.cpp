#include "base/channel.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

#include "base/rng.h"

namespace workmill {
namespace {

using namespace std::chrono_literals;

constexpr auto kLong = 1min;  // Longer than any test: what waits so long has failed.

std::vector<int> receive_all(Channel<int>& channel) {
  std::vector<int> out;
  channel.receive_batch(out, 1'000);
  return out;
}

TEST(Channel, GivesValuesInTheOrderSent) {
  Channel<int> channel{10};
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(channel.try_send(int{i}));

  EXPECT_EQ(receive_all(channel), (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_EQ(receive_all(channel), (std::vector<int>{}));
}

TEST(Channel, AFullOneRefusesWithARetryableErrorAndLeavesTheValueAlone) {
  Channel<std::unique_ptr<int>> channel{1};
  ASSERT_TRUE(channel.try_send(std::make_unique<int>(1)));

  auto value = std::make_unique<int>(2);
  auto const refused = channel.try_send(std::move(value));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::overloaded);
  EXPECT_EQ(class_of(refused.error().code), ErrorClass::retryable);
  EXPECT_EQ(value ? *value : 0, 2);  // NOLINT(bugprone-use-after-move): a refused value is not moved from.
}

TEST(Channel, AClosedOneRefusesSendersButHandsOutWhatItHas) {
  Channel<int> channel{10};
  ASSERT_TRUE(channel.try_send(1));
  channel.close();

  auto const refused = channel.try_send(2);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::shutting_down);
  EXPECT_FALSE(channel.finished());
  EXPECT_EQ(receive_all(channel), (std::vector<int>{1}));
  EXPECT_TRUE(channel.finished());
}

TEST(Channel, ABatchIsNoLargerThanAskedForAndIsAppended) {
  Channel<int> channel{10};
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(channel.try_send(int{i}));
  std::vector<int> out{-1};

  EXPECT_EQ(channel.receive_batch(out, 2), 2u);
  EXPECT_EQ(channel.size(), 3u);
  EXPECT_EQ(channel.receive_batch(out, 2), 2u);
  EXPECT_EQ(channel.receive_batch(out, 2), 1u);

  EXPECT_EQ(out, (std::vector<int>{-1, 0, 1, 2, 3, 4}));
  EXPECT_EQ(channel.size(), 0u);
}

TEST(Channel, OnReadyIsCalledOnceForEachEmptinessThatTheReceiverSaw) {
  Channel<int> channel{10};
  std::atomic<int> calls{0};
  channel.set_on_ready([&calls] { ++calls; });

  ASSERT_TRUE(channel.try_send(1));
  ASSERT_TRUE(channel.try_send(2));
  EXPECT_EQ(calls, 1);

  std::vector<int> out;
  channel.receive_batch(out, 2);  // Exactly what was asked for: the receiver looks again before it sleeps.
  ASSERT_TRUE(channel.try_send(3));
  EXPECT_EQ(calls, 1);

  channel.receive_batch(out, 2);  // Less than what was asked for: now it sleeps.
  ASSERT_TRUE(channel.try_send(4));
  EXPECT_EQ(calls, 2);
}

TEST(Channel, ClosingWakesTheReceiver) {
  Channel<int> channel{10};
  std::atomic<int> calls{0};
  channel.set_on_ready([&calls] { ++calls; });

  channel.close();

  EXPECT_EQ(calls, 1);
  std::vector<int> out;
  EXPECT_EQ(channel.receive_batch(out, 1, kLong), 0u);
}

TEST(Channel, AReceiverThatWaitsGetsWhatComesLater) {
  Channel<int> channel{10};
  std::jthread const sender{[&] { EXPECT_TRUE(channel.try_send(7)); }};
  std::vector<int> out;

  EXPECT_EQ(channel.receive_batch(out, 10, kLong), 1u);

  EXPECT_EQ(out, (std::vector<int>{7}));
}

TEST(Channel, AReceiverThatWaitsInVainComesBackWithNothing) {
  Channel<int> channel{10};
  std::vector<int> out;

  EXPECT_EQ(channel.receive_batch(out, 10, 0ms), 0u);
}

TEST(Channel, ASenderThatWaitsGetsTheRoomMadeLater) {
  Channel<int> channel{1};
  ASSERT_TRUE(channel.try_send(1));
  std::jthread const sender{[&] { EXPECT_TRUE(channel.send(2, kLong)); }};
  std::vector<int> out;

  while (out.size() < 2) channel.receive_batch(out, 10, kLong);

  EXPECT_EQ(out, (std::vector<int>{1, 2}));
}

TEST(Channel, ASenderThatWaitsInVainIsRefusedAndClosingEndsTheWait) {
  Channel<int> channel{1};
  ASSERT_TRUE(channel.try_send(1));
  EXPECT_EQ(channel.send(2, 0ms).error().code, ErrorCode::overloaded);

  std::jthread const sender{[&] { EXPECT_EQ(channel.send(2, kLong).error().code, ErrorCode::shutting_down); }};
  channel.close();
}

// The model: a deque with a limit, and whether the receiver has seen it empty.
RC_GTEST_PROP(Channel, BehavesLikeABoundedDeque, ()) {
  auto const capacity = *rc::gen::inRange<std::size_t>(1, 8);
  Channel<int> channel{capacity};
  std::atomic<int> calls{0};
  channel.set_on_ready([&calls] { ++calls; });
  std::deque<int> model;
  bool seen_empty = true;
  bool closed = false;
  int expected_calls = 0;
  int next = 0;

  auto const steps = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 100));
  for (int const step : steps) {
    if (step < 60) {
      bool const taken = channel.try_send(int{next}).has_value();
      RC_ASSERT(taken == (!closed && model.size() < capacity));
      if (taken) {
        model.push_back(next);
        if (std::exchange(seen_empty, false)) ++expected_calls;
      }
      ++next;
    } else if (step < 98) {
      auto const max = static_cast<std::size_t>(step % 6);
      std::vector<int> out;
      std::size_t const count = channel.receive_batch(out, max);
      RC_ASSERT(count == std::min(max, model.size()));
      RC_ASSERT(std::equal(out.begin(), out.end(), model.begin()));
      model.erase(model.begin(), model.begin() + static_cast<std::ptrdiff_t>(count));
      if (count < max) seen_empty = true;
    } else {
      channel.close();
      closed = true;
      ++expected_calls;
    }
    RC_ASSERT(channel.size() == model.size());
    RC_ASSERT(channel.finished() == (closed && model.empty()));
    RC_ASSERT(calls == expected_calls);
  }
}

struct Message {
  int sender;
  int number;
};

// Senders run as fast as they can against a small channel; the receiver sleeps on a semaphore as an event loop would,
// and so hangs for good if a single wake-up is lost.
TEST(Channel, ManySendersLoseNothingKeepTheirOrderAndWakeASleepingReceiver) {
  constexpr int kSenders = 4;
  constexpr int kMessages = 5'000;
  Channel<Message> channel{64};
  std::counting_semaphore<> ready{0};
  channel.set_on_ready([&ready] { ready.release(); });
  std::vector<std::jthread> senders;
  senders.reserve(kSenders);
  for (int sender = 0; sender < kSenders; ++sender) {
    senders.emplace_back([&channel, sender] {
      for (int number = 0; number < kMessages; ++number) {
        bool const patient = number % 2 == 0;
        Message const message{sender, number};
        while (!(patient ? channel.send(Message{message}, kLong) : channel.try_send(Message{message}))) {
          std::this_thread::yield();
        }
      }
    });
  }

  std::vector<int> next(kSenders, 0);
  int received = 0;
  Rng rng{1};
  std::vector<Message> batch;
  while (received < kSenders * kMessages) {
    auto const max = std::size_t{1 + rng.below(40)};
    batch.clear();
    std::size_t const count = channel.receive_batch(batch, max);
    for (Message const& message : batch) {
      ASSERT_EQ(message.number, next[static_cast<std::size_t>(message.sender)]++);
    }
    received += static_cast<int>(count);
    if (count < max && received < kSenders * kMessages) ready.acquire();
  }

  senders.clear();
  EXPECT_EQ(channel.size(), 0u);
}

TEST(Channel, SendersThatWaitAndAReceiverThatWaitsNeverMissEachOther) {
  constexpr int kMessages = 20'000;
  Channel<int> channel{1};
  std::jthread const sender{[&] {
    for (int i = 0; i < kMessages; ++i) ASSERT_TRUE(channel.send(int{i}, kLong));
    channel.close();
  }};

  std::vector<int> out;
  while (!channel.finished()) channel.receive_batch(out, 10, kLong);

  ASSERT_EQ(out.size(), std::size_t{kMessages});
  for (int i = 0; i < kMessages; ++i) ASSERT_EQ(out[static_cast<std::size_t>(i)], i);
}

}  // namespace
}  // namespace workmill
