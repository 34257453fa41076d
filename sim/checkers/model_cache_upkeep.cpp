#include "model/cache_set.h"

#include <algorithm>

#include "sim/checkers/model_detail.h"

// What becomes of cached values besides: damage, restarts, what gives way to others, and copies.
namespace workmill::sim {

// The value goes. What is remembered of a failure stays.
void Model::damage_cached(std::string const& key) {
  auto const found = cached_.find(key);
  if (found != cached_.end() && found->second.value) found->second.value->may_be_gone = true;
}

// Of the life before, `evicted` entries had been evicted by its end. What was not among them, has to be there.
void Model::restart_cache(std::uint64_t evicted) {
  for (auto entry = cached_.begin(); entry != cached_.end();) {
    auto& [key, cached] = *entry;
    if (is_volatile(key)) {
      ++figures_[Figure::cache_volatile_lost];
      entry = cached_.erase(entry);
      continue;
    }
    auto const go_on = [evicted](ModelCached::Kept& kept) {
      kept.may_be_gone = !kept.is_sure(evicted);
      kept.evicted = 0;
      kept.is_of_earlier_life = true;
    };
    if (cached.value) go_on(*cached.value);
    if (cached.failure) go_on(*cached.failure);
    ++entry;
  }
}

// By somebody in this turn.
bool Model::is_to_be_deleted(std::string const& key, std::span<Asked const> asked) const {
  auto const found = cached_.find(key);
  auto const deletes = [&](Command const& command) {
    if (auto const* one = std::get_if<ForgetCached>(&command)) return one->key == key;
    auto const* many = std::get_if<ForgetCachedBy>(&command);
    return many != nullptr && found != cached_.end() && matches(key, found->second, *many);
  };
  return std::ranges::any_of(asked, deletes, &Asked::command) || std::ranges::any_of(bulks_, deletes, &Bulk::command);
}

// What had to go to make room, or was damaged, is written down as gone before anything is decided. Where the first to
// ask deletes such a key, nobody can say whose record it is: it is as good for both. What is there for sure has not
// gone, so its record is that of a deletion. But a failure may have been remembered since its key has gone: then it is
// written once more.
bool Model::take_evictions(std::span<Asked const> asked) {
  gone_now_.clear();
  while (auto const* gone = next<effect::CacheForgotten>()) {
    std::string key{gone->key};
    auto const found = cached_.find(key);
    bool const is_value_sure = is_sure(cached_value(key, now_));
    bool const is_failure_kept = !is_value_sure && cached_failure(key, now_) != nullptr && is_written_again(key);
    if (is_value_sure || (is_sure(cached_failure(key, now_)) && !is_failure_kept)) break;
    ++at_;
    ++figures_[Figure::cache_eviction_written];
    if (is_failure_kept) {
      ++at_;
      ++figures_[Figure::cache_failure_written_again];
      found->second.value.reset();
    } else if (found != cached_.end() && !is_to_be_deleted(key, asked)) {
      cached_.erase(found);
    }
    gone_now_.insert(std::move(key));
  }
  return true;
}

// Right behind the next record.
bool Model::is_written_again(std::string const& key) {
  if (at_ + 1 >= effects_.size()) return false;
  auto const* again = std::get_if<effect::CacheFailed>(&effects_[at_ + 1]);
  CacheFailure const& said = cached_failure(key, now_)->said;
  return again != nullptr && again->key == key && again->error_class == said.error_class && again->code == said.code &&
         again->message == said.message && again->until == said.until;
}

bool Model::take_cache_copy(effect::CacheStored const& copy) {
  std::string const key{copy.key};
  auto const found = cached_.find(key);
  WM_SIM_HOLD(copy.is_copy, "a value of {} that nobody put", key);
  WM_SIM_HOLD(found != cached_.end() && found->second.value, "{} was copied ahead, and is not there", key);
  ModelCached::Value const& value = *found->second.value;
  Bytes tags;
  encode_cache_tags(value.tags, tags);
  CacheTimes const times{.stored_at = copy.stored_at,
                         .fresh_until = copy.fresh_until,
                         .stale_until = copy.stale_until,
                         .compute_time = copy.compute_time,
                         .etag = copy.etag};
  WM_SIM_HOLD(
      copy.content_type == value.content_type && copy.body == value.body && copy.tags == tags && times == value.times,
      "the value of {} was copied ahead wrongly", key);
  ++figures_[Figure::cache_value_copied];
  return true;
}

bool Model::take_cache_copy(effect::CacheFailed const& copy) {
  std::string const key{copy.key};
  auto const found = cached_.find(key);
  WM_SIM_HOLD(found != cached_.end() && found->second.failure, "that {} failed was copied ahead, and is not so", key);
  CacheFailure const& said = found->second.failure->said;
  WM_SIM_HOLD(copy.error_class == said.error_class && copy.code == said.code && copy.message == said.message &&
                  copy.until == said.until,
              "that {} failed was copied ahead wrongly", key);
  ++figures_[Figure::cache_failure_copied];
  return true;
}

}  // namespace workmill::sim
