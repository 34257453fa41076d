#pragma once
#include <array>
#include <cstdint>
#include <optional>

#include "base/time.h"
#include "engine/job_slot.h"

// When scheduled jobs become ready and leases run out: a hierarchical timing wheel (Varghese and Lauck, "Hashed and
// hierarchical timing wheels", 1987, scheme 6) of eight levels of 64 lists, the finest of one millisecond, which spans
// every time there is. Inserting and removing cost the same however many there are and however far away; an entry
// is moved to a finer level seven times at most; a bit for each list finds the next one, so a jump of the clock over
// years is a few steps.
//
// The lists run through the slots' own prev and next. Who inserted a job sees to it that its `due` and its neighbours
// stay untouched until it is removed. One owner, one thread.
namespace workmill::engine {

using JobSlots = Slab<JobSlot, JobIndex>;

class TimingWheel {
 public:
  explicit TimingWheel(JobSlots& slots) : slots_(slots) {
    for (std::uint32_t list = 0; list < kLists; ++list) heads_[list] = {head(list), head(list)};
  }

  // Where time begins: nothing is in the wheel yet.
  void start(Instant now);
  void insert(JobIndex job);
  void remove(JobIndex job);

  // Turns the wheel on to `now`: what is due goes to the end of the due list. At most `steps_max` jobs are moved; while
  // next() is not later than `now`, there is more to do.
  void turn(Instant now, std::uint32_t steps_max);
  // The job that has been due longest. It stays until it is removed.
  JobIndex first_due() const {
    JobIndex const first = heads_[kDueList].next;
    return is_head(first) ? kNone<JobIndex> : first;
  }
  // When turn() next has something to do: no later than the next job is due. Nothing: the wheel is empty.
  std::optional<Instant> next() const;

  // Calls visit(job) for each, in no order that means anything. `visit` changes nothing.
  template <class Visit>
  void walk(Visit const& visit) const {
    for (std::uint32_t list = 0; list < kLists; ++list) {
      for (JobIndex job = heads_[list].next; !is_head(job); job = slots_[job].next) visit(job);
    }
  }

 private:
  static constexpr std::uint32_t kLevels = 8;
  static constexpr std::uint32_t kBits = 6;
  static constexpr std::uint32_t kWidth = 1u << kBits;
  static constexpr std::uint32_t kDueList = kLevels * kWidth;
  static constexpr std::uint32_t kLists = kDueList + 1;
  static constexpr std::uint32_t kHeadBase = 0xffff'0000;  // Indexes from here up name list heads, not slots.
  static constexpr std::uint32_t kNoList = kLists;

  struct Links {
    JobIndex prev;
    JobIndex next;
  };

  static constexpr JobIndex head(std::uint32_t list) { return JobIndex{kHeadBase + list}; }
  static constexpr bool is_head(JobIndex index) { return std::to_underlying(index) >= kHeadBase; }
  JobIndex& next_of(JobIndex index) {
    return is_head(index) ? heads_[std::to_underlying(index) - kHeadBase].next : slots_[index].next;
  }
  JobIndex& prev_of(JobIndex index) {
    return is_head(index) ? heads_[std::to_underlying(index) - kHeadBase].prev : slots_[index].prev;
  }
  bool is_empty(std::uint32_t list) const { return is_head(heads_[list].next); }
  std::uint32_t list_for(std::uint64_t when) const;
  void append(std::uint32_t list, JobIndex job);
  void splice_to_due(std::uint32_t list);

  JobSlots& slots_;
  std::uint64_t elapsed_ = 0;                    // Milliseconds. Everything due up to here is in the due list.
  std::uint32_t emptying_ = kNoList;             // A list of a coarse level that turn() is in the middle of.
  std::array<std::uint64_t, kLevels> filled_{};  // A bit for each list with something in it.
  std::array<Links, kLists> heads_{};
};

}  // namespace workmill::engine
