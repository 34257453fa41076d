#include "engine/retention.h"

#include <algorithm>
#include <bit>

#include "base/mutation.h"

namespace workmill::engine {

Duration rounded_keep(Duration keep) {
  auto const ms = static_cast<std::uint64_t>(std::max(keep.count(), Duration::rep{0}));
  int const extra_bits = std::max(static_cast<int>(std::bit_width(ms)) - 4, 0);
  std::uint64_t const step = std::uint64_t{1} << extra_bits;
  return Duration{
      static_cast<Duration::rep>((ms + (WM_MUTATION(forgets_finished_early) ? 0 : step - 1)) / step * step)};
}

LineIndex Retention::find(Queue const& queue, bool is_dead, Duration keep) const {
  for (LineIndex const index : queue.lines) {
    if (lines_[index].is_dead == is_dead && lines_[index].keep == keep) return index;
  }
  return kNone<LineIndex>;
}

void Retention::add(JobIndex job, QueueIndex queue, bool is_dead, Duration keep) {
  LineIndex index = find(queues_[queue], is_dead, keep);
  if (index == kNone<LineIndex>) {
    index = lines_.take();
    Line& made = lines_[index];
    made.queue = queue;
    made.is_dead = is_dead;
    made.keep = keep;
    made.check_at = slots_[job].due + keep;
    queues_[queue].lines.push_back(index);
    checks_.emplace(made.check_at, index);
  }
  Line& line = lines_[index];
  slots_[job].prev = line.tail;
  slots_[job].next = kNone<JobIndex>;
  (line.tail == kNone<JobIndex> ? line.head : slots_[line.tail].next) = job;
  line.tail = job;
}

void Retention::remove(JobIndex job, QueueIndex queue, bool is_dead, Duration keep) {
  LineIndex const index = find(queues_[queue], is_dead, keep);
  WM_ASSERT(index != kNone<LineIndex>);
  Line& line = lines_[index];
  JobSlot& slot = slots_[job];
  (slot.prev == kNone<JobIndex> ? line.head : slots_[slot.prev].next) = slot.next;
  (slot.next == kNone<JobIndex> ? line.tail : slots_[slot.next].prev) = slot.prev;
  slot.prev = slot.next = kNone<JobIndex>;
}

JobIndex Retention::oldest_kept(Queue const& queue) const {
  JobIndex oldest = kNone<JobIndex>;
  for (LineIndex const index : queue.lines) {
    Line const& line = lines_[index];
    if (line.is_dead || line.head == kNone<JobIndex>) continue;
    if (oldest == kNone<JobIndex> || slots_[line.head].due < slots_[oldest].due) oldest = line.head;
  }
  return oldest;
}

void Retention::turn(Instant now, std::uint32_t steps_max) {
  for (std::uint32_t step = 0; step < steps_max && !checks_.empty(); ++step) {
    auto const [check_at, index] = *checks_.begin();
    if (check_at > now) return;
    Line& line = lines_[index];
    if (line.head == kNone<JobIndex>) {
      drop(index);
      continue;
    }
    Instant const right = expires_at(line);
    if (right == check_at) return;
    checks_.erase(checks_.begin());
    line.check_at = right;
    checks_.emplace(right, index);
  }
}

JobIndex Retention::first_expired(Instant now) const {
  if (checks_.empty() || checks_.begin()->first > now) return kNone<JobIndex>;
  Line const& line = lines_[checks_.begin()->second];
  return line.head != kNone<JobIndex> && expires_at(line) <= now ? line.head : kNone<JobIndex>;
}

void Retention::drop(LineIndex index) {
  Line const& line = lines_[index];
  std::erase(queues_[line.queue].lines, index);
  checks_.erase({line.check_at, index});
  lines_.give(index);
}

void Retention::remove_lines(QueueIndex queue) {
  while (!queues_[queue].lines.empty()) drop(queues_[queue].lines.back());
}

}  // namespace workmill::engine
