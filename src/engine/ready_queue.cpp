#include "engine/ready_queue.h"

#include <algorithm>
#include <utility>

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

void ReadyQueue::append(JobIndex& head, JobIndex& tail, JobIndex job) {
  JobSlot& slot = slots_[job];
  slot.prev = tail;
  slot.next = kNone<JobIndex>;
  (tail == kNone<JobIndex> ? head : slots_[tail].next) = job;
  tail = job;
}

void ReadyQueue::unlink(JobIndex& head, JobIndex& tail, JobIndex job) {
  JobSlot& slot = slots_[job];
  (slot.prev == kNone<JobIndex> ? head : slots_[slot.prev].next) = slot.next;
  (slot.next == kNone<JobIndex> ? tail : slots_[slot.next].prev) = slot.prev;
  slot.prev = slot.next = kNone<JobIndex>;
}

void ReadyQueue::push(JobIndex job) {
  JobSlot const& slot = slots_[job];
  Lane& lane = lanes_[slot.lane];
  bool const is_first = lane.head == kNone<JobIndex>;
  WM_ASSERT(is_first || slots_[lane.tail].order < slot.order);
  count_in(slot.type);
  append(lane.head, lane.tail, job);
  if (!is_first) return;
  std::uint32_t steps = kStepsAside;
  settle_lane(slot.lane, steps);
}

void ReadyQueue::remove(JobIndex job) {
  JobSlot const& slot = slots_[job];
  Lane& lane = lanes_[slot.lane];
  bool const is_aside = lane.asides > 0 && (lane.head == kNone<JobIndex> || slot.order < slots_[lane.head].order);
  bool const was_first = is_aside || lane.head == job;
  count_out(slot.type);
  if (is_aside) {
    auto const found = aside_of_.find({slot.lane, slot.type});
    WM_ASSERT(found != aside_of_.end());
    leave_aside(found->second, job);
  } else {
    unlink(lane.head, lane.tail, job);
  }
  if (!was_first) return;
  std::uint32_t steps = kStepsAside;
  settle_lane(slot.lane, steps);
}

// ---- Closed types.

void ReadyQueue::count_in(NameIndex type) {
  if (type == kNone<NameIndex>) return;
  if (types_.size() <= std::to_underlying(type)) types_.resize(std::to_underlying(type) + std::size_t{1});
  ReadyType& line = types_[std::to_underlying(type)];
  if (line.ready++ == 0) line.is_closed = is_closed_type(type);
  if (line.is_closed) held_back_ += 1;
}

void ReadyQueue::count_out(NameIndex type) {
  if (type == kNone<NameIndex>) return;
  ReadyType& line = types_[std::to_underlying(type)];
  WM_ASSERT(line.ready > 0);
  line.ready -= 1;
  if (line.is_closed) held_back_ -= 1;
}

void ReadyQueue::set_closed(std::span<std::string const> types) {
  closed_.clear();
  closed_names_.assign(types.begin(), types.end());
  closed_.insert(closed_names_.begin(), closed_names_.end());
  held_back_ = 0;
  for (std::uint32_t type = 0; type < types_.size(); ++type) {
    ReadyType& line = types_[type];
    if (line.ready == 0) continue;
    line.is_closed = is_closed_type(NameIndex{type});
    if (line.is_closed) held_back_ += line.ready;
  }
  asides_.walk([this](AsideIndex index) {
    Aside const& aside = asides_[index];
    open_or_close(index, is_closed(aside.head) || (aside.is_closed && WM_MUTATION(opened_gate_stays_closed)));
  });
  std::uint32_t steps = kStepsOfChange;
  lanes_.walk([&](LaneIndex index) {
    if (!lanes_[index].is_empty() && !WM_MUTATION(closed_gate_lets_the_first_through)) settle_lane(index, steps);
  });
}

void ReadyQueue::open_or_close(AsideIndex index, bool is_closed) {
  Aside& aside = asides_[index];
  if (aside.is_closed == is_closed) return;
  aside.is_closed = is_closed;
  Queue& queue = queues_[lanes_[aside.lane].queue];
  if (is_closed) {
    queue.held_back += aside.jobs;
    open_.erase(open_line(index));
  } else {
    queue.held_back -= aside.jobs;
    open_.insert(open_line(index));
  }
}

void ReadyQueue::settle_lane(LaneIndex index, std::uint32_t& steps) {
  Lane& lane = lanes_[index];
  while (lane.head != kNone<JobIndex> && steps > 0 && is_closed(lane.head)) {
    step_aside(index);
    --steps;
  }
  bool const is_unsettled = lane.head != kNone<JobIndex> && is_closed(lane.head);
  if (is_unsettled != lane.is_unsettled) {
    lane.is_unsettled = is_unsettled;
    if (is_unsettled) {
      unsettled_.insert(index);
    } else {
      unsettled_.erase(index);
    }
  }
  bool const has_next = next_of(index) != kNone<JobIndex>;
  if (has_next && !lane.is_in_ring()) enter_ring(index);
  if (!has_next && lane.is_in_ring()) leave_ring(index);
}

void ReadyQueue::step_aside(LaneIndex lane_index) {
  Lane& lane = lanes_[lane_index];
  JobIndex const job = lane.head;
  NameIndex const type = slots_[job].type;
  auto const [at, is_new] = aside_of_.try_emplace({lane_index, type}, kNone<AsideIndex>);
  if (is_new) {
    at->second = asides_.take();
    Aside& made = asides_[at->second];
    made.type = names_.take(names_.text(type));
    made.lane = lane_index;
    made.is_closed = true;
    lane.asides += 1;
  }
  Aside& aside = asides_[at->second];
  WM_ASSERT(aside.is_closed);
  unlink(lane.head, lane.tail, job);
  append(aside.head, aside.tail, job);
  aside.jobs += 1;
  queues_[lane.queue].held_back += 1;
}

void ReadyQueue::leave_aside(AsideIndex index, JobIndex job) {
  Aside& aside = asides_[index];
  Lane& lane = lanes_[aside.lane];
  bool const changes_place = !aside.is_closed && aside.head == job;
  if (changes_place) open_.erase(open_line(index));
  unlink(aside.head, aside.tail, job);
  aside.jobs -= 1;
  if (aside.is_closed) queues_[lane.queue].held_back -= 1;
  if (aside.jobs > 0) {
    if (changes_place) open_.insert(open_line(index));
    return;
  }
  lane.asides -= 1;
  aside_of_.erase({aside.lane, aside.type});
  names_.give(aside.type);
  asides_.give(index);
}

// A lane that is in no ring has none.
JobIndex ReadyQueue::next_of(LaneIndex index) const {
  Lane const& lane = lanes_[index];
  if (WM_MUTATION(jobs_let_through_lose_their_order) && !lane.is_unsettled && lane.head != kNone<JobIndex>) {
    return lane.head;
  }
  if (lane.asides > 0) {
    auto const oldest = open_.lower_bound({.lane = index, .order = 0, .aside = AsideIndex{0}});
    if (oldest != open_.end() && oldest->lane == index) return asides_[oldest->aside].head;
  }
  return lane.is_unsettled ? kNone<JobIndex> : lane.head;
}

// ---- Rings.

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
  return next_of(queue.turn[queue.highest()]);
}

JobIndex ReadyQueue::oldest_in_ring(LaneIndex first) const {
  JobIndex oldest = next_of(first);
  LaneIndex at = lanes_[first].ring_next;
  for (int i = 1; i < kGroupsLookedAt && at != first; ++i, at = lanes_[at].ring_next) {
    JobIndex const next = next_of(at);
    if (slots_[next].order < slots_[oldest].order) oldest = next;
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
  if (lane.is_empty()) {  // No type is closed yet.
    enter_ring(slot.lane);
  } else if (slot.order < slots_[lane.tail].order && !lane.is_unsorted) {
    lane.is_unsorted = true;
    unsorted_.push_back(slot.lane);
  }
  count_in(slot.type);
  append(lane.head, lane.tail, job);
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
    for (auto const& [order, job] : jobs) append(lane.head, lane.tail, job);
    lane.is_unsorted = false;
  }
  unsorted_ = {};
}

// ---- The slow way.

std::string ReadyQueue::check_lane(LaneIndex index, std::vector<AsideIndex> const& beside, Counted& counted) const {
  Lane const& lane = lanes_[index];
  std::uint64_t newest_aside = 0;
  bool is_right = true;
  auto const count = [&](JobIndex job) {
    ++counted.ready;
    if (is_closed_type(slots_[job].type)) ++counted.of_closed_types;
  };
  for (AsideIndex const at : beside) {
    Aside const& aside = asides_[at];
    std::uint64_t last = 0;
    std::uint32_t jobs = 0;
    for (JobIndex job = aside.head; job != kNone<JobIndex>; job = slots_[job].next, ++jobs) {
      JobSlot const& slot = slots_[job];
      is_right &= slot.order > last && slot.lane == index && slot.type == aside.type && slot.state == JobState::ready;
      last = slot.order;
      count(job);
    }
    newest_aside = std::max(newest_aside, last);
    if (jobs == 0 || jobs != aside.jobs) return "jobs that stand aside are not as many as they count";
    if (aside.is_closed != is_closed_type(aside.type)) return "jobs stand aside as if their type were closed, or open";
    auto const found = aside_of_.find({index, aside.type});
    if (found == aside_of_.end() || found->second != at) return "a line beside a lane is not found by its type";
    if (aside.is_closed == open_.contains(open_line(at))) return "a line beside a lane is indexed as if it were closed";
    if (aside.is_closed) counted.held_back += jobs;
    if (!aside.is_closed) ++counted.open_lines;
  }
  if (lane.asides != beside.size()) return "the lines beside a lane are counted wrongly";
  std::uint64_t last = newest_aside;
  for (JobIndex job = lane.head; job != kNone<JobIndex>; job = slots_[job].next) {
    JobSlot const& slot = slots_[job];
    is_right &= slot.order > last && slot.lane == index && slot.state == JobState::ready;
    last = slot.order;
    count(job);
  }
  if (!is_right) return "a line is out of order, or a job is in the wrong one";
  if (lane.is_unsettled != (lane.head != kNone<JobIndex> && is_closed(lane.head))) return "a lane is not settled";
  if (lane.is_unsettled != unsettled_.contains(index)) return "a lane that is not settled was lost";
  if (lane.is_in_ring() != (next_of(index) != kNone<JobIndex>)) return "a lane is in a ring with nobody, or in none";
  if (lane.is_in_ring()) ++counted.in_rings;
  return {};
}

std::string ReadyQueue::check_rings(Queue const& queue, std::uint64_t in_rings) const {
  std::uint64_t found = 0;
  for (std::size_t priority = 0; priority < queue.turn.size(); ++priority) {
    LaneIndex const first = queue.turn[priority];
    if ((first != kNone<LaneIndex>) != ((queue.filled >> priority & 1) != 0)) return "a priority is marked wrongly";
    for (LaneIndex at = first; at != kNone<LaneIndex>;) {
      Lane const& lane = lanes_[at];
      if (&queues_[lane.queue] != &queue || lane.priority != priority) return "a ring holds a strange lane";
      if (++found > in_rings) break;  // Else it might not end.
      at = lane.ring_next == first ? kNone<LaneIndex> : lane.ring_next;
    }
  }
  return found == in_rings ? std::string{} : "a ring does not hold its lanes";
}

}  // namespace workmill::engine
