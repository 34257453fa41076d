#pragma once
#include <absl/container/btree_set.h>
#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/entry.h"

// Which entries have a tag. An entry without tags is not in here and costs nothing. The pairs of tag and entry are in a
// B-tree, so a walk over one tag may stop, and go on while pairs come and go. The shard's thread only.
namespace workmill::cache {

class TagIndex {
 public:
  // An entry that has none yet. The same tag twice counts once.
  void add(EntryIndex index, std::span<std::string_view const> tags);
  // One that has some.
  void remove(EntryIndex index);
  // Calls visit(entry) for those of `tag` whose numbers are `from` and above, in their order, until it answers false.
  template <class Visit>
  void walk(std::string_view tag, std::uint32_t from, Visit const& visit) const {
    auto const found = ids_.find(tag);
    if (found == ids_.end()) return;
    for (auto at = pairs_.lower_bound({found->second, EntryIndex{from}});
         at != pairs_.end() && at->first == found->second; ++at) {
      if (!visit(at->second)) return;
    }
  }
  bool has(std::string_view tag, EntryIndex index) const {
    auto const found = ids_.find(tag);
    return found != ids_.end() && pairs_.contains({found->second, index});
  }
  std::size_t tags() const { return ids_.size(); }
  std::size_t pairs() const { return pairs_.size(); }
  // About, as it counts in the budget.
  std::uint64_t memory_bytes() const { return bytes_; }

 private:
  enum class TagId : std::uint32_t {};
  struct Tag {
    std::string name;
    std::uint32_t entries = 0;
  };
  // Two numbers in a B-tree's node, and one in the entry's list; and an entry's place in the table of lists.
  static constexpr std::uint64_t kPairBytes = 16;
  static constexpr std::uint64_t kListBytes = 48;
  static constexpr std::uint64_t kTagBytes = 128;  // And the name.

  TagId ensure(std::string_view name);

  absl::flat_hash_map<std::string_view, TagId> ids_;  // Borrows the names.
  std::vector<std::unique_ptr<Tag>> tags_;            // Null: free.
  std::vector<TagId> free_;
  absl::btree_set<std::pair<TagId, EntryIndex>> pairs_;
  absl::flat_hash_map<EntryIndex, std::vector<TagId>> of_entries_;
  std::uint64_t bytes_ = 0;
};

}  // namespace workmill::cache
