#pragma once
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "model/batch.h"
#include "model/cache_set.h"
#include "model/ids.h"
#include "model/job.h"
#include "model/queue.h"
#include "model/queue_set.h"

// Everything that a shard can be asked. Commands travel by value and own what they hold.
//
// Whoever makes a command has checked its form (names, ranges, sizes); the engine checks it against its state.
namespace workmill {

// A job as a caller names it: by number, where the text was an id that this store made, else by its own text.
struct JobRef {
  std::optional<JobNumber> number{};
  std::string text{};  // As the client wrote it; empty where `number` is set and the text was not kept.
};

// Keeps the first answer to a request for a repeat of it.
struct Idempotency {
  std::string key{};              // Scoped by whoever makes the command (caller, method, path).
  std::uint64_t fingerprint = 0;  // Of the body. The same key with another fingerprint is idempotency_key_reused.
};
inline constexpr Duration kIdempotencyKept = std::chrono::hours{24};

inline constexpr std::size_t kJobsPerEnqueueMax = 10'000;
inline constexpr std::size_t kReportsPerRequestMax = 1'000;
inline constexpr std::uint32_t kJobsPerLeaseMax = 1'000;
inline constexpr std::uint64_t kLeaseBytesMax = std::uint64_t{16} << 20;  // See Lease::bytes_max.
inline constexpr std::size_t kQueuesPerLeaseMax = 100;
inline constexpr Duration kWaitMax = std::chrono::minutes{5};

struct Enqueue {
  std::vector<Bytes> specs{};  // Each as encode_spec writes it. All or none are taken.
  std::optional<Idempotency> idempotency{};
};

struct Completed {
  PayloadKind result_kind = PayloadKind::none;
  Bytes result{};
  std::vector<CacheEntrySet>
      cache{};  // Stored in the same batch, if the report counts. kCacheSetsPerReportMax at most.
};
struct Failed {
  ErrorClass error_class = ErrorClass::retryable;  // user and fatal go to dead at once.
  Bytes code{}, message{}, detail{};
  std::optional<Duration> retry_in{};  // Instead of the backoff.
};
struct Extend {
  Duration by{};  // From now.
};
struct Progress {
  std::uint8_t percent = 0;
  Bytes message{};
};
struct LogLines {
  std::vector<Bytes> lines{};
};
struct Checkpoint {
  Bytes data{};  // JSON text, 1 to kCheckpointBytesMax bytes. Takes the place of the one before.
};
struct Released {};
using Outcome = std::variant<Completed, Failed, Extend, Progress, LogLines, Checkpoint, Released>;

struct Report {
  JobRef job{};
  LeaseToken lease{};  // 0 where the text was no token at all: never valid.
  Outcome outcome{};
};

struct QueueChoice {
  std::string name{};
  std::uint32_t weight = 0;  // 0: strict preference by position. Else its share among the weighted.
};

struct Lease {
  std::vector<QueueChoice> queues{};  // 1 to kQueuesPerLeaseMax.
  std::uint32_t max = 1;              // 1 to kJobsPerLeaseMax.
  Duration wait{};                    // 0: answer at once. The shard waits, not the engine.
  std::optional<Duration> lease{};    // Instead of the job's own.
  std::string worker{};
  std::vector<Report> reports{};  // Decided first, in the same flush.
  // No further job once those leased take so many bytes, payloads above all: one at least is always leased.
  std::uint64_t bytes_max = kLeaseBytesMax;
};

struct ReportBatch {
  std::vector<Report> reports{};
};

struct JobFilter {
  std::optional<JobState> state{};
  std::string queue{}, type{}, tag{}, group{};  // Empty: any.
  std::string batch{};    // The id of a batch; empty: any. batch_not_found where there is none such.
  std::string text{};     // Substring of type, id, payload or error; empty: any.
  AllowedQueues among{};  // Jobs of other queues are none; nothing: any. The shard's to set.
};

struct GetJob {
  JobRef job{};
  Duration wait{};  // Answer when it is finished, or after this long as it then is. The shard waits.
};
struct GetJobLog {
  JobRef job{};
};
struct ListJobs {
  JobFilter filter{};
  std::uint32_t limit = 50;           // 1 to 1,000.
  std::optional<JobNumber> before{};  // Newest first: continue with jobs older than this one.
};
struct CancelJob {
  JobRef job{};
};
struct RetryJob {
  JobRef job{};
};
struct DeleteJob {
  JobRef job{};
};
struct JobChanges {
  std::optional<std::uint8_t> priority{};
  std::optional<Instant> run_at{};
  std::optional<std::string> queue{};
  std::optional<std::vector<std::string>> tags{};
  std::optional<std::uint32_t> max_attempts{};
};
struct PatchJob {
  JobRef job{};
  JobChanges changes{};
  // The engine holds no payloads: the shard fills these in from the log before it asks the engine.
  Bytes new_spec{};
  Bytes history{};
  JobCheckpoint checkpoint{};
};
enum class BulkAction : std::uint8_t { retry, cancel, remove };
struct BulkJobs {
  BulkAction action{};
  JobFilter filter{};                 // `text` is not supported here.
  std::optional<JobNumber> before{};  // Go on with jobs older than this one: CountReply::next of the part before.
};
struct ListQueues {
  std::uint32_t limit = 50;
  std::string after{};  // By name: continue behind this one.
};
struct GetQueue {
  std::string name{};
};
struct PatchQueue {
  std::string name{};
  std::optional<bool> paused{};
  std::optional<std::optional<std::uint64_t>> max_depth{};  // null lifts it.
  std::optional<WhenFull> when_full{};
};
struct PurgeQueue {
  std::string name{};
  std::optional<JobState> state{};    // None: all but leased.
  std::optional<JobNumber> before{};  // As in BulkJobs.
};

// Figures of the whole shard, for /v1/status and /metrics. Answered by the shard itself; the engine never sees it.
struct GetStatus {
  bool with_queues = false;  // Also every queue's view.
};

// --- The worker stream: a subscription that is sent jobs until it ends (docs/reference/stream.md). The shard's own
// (shard/streams.h); the engine never sees these. A stream is known by who opened it and the cookie of its OpenStream,
// and what it is sent (StreamOpened, then StreamJobs…) goes under that cookie until it is abandoned.

inline constexpr std::uint32_t kStreamCreditMax = 10'000;
// By what a stream comes back: random bits that whoever opens it has drawn, hard to guess.
using ResumeToken = std::array<std::uint64_t, 2>;
// As text: 32 lower-case hex digits and nothing else.
std::string format_resume_token(ResumeToken const& token);
std::optional<ResumeToken> parse_resume_token(std::string_view text);

struct OpenStream {
  Lease lease{};             // Its queues, lease time and worker; `max` and `wait` mean nothing here.
  std::uint32_t credit = 0;  // 0 to kStreamCreditMax: as many jobs may be out.
  ResumeToken token{};       // Its own.
  std::string owner{};       // Who opens it: a stream is taken over by its owner alone. Empty: nobody is asked.
  std::optional<ResumeToken> resume{};  // Of the stream that it takes over,
  std::vector<JobRef> held{};           // and the jobs of that one that its worker has. kStreamCreditMax at most.
};
// Said to a stream, and not answered.
struct TellStream {
  std::uint64_t stream = 0;               // The cookie of its OpenStream.
  std::optional<std::uint32_t> credit{};  // From now on.
  bool drain = false;                     // No further jobs; StreamDrained when none is out.
  std::uint64_t taken_bytes = 0;          // So many of StreamJobs::bytes have gone out to its worker.
};

// --- The shared cache. Readers look into it themselves (cache/cache.h): only what changes it, starts a computation or
// is not in memory comes here.

struct PutCache {
  std::string key{};
  CacheSet set{};
};
// Get, or compute once for all who ask. Answered with CachedReply, ComputeFailed or CachePending.
struct ComputeCached {
  std::string key{};
  Bytes spec{};     // Of the job that computes it, as encode_spec writes it, with the same key in its cache fields.
  Duration wait{};  // 0: answer at once. kWaitMax at most.
  // A refresh of the value that was stored at `seen`: nobody waits for it, and it is never answered. Nothing happens
  // where a newer value is there, a failure is remembered, or a flight is under way.
  bool quiet = false;
  Instant seen{};
};
// A value that is on disk only. Answered with CachedReply, or CacheMissed where it is gone.
struct ReadCached {
  std::string key{};
};
struct ForgetCached {
  std::string key{};
};
// All keys with a tag, or with a prefix: exactly one of them is set. Answered with CountReply.
struct ForgetCachedBy {
  std::string tag{};
  std::string prefix{};
  // The shard's: it does a part a turn, and this is where the next one goes on. Flights first, all in one turn.
  bool has_seen_flights = false;
  std::uint64_t cursor = 0;
};

// --- Flags. What they say, readers look up themselves (Service::flags): only changes and their history come here.

struct SetFlag {
  std::string key{};                       // A name.
  Bytes definition{};                      // As flags::encode_flag writes it, and checked.
  std::optional<std::uint64_t> version{};  // Only if this is the flag's version now; 0: if there is none of this key.
  std::string by{};                        // The name of the token, for the history.
};
struct RemoveFlag {
  std::string key{};
  std::string by{};
};
struct GetFlagHistory {
  std::string key{};
  std::uint32_t limit = 1'000;  // More than are kept.
  std::uint64_t before = 0;     // Only changes to versions below this one; 0: all.
};

// --- Batches. Ids as text: a name that the client brings, or one that the server has made.

// Answered with BatchReply. The same id again with the same content answers the batch as it is; with another one,
// batch_exists. batches_full where there are as many as may be, and none that is kept only to be looked at.
struct MakeBatch {
  std::string id{};  // A name; empty: the server makes one.
  // Each as encode_spec writes it, checked by check_callback (batch.h); empty: none. One of the two at least.
  Bytes on_success{};
  Bytes on_finish{};
  std::string meta{};  // A JSON object as text, kBatchMetaBytesMax at most, or empty.
  // Of the request that makes it: for callbacks without their own. No part of the content.
  std::string traceparent{}, tracestate{};
  std::optional<Idempotency> idempotency{};
};
// No job is put into it from now on, and its callbacks come in their time. Answered with BatchReply, also where it is
// closed already.
struct CloseBatch {
  std::string id{};
};
// Its jobs stay, its callbacks never come. Answered with DoneReply.
struct ForgetBatch {
  std::string id{};
};
struct GetBatch {
  std::string id{};
};
// Answered with BatchesReply.
struct ListBatches {
  std::optional<BatchState> state{};    // Nothing: any.
  std::uint32_t limit = 50;             // 1 to 1,000.
  std::optional<BatchNumber> before{};  // Newest first: continue with batches older than this one.
  AllowedQueues among{};                // Batches with a callback in another queue are none; nothing: any. The shard's.
};

using Command = std::variant<Enqueue, Lease, ReportBatch, GetJob, GetJobLog, ListJobs, CancelJob, RetryJob, DeleteJob,
                             PatchJob, BulkJobs, ListQueues, GetQueue, PatchQueue, PurgeQueue, GetStatus, OpenStream,
                             TellStream, PutCache, ComputeCached, ReadCached, ForgetCached, ForgetCachedBy, SetFlag,
                             RemoveFlag, GetFlagHistory, MakeBatch, CloseBatch, ForgetBatch, GetBatch, ListBatches>;

}  // namespace workmill
