#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "model/ids.h"
#include "model/retry_policy.h"

// A job: its states and legal moves, what was asked for (JobSpec), and what became of it (JobHistory).
namespace workmill {

enum class JobState : std::uint8_t { scheduled, ready, leased, completed, dead, cancelled };
inline constexpr int kJobStates = 6;

std::string_view to_string(JobState state);
std::optional<JobState> parse_job_state(std::string_view text);
constexpr bool is_finished(JobState state) {
  return state == JobState::completed || state == JobState::dead || state == JobState::cancelled;
}
// docs/states.md as a function. A move to the same state is not legal.
bool is_legal_move(JobState from, JobState to);

inline constexpr std::uint8_t kPriorityMax = 9;
inline constexpr std::uint8_t kPriorityDefault = 5;
inline constexpr Duration kLeaseDefault = std::chrono::seconds{60};
inline constexpr Duration kLeaseMin = std::chrono::milliseconds{100};
inline constexpr Duration kLeaseMax = std::chrono::hours{24 * 7};
inline constexpr Duration kKeepResultDefault = std::chrono::hours{1};
inline constexpr Duration kKeepDead = std::chrono::hours{24 * 30};
inline constexpr std::uint32_t kFinishedBudgetDefault = 100'000;  // Finished jobs kept in a queue.
inline constexpr int kErrorsKept = 10;
inline constexpr std::size_t kTagsMax = 20;
inline constexpr std::size_t kUniqueKeyBytesMax = 256;
// A snapshot holds a payload and a result, or a payload and a checkpoint, with all that is said below, and must fit
// into one record of the log, of 16 MiB. A result may be a cached value, and is as large as one may be.
inline constexpr std::size_t kPayloadBytesMax = std::size_t{6} << 20;
inline constexpr std::size_t kResultBytesMax = std::size_t{8} << 20;
inline constexpr std::size_t kCheckpointBytesMax = std::size_t{1} << 20;  // It says where to go on; it is not the work.
inline constexpr std::size_t kMetaBytesMax = 64 * 1024;
inline constexpr std::size_t kTraceparentBytesMax = 55;  // Of version 00, which is all that we hand on.
inline constexpr std::size_t kTracestateBytesMax = 512;
inline constexpr std::size_t kLogBytesKept = 64 * 1024;  // Of the newest lines that workers logged, with their ends.
inline constexpr std::size_t kErrorTextBytesMax = 8 * 1024;  // Of an error's message or detail; longer is cut.

// Nothing sent; a JSON value as text; bytes; and, of specs only: there was something, and the disk has lost it. (Of
// such a spec there is what the engine knows: no tags, no unique key, no meta.)
enum class PayloadKind : std::uint8_t { none, json, raw, lost };

// While what state of the first job a second one with the same key is a duplicate.
enum class UniqueWhile : std::uint8_t {
  scheduled,   // Until it becomes ready.
  queued,      // Until it is leased.
  unfinished,  // Until it is completed, dead or cancelled.
};

std::string_view to_string(UniqueWhile value);
std::optional<UniqueWhile> parse_unique_while(std::string_view text);

// What was asked for. Every string is lent; the owner is whatever buffer it was parsed or decoded from. Optional
// fields that were not sent stay empty and read back as their defaults.
struct JobSpecView {
  std::string_view type{};             // A name.
  std::string_view queue = "default";  // A name.
  std::string_view id{};               // What the client calls it; empty: the server makes one.
  PayloadKind payload_kind = PayloadKind::none;
  BytesView payload{};
  std::uint8_t priority = kPriorityDefault;  // 0 to 9, 9 first.
  std::optional<Duration> delay{};           // At most one of delay and run_at.
  std::optional<Instant> run_at{};
  std::optional<Duration> expires_in{};         // Not leased by then: dead, with the error `expired`.
  std::optional<std::uint32_t> max_attempts{};  // 1 to 10,000.
  std::optional<Backoff> backoff{};
  std::optional<Duration> lease{};  // kLeaseMin to kLeaseMax.
  std::string_view unique_key{};    // 1 to 256 bytes of UTF-8; empty: not unique. Held per queue.
  UniqueWhile unique_while = UniqueWhile::unfinished;
  std::optional<Duration> unique_for{};  // The key is free after this long, whatever the job does.
  std::string_view group{};              // A name, or empty.
  std::vector<std::string_view> tags{};  // Names, kTagsMax at most.
  std::optional<Duration> keep_result{};
  std::string_view meta{};         // A JSON object as text, or empty.
  std::string_view traceparent{};  // W3C, as checked by telemetry/trace.h, or empty.
  std::string_view tracestate{};
  std::string_view batch{};  // The id of the batch that it is put into, or empty. Of a flight always empty.
  // Of a flight, the job that computes a cached value: its key, and how long what it makes counts. A key is held as a
  // unique one is, in a namespace of its own, whatever the queue; so a flight has no unique key and no id beside it.
  std::string_view
      cache_key{};  // As is_cache_key() (cache_set.h) wants it; empty: no flight, and the others are not set.
  Duration cache_fresh{};
  Duration cache_stale{};
  Duration cache_error_for{};                  // How long its failing is remembered. 0: not at all.
  std::vector<std::string_view> cache_tags{};  // Of the value. Names, kCacheTagsMax at most.

  bool operator==(JobSpecView const&) const = default;
};

// The one byte form of a spec: in commands, in the log, in replies. Written down in docs/log-records.md.
// A mask says which fields follow, so an ordinary job costs its type, queue and payload and a few bytes.
void encode_spec(JobSpecView const& spec, Bytes& out);
// The view borrows from `in`. log_corrupt where `in` is no spec; checks the layout, not the rules. A spec has one
// spelling: what decodes is what encode_spec writes for the same view.
// `view.tags` and `view.cache_tags` are reused, so that a loop over many jobs allocates nothing.
Result<> decode_spec(BytesView in, JobSpecView& view);

// Is this the spec of a job whose payload the disk has lost?
bool is_payload_lost(BytesView spec);
// Is it the spec of a job that is put into a batch? Without decoding it.
bool names_batch(BytesView spec);

// The rules of the contract: names, ranges, what excludes what. invalid_field with the field's name where one is
// broken (payload_too_large for payload and meta). That JSON is JSON, it does not check. Every adapter calls it on what
// it has parsed; the engine trusts it.
Result<> check_spec(JobSpecView const& spec);

struct JobError {
  ErrorClass error_class = ErrorClass::retryable;
  Bytes code{};  // A name: the worker's own, or `lease_expired`, `expired`, `payload_damaged`.
  Bytes message{};
  Bytes detail{};  // JSON text, or empty.
  std::uint32_t attempt = 0;
  Instant at{};
  bool operator==(JobError const&) const = default;
};

struct JobProgress {
  std::uint8_t percent = 0;  // 0 to 100.
  Bytes message{};
  bool operator==(JobProgress const&) const = default;
};

// What an attempt left for the next one to go on from.
struct JobCheckpoint {
  Bytes data{};          // JSON text; empty: there is none.
  bool is_lost = false;  // There was one, and the disk has lost it. Then `data` is empty.
  bool is_there() const { return is_lost || !data.empty(); }
  bool operator==(JobCheckpoint const&) const = default;
};

// What became of a job, as read back from the log's records of it. Owned bytes.
struct JobHistory {
  std::optional<Instant> started_at{};  // Of the last attempt.
  std::optional<Instant> finished_at{};
  Bytes worker{};                  // Of the last attempt.
  std::vector<JobError> errors{};  // Newest first, kErrorsKept at most.
  std::optional<JobProgress> progress{};
  PayloadKind result_kind = PayloadKind::none;
  Bytes result{};
  std::vector<Bytes> log_lines{};  // Oldest first; kLogBytesKept in all.
  bool operator==(JobHistory const&) const = default;
};
void encode_history(JobHistory const& history, Bytes& out);
Result<JobHistory> decode_history(BytesView in);

}  // namespace workmill
