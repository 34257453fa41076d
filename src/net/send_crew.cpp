#include "net/send_crew.h"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "base/thread_name.h"

namespace workmill::net {
namespace {
// They wake up by themselves this often, for nothing: a bound on every wait.
constexpr std::chrono::seconds kIdleWait{10};
}  // namespace

SendCrew::~SendCrew() {
  {
    Lock const lock{mutex_};
    stopping_ = true;
  }
  asked_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

// Where the system has no thread for us it goes without: next time, again.
void SendCrew::start() {
  try {
    while (threads_.size() < helpers_) threads_.emplace_back([this] { run(); });
  } catch (std::system_error const&) {
  }
}

void SendCrew::send_ahead(std::span<Connection* const> connections) {
  bool const alone = helpers_ == 0 || connections.size() <= kShare || is_taken_.exchange(true);
  if (alone) {
    for (Connection* const connection : connections) connection->send_ahead();
    return;
  }
  start();
  next_.store(0, std::memory_order_relaxed);
  {
    Lock const lock{mutex_};
    connections_ = connections;
    round_ += 1;
  }
  asked_.notify_all();
  take_shares(connections);
  {
    Lock const lock{mutex_};
    connections_ = {};  // Who wakes up only now finds nothing.
    while (busy_ > 0) left_.wait_for(mutex_, kIdleWait);
  }
  is_taken_.store(false);
}

void SendCrew::take_shares(std::span<Connection* const> connections) {
  while (true) {
    std::size_t const first = next_.fetch_add(kShare, std::memory_order_relaxed);
    if (first >= connections.size()) return;
    for (Connection* const connection : connections.subspan(first, std::min(kShare, connections.size() - first))) {
      connection->send_ahead();
    }
  }
}

void SendCrew::run() {
  name_this_thread("wm-send");
  std::uint64_t seen = 0;
  while (true) {
    std::span<Connection* const> connections;
    {
      Lock const lock{mutex_};
      while (!stopping_ && (connections_.empty() || round_ == seen)) asked_.wait_for(mutex_, kIdleWait);
      if (stopping_) return;
      seen = round_;
      connections = connections_;
      busy_ += 1;
    }
    take_shares(connections);
    bool is_last = false;
    {
      Lock const lock{mutex_};
      is_last = --busy_ == 0;
    }
    if (is_last) left_.notify_all();
  }
}

}  // namespace workmill::net
