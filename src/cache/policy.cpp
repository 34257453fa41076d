#include "cache/policy.h"

#include "cache/key_table.h"

namespace workmill::cache {

Policy::Policy(EntryStore& entries, std::uint64_t memory_bytes, std::uint64_t hash_seed)
    : entries_(entries),
      window_bytes_(memory_bytes / kWindowPart),
      hash_seed_(hash_seed),
      window_(entries, ListId::window),
      main_(entries, ListId::main),
      cold_(entries, ListId::cold) {}

std::uint64_t Policy::hash(EntryIndex index) const { return hash_of(entries_[index].block->key(), hash_seed_); }

EntryList& Policy::list_of(EntryIndex index) {
  switch (entries_[index].list) {
    case ListId::window: return window_;
    case ListId::main: return main_;
    case ListId::cold: return cold_;
    case ListId::none: break;
  }
  WM_ASSERT(false);
}

// The stamp stays. A reader may use the entry in between: then its mark is lost, which is one of many.
void Policy::set_uses(Entry& entry, int uses) const {
  entry.use.store(static_cast<std::uint16_t>(stamp_of(entry) << kUsesBits | uses), std::memory_order_relaxed);
}

void Policy::pass_time() {
  if (++came_in_ * kStampsPerTurnover < warm_size()) return;
  came_in_ = 0;
  stamp_.store((stamp() + 1) & GhostTable::kStampMask, std::memory_order_relaxed);
}

void Policy::add(EntryIndex index) {
  Entry& entry = entries_[index];
  if (!entry.is_warm) {
    cold_.push_front(index);
    return;
  }
  pass_time();
  bool const goes_to_main = returns_soon(index);
  entry.is_ghost = false;
  entry.use.store(static_cast<std::uint16_t>(stamp() << kUsesBits), std::memory_order_relaxed);
  (goes_to_main ? main_ : window_).push_front(index);
}

// Sent away out of the window, and back before its victim is used again, by a good margin: two thirds as long again.
bool Policy::returns_soon(EntryIndex index) {
  Entry const& entry = entries_[index];
  std::optional<std::uint16_t> const last = entry.is_ghost ? std::optional{stamp_of(entry)} : ghosts_.take(hash(index));
  if (!last || main_.size() == 0) return false;
  return age(*last) * 5 < age(stamp_of(entries_[main_victim()])) * 3;
}

// There is one.
EntryIndex Policy::main_victim() {
  for (;;) {  // A round takes a mark from each: four rounds at most, paid for by the uses that set them.
    EntryIndex const last = main_.back();
    int const uses = uses_of(entries_[last]);
    if (uses == 0) return last;
    set_uses(entries_[last], uses - 1);
    main_.remove(last);
    main_.push_front(last);
  }
}

// A use in the window lies no further back than the window is long.
bool Policy::may_enter(EntryIndex candidate, EntryIndex victim) const {
  std::uint32_t const idle = age(stamp_of(entries_[victim]));
  return (uses_of(entries_[candidate]) > 0 && idle > kWindowAge) || idle > kIdleMax;
}

EntryIndex Policy::victim(std::uint64_t room) {
  while (window_.size() > 0 && (window_.bytes() > window_bytes_ || main_.size() == 0)) {
    EntryIndex const candidate = window_.back();
    bool const has_room = main_.bytes() + window_bytes_ + charge_of(entries_[candidate]) <= room;
    if (!has_room && main_.size() == 0) return candidate;
    EntryIndex const victim = has_room ? kNoEntry : main_victim();
    if (!has_room && !may_enter(candidate, victim)) {
      entries_[candidate].is_ghost = true;
      return candidate;
    }
    window_.remove(candidate);
    set_uses(entries_[candidate], 0);
    main_.push_front(candidate);
    if (!has_room) return victim;
  }
  if (main_.size() > 0) return main_victim();
  return kNoEntry;
}

void Policy::forget(EntryIndex index) {
  Entry const& entry = entries_[index];
  if (!entry.is_ghost) return;
  ghosts_.ensure(warm_size());
  ghosts_.add(hash(index), stamp_of(entry), stamp());
}

Policy::Change::Change(Policy& policy, EntryIndex index, bool stays_warm)
    : policy_(policy), index_(index), stays_(policy.entries_[index].is_warm && stays_warm) {
  Entry const& entry = policy_.entries_[index];
  if (stays_) {
    before_ = charge_of(entry);
  } else if (entry.list != ListId::none) {
    policy_.remove(index);
  }
}

void Policy::Change::done() {
  if (stays_) {
    policy_.list_of(index_).change_bytes(before_, charge_of(policy_.entries_[index_]));
  } else {
    policy_.add(index_);
  }
}

}  // namespace workmill::cache
