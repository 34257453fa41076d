#pragma once
#include "base/time.h"

namespace workmill::shard {

// The machine's own time: the only caller of a real now(). Any thread.
class SystemClock final : public Clock {
 public:
  Instant now() const override;
  std::chrono::nanoseconds monotonic() const override;
};

}  // namespace workmill::shard
