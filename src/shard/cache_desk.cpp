#include "shard/cache_desk.h"

#include <algorithm>
#include <iterator>

#include "base/assert.h"
#include "base/mutation.h"
#include "log/record.h"
#include "model/cache_set.h"
#include "shard/cache_replay.h"

namespace workmill::shard {

CacheDesk::Change& CacheDesk::add(Change::What what, std::string_view key, EffectSink::Written written) {
  Change& change = changes_.emplace_back(
      Change{.what = what, .key = std::string{key}, .place = {.at = written.at, .bytes = written.bytes}});
  ++unstaged_;
  waiting_.add(written.at, written.bytes);
  return change;
}

void CacheDesk::changed(Effect const& effect, EffectSink::Written written) {
  if (auto const* stored = std::get_if<effect::CacheStored>(&effect)) {
    if (stored->is_copy) return;  // survive() knows where from.
    Change& change = add(Change::What::stored, stored->key, written);
    change.value = value_of(*stored);
    change.times = times_of(*stored);
    change.tags = stored->tags;
    Decided& decided = decided_[change.key];
    ++decided.changes;
    decided.is_value_decided = decided.is_failure_decided = true;
    decided.value = change.value;
    decided.times = change.times;
    decided.tags = change.tags;
    decided.failure.reset();
    decided.made = Made{.value = change.value, .times = change.times};
  } else if (auto const* failed = std::get_if<effect::CacheFailed>(&effect)) {
    Change& change = add(Change::What::failed, failed->key, written);
    change.failure = {.error_class = failed->error_class,
                      .code = Bytes{failed->code},
                      .message = Bytes{failed->message},
                      .until = failed->until};
    Decided& decided = decided_[change.key];
    ++decided.changes;
    decided.is_failure_decided = true;
    decided.failure = change.failure;
  } else if (auto const* forgotten = std::get_if<effect::CacheForgotten>(&effect)) {
    // Its record says nothing that has to live on: what it ends goes with the segments before it.
    Change const& change = add(Change::What::forgotten, forgotten->key, {});
    Decided& decided = decided_[change.key];
    ++decided.changes;
    decided.is_value_decided = decided.is_failure_decided = true;
    decided.value = nullptr;
    decided.tags.clear();
    decided.failure.reset();
  }
}

void CacheDesk::landed(JobNumber flight, effect::CacheStored const& value, bool is_kept) {
  Made made{.value = nullptr, .times = times_of(value), .is_kept = is_kept && value.stale_until > value.stored_at};
  auto const decided = decided_.find(value.key);
  made.value = is_kept && decided != decided_.end() ? decided->second.value : value_of(value);
  landed_.insert_or_assign(flight, std::move(made));
}

void CacheDesk::staged(std::uint64_t batch) {
  landed_.clear();
  for (std::size_t i = changes_.size() - unstaged_; i < changes_.size(); ++i) changes_[i].batch = batch;
  unstaged_ = 0;
  if (WM_MUTATION(readers_see_what_is_not_durable)) durable(batch);
}

void CacheDesk::durable(std::uint64_t batch) {
  while (changes_.size() > unstaged_ && changes_.front().batch <= batch) {
    Change& change = changes_.front();
    publish(change);
    waiting_.drop(change.place.at, change.place.bytes);
    if (change.what != Change::What::moved) {
      auto const decided = decided_.find(change.key);
      WM_ASSERT(decided != decided_.end() && decided->second.changes > 0);
      if (--decided->second.changes == 0) decided_.erase(decided);
    }
    changes_.pop_front();
  }
}

void CacheDesk::publish(Change& change) {
  switch (change.what) {
    case Change::What::stored: {
      // A value whose windows are both zero was made for those who waited for it, and for nobody else.
      if (change.times.stale_until <= change.times.stored_at) {
        index_.erase(change.key);
        return;
      }
      tags_.clear();
      bool const are_tags = decode_cache_tags(change.tags, tags_);
      WM_ASSERT(are_tags);
      index_.put(change.key, std::move(change.value), change.times, tags_, change.place);
      return;
    }
    case Change::What::failed: return index_.put_failure(change.key, std::move(change.failure), change.place);
    case Change::What::forgotten: index_.erase(change.key); return;
    case Change::What::moved: return index_.move(change.key, change.from, change.place);
  }
}

cache::Lookup CacheDesk::look(std::string_view key, Instant now) const {
  auto const found = decided_.find(key);
  if (found == decided_.end()) return index_.find(key, now);
  Decided const& decided = found->second;
  cache::Lookup looked;
  if (!decided.is_value_decided || !decided.is_failure_decided) looked = index_.find(key, now);
  if (decided.is_value_decided) {
    bool const is_there =
        decided.value && (!decided.times.is_over(now) || WM_MUTATION(values_end_when_they_are_durable));
    looked.what = is_there ? cache::Lookup::What::value : cache::Lookup::What::absent;
    looked.value = is_there ? decided.value : nullptr;
    looked.times = is_there ? decided.times : CacheTimes{};
  } else if (looked.what == cache::Lookup::What::failed) {
    looked.what = cache::Lookup::What::absent;
  }
  if (decided.is_failure_decided) {
    looked.failure = decided.failure && now < decided.failure->until ? decided.failure : std::nullopt;
  }
  if (looked.what == cache::Lookup::What::absent && looked.failure) looked.what = cache::Lookup::What::failed;
  return looked;
}

// A damaged one. What is remembered beside it is written again behind the record that it is gone (write_gone()).
void CacheDesk::forget_value(std::string_view key) {
  ++damaged_;
  if (WM_MUTATION(damaged_value_takes_its_failure_along)) {
    index_.erase(key);
  } else {
    index_.erase_value(key);
  }
  damaged_keys_.emplace_back(key);
}

bool CacheDesk::has_tag(std::string_view key, std::string_view tag, Instant now) const {
  auto const found = decided_.find(key);
  if (found == decided_.end() || !found->second.is_value_decided) return index_.has_tag(key, tag, now);
  Decided const& decided = found->second;
  return decided.value && !decided.times.is_over(now) && has_cache_tag(decided.tags, tag);
}

std::optional<CacheDesk::Made> CacheDesk::made(std::string_view key) const {
  auto const found = decided_.find(key);
  return found == decided_.end() ? std::nullopt : found->second.made;
}

CacheDesk::Made const* CacheDesk::landed(JobNumber flight) const {
  auto const found = landed_.find(flight);
  return found == landed_.end() ? nullptr : &found->second;
}

std::vector<std::string const*> CacheDesk::stored_now() const {
  std::vector<std::string const*> keys;
  for (std::size_t i = changes_.size() - unstaged_; i < changes_.size(); ++i) {
    if (changes_[i].what == Change::What::stored) keys.push_back(&changes_[i].key);
  }
  return keys;
}

std::move_only_function<void()> CacheDesk::fetch(std::string_view key) {
  auto const place = index_.place(key);
  return place ? reader_.fetch(place->at, place->bytes) : std::move_only_function<void()>{};
}

Result<CacheValuePtr> CacheDesk::read_value(std::string_view key, cache::Place place, std::uint64_t etag) {
  WM_TRY(auto const record, reader_.record(place.at, place.bytes));
  WM_TRY(auto const effect, log::parse_record(record));
  auto const* const stored = std::get_if<effect::CacheStored>(&effect);
  if (stored == nullptr || stored->key != key || stored->etag != etag) {
    return fail(ErrorCode::log_corrupt, "a cached value does not stand where it should");
  }
  ++cold_reads_;
  return value_of(*stored);
}

Result<CacheValuePtr> CacheDesk::read_cold(std::string_view key, std::uint64_t etag) {
  auto const place = index_.place(key);
  if (!place) return CacheValuePtr{};
  auto value = read_value(key, *place, etag);
  if (value) {
    index_.warm(key, etag, *value);
    return value;
  }
  if (value.error().code != ErrorCode::log_corrupt) return value;
  forget_value(key);
  tell_damage(value.error());
  return CacheValuePtr{};
}

Result<CacheValuePtr> CacheDesk::read_outdated(std::string_view key, cache::Place place, std::uint64_t etag) {
  if (!reader_.is_kept(place.at)) return CacheValuePtr{};
  auto value = read_value(key, place, etag);
  if (!value && value.error().code == ErrorCode::log_corrupt) return CacheValuePtr{};
  return value;
}

void CacheDesk::find_by(std::string_view tag, std::string_view prefix, Instant now, std::uint64_t& cursor,
                        std::vector<std::string>& out) const {
  if (cursor == 0) {
    for (auto const& [key, decided] : decided_) {
      bool const is_value = decided.value && !decided.times.is_over(now);
      bool const is_failure = decided.failure && now < decided.failure->until;
      bool const is_there = is_value || (tag.empty() && is_failure);  // A failure has no tags.
      if (!is_there || WM_MUTATION(deletes_only_what_is_durable)) continue;
      if (tag.empty() ? key.starts_with(prefix) : has_cache_tag(decided.tags, tag)) out.push_back(key);
    }
  }
  cache::Cursor at{.next = static_cast<std::uint32_t>(cursor == 0 ? 0 : cursor - 1)};
  std::vector<cache::Found> found;
  if (tag.empty()) {
    index_.find_prefix(prefix, at, options_.looks_per_part, options_.found_per_part, found);
  } else {
    index_.find_tag(tag, at, options_.found_per_part, found);
  }
  for (cache::Found& entry : found) {
    auto const decided = decided_.find(entry.key);
    if (decided != decided_.end() && decided->second.is_value_decided) continue;  // Seen above, or newer.
    if (cursor == 0 && std::ranges::find(out, entry.key) != out.end()) continue;  // Seen above, by its failure.
    auto const what = look(entry.key, now).what;
    bool const is_cold = what == cache::Lookup::What::cold && !WM_MUTATION(deletes_only_what_is_in_memory);
    bool const is_value = what == cache::Lookup::What::value || is_cold;
    if (!is_value && (!tag.empty() || what == cache::Lookup::What::absent)) continue;  // It is over, and not swept yet.
    out.push_back(std::move(entry.key));
  }
  cursor = at.done ? kAllFound : std::uint64_t{at.next} + 1;
}

void CacheDesk::take_gone(std::size_t most, std::vector<std::string>& out) {
  if (WM_MUTATION(evicted_values_come_back)) {
    damaged_keys_.clear();
    std::vector<std::string> unused;
    return index_.take_evicted(most, unused);
  }
  std::vector<std::string> gone;
  std::size_t const damaged = std::min(most, damaged_keys_.size());
  std::move(damaged_keys_.end() - static_cast<std::ptrdiff_t>(damaged), damaged_keys_.end(), std::back_inserter(gone));
  damaged_keys_.resize(damaged_keys_.size() - damaged);
  index_.take_evicted(most - damaged, gone);
  for (std::string& key : gone) {
    auto const decided = decided_.find(key);
    bool const is_newer = (decided != decided_.end() && decided->second.is_value_decided) || index_.place(key);
    if (!is_newer) out.push_back(std::move(key));
  }
}

std::uint64_t CacheDesk::survive(Effect const& record, Position at, Instant now, Batch& batch) {
  auto const* const stored = std::get_if<effect::CacheStored>(&record);
  auto const* const failed = std::get_if<effect::CacheFailed>(&record);
  if (stored == nullptr && failed == nullptr) return 0;
  std::string_view const key = stored != nullptr ? stored->key : failed->key;
  auto const place = stored != nullptr ? index_.place(key) : index_.failure_place(key);
  if (!place || place->at != at) return 0;
  auto const decided = decided_.find(key);
  if (decided != decided_.end() &&
      (stored != nullptr ? decided->second.is_value_decided : decided->second.is_failure_decided)) {
    return 0;  // What takes its place will be published before the segment goes.
  }
  if (stored != nullptr && stored->stale_until <= now && !index_.failure_place(key)) {
    index_.erase(key);
    return 0;
  }
  Effect copy = record;
  if (auto* const value = std::get_if<effect::CacheStored>(&copy)) value->is_copy = true;
  auto const written = batch.write(copy);
  if (failed != nullptr) return written.bytes;  // The desk has heard of it as of any other: the same, at a later place.
  add(Change::What::moved, key, written).from = at;
  return written.bytes;
}

// It is all in memory. Also one that is over: it stands where nothing may stand any more. So many bytes were written.
std::uint64_t CacheDesk::write_failure_again(std::string const& key, Batch& batch) {
  auto const decided = decided_.find(key);
  if (decided != decided_.end() && decided->second.is_failure_decided) return 0;  // As in survive().
  auto const failure = index_.find(key, kInstantMin).failure;
  WM_ASSERT(failure.has_value());
  return batch
      .write(effect::CacheFailed{.key = key,
                                 .error_class = failure->error_class,
                                 .code = failure->code,
                                 .message = failure->message,
                                 .until = failure->until})
      .bytes;
}

std::size_t CacheDesk::forget_damaged(Position from, Position until, cache::Cursor& cursor, Batch& batch,
                                      std::uint64_t& copied) {
  auto const stands_there = [&](cache::Place const& place) { return place.at >= from && place.at < until; };
  std::vector<cache::Found> found;
  index_.find_in_segment(from.segment, cursor, options_.looks_per_part, options_.found_per_part, found);
  std::size_t forgotten = 0;
  for (cache::Found const& entry : found) {
    if (stands_there(entry.failure)) copied += write_failure_again(entry.key, batch);
    if (!stands_there(entry.value)) continue;
    forget_value(entry.key);
    ++forgotten;
  }
  return forgotten;
}

std::size_t CacheDesk::sweep(Instant now) {
  index_.sweep(now, options_.swept_per_turn);
  return options_.swept_per_turn;
}

}  // namespace workmill::shard
