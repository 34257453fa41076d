#include "app/worker/outbox.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace workmill::app {

std::vector<OutboxItem> Outbox::take_batch() {
  std::vector<OutboxItem> batch;
  std::size_t bytes = 0;
  while (!items_.empty() && batch.size() < items_max_) {
    bytes += items_.front().report.size();
    if (!batch.empty() && bytes > kBatchBytes) break;
    batch.push_back(std::move(items_.front()));
    items_.pop_front();
  }
  return batch;
}

void Outbox::put_back(std::vector<OutboxItem> batch, bool may_have_counted) {
  for (auto& item : batch) item.sent_before |= may_have_counted;
  items_.insert(items_.begin(), std::make_move_iterator(batch.begin()), std::make_move_iterator(batch.end()));
}

void Outbox::shrink_below(std::size_t items) { items_max_ = std::max<std::size_t>(items / 2, 1); }

}  // namespace workmill::app
