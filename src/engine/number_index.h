#pragma once
#include <absl/container/btree_set.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "engine/job_slot.h"

// From a job's number to its slot, in the order of numbers. A B-tree: new numbers are the largest, so they go in at
// its right end, which stays in the cache however many there are; there is no rehash to pause for; and a page of the
// newest jobs is a walk from the end. Entries of 12 bytes, 20 to a node: 13 bytes a job.
namespace workmill::engine {

class NumberIndex {
 public:
  void insert(JobNumber number, JobIndex job) { entries_.insert(entries_.end(), Entry(number, job)); }
  void erase(JobNumber number) { entries_.erase(Entry(number, {})); }
  JobIndex find(JobNumber number) const {
    auto const found = entries_.find(Entry(number, {}));
    return found == entries_.end() ? kNone<JobIndex> : found->job;
  }
  std::size_t size() const { return entries_.size(); }
  std::size_t memory_bytes() const { return entries_.size() * 13; }

  // Calls visit(number, job) for the jobs older than `before`, newest first, until it answers false.
  template <class Visit>
  void walk_older(JobNumber before, Visit const& visit) const {
    auto at = entries_.lower_bound(Entry(before, {}));
    while (at != entries_.begin()) {
      --at;
      if (!visit(at->number(), at->job)) return;
    }
  }
  // All of them, oldest first.
  template <class Visit>
  void walk(Visit const& visit) const {
    for (Entry const& entry : entries_) visit(entry.number(), entry.job);
  }

 private:
  struct Entry {
    // Twice as fast as the binary search that the tree would choose: a node is four lines of cache, read in order.
    using absl_btree_prefer_linear_node_search = std::true_type;

    std::uint32_t high;  // Halves, so that the entry is aligned to four bytes and has no padding.
    std::uint32_t low;
    JobIndex job;

    Entry(JobNumber number, JobIndex index)
        : high(static_cast<std::uint32_t>(std::to_underlying(number) >> 32)),
          low(static_cast<std::uint32_t>(std::to_underlying(number))),
          job(index) {}
    std::uint64_t value() const { return std::uint64_t{high} << 32 | low; }
    JobNumber number() const { return JobNumber{value()}; }
    bool operator<(Entry const& other) const { return value() < other.value(); }
  };
  static_assert(sizeof(Entry) == 12);

  absl::btree_set<Entry> entries_;
};

}  // namespace workmill::engine
