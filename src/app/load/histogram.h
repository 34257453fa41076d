#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace workmill::app {

// Counts durations by their size, to within 1.6 %, in constant memory (the idea of HdrHistogram): 64 steps for each
// doubling. One thread.
class Histogram {
 public:
  void add(std::uint64_t value) {
    ++counts_[slot_of(value)];
    ++count_;
    max_ = value > max_ ? value : max_;
  }
  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  // Calls `of` with the highest value of each step that counted something, and how much: lowest first.
  template <class Of>
  void for_each(Of&& of) const {
    for (std::size_t slot = 0; slot < counts_.size(); ++slot) {
      if (counts_[slot] > 0) of(top_of(slot), counts_[slot]);
    }
  }
  // The value that so many of a thousand are at or below; 0 where there is none. `permille` <= 1,000.
  std::uint64_t permille(unsigned permille) const {
    std::uint64_t const wanted = (count_ * permille + 999) / 1'000;
    std::uint64_t seen = 0;
    for (std::size_t slot = 0; slot < counts_.size(); ++slot) {
      seen += counts_[slot];
      if (seen >= wanted && seen > 0) return top_of(slot) < max_ ? top_of(slot) : max_;
    }
    return max_;
  }

 private:
  static constexpr unsigned kStepBits = 6;
  static constexpr std::size_t kSteps = std::size_t{1} << kStepBits;

  // Below 64 each value has a slot; above, the highest seven bits say which.
  static std::size_t slot_of(std::uint64_t value) {
    if (value < kSteps) return static_cast<std::size_t>(value);
    auto const doubling = static_cast<unsigned>(std::bit_width(value)) - kStepBits - 1;
    return (doubling + 1) * kSteps + (static_cast<std::size_t>(value >> doubling) - kSteps);
  }
  static std::uint64_t top_of(std::size_t slot) {
    if (slot < kSteps) return slot;
    auto const doubling = slot / kSteps - 1;
    return ((std::uint64_t{slot % kSteps + kSteps} + 1) << doubling) - 1;
  }

  std::array<std::uint64_t, (64 - kStepBits + 1) * kSteps> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace workmill::app
