#pragma once
#include <limits>

#include "base/assert.h"
#include "log/record.h"
#include "model/effect.h"

namespace workmill::shard {

// The batch that a turn fills: records behind each other, each at the position that it will have in the log.
// On the shard's thread. The buffer is kept from turn to turn.
class Batch final : public EffectSink {
 public:
  void begin(Position base) {
    base_ = base;
    payload_.clear();
  }

  Written write(Effect const& effect) override {
    WM_ASSERT(payload_.size() <= std::numeric_limits<std::uint32_t>::max() - base_.offset);
    Position const at{base_.segment, base_.offset + static_cast<std::uint32_t>(payload_.size())};
    return {.at = at, .bytes = log::append_record(effect, payload_)};
  }

  Position base() const { return base_; }
  Bytes const& payload() const { return payload_; }
  bool empty() const { return payload_.empty(); }

 private:
  Position base_{};
  Bytes payload_;
};

}  // namespace workmill::shard
