#include "base/rng.h"
#include "log/conformance.h"

// Everything at once, against a model: the list of what was flushed.
namespace workmill::log {
namespace {

class Model {
 public:
  Model(Place& place, std::uint64_t seed) : place_(place), rng_(seed) { open(); }

  void step() {
    switch (rng_.below(20)) {
      default: return stage_one();
      case 10:
      case 11:
      case 12:
      case 13:
      case 14:
      case 15: return flush();
      case 16: return trim();
      case 17: return reopen(/*killed=*/true);
      case 18: return reopen(/*killed=*/false);
      case 19: return read_one();
    }
  }

 private:
  void open() {
    Opened opened = open_log(place_, options_);
    log_ = std::move(opened.log);
    ASSERT_GT(opened.epoch, epoch_);
    epoch_ = opened.epoch;
    // A segment trimmed since the last flush may have come back, whole.
    if (opened.batches.size() > flushed_.size()) flushed_.insert(flushed_.begin(), trimmed_.begin(), trimmed_.end());
    trimmed_.clear();
    ASSERT_EQ(opened.batches, flushed_);
  }
  void stage_one() {
    std::size_t const size = rng_.chance(50) ? 1 + rng_.below(20'000) : 1 + rng_.below(500);
    staged_.push_back(stage(*log_, noise(size, rng_.next()), ++time_));
  }
  void flush() {
    if (!staged_.empty()) trimmed_.clear();
    ASSERT_TRUE(log_->flush());
    std::move(staged_.begin(), staged_.end(), std::back_inserter(flushed_));
    staged_.clear();
  }
  void trim() {
    if (!trimmed_.empty()) return;
    std::uint32_t const oldest = log_->status().segments.front().ordinal;
    if (!log_->trim_oldest().value()) return;
    auto const kept = std::find_if(flushed_.begin(), flushed_.end(),
                                   [&](KnownBatch const& batch) { return batch.base.segment != oldest; });
    trimmed_.assign(flushed_.begin(), kept);
    flushed_.erase(flushed_.begin(), kept);
  }
  void reopen(bool killed) {
    if (!killed) flush();
    staged_.clear();
    if (killed) place_.kill(std::move(log_));
    log_.reset();
    open();
  }
  void read_one() {
    std::size_t const count = flushed_.size() + staged_.size();
    if (count == 0) return;
    std::size_t const index = rng_.below(count);
    KnownBatch const& batch = index < flushed_.size() ? flushed_[index] : staged_[index - flushed_.size()];
    ASSERT_EQ(read(*log_, batch), batch.payload);
  }

  Place& place_;
  Rng rng_;
  PlaceOptions const options_{.segment_bytes = 4096, .recent_bytes = 3'000};
  std::unique_ptr<Log> log_;
  Epoch epoch_{};
  int time_ = 0;
  std::vector<KnownBatch> staged_;
  std::vector<KnownBatch> flushed_;
  std::vector<KnownBatch> trimmed_;  // Since the last flush that wrote something.
};

TEST_P(LogConformance, BehavesLikeAListOfBatchesWhateverIsDoneToItInWhateverOrder) {
  for (std::uint64_t seed = 1; seed <= 8 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    auto const place = GetParam().make_place();
    Model model{*place, seed};
    for (int i = 0; i < 250 && !HasFailure(); ++i) model.step();
  }
}

}  // namespace
}  // namespace workmill::log
