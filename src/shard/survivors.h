#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "log/log.h"
#include "shard/batch.h"
#include "shard/cache_desk.h"
#include "shard/job_reader.h"

// Gives disk space back: copies what still lives in the oldest segment to the head of the log, and drops the segment.
//
// Because only the oldest ever goes, no record has to outlive its segment, and live data bounds what the log uses,
// whatever the history: a segment is dropped whenever the log uses more than 2.5 times what lives and two segments.
// On the shard's thread, a bounded step a turn, so that it costs no turn much.
//
// A batch that turns out to be damaged when it is to be copied cannot be: jobs that stood in it and wait are dead, with
// the error `payload_damaged`, others go on with what the engine knows of them (docs/adr/0014). Answers that are kept
// for repeated requests cannot be written again, as the engine keeps only the hash of a key: they hold the segment
// until their time is over, a day at most.
namespace workmill::shard {

struct SurvivorOptions {
  double used_to_live_max = 2.5;
  std::uint64_t slack_bytes = 2 * (std::uint64_t{64} << 20);  // Two segments.
  // At least so much a turn; a turn that writes much does more, or the log would grow under it: see copy_some().
  std::uint64_t scan_bytes_per_step = std::uint64_t{1} << 20;
  std::uint64_t copy_bytes_per_step = std::uint64_t{256} << 10;
};

struct SurvivorFigures {
  std::uint64_t copied_jobs = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t trimmed_segments = 0;
  std::uint64_t ended_jobs = 0;     // As their payload is damaged.
  std::uint64_t copied_cached = 0;  // Values and failures of the shared cache.
};

class Survivors {
 public:
  // `desk` is null where there is no cache. `on_damage` hears of each job of which something could not be copied, and
  // why.
  Survivors(SurvivorOptions options, log::Log& log, engine::Engine& engine, JobReader& reader, CacheDesk* desk,
            std::function<void(JobNumber, Error const&)> on_damage)
      : options_(options), log_(log), engine_(engine), reader_(reader), desk_(desk), on_damage_(std::move(on_damage)) {}

  // The part of a turn: `batch` is being filled, `staged` batches were staged before it, and the first `durable` of
  // them are on disk. Copies some; drops the segment when all that made it dispensable is durable. Cheap when there is
  // nothing to do.
  Result<> step(Batch& batch, Instant now, std::uint64_t staged, std::uint64_t durable);

  // Is a segment being copied right now, or was one dropped and the next may be due? Then the next turn has work to do.
  bool busy() const { return oldest_.has_value() || look_; }
  // The log's figures may have changed for the worse (a new segment, a second gone by): look again at the next step.
  // `tight`: the disk is nearly full, and the two segments of slack are too much.
  void look_again(bool tight) {
    look_ = true;
    tight_ = tight;
  }
  SurvivorFigures const& figures() const { return figures_; }

 private:
  // Of jobs and the like, which are elsewhere as soon as their copy is written; and of cached values, which are when it
  // is durable.
  std::uint64_t live_cached_in(std::uint32_t segment) const { return desk_ ? desk_->live_records_in(segment) : 0; }
  std::uint64_t live_bytes() const { return engine_.live_bytes() + (desk_ ? desk_->live_bytes() : 0); }
  Result<> start_if_needed();
  Result<> copy_some(Batch& batch, Instant now);
  Result<> copy_records(Batch& batch, Instant now, std::uint64_t copy_bytes, std::uint64_t& copied);
  Result<> copy_record(Effect const& record, Position at, Batch& batch, Instant now, std::uint64_t& copied);
  Result<> begin_damaged(Error const& error, Batch& batch);
  Result<> copy_damaged(Batch& batch, Instant now, std::uint64_t& copied);
  Result<> finish(std::uint64_t durable);
  Result<std::uint64_t> copy_job(JobNumber job, Batch& batch, Instant now);

  SurvivorOptions options_;
  log::Log& log_;
  engine::Engine& engine_;
  JobReader& reader_;
  CacheDesk* desk_;
  bool look_ = true;
  bool tight_ = false;
  std::optional<std::uint32_t> oldest_;  // The segment that is on its way out.
  Position cursor_{};
  bool scanned_ = false;              // All of it: what is cached there is on its way.
  bool dispensable_ = false;          // Nothing living stands on it any more,
  std::uint64_t dispensable_in_ = 0;  // which holds on disk when this batch is durable.
  Bytes scratch_;                     // The batch before the cursor: reading survivors would take it away.
  Position scratch_base_{};           // Where it stands in the log.
  std::size_t scratch_done_ = 0;      // So much of it was looked at.
  SurvivorFigures figures_;

  // What could not be read.
  struct Damaged {
    Position from;
    Position until;
    std::optional<BatchNumber> batches{};  // From here on they are to be written again. Nothing: all are.
    JobNumber before{};                    // Jobs from here on have been looked at.
    cache::Cursor cached{};                // Of what is cached, which is looked at before them.
    bool is_cached_told = false;
    Error error;
  };
  std::function<void(JobNumber, Error const&)> on_damage_;
  std::optional<Damaged> damaged_;     // Being dealt with.
  bool has_damage_ = false;            // In the segment that is on its way out.
  std::uint32_t held_by_answers_ = 0;  // A segment that waits for the time of its answers to be over.
  std::vector<JobNumber> found_;       // Reused.
};

}  // namespace workmill::shard
