#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "model/job.h"

// A queue's settings and figures.
namespace workmill {

enum class WhenFull : std::uint8_t { refuse, drop_oldest };
std::string_view to_string(WhenFull value);
std::optional<WhenFull> parse_when_full(std::string_view text);

struct QueueSettings {
  bool paused = false;                       // Nothing is leased; enqueues, reports and expiry go on.
  std::optional<std::uint64_t> max_depth{};  // Of scheduled, ready and leased jobs together.
  WhenFull when_full = WhenFull::refuse;     // drop_oldest: the oldest ready job of the lowest priority is cancelled.
  bool operator==(QueueSettings const&) const = default;
};

struct QueueCounters {  // Since the data folder was made, or since this process started: see where it is used.
  std::uint64_t enqueued = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t leased = 0;
  std::uint64_t completed = 0;
  std::uint64_t failed = 0;  // Attempts, whatever came next.
  std::uint64_t died = 0;
  std::uint64_t released = 0;
  std::uint64_t lease_expired = 0;
  std::uint64_t cancelled = 0;
  bool operator==(QueueCounters const&) const = default;
};

struct QueueView {
  std::string name{};
  QueueSettings settings{};
  std::array<std::uint64_t, kJobStates> depth{};  // By JobState.
  std::optional<Instant> oldest_ready_at{};       // When the first job in line became ready.
  QueueCounters counters{};
  double enqueued_per_second = 0;  // Over the last 10 s or so; filled in by the shard.
  double completed_per_second = 0;
  double failed_per_second = 0;
};

}  // namespace workmill
