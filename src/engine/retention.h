#pragma once
#include <absl/container/btree_set.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "engine/queue_table.h"
#include "engine/timing_wheel.h"

// How long finished jobs are kept. A queue has a line of them for each time to keep (rounded up on a grid, by an
// eighth at most, so that lines are few), in the order in which they finished: so the first of a line goes first, and
// a job needs no place in a calendar. Dead jobs have lines of their own.
//
// When to look at a line next is a guess that may be early, never late: it is put right when its time comes, so that
// adding and removing jobs costs nothing there.
namespace workmill::engine {

// The grid: four significant bits.
Duration rounded_keep(Duration keep);

class Retention {
 public:
  Retention(JobSlots& slots, QueueTable& queues) : slots_(slots), queues_(queues) {}

  // A job that has finished: its `due` says when, no earlier than all that were added to this line before.
  void add(JobIndex job, QueueIndex queue, bool is_dead, Duration keep);
  void remove(JobIndex job, QueueIndex queue, bool is_dead, Duration keep);

  // The job of a queue that finished first and is not dead: what goes when the budget is used up. kNone: there is none.
  JobIndex oldest_kept(Queue const& queue) const;

  // Puts the guess right that comes up first; call it before first_expired(). At most `steps_max` lines are looked at.
  void turn(Instant now, std::uint32_t steps_max);
  // A job that has been kept long enough at `now`.
  JobIndex first_expired(Instant now) const;
  std::optional<Instant> next() const { return checks_.empty() ? std::nullopt : std::optional{checks_.begin()->first}; }
  // A queue without jobs is removed.
  void remove_lines(QueueIndex queue);

  std::size_t memory_bytes() const { return lines_.memory_bytes() + checks_.size() * 18; }
  // The jobs of all lines, for check_invariants().
  template <class Visit>
  void walk(Queue const& queue, Visit const& visit) const {
    for (LineIndex const index : queue.lines) {
      for (JobIndex job = lines_[index].head; job != kNone<JobIndex>; job = slots_[job].next) {
        visit(job, lines_[index].is_dead, lines_[index].keep);
      }
    }
  }

 private:
  struct Line {
    QueueIndex queue{};
    bool is_dead = false;
    Duration keep{};
    Instant check_at{};
    JobIndex head = kNone<JobIndex>;
    JobIndex tail = kNone<JobIndex>;
  };

  LineIndex find(Queue const& queue, bool is_dead, Duration keep) const;
  Instant expires_at(Line const& line) const { return slots_[line.head].due + line.keep; }
  void drop(LineIndex index);

  JobSlots& slots_;
  QueueTable& queues_;
  Slab<Line, LineIndex, 64> lines_;
  absl::btree_set<std::pair<Instant, LineIndex>> checks_;  // One for each line.
};

}  // namespace workmill::engine
