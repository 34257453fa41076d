#pragma once
#include <limits>

#include "base/assert.h"
#include "log/record.h"
#include "model/effect.h"

namespace workmill::shard {

// Is told of every effect, in order, before it is applied; it must not write any.
class EffectWatch {
 public:
  virtual ~EffectWatch() = default;
  virtual void wrote(Effect const& effect) = 0;
};

// The batch that a turn fills: records behind each other, each at the position that it will have in the log.
// On the shard's thread. The buffer is kept from turn to turn.
class Batch final : public EffectSink {
 public:
  // Null: nobody watches. It outlives the batch's use.
  void set_watch(EffectWatch* watch) { watch_ = watch; }

  void begin(Position base) {
    base_ = base;
    payload_.clear();
  }

  Written write(Effect const& effect) override {
    WM_ASSERT(payload_.size() <= std::numeric_limits<std::uint32_t>::max() - base_.offset);
    Position const at{base_.segment, base_.offset + static_cast<std::uint32_t>(payload_.size())};
    std::uint32_t const bytes = log::append_record(effect, payload_);
    if (watch_ != nullptr) watch_->wrote(effect);
    return {.at = at, .bytes = bytes};
  }

  Position base() const { return base_; }
  Bytes const& payload() const { return payload_; }
  bool empty() const { return payload_.empty(); }

 private:
  Position base_{};
  Bytes payload_;
  EffectWatch* watch_ = nullptr;
};

}  // namespace workmill::shard
