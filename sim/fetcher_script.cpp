#include "sim/fetcher_script.h"

#include <algorithm>
#include <iterator>

namespace workmill::sim {

// What the shard loop holds of it.
class FetcherScript::Hand final : public shard::Fetcher {
 public:
  explicit Hand(FetcherScript& script) : script_(script) {}
  bool begin(std::string name, Fetch fetch) override {
    if (script_.waiting_.size() >= script_.waiting_max_) {
      ++script_.figures_[Figure::cache_fetch_refused];
      return false;
    }
    script_.waiting_.push_back({.name = std::move(name), .fetch = std::move(fetch)});
    return true;
  }
  void note_waiting(shard::Cookie cookie) override { script_.set_aside_.push_back(cookie); }
  void take_done(std::vector<std::string>& out) override {
    out.insert(out.end(), script_.done_.begin(), script_.done_.end());
    std::ranges::move(script_.done_, std::back_inserter(script_.fetched_));
    script_.done_.clear();
  }

 private:
  FetcherScript& script_;
};

std::unique_ptr<shard::Fetcher> FetcherScript::make(std::size_t waiting_max) {
  waiting_max_ = waiting_max;
  return std::make_unique<Hand>(*this);
}

void FetcherScript::died() {
  waiting_.clear();
  done_.clear();
  fetched_.clear();
  set_aside_.clear();
}

void FetcherScript::finish_one() {
  waiting_.front().fetch();
  done_.push_back(std::move(waiting_.front().name));
  waiting_.pop_front();
}

}  // namespace workmill::sim
