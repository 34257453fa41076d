#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "model/batch.h"
#include "model/ids.h"
#include "model/job.h"
#include "model/position.h"
#include "model/queue.h"

// One state change each, as written in the log. Replay is applying them in order.
//
// Views: strings are lent for the length of one call, out of a command on the way in or out of the log on replay.
// `previous` is the position of the job's event before this one (none: no position), so that what became of a job is
// a chain that can be read back from its newest event.
namespace workmill::effect {

// The first record of a store, and of each segment of its log. Again where a flag was removed.
struct StoreCreated {
  std::uint64_t salt = 0;  // Of the JobIdCodec, and of the hashes of keys.
  // The largest that were given out before this record. What gave them out may stand in segments that are gone, and a
  // clock that was set back does not tell.
  JobNumber last_number{};
  std::uint64_t last_order = 0;
  LeaseToken last_token{};
  std::uint64_t last_flag_version = 0;  // Of flags that were removed. One that is made anew has a larger one.
  bool operator==(StoreCreated const&) const = default;
};
// A new owner took over `down` after the last batch: every lease is lengthened by that.
struct ServerResumed {
  Duration down{};
  bool operator==(ServerResumed const&) const = default;
};
// Nothing happened, and the server was there to see it: bounds what ServerResumed can only guess.
struct Alive {
  bool operator==(Alive const&) const = default;
};

struct JobEnqueued {
  JobNumber number{};
  std::uint64_t order = 0;  // Place in line: a FIFO is ascending in it. Same form as a JobNumber.
  Instant ready_at{};       // Later than the batch's time: scheduled. Else ready.
  bool scheduled = false;
  BytesView spec{};  // As encode_spec writes it.
  bool operator==(JobEnqueued const&) const = default;
};
// Scheduled, and its time has come.
struct JobReady {
  JobNumber number{};
  std::uint64_t order = 0;
  bool operator==(JobReady const&) const = default;
};
struct JobLeased {
  JobNumber number{};
  LeaseToken token{};
  Instant at{};
  Instant deadline{};
  std::string_view worker{};
  Position previous{};
  bool operator==(JobLeased const&) const = default;
};
struct LeaseExtended {
  JobNumber number{};
  Instant deadline{};
  bool operator==(LeaseExtended const&) const = default;
};
struct JobCompleted {
  JobNumber number{};
  Instant at{};
  PayloadKind result_kind = PayloadKind::none;
  BytesView result{};
  Position previous{};
  bool operator==(JobCompleted const&) const = default;
};
// An attempt failed, its lease ran out, or the job expired before it was leased.
struct JobFailed {
  JobNumber number{};
  Instant at{};
  JobState next{};          // scheduled, ready, dead or cancelled.
  std::uint64_t order = 0;  // Where next is ready.
  Instant ready_at{};       // Where next is scheduled.
  ErrorClass error_class{};
  std::string_view code{}, message{}, detail{};
  std::uint32_t attempt = 0;
  Position previous{};
  bool operator==(JobFailed const&) const = default;
};
// Given back by its worker: ready again, the attempt not counted.
struct JobReleased {
  JobNumber number{};
  std::uint64_t order = 0;
  JobState next{};  // ready, or cancelled where that was asked for meanwhile.
  Instant at{};
  bool operator==(JobReleased const&) const = default;
};
struct JobCancelled {
  JobNumber number{};
  Instant at{};
  Position previous{};
  bool operator==(JobCancelled const&) const = default;
};
// The job is leased: its worker is told, and its report decides.
struct CancelRequested {
  JobNumber number{};
  bool operator==(CancelRequested const&) const = default;
};
// Dead, cancelled or scheduled: ready now, attempts counted anew.
struct JobRetried {
  JobNumber number{};
  std::uint64_t order = 0;
  bool operator==(JobRetried const&) const = default;
};
struct ProgressMade {
  JobNumber number{};
  std::uint8_t percent = 0;
  std::string_view message{};
  bool operator==(ProgressMade const&) const = default;
};
struct LinesLogged {
  JobNumber number{};
  BytesView lines{};    // Each as varint length and bytes.
  Position previous{};  // Of the chain of log lines, which is one of its own.
  bool operator==(LinesLogged const&) const = default;
};
// Deleted, purged, or kept long enough.
struct JobForgotten {
  JobNumber number{};
  BatchNumber batch{};  // That it was in, where there was one. The batch may be known where the job is not any more,
  JobState last{};      // so then this says as what it goes. Else scheduled.
  bool operator==(JobForgotten const&) const = default;
};
// All of a job in one record: how the survivors of the oldest segment are copied ahead, and how PATCH rewrites one.
// What is in the engine's memory of the job stands here; spec and history stand here as bytes.
struct JobSnapshot {
  JobNumber number{};
  bool patched = false;  // False: a copy; state and place in line are what they were, only the positions are new.
  JobState state{};
  bool cancel_requested = false;
  std::uint64_t order = 0;
  Instant due{};  // ready_at, lease deadline or time of finishing, by state. As in the job's slot.
  LeaseToken token{};
  std::uint32_t attempt = 0;
  BytesView spec{};
  BytesView history{};           // As encode_history writes it.
  BytesView checkpoint{};        // As in CheckpointMade.
  bool checkpoint_lost = false;  // There was one, and the disk has lost it. Then `checkpoint` is empty.
  bool is_overtaken = false;     // As FlightOvertaken has said of it.
  bool operator==(JobSnapshot const&) const = default;
};
struct QueueChanged {
  std::string_view name{};
  QueueSettings settings{};
  bool operator==(QueueChanged const&) const = default;
};
struct QueueRemoved {  // Empty, and set to nothing but defaults: forgotten.
  std::string_view name{};
  bool operator==(QueueRemoved const&) const = default;
};
struct RequestRemembered {
  std::string_view key{};
  std::uint64_t fingerprint = 0;
  Instant until{};
  BytesView reply{};  // As encode_enqueue_reply (model/reply.h) writes it.
  bool operator==(RequestRemembered const&) const = default;
};

// What the attempt under way leaves for the next one. It holds until the job is completed, or another takes its place.
struct CheckpointMade {
  JobNumber number{};
  BytesView data{};  // JSON text. Empty: from now on there is none, as the disk has lost it.
  bool operator==(CheckpointMade const&) const = default;
};

// --- The shared cache. The engine has no part in these but the time: the shard keeps what they say (cache_desk.h).

// A key has a value from now on, in place of any before it. It ends what was remembered of a failure, but for a copy.
struct CacheStored {
  std::string_view key{};
  std::string_view content_type{};
  BytesView body{};
  BytesView tags{};  // As encode_cache_tags (cache_set.h) writes it.
  Instant stored_at{};
  Instant fresh_until{};
  Instant stale_until{};
  Duration compute_time{};
  std::uint64_t etag = 0;
  bool is_copy = false;  // Of a survivor of the oldest segment: nothing is new but where it stands.
  bool operator==(CacheStored const&) const = default;
};
// A key could not be computed. A value that is there stays.
struct CacheFailed {
  std::string_view key{};
  ErrorClass error_class{};
  std::string_view code{}, message{};
  Instant until{};
  bool operator==(CacheFailed const&) const = default;
};
// The key has no value, and no failure is remembered.
struct CacheForgotten {
  std::string_view key{};
  bool operator==(CacheForgotten const&) const = default;
};

// --- Flags.

// A flag has a new definition, its first one perhaps; or, where this version of it is known, stands elsewhere.
struct FlagChanged {
  std::string_view key{};
  std::uint64_t version = 0;  // One more with each change; also over its removal, so that none is given out twice.
  Instant at{};
  std::string_view by{};   // The name of the token that it was changed with; empty where there are no tokens.
  BytesView definition{};  // As flags::encode_flag writes it.
  bool operator==(FlagChanged const&) const = default;
};
// It is gone, and its history with it.
struct FlagRemoved {
  std::string_view key{};
  Instant at{};
  std::string_view by{};
  bool operator==(FlagRemoved const&) const = default;
};

// --- The shared cache, as far as the engine has a part in it.

// The job computes a cached value, and somebody has put or deleted that key meanwhile: what it has read may be older
// than that. It does not hold its key from here on, and nothing that it computes, nor its failing, is kept.
struct FlightOvertaken {
  JobNumber number{};
  bool operator==(FlightOvertaken const&) const = default;
};

// --- Batches. The jobs in one are counted by what happens to them; which those are, their specs say.

// There is a batch from now on. Its id is no other's.
struct BatchMade {
  BatchNumber batch{};
  std::string_view id{};
  // As encode_spec writes them; empty: none. One of the two at least.
  BytesView on_success{};
  BytesView on_finish{};
  std::string_view meta{};
  std::string_view traceparent{}, tracestate{};  // For callbacks that have none of their own.
  BytesView callback(CallbackKind kind) const { return kind == CallbackKind::success ? on_success : on_finish; }
  bool operator==(BatchMade const&) const = default;
};
struct BatchClosed {
  BatchNumber batch{};
  Instant at{};
  bool operator==(BatchClosed const&) const = default;
};
// A callback has been enqueued, in the record before this one. Never again.
struct BatchFired {
  BatchNumber batch{};
  CallbackKind callback{};
  JobNumber job{};
  Instant at{};
  bool operator==(BatchFired const&) const = default;
};
// It is gone, by a call or since it was kept long enough.
struct BatchForgotten {
  BatchNumber batch{};
  bool operator==(BatchForgotten const&) const = default;
};
// All of a batch in one record, but for the jobs that are still there: how it is copied ahead. Where it is known,
// only where it stands is new.
struct BatchCopied {
  struct Callback {
    std::string_view queue{};  // Of its job. Empty: there is none.
    BytesView spec{};          // Where it is still to come.
    JobNumber job{};           // Where it was enqueued.
    bool operator==(Callback const&) const = default;
  };
  BatchNumber batch{};
  std::optional<Instant> closed_at{};
  Instant changed_at{};
  GoneJobs gone{};
  std::uint64_t fingerprint = 0;
  std::array<Callback, kCallbackKinds> callbacks{};  // By CallbackKind.
  std::string_view id{}, meta{}, traceparent{}, tracestate{};
  bool operator==(BatchCopied const&) const = default;
};

}  // namespace workmill::effect

namespace workmill {

// Append only: the index of an alternative, plus one, is its kind byte in the log.
using Effect = std::variant<effect::StoreCreated, effect::ServerResumed, effect::Alive, effect::JobEnqueued,
                            effect::JobReady, effect::JobLeased, effect::LeaseExtended, effect::JobCompleted,
                            effect::JobFailed, effect::JobReleased, effect::JobCancelled, effect::CancelRequested,
                            effect::JobRetried, effect::ProgressMade, effect::LinesLogged, effect::JobForgotten,
                            effect::JobSnapshot, effect::QueueChanged, effect::QueueRemoved, effect::RequestRemembered,
                            effect::CheckpointMade, effect::CacheStored, effect::CacheFailed, effect::CacheForgotten,
                            effect::FlagChanged, effect::FlagRemoved, effect::FlightOvertaken, effect::BatchMade,
                            effect::BatchClosed, effect::BatchFired, effect::BatchForgotten, effect::BatchCopied>;

// Where effects go as they are decided: written down behind each other, in the batch that the shard is filling.
class EffectSink {
 public:
  virtual ~EffectSink() = default;
  struct Written {
    Position at;              // Of the record.
    std::uint32_t bytes = 0;  // Its length.
  };
  // Encodes the effect at the end of the batch. Its views need live no longer than this call.
  virtual Written write(Effect const& effect) = 0;
  // Lets whoever watches the batch see an effect that is not to be written down: of a cached value that is declared
  // volatile. A replay knows nothing of it.
  virtual void show(Effect const& /*effect*/) {}
  // What a flight has computed, for those who wait for it: it is completed next. Where it `is_kept`, the same has just
  // been written or shown; else it is for those who wait, and for nobody else.
  virtual void landed(JobNumber /*flight*/, effect::CacheStored const& /*value*/, bool /*is_kept*/) {}
};

}  // namespace workmill
