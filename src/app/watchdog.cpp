#include "app/watchdog.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <utility>

namespace workmill::app {
namespace {

constexpr int kLooksEachPeriod = 4;

class LoopWatchdog final : public Watchdog {
 public:
  LoopWatchdog(ServiceManager const& manager, Duration every, net::IoLoop& home, std::vector<net::IoLoop*> others,
               Turns turns)
      : manager_(manager), every_(every), others_(std::move(others)), turns_(std::move(turns)), timer_(home.context()) {
    ask();
    wait();
  }

 private:
  void wait() {
    timer_.expires_after(every_);
    timer_.async_wait([this](boost::system::error_code cancelled) {
      if (cancelled) return;
      look();
      wait();
    });
  }

  void look() {
    bool const all_turn = answered_.load() == others_.size() && turns_() != turns_seen_;
    if (!all_turn) return;  // Nor are they asked again: a loop that hangs would be sent more and more.
    manager_.alive();
    ask();
  }

  void ask() {
    answered_.store(0);
    turns_seen_ = turns_();
    for (net::IoLoop* const loop : others_) {
      loop->post([this] { answered_.fetch_add(1); });
    }
  }

  ServiceManager const& manager_;
  Duration const every_;
  std::vector<net::IoLoop*> const others_;
  Turns turns_;
  std::uint64_t turns_seen_ = 0;
  std::atomic<std::size_t> answered_{0};
  boost::asio::steady_timer timer_;
};

}  // namespace

std::unique_ptr<Watchdog> Watchdog::start(ServiceManager const& manager, net::IoLoop& home,
                                          std::vector<net::IoLoop*> others, Turns turns) {
  auto const period = manager.watchdog();
  if (!period) return nullptr;
  Duration const every = std::max(*period / kLooksEachPeriod, Duration{1});
  return std::make_unique<LoopWatchdog>(manager, every, home, std::move(others), std::move(turns));
}

}  // namespace workmill::app
