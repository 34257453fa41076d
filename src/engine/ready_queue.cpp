#include "engine/ready_queue.h"

#include <algorithm>

#include "base/mutation.h"

namespace workmill::engine {

LaneIndex ReadyQueue::take_lane(QueueIndex queue, std::uint8_t priority, std::string_view group) {
  WM_ASSERT(priority <= kPriorityMax);
  NameIndex const name = names_.take(group);
  LaneIndex* place = &queues_[queue].plain[priority];
  if (name != kNone<NameIndex>) {
    place = &by_place_.try_emplace({queue, name, priority}, kNone<LaneIndex>).first->second;
  }
  if (*place == kNone<LaneIndex>) {
    *place = lanes_.take();
    Lane& made = lanes_[*place];
    made.queue = queue;
    made.group = name;
    made.priority = priority;
  } else {
    names_.give(name);  // The lane counts its group once.
  }
  ++lanes_[*place].jobs;
  return *place;
}

void ReadyQueue::give_lane(LaneIndex index) {
  Lane& lane = lanes_[index];
  WM_ASSERT(lane.jobs > 0);
  if (--lane.jobs > 0) return;
  WM_ASSERT(lane.is_empty());
  if (lane.group == kNone<NameIndex>) {
    queues_[lane.queue].plain[lane.priority] = kNone<LaneIndex>;
  } else {
    by_place_.erase({lane.queue, lane.group, lane.priority});
    names_.give(lane.group);
  }
  lanes_.give(index);
}

void ReadyQueue::append(Lane& lane, JobIndex job) {
  JobSlot& slot = slots_[job];
  slot.prev = lane.tail;
  slot.next = kNone<JobIndex>;
  (lane.tail == kNone<JobIndex> ? lane.head : slots_[lane.tail].next) = job;
  lane.tail = job;
}

void ReadyQueue::push(JobIndex job) {
  JobSlot const& slot = slots_[job];
  Lane& lane = lanes_[slot.lane];
  if (lane.is_empty()) {
    enter_ring(slot.lane);
  } else {
    WM_ASSERT(slots_[lane.tail].order < slot.order);
  }
  append(lane, job);
}

void ReadyQueue::remove(JobIndex job) {
  JobSlot& slot = slots_[job];
  Lane& lane = lanes_[slot.lane];
  (slot.prev == kNone<JobIndex> ? lane.head : slots_[slot.prev].next) = slot.next;
  (slot.next == kNone<JobIndex> ? lane.tail : slots_[slot.next].prev) = slot.prev;
  slot.prev = slot.next = kNone<JobIndex>;
  if (lane.is_empty()) leave_ring(slot.lane);
}

void ReadyQueue::enter_ring(LaneIndex index) {
  Lane& lane = lanes_[index];
  Queue& queue = queues_[lane.queue];
  LaneIndex const turn = queue.turn[lane.priority];
  if (turn == kNone<LaneIndex>) {
    lane.ring_prev = lane.ring_next = index;
    queue.turn[lane.priority] = index;
    queue.filled |= 1u << lane.priority;
    return;
  }
  lane.ring_next = turn;  // Its turn comes last.
  lane.ring_prev = lanes_[turn].ring_prev;
  lanes_[lane.ring_prev].ring_next = index;
  lanes_[turn].ring_prev = index;
}

void ReadyQueue::leave_ring(LaneIndex index) {
  Lane& lane = lanes_[index];
  Queue& queue = queues_[lane.queue];
  if (lane.ring_next == index) {
    queue.turn[lane.priority] = kNone<LaneIndex>;
    queue.filled &= ~(1u << lane.priority);
  } else {
    lanes_[lane.ring_prev].ring_next = lane.ring_next;
    lanes_[lane.ring_next].ring_prev = lane.ring_prev;
    if (queue.turn[lane.priority] == index) queue.turn[lane.priority] = lane.ring_next;
  }
  lane.ring_prev = lane.ring_next = kNone<LaneIndex>;
}

void ReadyQueue::pass_turn(LaneIndex served) {
  if (WM_MUTATION(group_keeps_its_turn)) return;
  Lane const& lane = lanes_[served];
  LaneIndex& turn = queues_[lane.queue].turn[lane.priority];
  if (turn == served) turn = lane.ring_next;
}

JobIndex ReadyQueue::first(Queue const& queue) const {
  if (queue.filled == 0) return kNone<JobIndex>;
  return lanes_[queue.turn[queue.highest()]].head;
}

JobIndex ReadyQueue::oldest_in_ring(LaneIndex first) const {
  JobIndex oldest = lanes_[first].head;
  LaneIndex at = lanes_[first].ring_next;
  for (int i = 1; i < kGroupsLookedAt && at != first; ++i, at = lanes_[at].ring_next) {
    if (slots_[lanes_[at].head].order < slots_[oldest].order) oldest = lanes_[at].head;
  }
  return oldest;
}

JobIndex ReadyQueue::oldest_of_lowest(Queue const& queue) const {
  if (queue.filled == 0) return kNone<JobIndex>;
  if (WM_MUTATION(full_queue_drops_youngest)) return lanes_[queue.turn[queue.lowest()]].tail;
  return oldest_in_ring(queue.turn[queue.lowest()]);
}

std::optional<Instant> ReadyQueue::oldest_ready_at(Queue const& queue) const {
  std::optional<Instant> oldest;
  for (LaneIndex const turn : queue.turn) {
    if (turn == kNone<LaneIndex>) continue;
    Instant const since = slots_[oldest_in_ring(turn)].due;
    if (!oldest || since < *oldest) oldest = since;
  }
  return oldest;
}

void ReadyQueue::push_unsorted(JobIndex job) {
  JobSlot const& slot = slots_[job];
  Lane& lane = lanes_[slot.lane];
  if (lane.is_empty()) {
    enter_ring(slot.lane);
  } else if (slot.order < slots_[lane.tail].order && !lane.is_unsorted) {
    lane.is_unsorted = true;
    unsorted_.push_back(slot.lane);
  }
  append(lane, job);
}

void ReadyQueue::finish_replay() {
  std::vector<std::pair<std::uint64_t, JobIndex>> jobs;
  for (LaneIndex const index : unsorted_) {
    Lane& lane = lanes_[index];
    jobs.clear();
    for (JobIndex job = lane.head; job != kNone<JobIndex>; job = slots_[job].next) {
      jobs.emplace_back(slots_[job].order, job);
    }
    if (!WM_MUTATION(restart_forgets_the_order)) std::sort(jobs.begin(), jobs.end());
    lane.head = lane.tail = kNone<JobIndex>;
    for (auto const& [order, job] : jobs) append(lane, job);
    lane.is_unsorted = false;
  }
  unsorted_ = {};
}

}  // namespace workmill::engine
