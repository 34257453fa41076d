#include "engine/type_counts.h"

#include "base/assert.h"

namespace workmill::engine {

TypeCounts::TypeCounts(NameTable& names) : names_(names) {
  lines_.reserve(kLinesMax + 1);
  lines_.emplace_back().type = kOtherTypes;
}

// Known from before the last job of its type was forgotten, or new.
std::uint16_t TypeCounts::enter(NameIndex type) {
  std::string_view const name = names_.text(type);
  auto found = by_type_.find(name);
  if (found == by_type_.end()) {
    std::uint16_t const line = make_room();
    lines_[line].type = name;
    found = by_type_.emplace(lines_[line].type, line).first;
  }
  names_.tally(type) = found->second;
  return found->second;
}

std::uint16_t TypeCounts::make_room() {
  if (lines_.size() <= kLinesMax) {
    lines_.emplace_back();
    return static_cast<std::uint16_t>(lines_.size() - 1);
  }
  std::size_t least = 0;
  for (std::size_t i = 0; i < kCandidates; ++i) {
    std::size_t const line = 1 + hand_;
    hand_ = (hand_ + 1) % kLinesMax;
    if (least == 0 || lines_[line].sum() < lines_[least].sum()) least = line;
  }
  TypeFigures& taken = lines_[least];
  if (NameIndex const name = names_.find(taken.type); name != kNone<NameIndex>) {
    names_.tally(name) = NameTable::kNoTally;
  }
  by_type_.erase(taken.type);
  lines_.front().enqueued += taken.enqueued;
  lines_.front().completed += taken.completed;
  lines_.front().failed += taken.failed;
  taken = {};
  WM_ASSERT(by_type_.size() == kLinesMax - 1);
  return static_cast<std::uint16_t>(least);
}

}  // namespace workmill::engine
