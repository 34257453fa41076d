#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/guarded.h"
#include "flags/flag_set.h"

// Where the shard puts the flags that are durable, and where other threads look them up.
namespace workmill::shard {

// The shard's thread publishes; any thread may read.
class FlagBoard {
 public:
  void publish(flags::FlagSetPtr set) {
    set_.with([&](flags::FlagSetPtr& held) { held.swap(set); });
    generation_.fetch_add(1, std::memory_order_release);
  }
  flags::FlagSetPtr read() const {
    return set_.with([](flags::FlagSetPtr const& held) { return held; });
  }
  // Another one after each publish(): what was read before may not be the newest any more.
  std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

 private:
  Guarded<flags::FlagSetPtr> set_{std::make_shared<flags::FlagSet const>()};
  std::atomic<std::uint64_t> generation_{0};
};

// One thread's view of a board: it takes the lock only where something has changed.
class FlagReader {
 public:
  // Lent until the next call.
  flags::FlagSet const& newest(FlagBoard const& board) {
    std::uint64_t const now = board.generation();
    if (set_ == nullptr || now != generation_) {
      set_ = board.read();
      generation_ = now;
    }
    return *set_;
  }

 private:
  flags::FlagSetPtr set_;
  std::uint64_t generation_ = 0;
};

}  // namespace workmill::shard
