#pragma once
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The queues that a caller may touch, by name. Immutable once made: any thread may look.
namespace workmill {

inline constexpr std::size_t kQueueSetMax = 100;  // Names: a token is for a part of the work, not a list of customers.

class QueueSet {
 public:
  // At most kQueueSetMax names; sorted here, and each kept once.
  explicit QueueSet(std::vector<std::string> names) : names_(std::move(names)) {
    std::sort(names_.begin(), names_.end());
    names_.erase(std::unique(names_.begin(), names_.end()), names_.end());
  }

  bool contains(std::string_view name) const { return std::binary_search(names_.begin(), names_.end(), name); }
  std::span<std::string const> names() const { return names_; }  // In the order of names.

 private:
  std::vector<std::string> names_;
};

// What goes with a request: nothing for a caller without such a limit. Shared, as requests and those who wait may
// outlive, on the shard's thread, the token that the set belongs to.
using AllowedQueues = std::shared_ptr<QueueSet const>;

}  // namespace workmill
