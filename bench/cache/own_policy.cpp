#include "own_policy.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/rng.h"
#include "cache/ghost_table.h"
#include "lines.h"

namespace workmill::bench {
namespace {

using cache::GhostTable;

// Names and numbers are those of cache::Policy; all values are as large as each other, so entries stand for bytes.
class OwnPolicy final : public Simulated {
 public:
  OwnPolicy(std::uint32_t keys, std::size_t capacity)
      : links_(keys), window_(links_), main_(links_), where_(keys), use_(keys), capacity_(capacity) {}
  bool request(std::uint32_t key) override {
    if (where_[key] != kOut) {
      auto const uses = static_cast<std::uint16_t>(std::min(use_[key] & kUsesMask, kUsesMax - 1) + 1);
      use_[key] = static_cast<std::uint16_t>(stamp_ << kUsesBits | uses);
      return true;
    }
    if (++came_in_ * kStampsPerTurnover >= window_.size() + main_.size()) {
      came_in_ = 0;
      stamp_ = (stamp_ + 1) & GhostTable::kStampMask;
    }
    bool const goes_to_main = returns_soon(key);
    use_[key] = static_cast<std::uint16_t>(stamp_ << kUsesBits);
    (goes_to_main ? main_ : window_).push_front(key);
    where_[key] = goes_to_main ? kMain : kWindow;
    if (window_.size() + main_.size() > capacity_) evict();
    return false;
  }

 private:
  enum Where : std::uint8_t { kOut, kWindow, kMain };
  static constexpr int kUsesBits = 2;
  static constexpr int kUsesMask = 3;
  static constexpr int kUsesMax = 3;
  static constexpr std::size_t kStampsPerTurnover = 256;
  static constexpr std::size_t kWindowPart = 28;
  static constexpr std::uint32_t kWindowAge = kStampsPerTurnover / kWindowPart;
  static constexpr std::uint32_t kIdleMax = 16 * kStampsPerTurnover;

  std::uint32_t age(std::uint32_t since) const { return (stamp_ - since) & GhostTable::kStampMask; }
  std::uint16_t stamp_of(std::uint32_t key) const { return static_cast<std::uint16_t>(use_[key] >> kUsesBits); }
  void set_uses(std::uint32_t key, int uses) {
    use_[key] = static_cast<std::uint16_t>(stamp_of(key) << kUsesBits | uses);
  }
  bool returns_soon(std::uint32_t key) {
    std::optional<std::uint16_t> const last = ghosts_.take(mix64(key));
    if (!last || main_.size() == 0) return false;
    return age(*last) * 5 < age(stamp_of(main_victim())) * 3;
  }
  std::uint32_t main_victim() {
    for (;;) {
      std::uint32_t const last = main_.back();
      int const uses = use_[last] & kUsesMask;
      if (uses == 0) return last;
      set_uses(last, uses - 1);
      main_.remove(last);
      main_.push_front(last);
    }
  }
  void evict() {
    while (window_.size() > 0 && (window_.size() * kWindowPart > capacity_ || main_.size() == 0)) {
      std::uint32_t const candidate = window_.back();
      bool const has_room = (main_.size() + 1) * kWindowPart + capacity_ <= capacity_ * kWindowPart;
      bool enters = has_room;
      if (!has_room && main_.size() > 0) {
        std::uint32_t const idle = age(stamp_of(main_victim()));
        enters = ((use_[candidate] & kUsesMask) > 0 && idle > kWindowAge) || idle > kIdleMax;
      }
      if (!enters) {
        if (main_.size() > 0) {
          ghosts_.ensure(window_.size() + main_.size());
          ghosts_.add(mix64(candidate), stamp_of(candidate), static_cast<std::uint16_t>(stamp_));
        }
        where_[window_.pop_back()] = kOut;
        return;
      }
      if (!has_room) {
        std::uint32_t const victim = main_victim();
        main_.remove(victim);
        where_[victim] = kOut;
      }
      window_.remove(candidate);
      set_uses(candidate, 0);
      main_.push_front(candidate);
      where_[candidate] = kMain;
      if (!has_room) return;
    }
    std::uint32_t const victim = main_victim();
    main_.remove(victim);
    where_[victim] = kOut;
  }

  Links links_;
  Line window_, main_;
  std::vector<std::uint8_t> where_;
  std::vector<std::uint16_t> use_;
  std::size_t capacity_;
  GhostTable ghosts_;
  std::size_t came_in_ = 0;
  std::uint32_t stamp_ = 0;
};

}  // namespace

std::unique_ptr<Simulated> own_policy(Trace const& trace, std::size_t capacity) {
  return std::make_unique<OwnPolicy>(trace.distinct, capacity);
}

}  // namespace workmill::bench
