#pragma once
#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/intern.h"
#include "model/figures.h"

// How many jobs of each type came and how they went, for people to look at: no decision reads it.
//
// Bounded: kLinesMax types have a line of their own, and the first line is that of all others. A new type that finds no
// room takes the line of the least busy of a few, whose counts go to the first line: so the sum over all lines only
// grows, and a flood of names that come once cannot hold the table. A name knows its line (NameTable), so that counting
// costs no look-up and allocates nothing.
namespace workmill::engine {

class TypeCounts {
 public:
  static constexpr std::size_t kLinesMax = 100;

  explicit TypeCounts(NameTable& names);
  TypeCounts(TypeCounts const&) = delete;
  TypeCounts& operator=(TypeCounts const&) = delete;

  TypeFigures& of(NameIndex type) {
    if (type == kNone<NameIndex>) return lines_.front();
    std::uint16_t const line = names_.tally(type);
    return lines_[line != NameTable::kNoTally ? line : enter(type)];
  }

  // The first is that of all others.
  std::vector<TypeFigures> const& lines() const { return lines_; }

 private:
  static constexpr std::size_t kCandidates = 8;

  std::uint16_t enter(NameIndex type);
  std::uint16_t make_room();

  NameTable& names_;
  std::vector<TypeFigures> lines_;  // Never grows beyond what it has reserved, so that by_type_ may borrow.
  absl::flat_hash_map<std::string_view, std::uint16_t> by_type_;
  std::size_t hand_ = 0;  // Where the next search for a line to take begins.
};

}  // namespace workmill::engine
