#pragma once
#include <cstdint>
#include <deque>

#include "base/assert.h"
#include "model/position.h"

// How many living things have their record in each segment of the log, and how large all those records are together.
// Segments come at one end and go at the other, so this is a window of counters. Positions grow as the log does; one
// before the window makes it longer.
namespace workmill {

class SegmentCounts {
 public:
  // No position counts as nothing.
  void add(Position at, std::uint64_t bytes) {
    if (!at) return;
    if (counts_.empty()) first_ = at.segment;
    for (; at.segment < first_; --first_) counts_.push_front(0);
    std::uint32_t const place = at.segment - first_;
    if (place >= counts_.size()) counts_.resize(std::size_t{place} + 1);
    ++counts_[place];
    ++total_;
    bytes_ += bytes;
  }
  void drop(Position at, std::uint64_t bytes) {
    if (!at) return;
    std::uint32_t const place = at.segment - first_;
    WM_ASSERT(at.segment >= first_ && place < counts_.size() && counts_[place] > 0 && bytes_ >= bytes);
    --counts_[place];
    --total_;
    bytes_ -= bytes;
    while (!counts_.empty() && counts_.front() == 0) {
      counts_.pop_front();
      ++first_;
    }
  }
  std::uint64_t in(std::uint32_t segment) const {
    return segment < first_ || segment - first_ >= counts_.size() ? 0 : counts_[segment - first_];
  }
  std::uint64_t total() const { return total_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::uint32_t first_ = 0;  // The segment that the first counter is of.
  std::uint64_t total_ = 0;
  std::uint64_t bytes_ = 0;
  std::deque<std::uint64_t> counts_;
};

}  // namespace workmill
