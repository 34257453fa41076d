#include "shard/fetcher.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "base/thread_name.h"

namespace workmill::shard {
namespace {
constexpr std::chrono::milliseconds kFetcherIdle{10'000};  // It wakes up so often for nothing: a bound on every wait.
}  // namespace

FetchThread::FetchThread(std::function<void()> wake) : wake_(std::move(wake)), thread_([this] { run(); }) {}

FetchThread::~FetchThread() {
  stopping_.store(true, std::memory_order_relaxed);
  waiting_.close();
  thread_.join();
}

bool FetchThread::begin(std::string name, Fetch fetch) {
  return waiting_.try_send(Item{.name = std::move(name), .fetch = std::move(fetch)}).has_value();
}

void FetchThread::take_done(std::vector<std::string>& out) {
  done_.with([&](std::vector<std::string>& done) {
    std::ranges::move(done, std::back_inserter(out));
    done.clear();
  });
}

void FetchThread::run() {
  name_this_thread("wm-fetch");
  std::vector<Item> items;
  while (!waiting_.finished()) {
    items.clear();
    waiting_.receive_batch(items, 1, kFetcherIdle);
    for (Item& item : items) {
      if (stopping_.load(std::memory_order_relaxed)) return;
      item.fetch();
      done_.with([&](std::vector<std::string>& done) { done.push_back(std::move(item.name)); });
      wake_();
    }
  }
}

}  // namespace workmill::shard
