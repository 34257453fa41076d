#include "engine/queue_table.h"

namespace workmill::engine {

QueueIndex QueueTable::ensure(std::string_view name) {
  if (last_ != kNone<QueueIndex> && queues_[last_].name == name) return last_;
  last_ = find(name);
  if (last_ != kNone<QueueIndex>) return last_;
  last_ = queues_.take();
  Queue& queue = queues_[last_];
  queue.name = name;
  by_name_.emplace(queue.name, last_);
  in_order_.emplace(queue.name, last_);
  return last_;
}

void QueueTable::remove(QueueIndex index) {
  Queue const& queue = queues_[index];
  WM_ASSERT(queue.jobs == 0 && queue.lines.empty());
  if (last_ == index) last_ = kNone<QueueIndex>;
  by_name_.erase(queue.name);
  in_order_.erase(queue.name);
  queues_.give(index);
}

}  // namespace workmill::engine
