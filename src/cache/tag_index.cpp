#include "cache/tag_index.h"

#include <algorithm>

namespace workmill::cache {

TagIndex::TagId TagIndex::ensure(std::string_view name) {
  auto const found = ids_.find(name);
  if (found != ids_.end()) return found->second;
  TagId id{static_cast<std::uint32_t>(tags_.size())};
  if (free_.empty()) {
    tags_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  auto& tag = tags_[std::to_underlying(id)];
  tag = std::make_unique<Tag>(Tag{.name = std::string{name}});
  ids_.emplace(tag->name, id);
  bytes_ += kTagBytes + name.size();
  return id;
}

void TagIndex::add(EntryIndex index, std::span<std::string_view const> tags) {
  auto const [list, is_new] = of_entries_.try_emplace(index);
  WM_ASSERT(is_new);
  bytes_ += kListBytes;
  list->second.reserve(tags.size());
  for (std::string_view const name : tags) {
    TagId const id = ensure(name);
    if (!pairs_.emplace(id, index).second) continue;
    ++tags_[std::to_underlying(id)]->entries;
    list->second.push_back(id);
    bytes_ += kPairBytes;
  }
}

void TagIndex::remove(EntryIndex index) {
  auto const list = of_entries_.find(index);
  WM_ASSERT(list != of_entries_.end());
  for (TagId const id : list->second) {
    pairs_.erase({id, index});
    bytes_ -= kPairBytes;
    auto& tag = tags_[std::to_underlying(id)];
    if (--tag->entries > 0) continue;
    bytes_ -= kTagBytes + tag->name.size();
    ids_.erase(tag->name);
    tag.reset();
    free_.push_back(id);
  }
  of_entries_.erase(list);
  bytes_ -= kListBytes;
}

}  // namespace workmill::cache
