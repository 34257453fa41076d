#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/time.h"
#include "engine/slab.h"
#include "model/ids.h"
#include "model/job.h"
#include "model/position.h"

// What the engine keeps of a job: one slot of 72 bytes, and an Extra for the few that need more. Payloads, errors and
// results stay in the log, where spec_at and event_at point.
namespace workmill::engine {

// The codes of the errors that are the engine's own.
inline constexpr std::string_view kLeaseExpired = "lease_expired";
inline constexpr std::string_view kExpired = "expired";
inline constexpr std::string_view kPayloadDamaged = "payload_damaged";
inline constexpr std::string_view kPayloadDamagedText = "what was sent for this job is damaged on the disk";
inline constexpr std::string_view kCheckpointDamagedText =
    "the checkpoint of this job is damaged on the disk: retried, it starts without one";

enum class JobIndex : std::uint32_t {};
enum class ExtraIndex : std::uint32_t {};
enum class QueueIndex : std::uint32_t {};
enum class LaneIndex : std::uint32_t {};
enum class LineIndex : std::uint32_t {};
enum class NameIndex : std::uint32_t {};
enum class PolicyIndex : std::uint32_t {};

// When a number was given that next_in_time() makes, as `order` below is.
constexpr Instant time_of(std::uint64_t in_time) { return created_at(JobNumber{in_time}); }

struct JobSlot {
  JobNumber number{};
  Position spec_at{};       // The JobEnqueued or JobSnapshot record that holds its spec.
  Position event_at{};      // The newest record of what became of it.
  Instant due{};            // Scheduled: ready at. Ready: since. Leased: deadline. Finished: at.
  std::uint64_t order = 0;  // Ready: place in line. Leased: its token. Scheduled: since when it waits, in that form.
  // Neighbours in the one list that the state puts it in: a lane (ready), the timing wheel (scheduled, leased) or a
  // line of the retention (finished). During replay it is in none.
  JobIndex prev = kNone<JobIndex>;
  JobIndex next = kNone<JobIndex>;
  std::uint32_t spec_bytes = 0;  // Of the whole record at spec_at.
  LaneIndex lane = kNone<LaneIndex>;
  NameIndex type = kNone<NameIndex>;
  PolicyIndex policy = kNone<PolicyIndex>;
  ExtraIndex extra = kNone<ExtraIndex>;
  std::uint16_t attempt = 0;
  JobState state{};
  bool cancel_requested : 1 = false;
  bool is_watched : 1 = false;
  bool has_batch : 1 = false;  // Named one when it was made: BatchTable knows which, and whether that is still there.

  LeaseToken token() const { return LeaseToken{order}; }
};
static_assert(sizeof(JobSlot) == 72, "the bound of 100 bytes a job stands on this");
static_assert(kMaxAttemptsLimit <= UINT16_MAX);

struct Hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(Hash128 const&) const = default;
  template <class H>
  friend H AbslHashValue(H h, Hash128 const& hash) {
    return H::combine(std::move(h), hash.low);
  }
};

// What a job is to make that computes a cached value, as its spec says.
struct Flight {
  Bytes key;
  Duration fresh{};
  Duration stale{};
  Duration error_for{};
  Bytes tags;  // As encode_cache_tags writes it.
  // Since its key was put or deleted while it computed: it does not hold it any more, and nothing of it is kept.
  bool is_overtaken = false;
  bool has_begun = false;  // Is in the index of those that may have read what they compute from.
};

struct JobExtra {
  Bytes client_id;
  Hash128 unique_key{};    // Of the queue's name and the key; of a flight: of no queue and the cached value's key.
  Instant unique_until{};  // The key is free from then on.
  UniqueWhile unique_while{};
  bool has_unique_key = false;
  bool holds_unique_key = false;  // Is in the index of keys.
  bool can_expire = false;        // Is in the index of expiries.
  Instant expires_at = kInstantMax;
  Position log_at{};         // The newest record of its log lines.
  Position checkpoint_at{};  // The record that holds its checkpoint. Behind its spec, or in the same snapshot.
  std::optional<JobProgress> progress;
  std::unique_ptr<Flight> flight;  // Of most, null.
};

}  // namespace workmill::engine
