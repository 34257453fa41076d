#pragma once
#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/intern.h"
#include "engine/queue_table.h"
#include "engine/timing_wheel.h"

// Who is next. A queue has, for each priority, a ring of lanes, one for each group with something ready; a lane is a
// first-in-first-out list of jobs, ascending in their `order`. The highest priority is served first, its lanes in
// turn, so that a noisy group cannot starve a quiet one.
//
// A lane also stands for where a job belongs (queue, priority, group), whatever its state: it lives as long as one
// job does that names it. Every call costs the same, whatever the backlog, but finish_replay.
namespace workmill::engine {

struct Lane {
  JobIndex head = kNone<JobIndex>;
  JobIndex tail = kNone<JobIndex>;
  QueueIndex queue{};
  NameIndex group = kNone<NameIndex>;
  LaneIndex ring_prev = kNone<LaneIndex>;  // Of the lanes of this priority with something ready. Closed.
  LaneIndex ring_next = kNone<LaneIndex>;
  std::uint32_t jobs = 0;  // That belong here, in any state.
  std::uint8_t priority = 0;
  bool is_unsorted = false;

  bool is_empty() const { return head == kNone<JobIndex>; }
};

class ReadyQueue {
 public:
  ReadyQueue(JobSlots& slots, QueueTable& queues, NameTable& names) : slots_(slots), queues_(queues), names_(names) {}

  Lane const& lane(LaneIndex index) const { return lanes_[index]; }
  Queue const& queue_of(JobSlot const& job) const { return queues_[lanes_[job.lane].queue]; }

  // The lane that a job belongs to, made where there is none, and counted.
  LaneIndex take_lane(QueueIndex queue, std::uint8_t priority, std::string_view group);
  void give_lane(LaneIndex lane);

  // To the end of its lane. Its order is larger than that of all before it.
  void push(JobIndex job);
  void remove(JobIndex job);
  // The next lane has its turn. Call when a job of this one is leased, before remove().
  void pass_turn(LaneIndex served);

  // The job that would be leased next from this queue, paused or not; kNone where nothing is ready.
  JobIndex first(Queue const& queue) const;
  // A job to drop where there are too many: the oldest of the lowest priority. Where very many groups wait, the oldest
  // of the groups whose turn comes next.
  JobIndex oldest_of_lowest(Queue const& queue) const;
  // When the job became ready that waits longest: of the first jobs in line of each priority.
  std::optional<Instant> oldest_ready_at(Queue const& queue) const;

  // While the log is replayed nothing is in line. Then: each ready job, in any order, and finish_replay().
  void push_unsorted(JobIndex job);
  void finish_replay();

  std::size_t memory_bytes() const { return lanes_.memory_bytes() + by_place_.capacity() * (sizeof(Place) + 5); }
  std::size_t size() const { return lanes_.size(); }

 private:
  static constexpr int kGroupsLookedAt = 16;

  struct Place {
    QueueIndex queue;
    NameIndex group;
    std::uint8_t priority;
    bool operator==(Place const&) const = default;
    template <class H>
    friend H AbslHashValue(H h, Place const& p) {
      return H::combine(std::move(h), std::to_underlying(p.queue), std::to_underlying(p.group), p.priority);
    }
  };

  void append(Lane& lane, JobIndex job);
  void enter_ring(LaneIndex index);
  void leave_ring(LaneIndex index);
  JobIndex oldest_in_ring(LaneIndex first) const;

  JobSlots& slots_;
  QueueTable& queues_;
  NameTable& names_;
  Slab<Lane, LaneIndex, 64> lanes_;
  absl::flat_hash_map<Place, LaneIndex> by_place_;  // Of the lanes with a group. The others stand in Queue::plain.
  std::vector<LaneIndex> unsorted_;
};

}  // namespace workmill::engine
