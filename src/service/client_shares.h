#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "model/client.h"

// How much each client asked for and got, window by window, and what a fair share of it is.
//
// The fair share is max-min (Bertsekas and Gallager, Data Networks, 6.5.2): clients that ask for less than it get what
// they ask for, and what they leave is divided evenly among the others. One table an I/O thread, bounded: 256 sets of
// four places. Where a set is full of clients of this window, further ones share one place and are as one client.
namespace workmill::service {

class ClientShares {
 public:
  struct Use {
    ClientKey client{};
    std::uint32_t window = 0;    // In which the two were counted. An older one counts as nothing.
    std::uint32_t asked = 0;     // Requests in this window,
    std::uint32_t admitted = 0;  // and those of them that were let in.
  };

  ClientShares();

  // The place of a client in the present window. Valid until the next call.
  Use& of(ClientKey client) {
    Use& first = places_[std::to_underlying(client) & kSetMask];
    return first.client == client && first.window == window_ ? first : find(client);
  }
  std::uint32_t active() const { return active_; }  // Clients that have asked in this window.

  struct Shares {
    double even = 0;  // As if all asked for the same.
    double most = 0;  // The max-min share: so much a client may have when what others leave is divided, too.
  };
  // Ends the window: divides `capacity` requests among those that asked in it. Both are 0 where those were fewer than
  // two.
  Shares end_window(double capacity);

 private:
  static constexpr std::size_t kSets = 256;
  static constexpr std::size_t kWays = 4;
  static constexpr std::uint64_t kSetMask = (kSets - 1) * kWays;  // Of a key's bits: the first place of its set.

  Use& find(ClientKey client);

  std::vector<Use> places_;  // The sets, and behind them the place that is shared.
  std::vector<std::uint32_t> demands_;
  std::uint32_t window_ = 1;
  std::uint32_t active_ = 0;
};

}  // namespace workmill::service
