#pragma once
#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/time.h"
#include "engine/job_slot.h"
#include "model/segment_counts.h"

// The first answers to requests with an idempotency key, for as long as they are kept. Keys are known by 128 bits of
// hash, seeded by the store's salt. Where more than the bound come within that time, the oldest go early.
namespace workmill::engine {

class IdempotencyTable {
 public:
  struct Answer {
    std::uint64_t fingerprint = 0;
    Instant until{};
    Position at{};            // Of its record,
    std::uint32_t bytes = 0;  // and how large that is.
    Bytes reply;              // As encode_enqueue_reply writes it.
  };

  IdempotencyTable(std::size_t bound, SegmentCounts& segments) : bound_(bound), segments_(segments) {}

  // The answer kept for a key, where its time is not up.
  Answer const* find(Hash128 key, Instant now) const;
  // A new answer, or one known already that was rewritten elsewhere in the log. `until` never falls but in replay,
  // where the order is not that of age: so nothing goes early before finish_replay().
  void remember(Hash128 key, Answer answer);
  // Drops what is over; `steps_max` at most.
  void turn(Instant now, std::uint32_t steps_max);
  std::optional<Instant> next() const {
    return by_time_.empty() ? std::nullopt : std::optional{by_time_.front().first};
  }
  void finish_replay(Instant now);

  std::size_t size() const { return answers_.size(); }
  // In no order.
  template <class Visit>
  void walk(Visit const& visit) const {
    for (auto const& [key, answer] : answers_) visit(answer);
  }
  std::size_t memory_bytes() const {
    return answers_.capacity() * (sizeof(Hash128) + sizeof(Answer) + 1) + by_time_.size() * sizeof(by_time_.front()) +
           reply_bytes_;
  }

 private:
  void drop(absl::flat_hash_map<Hash128, Answer>::iterator answer);
  void drop_first();

  std::size_t bound_;
  bool is_live_ = false;
  SegmentCounts& segments_;
  absl::flat_hash_map<Hash128, Answer> answers_;
  std::deque<std::pair<Instant, Hash128>> by_time_;  // Ascending. Each answer, and some that were replaced.
  std::size_t reply_bytes_ = 0;
};

}  // namespace workmill::engine
