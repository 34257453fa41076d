#include "engine/timing_wheel.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace workmill::engine {
namespace {

std::uint64_t ticks(Instant instant) {
  return static_cast<std::uint64_t>(std::clamp(to_ms(instant), to_ms(kInstantMin), to_ms(kInstantMax)));
}
static_assert(static_cast<std::uint64_t>(to_ms(kInstantMax)) < std::uint64_t{1} << 48, "eight levels of six bits");

}  // namespace

void TimingWheel::start(Instant now) {
  for (std::uint32_t list = 0; list < kLists; ++list) WM_ASSERT(is_empty(list));
  elapsed_ = ticks(now);
}

// The level is that of the highest digit in which `when` differs from the time that is. So whatever stands in a level
// stands ahead of that level's hand, and comes after everything in finer levels.
std::uint32_t TimingWheel::list_for(std::uint64_t when) const {
  if (when <= elapsed_) return kDueList;
  auto const level = static_cast<std::uint32_t>(std::bit_width(when ^ elapsed_) - 1) / kBits;
  return level * kWidth + static_cast<std::uint32_t>(when >> (level * kBits) & (kWidth - 1));
}

void TimingWheel::append(std::uint32_t list, JobIndex job) {
  JobIndex const last = heads_[list].prev;
  slots_[job].prev = last;
  slots_[job].next = head(list);
  next_of(last) = job;
  heads_[list].prev = job;
  if (list < kDueList) filled_[list / kWidth] |= std::uint64_t{1} << (list % kWidth);
}

void TimingWheel::insert(JobIndex job) { append(list_for(ticks(slots_[job].due)), job); }

void TimingWheel::remove(JobIndex job) {
  JobIndex const prev = slots_[job].prev;
  JobIndex const next = slots_[job].next;
  next_of(prev) = next;
  prev_of(next) = prev;
  if (prev != next || !is_head(prev)) return;
  std::uint32_t const list = std::to_underlying(prev) - kHeadBase;
  if (list < kDueList) filled_[list / kWidth] &= ~(std::uint64_t{1} << (list % kWidth));
  if (list == emptying_) emptying_ = kNoList;
}

void TimingWheel::splice_to_due(std::uint32_t list) {
  Links& from = heads_[list];
  Links& due = heads_[kDueList];
  next_of(due.prev) = from.next;
  slots_[from.next].prev = due.prev;
  slots_[from.prev].next = head(kDueList);
  due.prev = from.prev;
  from = {head(list), head(list)};
  filled_[list / kWidth] &= ~(std::uint64_t{1} << (list % kWidth));
}

void TimingWheel::turn(Instant now, std::uint32_t steps_max) {
  std::uint64_t const target = ticks(now);
  for (std::uint32_t step = 0; step < steps_max; ++step) {
    if (emptying_ != kNoList) {
      JobIndex const job = heads_[emptying_].next;
      remove(job);  // Ends the emptying with the last one.
      insert(job);
      continue;
    }
    auto const level = static_cast<std::uint32_t>(
        std::find_if(filled_.begin(), filled_.end(), [](std::uint64_t bits) { return bits != 0; }) - filled_.begin());
    if (level == kLevels) {
      elapsed_ = std::max(elapsed_, target);
      return;
    }
    auto const digit = static_cast<std::uint64_t>(std::countr_zero(filled_[level]));
    std::uint64_t const span = kBits * level;
    std::uint64_t const begin = (elapsed_ >> span >> kBits << kBits | digit) << span;
    if (begin > target) {
      elapsed_ = std::max(elapsed_, target);
      return;
    }
    elapsed_ = begin;
    std::uint32_t const list = level * kWidth + static_cast<std::uint32_t>(digit);
    if (level == 0) {
      splice_to_due(list);
    } else {
      emptying_ = list;
    }
  }
}

std::optional<Instant> TimingWheel::next() const {
  if (!is_empty(kDueList) || emptying_ != kNoList) return instant_from_ms(static_cast<std::int64_t>(elapsed_));
  for (std::uint32_t level = 0; level < kLevels; ++level) {
    if (filled_[level] == 0) continue;
    auto const digit = static_cast<std::uint64_t>(std::countr_zero(filled_[level]));
    std::uint64_t const span = kBits * level;
    return instant_from_ms(static_cast<std::int64_t>((elapsed_ >> span >> kBits << kBits | digit) << span));
  }
  return std::nullopt;
}

}  // namespace workmill::engine
