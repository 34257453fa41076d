#include <algorithm>

#include "base/variant.h"
#include "sim/checkers/model_detail.h"

// Whoever asks for a value that the disk has to read first (docs/adr/0030, 0032). He waits, and is decided when it is
// read: on what there is then, as if he had asked then. But where his key has been put or deleted meanwhile he is
// answered with what there was before. A deletion by tag or prefix, and what a report or a computation stores, overtake
// him.
namespace workmill::sim {

bool Model::set_aside(Asked const& asked) {
  ++set_aside_taken_;
  auto const* const read = std::get_if<ReadCached>(&asked.command);
  auto const* const compute = std::get_if<ComputeCached>(&asked.command);
  WM_SIM_HOLD(read != nullptr || (compute != nullptr && !compute->quiet),
              "somebody waits for the disk who asks for nothing that is there");
  std::string const& key = read != nullptr ? read->key : compute->key;
  ModelCached::Value const* const value = cached_value(key, now_);
  WM_SIM_HOLD(value != nullptr && !is_volatile(key), "the disk is to read {}, which is not there", key);
  auto& lines = fetching_[key];
  bool const is_first = lines.empty() || lines.back().outdated;
  if (!lines.empty() && is_first) ++figures_[Figure::cache_fetched_anew];
  if (is_first) lines.emplace_back();
  ++figures_[is_first ? Figure::cache_set_aside : Figure::cache_fetch_joined];
  lines.back().who.push_back({.asked = asked, .serial = value->serial});
  return true;
}

bool Model::end_fetch(std::string const& key) {
  auto const lines = fetching_.find(key);
  WM_SIM_HOLD(lines != fetching_.end(), "the disk has read {} for nobody", key);
  FetchLine line = std::move(lines->second.front());
  lines->second.pop_front();
  if (lines->second.empty()) fetching_.erase(lines);
  for (auto const& [asked, serial] : line.who) {
    ++moment_;
    if (line.outdated) {
      WM_SIM_STEP(answer_outdated(key, asked, *line.outdated));
      continue;
    }
    ModelCached::Value const* const value = cached_value(key, now_);
    bool const is_another = value != nullptr && value->serial != serial;
    Reply const* const reply = replies_ == nullptr ? nullptr : find_reply(asked.cookie);
    bool const is_answered = reply != nullptr && holds<CachedReply>(*reply);
    if (value == nullptr) {
      bool const is_over = cached_.contains(key) && cached_.at(key).value;
      ++figures_[is_over ? Figure::cache_fetched_too_late : Figure::cache_fetched_gone];
    } else if (is_answered) {
      ++figures_[is_another ? Figure::cache_fetched_another : Figure::cache_fetched];
    }
    WM_SIM_STEP(decide(asked));
  }
  return true;
}

// It is put or deleted next.
void Model::outdate_fetches(std::string const& key) {
  auto const lines = fetching_.find(key);
  if (lines == fetching_.end() || lines->second.back().outdated) return;
  ++figures_[Figure::cache_fetch_outdated];
  lines->second.back().outdated = Outdated{};
  Outdated& outdated = *lines->second.back().outdated;
  outdated.oldest_segment = oldest_segment_before_;
  ModelCached::Value const* const value = cached_value(key, now_);
  if (value == nullptr) return;
  outdated.value = *value;
  outdated.is_sure = is_sure(value);
}

// Where the record of what there was has gone with its segment, or cannot be read, or it is over by now: who only reads
// is told that there is nothing, and for who wants it computed it is as if he had asked now.
bool Model::answer_outdated(std::string const& key, Asked const& asked, Outdated& outdated) {
  auto const* const compute = std::get_if<ComputeCached>(&asked.command);
  bool const is_there = outdated.value && !outdated.value->times.is_over(now_);
  bool const is_sure = is_there && outdated.is_sure && outdated.oldest_segment == oldest_segment_;
  if (replies_ == nullptr) {
    bool const is_told = is_sure || (is_there && compute != nullptr && !begins_flight(compute->spec));
    if (compute == nullptr || is_told) {
      if (!is_sure && compute != nullptr && compute->wait > Duration{0}) ++maybe_waiting_;
      return true;
    }
    return decide(asked);
  }
  Reply const* const reply = find_reply(asked.cookie);
  auto const* const cached = reply == nullptr ? nullptr : std::get_if<CachedReply>(reply);
  bool const is_told =
      is_there && cached != nullptr && !cached->computed && may_have_been_told(*outdated.value, *cached);
  if (is_told) {
    ++replies_taken_;
    ++figures_[Figure::cache_fetched_outdated];
    return compare_cached(key, *outdated.value, cached->value, cached->times, now_);
  }
  WM_SIM_HOLD(!is_sure, "{} was there before it was changed, and whoever waited for the disk is not told of that", key);
  if (compute != nullptr) {
    ++figures_[Figure::cache_fetched_outdated_gone];
    return decide(asked);
  }
  ++replies_taken_;
  WM_SIM_HOLD(reply != nullptr && holds<CacheMissed>(*reply),
              "who waited for the disk to read {} before it was changed is told of another value", key);
  return true;
}

// A record of one of its values cannot be read.
void Model::damage_fetched(std::string const& key) {
  auto const lines = fetching_.find(key);
  if (lines == fetching_.end()) return;
  for (FetchLine& line : lines->second) {
    if (line.outdated) line.outdated->is_sure = false;
  }
}

// Whatever the disk does.
bool Model::give_up_fetches() {
  for (auto& [key, lines] : fetching_) {
    for (FetchLine& line : lines) {
      for (Fetching const& one : line.who) {
        if (now_ < one.asked.give_up_at) continue;
        ++figures_[Figure::cache_fetch_given_up];
        WM_SIM_STEP(expect_error(one.asked.cookie, ErrorCode::deadline_exceeded));
      }
      std::erase_if(line.who, [&](Fetching const& one) { return now_ >= one.asked.give_up_at; });
    }
  }
  return true;
}

bool Model::drop_fetching(shard::Cookie cookie) {
  auto const is_his = [&](Fetching const& one) { return one.asked.cookie == cookie; };
  for (auto& [key, lines] : fetching_) {
    for (FetchLine& line : lines) {
      if (std::erase_if(line.who, is_his) > 0) return true;
    }
  }
  return false;
}

// Who asks for the key, and is decided later in this turn; but for who begins to wait in it and still does at its end.
std::vector<Asked const*> Model::computes_left(std::string const& key) const {
  std::vector<Asked const*> computes;
  auto const add = [&](Asked const& asked) {
    auto const* const compute = std::get_if<ComputeCached>(&asked.command);
    if (compute != nullptr && compute->key == key) computes.push_back(&asked);
  };
  if (auto const lines = fetching_.find(key); lines != fetching_.end()) {
    for (FetchLine const& line : lines->second) {
      for (Fetching const& one : line.who) add(one.asked);
    }
  }
  for (Asked const& asked : asked_now_) {
    bool const waits = std::ranges::find(set_aside_, asked.cookie) != set_aside_.end();
    bool const is_answered = replies_ != nullptr && replies_->contains(asked.cookie);
    if (!waits || is_answered) add(asked);
  }
  return computes;
}

}  // namespace workmill::sim
