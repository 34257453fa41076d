#include "sim/writer_script.h"

#include <utility>

#include "base/assert.h"

namespace workmill::sim {

// What the shard loop holds of it.
class WriterScript::Hand final : public shard::Flusher {
 public:
  explicit Hand(WriterScript& script) : script_(script) {}
  void request(std::uint64_t batch) override {
    script_.requested_ = batch;
    script_.requested_serial_ = script_.watch_.serial;
  }
  Progress progress() const override { return script_.progress_; }

 private:
  WriterScript& script_;
};

std::unique_ptr<shard::Flusher> WriterScript::make(log::Log& log) {
  log_ = &log;
  return std::make_unique<Hand>(*this);
}

void WriterScript::died() {
  log_ = nullptr;
  requested_ = requested_serial_ = told_serial_ = 0;
  done_.reset();
  progress_ = {};
}

void WriterScript::flush() {
  Done done{.batch = requested_, .serial = requested_serial_, .error = {}};
  if (auto flushed = log_->flush(); !flushed) done.error = std::move(flushed).error();
  ++figures_[Figure::flushed_by_writer];
  if (done.batch > progress_.durable + 1) ++figures_[Figure::several_turns_in_one_flush];
  done_ = std::move(done);
}

void WriterScript::tell() {
  WM_ASSERT(done_.has_value());
  progress_.flushes += 1;
  progress_.error = std::move(done_->error);
  if (!progress_.error) {
    progress_.durable = done_->batch;
    told_serial_ = done_->serial;
  }
  done_.reset();
}

}  // namespace workmill::sim
