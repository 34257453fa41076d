#include "policies.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "base/rng.h"
#include "lines.h"

namespace workmill::bench {
namespace {

class Lru final : public Simulated {
 public:
  Lru(std::uint32_t keys, std::size_t capacity) : links_(keys), line_(links_), in_(keys), capacity_(capacity) {}
  bool request(std::uint32_t key) override {
    bool const hit = in_[key];
    if (hit) line_.remove(key);
    if (!hit && line_.size() == capacity_) in_[line_.pop_back()] = false;
    line_.push_front(key);
    in_[key] = true;
    return hit;
  }

 private:
  Links links_;
  Line line_;
  std::vector<bool> in_;
  std::size_t capacity_;
};

// Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966: who is
// asked for last goes, the new one included.
class Optimum final : public Simulated {
 public:
  Optimum(Trace const& trace, std::size_t capacity)
      : next_use_(trace.keys.size()), in_(trace.distinct), capacity_(capacity) {
    std::vector<std::uint32_t> seen(trace.distinct, kNone);
    for (std::size_t i = trace.keys.size(); i-- > 0;) {
      next_use_[i] = std::exchange(seen[trace.keys[i]], static_cast<std::uint32_t>(i));
    }
  }
  bool request(std::uint32_t key) override {
    auto const now = static_cast<std::uint32_t>(at_);
    std::uint32_t const next = next_use_[at_++];
    bool const hit = in_[key];
    if (hit) by_next_use_.erase({now, key});
    if (next == kNone) {
      in_[key] = false;
      return hit;
    }
    if (!hit && by_next_use_.size() == capacity_) {
      auto const last = std::prev(by_next_use_.end());
      if (last->first < next) return false;
      in_[last->second] = false;
      by_next_use_.erase(last);
    }
    in_[key] = true;
    by_next_use_.emplace(next, key);
    return hit;
  }

 private:
  std::vector<std::uint32_t> next_use_;
  std::vector<bool> in_;
  std::set<std::pair<std::uint32_t, std::uint32_t>> by_next_use_;
  std::size_t capacity_;
  std::size_t at_ = 0;
};

// Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is simpler than LRU", NSDI 2024.
class Sieve final : public Simulated {
 public:
  Sieve(std::uint32_t keys, std::size_t capacity)
      : links_(keys), line_(links_), in_(keys), visited_(keys), capacity_(capacity) {}
  bool request(std::uint32_t key) override {
    if (in_[key]) {
      visited_[key] = true;
      return true;
    }
    if (line_.size() == capacity_) evict();
    line_.push_front(key);
    in_[key] = true;
    visited_[key] = false;
    return false;
  }

 private:
  void evict() {
    std::uint32_t at = hand_ == kNone ? line_.back() : hand_;
    while (visited_[at]) {
      visited_[at] = false;
      at = line_.before(at);
      if (at == kNone) at = line_.back();
    }
    hand_ = line_.before(at);
    line_.remove(at);
    in_[at] = false;
  }

  Links links_;
  Line line_;
  std::vector<bool> in_, visited_;
  std::size_t capacity_;
  std::uint32_t hand_ = kNone;
};

// Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023: a tenth for newcomers,
// ghosts for as many keys as the main queue has room for.
class S3Fifo final : public Simulated {
 public:
  S3Fifo(std::uint32_t keys, std::size_t capacity)
      : links_(keys),
        small_(links_),
        main_(links_),
        where_(keys),
        uses_(keys),
        ghost_at_(keys, kNone),
        small_room_(std::max<std::size_t>(1, capacity / 10)),
        capacity_(capacity) {}
  bool request(std::uint32_t key) override {
    if (where_[key] != kOut) {
      uses_[key] = static_cast<std::uint8_t>(std::min(uses_[key] + 1, 3));
      return true;
    }
    while (small_.size() + main_.size() >= capacity_) {
      if (small_.size() >= small_room_ || main_.size() == 0) {
        evict_small();
      } else {
        evict_main();
      }
    }
    bool const is_ghost = ghost_at_[key] != kNone && ghosts_ - ghost_at_[key] <= capacity_ - small_room_;
    ghost_at_[key] = kNone;
    uses_[key] = 0;
    (is_ghost ? main_ : small_).push_front(key);
    where_[key] = is_ghost ? kMain : kSmall;
    return false;
  }

 private:
  enum Where : std::uint8_t { kOut, kSmall, kMain };
  void evict_small() {
    while (small_.size() > 0) {
      std::uint32_t const key = small_.pop_back();
      if (uses_[key] > 1) {
        uses_[key] = 0;
        where_[key] = kMain;
        main_.push_front(key);
      } else {
        where_[key] = kOut;
        ghost_at_[key] = ghosts_++;
        return;
      }
    }
  }
  void evict_main() {
    while (main_.size() > 0) {
      std::uint32_t const key = main_.pop_back();
      if (uses_[key] > 0) {
        --uses_[key];
        main_.push_front(key);
      } else {
        where_[key] = kOut;
        return;
      }
    }
  }

  Links links_;
  Line small_, main_;
  std::vector<std::uint8_t> where_, uses_;
  std::vector<std::uint32_t> ghost_at_;
  std::uint32_t ghosts_ = 0;
  std::size_t small_room_, capacity_;
};

// Four rows of 4-bit counters, halved after ten uses for each entry: Einziger, Friedman, Manes, "TinyLFU: a highly
// efficient cache admission policy", ACM Transactions on Storage 13(4), 2017.
class Sketch {
 public:
  explicit Sketch(std::size_t capacity)
      : width_(std::bit_ceil(std::max<std::size_t>(16, capacity)) * 4), counters_(width_ * 4), sample_(capacity * 10) {}
  void add(std::uint32_t key) {
    bool any = false;
    for (std::uint32_t row = 0; row < 4; ++row) {
      std::uint8_t& counter = counters_[place(key, row)];
      if (counter < 15) {
        ++counter;
        any = true;
      }
    }
    if (any && ++uses_ >= sample_) {
      for (std::uint8_t& counter : counters_) counter /= 2;
      uses_ /= 2;
    }
  }
  int count(std::uint32_t key) const {
    int least = 15;
    for (std::uint32_t row = 0; row < 4; ++row) least = std::min<int>(least, counters_[place(key, row)]);
    return least;
  }

 private:
  std::size_t place(std::uint32_t key, std::uint32_t row) const {
    return row * width_ + (mix64(std::uint64_t{key} << 2 | row) & (width_ - 1));
  }
  std::size_t width_;
  std::vector<std::uint8_t> counters_;
  std::size_t sample_;
  std::size_t uses_ = 0;
};

// The same paper's W-TinyLFU: a window of 1 % in LRU order, and a segmented LRU of which four fifths are protected.
// Where `adapts`, the window climbs the hill of hit ratios: Einziger, Eytan, Friedman, Manes, "Adaptive software cache
// management", Middleware 2018, with the constants of Caffeine, its authors' library.
class WTinyLfu final : public Simulated {
 public:
  WTinyLfu(std::uint32_t keys, std::size_t capacity, bool adapts)
      : links_(keys),
        window_(links_),
        probation_(links_),
        protected_(links_),
        where_(keys),
        sketch_(capacity),
        capacity_(capacity),
        adapts_(adapts),
        window_room_(std::max(1.0, static_cast<double>(capacity) / 100)),
        step_(-0.0625 * static_cast<double>(capacity)) {}
  bool request(std::uint32_t key) override {
    sketch_.add(key);
    bool const hit = where_[key] != kOut;
    if (hit) {
      use(key);
    } else {
      window_.push_front(key);
      where_[key] = kWindow;
      settle();
    }
    if (adapts_) climb(hit);
    return hit;
  }

 private:
  enum Where : std::uint8_t { kOut, kWindow, kProbation, kProtected };
  std::size_t window_room() const { return static_cast<std::size_t>(window_room_); }
  void use(std::uint32_t key) {
    if (where_[key] == kWindow) {
      window_.remove(key);
      window_.push_front(key);
      return;
    }
    (where_[key] == kProbation ? probation_ : protected_).remove(key);
    protected_.push_front(key);
    where_[key] = kProtected;
    while (protected_.size() > (capacity_ - window_room()) * 4 / 5 && protected_.size() > 1) {
      std::uint32_t const demoted = protected_.pop_back();
      where_[demoted] = kProbation;
      probation_.push_front(demoted);
    }
  }
  void settle() {
    while (window_.size() > window_room()) {
      std::uint32_t const candidate = window_.pop_back();
      std::size_t const main = probation_.size() + protected_.size();
      if (window_.size() + main < capacity_) {
        probation_.push_front(candidate);
        where_[candidate] = kProbation;
        continue;
      }
      Line& line = probation_.size() > 0 ? probation_ : protected_;
      if (line.size() > 0 && sketch_.count(candidate) > sketch_.count(line.back())) {
        where_[line.pop_back()] = kOut;
        probation_.push_front(candidate);
        where_[candidate] = kProbation;
      } else {
        where_[candidate] = kOut;
      }
    }
    while (window_.size() + probation_.size() + protected_.size() > capacity_) {
      where_[(probation_.size() > 0 ? probation_ : protected_).pop_back()] = kOut;
    }
  }
  void climb(bool hit) {
    hits_ += hit ? 1U : 0U;
    if (++requests_ < capacity_ * 10) return;
    double const ratio = static_cast<double>(hits_) / static_cast<double>(requests_);
    double const change = ratio - last_ratio_;
    double const amount = change >= 0 ? step_ : -step_;
    step_ = std::abs(change) >= 0.05 ? std::copysign(0.0625 * static_cast<double>(capacity_), amount) : amount * 0.98;
    last_ratio_ = ratio;
    requests_ = hits_ = 0;
    window_room_ = std::clamp(window_room_ + amount, 1.0, std::max(1.0, static_cast<double>(capacity_) * 0.8));
    while (window_.size() < window_room() && probation_.size() > 0) {  // A larger window takes from probation.
      std::uint32_t const key = probation_.pop_back();
      where_[key] = kWindow;
      window_.push_front(key);
    }
    settle();
  }

  Links links_;
  Line window_, probation_, protected_;
  std::vector<std::uint8_t> where_;
  Sketch sketch_;
  std::size_t capacity_;
  bool adapts_;
  double window_room_, step_, last_ratio_ = 0;
  std::size_t requests_ = 0, hits_ = 0;
};

}  // namespace

std::vector<Contender> contenders() {
  return {
      {"LRU", [](Trace const& t, std::size_t n) { return std::make_unique<Lru>(t.distinct, n); }},
      {"S3-FIFO", [](Trace const& t, std::size_t n) { return std::make_unique<S3Fifo>(t.distinct, n); }},
      {"SIEVE", [](Trace const& t, std::size_t n) { return std::make_unique<Sieve>(t.distinct, n); }},
      {"W-TinyLFU", [](Trace const& t, std::size_t n) { return std::make_unique<WTinyLfu>(t.distinct, n, false); }},
      {"W-TinyLFU, adaptive",
       [](Trace const& t, std::size_t n) { return std::make_unique<WTinyLfu>(t.distinct, n, true); }},
      {"optimum", [](Trace const& t, std::size_t n) { return std::make_unique<Optimum>(t, n); }},
  };
}

}  // namespace workmill::bench
