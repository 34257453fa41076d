#include <algorithm>

#include "sim/checkers/model_detail.h"

// Whoever asks for a value that the disk has to read first (docs/adr/0030). He waits, and is decided when it is read:
// on what there is then, as if he had asked then. But before his key is put or deleted he is decided on what was there
// before. A deletion by tag or prefix, and what a report or a computation stores, overtake him.
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
  std::vector<Fetching>& line = fetching_[key];
  ++figures_[line.empty() ? Figure::cache_set_aside : Figure::cache_fetch_joined];
  line.push_back({.asked = asked, .serial = value->serial});
  return true;
}

bool Model::end_fetches_of(std::string const& key) {
  auto const line = fetching_.extract(key);
  if (line.empty()) return true;
  for (auto const& [asked, serial] : line.mapped()) {
    ++moment_;
    ModelCached::Value const* const value = cached_value(key, now_);
    bool const is_another = value != nullptr && value->serial != serial;
    Reply const* const reply = replies_ == nullptr ? nullptr : find_reply(asked.cookie);
    bool const is_answered = reply != nullptr && std::holds_alternative<CachedReply>(*reply);
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

bool Model::end_fetches_before(std::string const& key) {
  if (fetching_.contains(key)) ++figures_[Figure::cache_fetch_ended_by_change];
  Instant const give_up_at = give_up_at_;
  WM_SIM_STEP(end_fetches_of(key));
  give_up_at_ = give_up_at;
  return true;
}

// Whatever the disk does.
bool Model::give_up_fetches() {
  for (auto& [key, line] : fetching_) {
    for (Fetching const& one : line) {
      if (now_ < one.asked.give_up_at) continue;
      ++figures_[Figure::cache_fetch_given_up];
      WM_SIM_STEP(expect_error(one.asked.cookie, ErrorCode::deadline_exceeded));
    }
    std::erase_if(line, [&](Fetching const& one) { return now_ >= one.asked.give_up_at; });
  }
  return true;
}

bool Model::drop_fetching(shard::Cookie cookie) {
  for (auto& [key, line] : fetching_) {
    if (std::erase_if(line, [&](Fetching const& one) { return one.asked.cookie == cookie; }) > 0) return true;
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
  if (auto const line = fetching_.find(key); line != fetching_.end()) {
    for (Fetching const& one : line->second) add(one.asked);
  }
  for (Asked const& asked : asked_now_) {
    bool const waits = std::ranges::find(set_aside_, asked.cookie) != set_aside_.end();
    bool const is_answered = replies_ != nullptr && replies_->contains(asked.cookie);
    if (!waits || is_answered) add(asked);
  }
  return computes;
}

}  // namespace workmill::sim
