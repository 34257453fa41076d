#pragma once
#include <absl/container/btree_set.h>
#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <cstdint>
#include <span>
#include <string>
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
// job does that names it. Every call costs the same, whatever the backlog and however many types are closed, but
// finish_replay and set_closed.
//
// Jobs of a closed type (one that a flag gates) wait in line and are not offered. A lane's line is as it came; where a
// job of a closed type gets to its front, it steps aside, into a line of its type beside the lane's own. So whoever
// stands aside came before all who stand in the lane's own line, and the next is the oldest of those aside whose type
// is open, else the first of the line: jobs are leased in the order in which they came, as soon as they may be. A job
// steps aside once. Lines beside a lane are found by their types, and those whose type has been opened again stand in
// the order of their first jobs, so that nobody looks at the closed ones. A lane is in its ring while it has somebody
// to offer.
namespace workmill::engine {

enum class AsideIndex : std::uint32_t {};

// Jobs of one type beside a lane's line.
struct Aside {
  JobIndex head = kNone<JobIndex>;
  JobIndex tail = kNone<JobIndex>;
  NameIndex type = kNone<NameIndex>;  // Counted once more for as long as this lives.
  LaneIndex lane = kNone<LaneIndex>;
  std::uint32_t jobs = 0;
  bool is_closed = false;
};

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
  bool is_unsettled = false;  // The first in line is of a closed type: there were too many to step aside at once.
  std::uint32_t asides = 0;   // Lines beside it.

  bool is_empty() const { return head == kNone<JobIndex> && asides == 0; }
  bool is_in_ring() const { return ring_next != kNone<LaneIndex>; }
};

class ReadyQueue {
 public:
  ReadyQueue(JobSlots& slots, QueueTable& queues, NameTable& names) : slots_(slots), queues_(queues), names_(names) {}

  Lane const& lane(LaneIndex index) const { return lanes_[index]; }
  Queue const& queue_of(JobSlot const& job) const { return queues_[lanes_[job.lane].queue]; }

  // The lane that a job belongs to, made where there is none, and counted.
  LaneIndex take_lane(QueueIndex queue, std::uint8_t priority, std::string_view group);
  void give_lane(LaneIndex lane);

  // From now on jobs of these types, and no others, are not offered. Looks at every lane once.
  void set_closed(std::span<std::string const> types);
  // Lets up to `steps` jobs step aside for whom there was no time before. True: there are more. `on_offer` is called
  // with each queue that has somebody to offer by it.
  template <class OnOffer>
  bool settle(std::uint32_t steps, OnOffer const& on_offer) {
    while (steps > 0 && !unsettled_.empty()) {
      LaneIndex const index = *unsettled_.begin();
      settle_lane(index, steps);
      if (lanes_[index].is_in_ring()) on_offer(lanes_[index].queue);
    }
    return is_unsettled();
  }
  bool is_unsettled() const { return !unsettled_.empty(); }
  bool is_closed(std::string_view type) const { return !closed_.empty() && closed_.contains(type); }
  // Ready jobs whose type is closed, wherever they stand in line.
  std::uint64_t held_back() const { return held_back_; }

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

  std::size_t memory_bytes() const {
    return lanes_.memory_bytes() + asides_.memory_bytes() + by_place_.capacity() * (sizeof(Place) + 5) +
           aside_of_.capacity() * (sizeof(AsideKey) + 5) + open_.size() * sizeof(OpenLine) +
           types_.capacity() * sizeof(ReadyType);
  }
  std::size_t size() const { return lanes_.size(); }

  // Recounts the slow way: an empty text means that all is well. `ready_of` says how many ready jobs a queue has.
  template <class ReadyOf>
  std::string check(ReadyOf const& ready_of) const {
    absl::flat_hash_map<QueueIndex, Counted> counted;
    absl::flat_hash_map<LaneIndex, std::vector<AsideIndex>> beside;
    asides_.walk([&](AsideIndex index) { beside[asides_[index].lane].push_back(index); });
    std::string wrong;
    lanes_.walk([&](LaneIndex index) {
      if (wrong.empty()) wrong = check_lane(index, beside[index], counted[lanes_[index].queue]);
    });
    std::uint64_t of_closed_types = 0;
    std::uint64_t open_lines = 0;
    queues_.walk({}, [&](QueueIndex index) {
      Counted const& lines = counted[index];
      of_closed_types += lines.of_closed_types;
      open_lines += lines.open_lines;
      if (!wrong.empty()) return false;
      if (lines.ready != ready_of(index)) wrong = "the lines do not hold the ready";
      if (lines.held_back != queues_[index].held_back) wrong = "a queue's jobs that stand aside are counted wrongly";
      if (wrong.empty()) wrong = check_rings(queues_[index], lines.in_rings);
      return true;
    });
    if (wrong.empty() && of_closed_types != held_back_) wrong = "the jobs of closed types are counted wrongly";
    bool const is_indexed = asides_.size() == aside_of_.size() && open_lines == open_.size();
    if (wrong.empty() && !is_indexed) wrong = "lines beside a lane are indexed that are not there";
    return wrong;
  }

 private:
  static constexpr int kGroupsLookedAt = 16;
  static constexpr std::uint32_t kStepsAside = 64;        // At once, when one is pushed or removed,
  static constexpr std::uint32_t kStepsOfChange = 1'000;  // and when other types are closed.
  struct Counted {
    std::uint64_t ready = 0;
    std::uint64_t held_back = 0;
    std::uint64_t of_closed_types = 0;
    std::uint64_t open_lines = 0;
    std::uint64_t in_rings = 0;
  };

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

  struct AsideKey {
    LaneIndex lane;
    NameIndex type;
    bool operator==(AsideKey const&) const = default;
    template <class H>
    friend H AbslHashValue(H h, AsideKey const& key) {
      return H::combine(std::move(h), std::to_underlying(key.lane), std::to_underlying(key.type));
    }
  };
  struct OpenLine {
    LaneIndex lane;
    std::uint64_t order;  // Of its first job.
    AsideIndex aside;
    auto operator<=>(OpenLine const&) const = default;
  };
  struct ReadyType {
    std::uint32_t ready = 0;
    bool is_closed = false;  // Good while there are some.
  };

  void append(JobIndex& head, JobIndex& tail, JobIndex job);
  void unlink(JobIndex& head, JobIndex& tail, JobIndex job);
  // Of one that is in line.
  bool is_closed(JobIndex job) const { return type_of(job) != nullptr && type_of(job)->is_closed; }
  bool is_closed_type(NameIndex type) const { return !closed_.empty() && closed_.contains(names_.text(type)); }
  ReadyType const* type_of(JobIndex job) const {
    NameIndex const type = slots_[job].type;
    return type == kNone<NameIndex> ? nullptr : &types_[std::to_underlying(type)];
  }
  void count_in(NameIndex type);
  void count_out(NameIndex type);
  // As long as it is of a closed type, the first in line steps aside; then the lane is where it belongs, in its ring or
  // not.
  void settle_lane(LaneIndex index, std::uint32_t& steps);
  void step_aside(LaneIndex index);
  void leave_aside(AsideIndex index, JobIndex job);
  void open_or_close(AsideIndex index, bool is_closed);
  OpenLine open_line(AsideIndex index) const {
    Aside const& aside = asides_[index];
    return {.lane = aside.lane, .order = slots_[aside.head].order, .aside = index};
  }
  JobIndex next_of(LaneIndex index) const;
  std::string check_lane(LaneIndex index, std::vector<AsideIndex> const& beside, Counted& counted) const;
  std::string check_rings(Queue const& queue, std::uint64_t in_rings) const;
  void enter_ring(LaneIndex index);
  void leave_ring(LaneIndex index);
  JobIndex oldest_in_ring(LaneIndex first) const;

  JobSlots& slots_;
  QueueTable& queues_;
  NameTable& names_;
  Slab<Lane, LaneIndex, 64> lanes_;
  absl::flat_hash_map<Place, LaneIndex> by_place_;  // Of the lanes with a group. The others stand in Queue::plain.
  std::vector<LaneIndex> unsorted_;

  std::vector<std::string> closed_names_;
  absl::flat_hash_set<std::string_view> closed_;  // Types. Borrows from the names.
  std::vector<ReadyType> types_;                  // By the numbers of their names.
  Slab<Aside, AsideIndex, 64> asides_;
  absl::flat_hash_map<AsideKey, AsideIndex> aside_of_;
  absl::btree_set<OpenLine> open_;  // Lines beside lanes whose type is not closed.
  absl::btree_set<LaneIndex> unsettled_;
  std::uint64_t held_back_ = 0;
};

}  // namespace workmill::engine
