#pragma once
#include <absl/container/flat_hash_map.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "model/effect.h"
#include "model/ids.h"
#include "model/reply.h"
#include "shard/batch.h"
#include "shard/job_reader.h"
#include "telemetry/tracer.h"

// The spans of attempts at jobs: `process QUEUE` from lease to end, and under it the report (`complete`, `fail`,
// `release`) from the turn that decided it to the flush that made it durable.
//
// The shard's, on its thread. Only attempts at jobs of sampled traces are kept here, for as long as they last; they are
// in no log, so a server started anew knows of an attempt that was under way what the log has: it begins where the
// lease was recorded (`started_at`), to the millisecond. Bounded: beyond kAttemptsMax an attempt has no span, and is
// counted.
namespace workmill::shard {

class AttemptTraces final : public EffectWatch {
 public:
  using Time = std::chrono::nanoseconds;  // Of the monotonic clock.

  static constexpr std::size_t kAttemptsMax = 65'536;

  // What is lent outlives it. `start`: where the first record of this process will stand; leases before it are another
  // process's.
  AttemptTraces(telemetry::Tracer& tracer, JobIdCodec const& ids, engine::Engine const& engine, JobReader& reader,
                Position start)
      : tracer_(tracer), ids_(ids), engine_(engine), reader_(reader), start_(start) {}

  // A turn begins.
  void begin_turn(Time now) { now_ = now; }
  // A job that this turn has leased; its spec is filled in.
  void leased(LeasedJob const& job, std::string_view worker);
  // Looks at the effects that end attempts.
  void wrote(Effect const& effect) override;
  // What this turn has ended rests on this batch.
  void staged(std::uint64_t batch);
  // Batches up to this one are durable: what rests on them is told.
  void durable(std::uint64_t batch, Time now);
  bool has_ended() const { return !ended_.empty(); }  // There is something to tell.

 private:
  struct Attempt {
    telemetry::TraceContext creation;  // What is stored with the job.
    telemetry::TraceContext own;
    std::string tracestate;
    std::string queue;
    std::string type;
    std::string worker;
    std::string id;  // The job's, as text.
    std::int64_t start_ns = 0;
    std::uint32_t number = 0;  // From 1.
    std::uint32_t max_attempts = 0;
    std::size_t payload_bytes = 0;
  };
  struct End {
    std::string_view outcome;     // As a report calls it, or `lease_expired`.
    std::string_view report;      // The name of its span; empty where nobody reported.
    std::string_view error_type;  // Of a failure.
    JobState next{};
  };
  struct Ended {
    std::uint64_t batch = 0;  // 0: of the turn that goes on.
    telemetry::Span process;
    std::optional<telemetry::Span> report;
  };

  // Nothing where the spec's trace is not sampled.
  std::optional<Attempt> attempt_of(BytesView spec, LeaseToken lease);
  // Of a lease that an earlier process gave.
  std::optional<Attempt> attempt_before(JobNumber number, Position leased_at);
  void end(JobNumber number, Position previous, End const& end);

  telemetry::Tracer& tracer_;
  JobIdCodec const& ids_;
  engine::Engine const& engine_;
  JobReader& reader_;
  Position const start_;
  Time now_{};
  absl::flat_hash_map<JobNumber, Attempt> attempts_;
  std::deque<Ended> ended_;  // Not durable yet.
};

}  // namespace workmill::shard
