#include "engine/flag_table.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"

namespace workmill::engine {

FlagTable::Changes const* FlagTable::find(std::string_view key) const {
  auto const found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &found->second;
}

bool FlagTable::stands_on(effect::FlagChanged const& record, Position at) const {
  Changes const* const changes = find(record.key);
  return changes != nullptr &&
         std::any_of(changes->begin(), changes->end(), [&](Change const& change) { return change.stands_at == at; });
}

void FlagTable::apply(effect::FlagChanged const& e, EffectSink::Written w) {
  Changes& changes = by_key_[std::string{e.key}];
  auto const place =
      std::lower_bound(changes.begin(), changes.end(), e.version,
                       [](Change const& change, std::uint64_t version) { return change.version < version; });
  segments_.add(w.at, w.bytes);
  if (place != changes.end() && place->version == e.version) {  // A copy.
    segments_.drop(place->stands_at, place->bytes);
    place->stands_at = w.at;
    place->bytes = w.bytes;
    return;
  }
  changes.insert(place, {.version = e.version,
                         .at = e.at,
                         .by = std::string{e.by},
                         .definition = Bytes{e.definition},
                         .stands_at = w.at,
                         .bytes = w.bytes});
  shorten(changes);
  if (is_live_) publish();
}

void FlagTable::apply(effect::FlagRemoved const& e) {
  auto const found = by_key_.find(e.key);
  if (found == by_key_.end()) return;
  removed_version_ = std::max(removed_version_, found->second.back().version);
  while (!found->second.empty()) drop_oldest(found->second);
  by_key_.erase(found);
  if (is_live_) publish();
}

void FlagTable::shorten(Changes& changes) {
  std::size_t bytes = 0;
  for (Change const& change : changes) bytes += change.definition.size();
  std::size_t const most = kChangesMax - (WM_MUTATION(flag_history_is_cut_short) ? 1 : 0);
  while (changes.size() > 1 && (changes.size() > most || bytes > kChangeBytesMax)) {
    bytes -= changes.front().definition.size();
    drop_oldest(changes);
  }
}

void FlagTable::drop_oldest(Changes& changes) {
  segments_.drop(changes.front().stands_at, changes.front().bytes);
  changes.pop_front();
}

Result<> FlagTable::check(effect::FlagChanged const& e) {
  WM_TRY_VOID(flags::decode_flag(e.definition));
  if (e.version == 0) return fail(ErrorCode::log_corrupt, "a flag's change has no version");
  return {};
}

// The log may begin in the midst of a flag's history: of a change that was
// given up, the record may still be there while that of a later one, which was
// given up as well, is gone. What was kept is what is whole up to the newest.
void FlagTable::finish_replay() {
  WM_ASSERT(!is_live_);
  is_live_ = true;
  for (auto& [key, changes] : by_key_) {
    std::uint64_t const newest = changes.back().version;
    std::size_t whole = 1;
    while (whole < changes.size() && changes[changes.size() - 1 - whole].version + whole == newest) ++whole;
    while (changes.size() > whole) drop_oldest(changes);
  }
  publish();
}

void FlagTable::publish() {
  std::vector<flags::FlagEntryPtr> entries;
  entries.reserve(by_key_.size());
  for (auto const& [key, changes] : by_key_) {
    Change const& newest = changes.back();
    // Each change makes a set: of the same version it is the same.
    std::size_t const behind = set_->first_after(key);
    if (behind > 0 && set_->entries()[behind - 1]->key == key &&
        set_->entries()[behind - 1]->version == newest.version) {
      entries.push_back(set_->entries()[behind - 1]);
      continue;
    }
    auto made = flags::make_entry(key, newest.definition, newest.version, newest.at, newest.by);
    WM_ASSERT(made.has_value());  // Looked at when it was sent, or replayed.
    entries.push_back(*std::move(made));
  }
  set_ = std::make_shared<flags::FlagSet const>(std::move(entries));
  ++revision_;
}

}  // namespace workmill::engine
