#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "model/batch.h"
#include "model/cache.h"
#include "model/command.h"
#include "model/figures.h"
#include "model/ids.h"
#include "model/job.h"
#include "model/position.h"
#include "model/queue.h"

// What a shard answers. By value, owning what it holds.
//
// The engine names records by position; the shard reads them from the log and fills in the fields marked so, before a
// reply leaves it.
namespace workmill {

struct EnqueuedJob {
  JobNumber number{};
  Bytes client_id{};  // Empty where the id is the server's.
  JobState state{};
  bool duplicate = false;
};
struct EnqueueReply {
  std::vector<EnqueuedJob> jobs{};  // In the order of the request.
  bool replayed = false;            // The first answer to this idempotency key, given again.
};
// What effect::RequestRemembered keeps of an answer: the jobs. `replayed` is for whoever gives it again to set.
// Written down in docs/log-records.md. log_corrupt where `in` is no such answer.
void encode_enqueue_reply(EnqueueReply const& reply, Bytes& out);
Result<EnqueueReply> decode_enqueue_reply(BytesView in);

struct LeasedJob {
  JobNumber number{};
  LeaseToken token{};
  Instant lease_expires_at{};
  std::uint32_t attempt = 0;
  std::uint32_t max_attempts = 0;
  Position spec_at{};
  std::uint32_t spec_bytes = 0;
  Position checkpoint_at{};  // The record that holds what an earlier attempt left, if any did.
  Bytes spec{};              // Filled in by the shard: as encode_spec wrote it.
  Bytes checkpoint{};        // Filled in: JSON text, or empty.
};
struct ReportResult {
  std::optional<Error> error{};   // None: accepted.
  bool cancel_requested = false;  // Somebody wants this job to stop.
  // Keys of values that came with it and were not stored, as the cache can never hold them. They have none now.
  std::vector<std::string> not_stored{};
};
struct LeaseReply {
  std::vector<LeasedJob> jobs{};
  std::vector<ReportResult> reports{};  // In the order of the request.
};
struct ReportsReply {
  std::vector<ReportResult> reports{};
};

// A job as the engine knows it, and, filled in by the shard, as the log does.
struct JobView {
  JobNumber number{};
  Bytes client_id{};
  JobState state{};
  bool cancel_requested = false;
  std::uint32_t attempt = 0;
  std::uint32_t max_attempts = 0;
  std::optional<Instant> ready_at{};          // When it became or becomes ready.
  std::optional<Instant> lease_expires_at{};  // Where leased.
  std::optional<Instant> finished_at{};       // Where finished.
  Position spec_at{};
  std::uint32_t spec_bytes = 0;
  Position event_at{};       // The newest record of what became of it, if any.
  Position log_at{};         // The newest record of its log lines, if any.
  Position checkpoint_at{};  // The record that holds its checkpoint, if any.
  std::optional<JobProgress> progress{};
  Bytes spec{};                // Filled in.
  JobHistory history{};        // Filled in.
  JobCheckpoint checkpoint{};  // Filled in.
};
struct JobReply {
  JobView job{};
};
struct JobsReply {
  std::vector<JobView> jobs{};
  std::optional<JobNumber> next{};  // There may be more, older than this.
};
struct JobLogReply {
  std::vector<Bytes> lines{};
};
struct CountReply {
  std::uint64_t count = 0;
  std::optional<JobNumber> next{};  // Between the engine and the shard: where the next part goes on.
};
struct QueueReply {
  QueueView queue{};
};
struct QueuesReply {
  std::vector<QueueView> queues{};
  std::optional<std::string> next{};
};
struct DoneReply {};

// --- What a worker stream is sent, under the cookie of its OpenStream. First this:
struct StreamOpened {
  ResumeToken token{};
  Duration reconnect_within{};
  Duration lease{};
  bool resumed = false;  // It has taken over the jobs of the stream that it asked for.
};
struct StreamJobs {
  std::vector<LeasedJob> jobs{};
  std::uint64_t bytes = 0;  // What the stream's window counts them as: TellStream::taken_bytes gives it back.
};
// Somebody asked to cancel jobs that are out on it.
struct StreamCancel {
  struct Job {
    JobNumber number{};
    Bytes client_id{};  // Empty where the id is the server's.
  };
  std::vector<Job> jobs{};
};
// It was asked to drain, and no job is out.
struct StreamDrained {};
// It is over, and nothing more comes: its jobs were taken over by another stream (stream_replaced), or the server is
// stopping (shutting_down).
struct StreamEnded {
  Error error{};
};

// --- The shared cache.

struct CachedReply {
  CacheValuePtr value{};  // Never null.
  CacheTimes times{};
  bool computed = false;   // For this request: it waited for a flight.
  bool collapsed = false;  // For a flight that another request had begun.
  bool stored = false;     // It was computed, and whoever asks next finds it.
};
// The flight goes on, and the wait is over.
struct CachePending {
  JobNumber job{};
  Bytes client_id{};  // Empty where the id is the server's.
  JobState state{};
};
// There is no value, and the flight has ended without one.
struct ComputeFailed {
  CacheFailure failure{};   // `until` is not after the time of the answer where nothing is remembered.
  bool remembered = false;  // Of an earlier flight: none was begun for this request.
};
struct CacheMissed {};

// --- Flags.

struct FlagChange {
  std::uint64_t version = 0;
  Instant at{};
  std::string by{};
  Bytes definition{};  // As flags::encode_flag writes it.
};
struct FlagReply {
  std::string key{};
  FlagChange newest{};
};
struct FlagHistoryReply {
  std::string key{};
  std::vector<FlagChange> changes{};  // Newest first: those that are kept, as many as were asked for.
  std::uint64_t next = 0;             // There are more, before this version. 0: there are not.
};

// --- Batches.

struct BatchReply {
  BatchView batch{};
  bool created = false;   // By this request.
  bool replayed = false;  // The first answer to this idempotency key was of this batch: here it is as it is now.
};

struct BatchesReply {
  std::vector<BatchView> batches{};
  std::optional<BatchNumber> next{};  // There may be more, older than this.
};

// Figures of the cache. Totals since this process started; what the index itself counts is in cache::CacheFigures.
struct CacheStatus {
  std::uint64_t entries = 0;
  std::uint64_t flights = 0;  // Jobs that compute a value just now.
  std::uint64_t memory_bytes = 0, memory_bytes_max = 0;
  std::uint64_t disk_bytes = 0, disk_bytes_max = 0;
  std::uint64_t evicted_from_memory = 0, evicted_from_disk = 0;
  std::uint64_t expired = 0;
  std::uint64_t damaged = 0;     // Entries that were forgotten, as the disk has lost their value.
  std::uint64_t cold_reads = 0;  // Values that were read back from the disk.
  std::uint64_t fetches = 0;     // Keys whose value another thread had the disk read before.
};

// How full one of the bounds is.
struct Fullness {
  std::string name{};  // "inbox", "waiters", "disk"...
  std::uint64_t used = 0;
  std::uint64_t limit = 0;
};
// Where time goes, and how full things are. Totals since this process started; times in nanoseconds.
struct StatusReply {
  std::uint64_t jobs = 0;
  std::array<std::uint64_t, kJobStates> depth{};
  std::uint64_t queue_count = 0;
  std::uint64_t idempotency_keys = 0;
  std::uint64_t engine_memory_bytes = 0;
  std::uint64_t turns = 0;
  std::uint64_t commands = 0, given_up = 0;
  std::uint64_t decide_ns = 0;
  std::uint64_t flush_ns = 0;
  std::uint64_t flushes = 0;
  std::uint64_t read_ns = 0;    // Reading payloads back for replies.
  double flush_ms_typical = 0;  // Moving average.
  bool flush_on_writer_thread = false;
  std::uint32_t epoch = 0;
  std::uint64_t segments = 0;
  std::uint64_t log_bytes = 0;  // Used by segments.
  std::uint64_t live_bytes = 0;
  std::uint64_t disk_free_bytes = 0;
  std::uint64_t copied_ahead_jobs = 0;
  std::uint64_t trimmed_segments = 0;
  std::uint64_t recovered_batches = 0;
  std::uint64_t recovery_ms = 0;
  std::uint64_t recovery_cut_bytes = 0;
  std::uint64_t streams_away = 0;                               // Worker streams that have gone and may come back.
  std::uint64_t stream_jobs_out = 0;                            // Jobs that are out on streams, these included.
  std::array<std::uint64_t, kAllBatchStates.size()> batches{};  // By BatchState.
  std::uint64_t flags = 0;
  std::uint64_t gated_jobs = 0;  // Ready, and passed over since a flag that gates their type is off.
  std::vector<Fullness> bounds{};
  std::vector<MillisecondCounts> job_stages{};  // By JobStage, or empty. On the heap: replies must stay small.
  std::vector<TypeFigures> types{};             // The first: all that have no line of their own.
  std::vector<QueueView> queues{};              // Where asked for.
  std::vector<CacheStatus> cache{};             // One, or none where there is no cache. On the heap, too.
};

using Reply = std::variant<Error, EnqueueReply, LeaseReply, ReportsReply, JobReply, JobsReply, JobLogReply, CountReply,
                           QueueReply, QueuesReply, DoneReply, StatusReply, StreamOpened, StreamJobs, StreamCancel,
                           StreamDrained, StreamEnded, CachedReply, CachePending, ComputeFailed, CacheMissed, FlagReply,
                           FlagHistoryReply, BatchReply, BatchesReply>;

}  // namespace workmill
