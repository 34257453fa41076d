#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "model/queue.h"

// How fast each queue moves: jobs a second over about the last ten, for people to look at. Not part of the state, gone
// with the process. On the shard's thread.
namespace workmill::shard {

class Rates {
 public:
  // Takes the counters as they stand at `now`. Call about once a second while there is traffic, and before reading.
  void sample(Instant now, std::vector<QueueView> const& queues);
  bool is_stale(Instant now) const { return now - sampled_at_ >= std::chrono::seconds{1}; }
  void fill(QueueView& queue) const;

 private:
  struct Rate {
    std::uint64_t seen = 0;
    double per_second = 0;
    void update(std::uint64_t total, double seconds, double weight);
  };
  struct Line {
    Rate enqueued, completed, failed;
    bool is_new = true;
    bool seen = false;
  };
  std::unordered_map<std::string, Line> by_queue_;
  Instant sampled_at_{};
};

}  // namespace workmill::shard
