#include "service/client_shares.h"

#include <algorithm>
#include <utility>

namespace workmill::service {

ClientShares::ClientShares() : places_(kSets * kWays + 1) { demands_.reserve(places_.size()); }

ClientShares::Use& ClientShares::find(ClientKey client) {
  std::size_t const set = std::to_underlying(client) & kSetMask;
  Use* place = nullptr;
  for (std::size_t way = 0; way < kWays; ++way) {
    Use& use = places_[set + way];
    if (use.window == window_ && use.client == client) {
      std::swap(use, places_[set]);  // To the front, where it is found at once.
      return places_[set];
    }
    if (use.window != window_ && place == nullptr) place = &use;
  }
  if (place == nullptr) place = &places_.back();
  if (place->window != window_) {
    *place = {.client = client, .window = window_, .asked = 0, .admitted = 0};
    active_ += 1;
  }
  return *place;
}

ClientShares::Shares ClientShares::end_window(double capacity) {
  Shares shares;
  if (active_ > 1) {
    demands_.clear();
    for (Use const& use : places_) {
      if (use.window == window_) demands_.push_back(use.asked);
    }
    std::ranges::sort(demands_);
    double left = capacity;
    std::size_t clients = demands_.size();
    shares.even = left / static_cast<double>(clients);
    for (std::uint32_t const demand : demands_) {
      shares.most = left / static_cast<double>(clients);
      if (demand >= shares.most) break;
      left -= demand;
      clients -= 1;
    }
  }
  window_ += 1;
  if (window_ == 0) window_ = 1;  // 0 is for places that were never used.
  active_ = 0;
  return shares;
}

}  // namespace workmill::service
