#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "engine/engine.h"
#include "log/disk.h"
#include "log/log.h"
#include "log/log_scan.h"
#include "model/ids.h"

// What `workmill doctor` does: looks at a log without a server, says what is wrong with it and what that costs, and
// makes a new log of what is left.
//
// It reads over damage, which a server never does: a log with a hole in it is no longer what was acknowledged, and it
// is a person who decides to go on without the rest. What is known of a job after the hole may contradict what is known
// of it before; then the later record is believed, as far as it says what happened.
//
// One thread. The disk is only read.
namespace workmill::shard {

enum class Health : std::uint8_t {
  none,     // There is no log here.
  healthy,  // A server starts on it.
  torn,     // The same; it will cut off a write that was never finished and that nobody was told of.
  damaged,  // A server refuses it.
};
std::string_view to_string(Health health);

struct SegmentFigures {
  std::uint32_t ordinal = 0;
  std::string file;
  std::uint64_t file_bytes = 0;
  std::uint64_t used_bytes = 0;  // Header and whole frames.
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::uint64_t live_records = 0;  // What of them is still needed: jobs, settings, remembered answers.
  Instant first_at{}, last_at{};   // Times of its batches.
};

// What a loss has taken of jobs, or of batches of jobs, as far as its records name them.
struct Taken {
  std::uint64_t lost = 0;          // They are in none of what is left.
  std::vector<std::string> ids{};  // Of these; kIdsMax at most.
  std::uint64_t touched = 0;       // Still there, and something that happened to them, or a job in them, is missing.
};
inline constexpr std::size_t kIdsMax = 1'000;

struct Loss {
  log::Damage damage;
  std::string file;
  std::uint64_t records = 0;  // That could still be read where the damage is, unchecked: what they say is a guess.
  Taken jobs{};
  Taken batches{};  // Of jobs, as their callers make them; those of the log are in `damage`.
};

struct Examination {
  Health health = Health::none;
  std::optional<Error> refusal;  // What a server would say.
  std::uint32_t format_version = 0;
  std::uint64_t log_id = 0;
  Epoch epoch{};
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  Instant last_batch_at{};
  Position torn_at{};
  std::uint64_t torn_bytes = 0;
  std::vector<SegmentFigures> segments;
  std::vector<Loss> losses;
  std::uint64_t contradictions = 0;  // Records that do not fit what is known of their job, because of the losses.
  std::uint64_t frames_lost = 0;     // As far as known.
  std::uint64_t used_bytes = 0;
  std::uint64_t live_bytes = 0;
  engine::EngineStatus jobs;
  std::uint64_t cached = 0;  // Values and remembered failures of the shared cache, those that are over included.
  std::vector<QueueView> queues;
};

using OnProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

class Examiner {
 public:
  // `disk` outlives it, and nobody else writes there.
  explicit Examiner(log::Disk& disk);
  ~Examiner();

  // Once. An error only where the disk cannot be read: damage is an answer.
  Result<Examination> examine(OnProgress const& on_progress);

  struct Rebuilt {
    std::uint64_t jobs = 0;
    std::uint64_t cached = 0;     // Of the shared cache.
    std::uint64_t shortened = 0;  // Jobs a part of whose history lay in what is lost.
  };
  // After examine(): writes all that is left into `fresh`, a new log that has been through replay() and own(). What
  // lives stands in it as it stood, positions aside.
  Result<Rebuilt> rebuild(log::Log& fresh, OnProgress const& on_progress);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace workmill::shard
