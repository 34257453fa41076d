#pragma once
#include <cstdint>
#include <optional>

#include "base/error.h"
#include "engine/engine.h"
#include "log/log.h"
#include "shard/batch.h"
#include "shard/job_reader.h"

// Gives disk space back: copies what still lives in the oldest segment to the head of the log, and drops the segment.
//
// Because only the oldest ever goes, no record has to outlive its segment, and live data bounds what the log uses,
// whatever the history: a segment is dropped whenever the log uses more than 2.5 times what lives and two segments.
// On the shard's thread, a bounded step a turn, so that it costs no turn much.
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
};

class Survivors {
 public:
  Survivors(SurvivorOptions options, log::Log& log, engine::Engine& engine, JobReader& reader)
      : options_(options), log_(log), engine_(engine), reader_(reader) {}

  // The part of a turn: `batch` is being filled, `staged` batches were staged before it, and the first `durable` of
  // them are on disk. Copies some; drops the segment when all that made it dispensable is durable. Cheap when there is
  // nothing to do.
  Result<> step(Batch& batch, std::uint64_t staged, std::uint64_t durable);

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
  Result<> start_if_needed();
  Result<> copy_some(Batch& batch);
  Result<> finish(std::uint64_t durable);
  Result<std::uint64_t> copy_job(JobNumber job, Batch& batch);

  SurvivorOptions options_;
  log::Log& log_;
  engine::Engine& engine_;
  JobReader& reader_;
  bool look_ = true;
  bool tight_ = false;
  std::optional<std::uint32_t> oldest_;  // The segment that is on its way out.
  Position cursor_{};
  bool dispensable_ = false;          // Nothing living stands on it any more,
  std::uint64_t dispensable_in_ = 0;  // which holds on disk when this batch is durable.
  Bytes scratch_;                     // The batch at the cursor: reading survivors would take it away.
  SurvivorFigures figures_;
};

}  // namespace workmill::shard
