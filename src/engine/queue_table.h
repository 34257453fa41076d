#pragma once
#include <absl/container/btree_map.h>
#include <absl/container/flat_hash_map.h>

#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/job_slot.h"
#include "model/queue.h"

// The queues by name: settings, figures, and the heads of what each has in line (ready_queue.h) and keeps
// (retention.h).
namespace workmill::engine {

// How long a queue that is empty and set to nothing is kept, with its figures.
inline constexpr Duration kIdleQueueKept = std::chrono::hours{1};

struct Queue {
  std::string name;
  QueueSettings settings;
  Position settings_at{};            // The QueueChanged record that they stand in. None: the defaults.
  std::uint32_t settings_bytes = 0;  // Of that record.
  QueueCounters counters;
  std::array<std::uint64_t, kJobStates> depth{};
  std::uint64_t jobs = 0;       // In any state.
  std::uint64_t held_back = 0;  // Ready ones of a closed type, as ready_queue.h counts them.

  // By priority: the lane whose turn it is, and the lane of the jobs without a group. kNone where there is none.
  std::array<LaneIndex, kPriorityMax + 1> turn = no_lanes();
  std::array<LaneIndex, kPriorityMax + 1> plain = no_lanes();
  std::uint32_t filled = 0;  // A bit for each priority with something to offer.

  std::vector<LineIndex> lines;  // Of finished jobs, one for each time to keep them.

  Instant idle_since{};               // Where there are no jobs.
  std::optional<Instant> idle_check;  // When to look whether it can be forgotten.
  bool is_announced = false;          // Among the happenings of this turn.

  std::uint64_t depth_in(JobState state) const { return depth[static_cast<std::size_t>(state)]; }
  std::uint64_t unfinished() const {
    return depth_in(JobState::scheduled) + depth_in(JobState::ready) + depth_in(JobState::leased);
  }
  std::uint64_t kept() const { return depth_in(JobState::completed) + depth_in(JobState::cancelled); }
  bool is_forgettable() const { return jobs == 0 && settings == QueueSettings{}; }
  // Would a lease get a job here? Then one stands first that is of no closed type.
  bool can_lease() const { return filled != 0 && !settings.paused; }
  std::size_t highest() const { return static_cast<std::size_t>(std::bit_width(filled) - 1); }
  std::size_t lowest() const { return static_cast<std::size_t>(std::countr_zero(filled)); }

 private:
  static constexpr std::array<LaneIndex, kPriorityMax + 1> no_lanes() {
    std::array<LaneIndex, kPriorityMax + 1> lanes{};
    lanes.fill(kNone<LaneIndex>);
    return lanes;
  }
};

class QueueTable {
 public:
  QueueIndex find(std::string_view name) const {
    auto const found = by_name_.find(name);
    return found == by_name_.end() ? kNone<QueueIndex> : found->second;
  }
  QueueIndex ensure(std::string_view name);
  void remove(QueueIndex index);  // One without jobs.
  Queue& operator[](QueueIndex index) { return queues_[index]; }
  Queue const& operator[](QueueIndex index) const { return queues_[index]; }
  std::size_t size() const { return queues_.size(); }
  std::size_t memory_bytes() const { return queues_.memory_bytes() + by_name_.capacity() * 25 + in_order_.size() * 32; }

  // In the order of names, from the first that comes after `after` ("": from the start), until visit(index) is false.
  template <class Visit>
  void walk(std::string_view after, Visit const& visit) const {
    for (auto at = after.empty() ? in_order_.begin() : in_order_.upper_bound(after); at != in_order_.end(); ++at) {
      if (!visit(at->second)) return;
    }
  }

 private:
  Slab<Queue, QueueIndex, 64> queues_;
  absl::flat_hash_map<std::string_view, QueueIndex> by_name_;  // Both borrow the names from the queues.
  absl::btree_map<std::string_view, QueueIndex> in_order_;
  QueueIndex last_ = kNone<QueueIndex>;  // Jobs come in runs of one queue.
};

}  // namespace workmill::engine
