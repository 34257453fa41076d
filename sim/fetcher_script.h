#pragma once
#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "shard/fetcher.h"
#include "sim/figures.h"

// The thread that waits for the disk, played by the simulator: what it is asked to read is there at some later step, in
// order. In between the shard goes on, those who wait hang up or have no more time, and the process may die. What it
// reads may be damaged, or gone with its segment: it is none the wiser.
namespace workmill::sim {

class FetcherScript {
 public:
  explicit FetcherScript(Figures& figures) : figures_(figures) {}

  // For the shard loop of one life. More than `waiting_max` at a time are refused.
  std::unique_ptr<shard::Fetcher> make(std::size_t waiting_max);
  void died();

  bool is_busy() const { return !waiting_.empty() || !done_.empty(); }  // Done, and no turn has taken it.
  bool is_waiting() const { return !waiting_.empty(); }
  void finish_one();  // Where is_waiting(): the oldest.

  // Of the newest turn: who was set aside, and for which keys the disk had read what they wait for.
  std::vector<shard::Cookie> take_set_aside() { return std::exchange(set_aside_, {}); }
  std::vector<std::string> take_fetched() { return std::exchange(fetched_, {}); }

 private:
  class Hand;
  struct Item {
    std::string name;
    shard::Fetcher::Fetch fetch;
  };

  Figures& figures_;
  std::size_t waiting_max_ = 0;
  std::deque<Item> waiting_;
  std::vector<std::string> done_;
  std::vector<std::string> fetched_;
  std::vector<shard::Cookie> set_aside_;
};

}  // namespace workmill::sim
