#pragma once
#include <array>
#include <cstddef>
#include <limits>

#include "base/assert.h"
#include "base/variant.h"
#include "log/record.h"
#include "model/effect.h"

namespace workmill::shard {

// Is told of every effect, in order, before it is applied; it must not write any.
class EffectWatch {
 public:
  virtual ~EffectWatch() = default;
  virtual void wrote(Effect const& effect) = 0;
};

// Is told of each effect of the shared cache, in order: of one that is only shown, without a position. It must not
// write any.
class CacheWatch {
 public:
  virtual ~CacheWatch() = default;
  virtual void changed(Effect const& effect, EffectSink::Written written) = 0;
  virtual void landed(JobNumber flight, effect::CacheStored const& value, bool is_kept) = 0;  // See EffectSink.
};

// The batch that a turn fills: records behind each other, each at the position that it will have in the log.
// On the shard's thread. The buffer is kept from turn to turn.
class Batch final : public EffectSink {
 public:
  static constexpr std::size_t kWatches = 2;  // Traces and streams.

  // It outlives the batch's use. At most kWatches.
  void add_watch(EffectWatch& watch) {
    WM_ASSERT(watching_ < watches_.size());
    watches_[watching_++] = &watch;
  }

  // It outlives the batch's use.
  void set_cache_watch(CacheWatch& watch) { cache_ = &watch; }

  void begin(Position base) {
    base_ = base;
    payload_.clear();
  }

  Written write(Effect const& effect) override {
    WM_ASSERT(payload_.size() <= std::numeric_limits<std::uint32_t>::max() - base_.offset);
    Position const at{base_.segment, base_.offset + static_cast<std::uint32_t>(payload_.size())};
    std::uint32_t const bytes = log::append_record(effect, payload_);
    for (std::size_t i = 0; i < watching_; ++i) watches_[i]->wrote(effect);
    Written const written{.at = at, .bytes = bytes};
    if (cache_ != nullptr && is_of_cache(effect)) cache_->changed(effect, written);
    return written;
  }
  void show(Effect const& effect) override {
    if (cache_ != nullptr) cache_->changed(effect, {});
  }
  void landed(JobNumber flight, effect::CacheStored const& value, bool is_kept) override {
    if (cache_ != nullptr) cache_->landed(flight, value, is_kept);
  }

  Position base() const { return base_; }
  Bytes const& payload() const { return payload_; }
  bool empty() const { return payload_.empty(); }

 private:
  static bool is_of_cache(Effect const& effect) {
    return holds<effect::CacheStored>(effect) || holds<effect::CacheFailed>(effect) ||
           holds<effect::CacheForgotten>(effect);
  }

  Position base_{};
  Bytes payload_;
  std::array<EffectWatch*, kWatches> watches_{};
  std::size_t watching_ = 0;
  CacheWatch* cache_ = nullptr;
};

}  // namespace workmill::shard
