#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "app/worker/report.h"

namespace workmill::app {

// One report that waits to be accepted.
struct OutboxItem {
  enum class Kind : std::uint8_t { log, extend, checkpoint, completed, failed, released };

  LeaseName job;
  Kind kind{};
  std::string report;        // Its JSON.
  bool sent_before = false;  // It may have been accepted already: the answer got lost.

  bool is_final() const { return kind != Kind::log && kind != Kind::extend && kind != Kind::checkpoint; }
};

// The reports of a worker, first in first out. What is taken and not accepted goes back to the front, so the lines of a
// job never come after its end. Its owner bounds it: a worker has one final report for each job it holds.
class Outbox {
 public:
  static constexpr std::size_t kItemsMax = 1'000;                   // A request takes no more.
  static constexpr std::size_t kBatchBytes = std::size_t{2} << 20;  // Well below what a server takes by default.

  void add(OutboxItem item) { items_.push_back(std::move(item)); }
  bool empty() const { return items_.empty(); }
  std::size_t size() const { return items_.size(); }

  // The oldest, as many as fit into one request; one at least where there is any.
  std::vector<OutboxItem> take_batch();
  // `batch` as it was taken, or what is left of it.
  void put_back(std::vector<OutboxItem> batch, bool may_have_counted);
  // The server has refused a batch of that size as too large: smaller ones from now on.
  void shrink_below(std::size_t items);

 private:
  std::deque<OutboxItem> items_;
  std::size_t items_max_ = kItemsMax;
};

}  // namespace workmill::app
