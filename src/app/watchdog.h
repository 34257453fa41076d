#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "app/service_manager.h"
#include "base/time.h"
#include "net/io_loop.h"

// Tells the service manager's watchdog that the server lives: only when, since the last time, every I/O loop has run
// what was posted to it and the shard has turned. A server in which one thread hangs is ended and started again by its
// manager, although the others still move.
namespace workmill::app {

class Watchdog {
 public:
  // How often the shard has turned; called on the home loop's thread.
  using Turns = std::function<std::uint64_t()>;

  // Looks around four times in the watchdog's time. Made and destroyed where `home` does not run, or on its thread;
  // what is lent outlives it, and `others` (without `home`, whose own timer proves that it turns) have stopped when it
  // ends. Null where the manager has no watchdog.
  static std::unique_ptr<Watchdog> start(ServiceManager const& manager, net::IoLoop& home,
                                         std::vector<net::IoLoop*> others, Turns turns);
  virtual ~Watchdog() = default;
};

}  // namespace workmill::app
