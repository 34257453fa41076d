#include "shard/rates.h"

#include <cmath>

namespace workmill::shard {
namespace {
constexpr double kWindowSeconds = 10;  // Of the exponential moving average.
}

void Rates::Rate::update(std::uint64_t total, double seconds, double weight) {
  double const now = static_cast<double>(total - seen) / seconds;
  per_second += weight * (now - per_second);
  seen = total;
}

void Rates::sample(Instant now, std::vector<QueueView> const& queues) {
  double const seconds = std::chrono::duration<double>(now - sampled_at_).count();
  if (seconds <= 0) return;
  double const weight = 1 - std::exp(-seconds / kWindowSeconds);
  for (auto& [name, line] : by_queue_) line.seen = false;
  for (QueueView const& queue : queues) {
    Line& line = by_queue_[queue.name];
    line.seen = true;
    if (line.is_new) {  // What came before the first sample belongs to no second that we know of.
      line.enqueued.seen = queue.counters.enqueued;
      line.completed.seen = queue.counters.completed;
      line.failed.seen = queue.counters.failed;
      line.is_new = false;
      continue;
    }
    line.enqueued.update(queue.counters.enqueued, seconds, weight);
    line.completed.update(queue.counters.completed, seconds, weight);
    line.failed.update(queue.counters.failed, seconds, weight);
  }
  std::erase_if(by_queue_, [](auto const& entry) { return !entry.second.seen; });
  sampled_at_ = now;
}

void Rates::fill(QueueView& queue) const {
  auto const found = by_queue_.find(queue.name);
  if (found == by_queue_.end()) return;
  queue.enqueued_per_second = found->second.enqueued.per_second;
  queue.completed_per_second = found->second.completed.per_second;
  queue.failed_per_second = found->second.failed.per_second;
}

}  // namespace workmill::shard
