#include "log/record.h"

#include <cstring>
#include <type_traits>
#include <utility>

#include "base/assert.h"
#include "base/byte_packer.h"

namespace workmill::log {
namespace {

// The most that the fields of fixed size of any record take, with room to spare.
constexpr std::size_t kFixedBytesMax = 128;

// The bits of the flags bytes.
constexpr std::uint8_t kSnapshotPatched = 1U << 0;
constexpr std::uint8_t kSnapshotCancelRequested = 1U << 1;
constexpr std::uint8_t kSnapshotToken = 1U << 2;
constexpr std::uint8_t kSnapshotCheckpoint = 1U << 3;
constexpr std::uint8_t kSnapshotCheckpointLost = 1U << 4;
constexpr std::uint8_t kSnapshotOvertaken = 1U << 5;
constexpr std::uint8_t kSnapshotFlags = 0b111111;
constexpr std::uint8_t kQueuePaused = 1U << 0;
constexpr std::uint8_t kQueueMaxDepth = 1U << 1;
constexpr std::uint8_t kQueueDropOldest = 1U << 2;
constexpr std::uint8_t kQueueFlags = 0b111;
constexpr std::uint8_t kBatchClosed = 1U << 0;
constexpr std::uint8_t kBatchHasCallback = 1U << 1;  // Of the first kind; the next one's bits follow.
constexpr std::uint8_t kBatchCallbackDone = 1U << 2;
constexpr int kBatchCallbackBits = 2;
constexpr std::uint8_t kBatchFlags = 0b11111;

// The kind byte of an effect: the place of its alternative in the variant, from 1.
template <class E, std::size_t I = 0>
constexpr std::uint8_t kind_of() {
  if constexpr (std::is_same_v<E, std::variant_alternative_t<I, Effect>>) {
    return I + 1;
  } else {
    return kind_of<E, I + 1>();
  }
}

// Most numbers and times of a job are near to the job's own number and the time in it: they are written as the
// distance, which takes a few bytes. The arithmetic wraps around, so that every value can be written.
std::int64_t distance(std::uint64_t value, std::uint64_t from) { return static_cast<std::int64_t>(value - from); }
std::uint64_t from_distance(std::int64_t distance, std::uint64_t from) {
  return static_cast<std::uint64_t>(distance) + from;
}
std::uint64_t bits(Instant at) { return static_cast<std::uint64_t>(to_ms(at)); }
Instant instant_from_bits(std::uint64_t ms) { return instant_from_ms(static_cast<std::int64_t>(ms)); }

// Out of the same numbers: what is near to one is near to the other.
JobNumber as_job(BatchNumber batch) { return JobNumber{std::to_underlying(batch)}; }

class Packer : public BytePacker {
 public:
  using BytePacker::BytePacker;

  void number(JobNumber value) { u64(std::to_underlying(value)); }
  void batch(BatchNumber value) { u64(std::to_underlying(value)); }
  void near(JobNumber job, BatchNumber batch) { order(std::to_underlying(job), as_job(batch)); }
  void order(std::uint64_t value, JobNumber job) { zigzag(distance(value, std::to_underlying(job))); }
  void time(Instant value, JobNumber job) { time(value, created_at(job)); }
  void time(Instant value, Instant since) { zigzag(distance(bits(value), bits(since))); }
  void position(Position value) {
    varint(value.segment);
    if (value) u32(value.offset);
  }
};

// What is packed for each effect, and how much that can be beyond the fields of fixed size.

std::size_t variable_bytes(auto const&) { return 0; }
void pack(effect::StoreCreated const& e, Packer& out) {
  out.u64(e.salt);
  out.number(e.last_number);
  out.u64(e.last_order);
  out.u64(std::to_underlying(e.last_token));
  if (e.last_flag_version != 0) out.varint(e.last_flag_version);
}
void pack(effect::ServerResumed const& e, Packer& out) { out.zigzag(e.down.count()); }
void pack(effect::Alive const&, Packer&) {}

std::size_t variable_bytes(effect::JobEnqueued const& e) { return e.spec.size(); }
void pack(effect::JobEnqueued const& e, Packer& out) {
  out.number(e.number);
  out.u8(e.scheduled ? 1 : 0);
  out.order(e.order, e.number);
  out.time(e.ready_at, e.number);
  out.raw(e.spec);
}

void pack(effect::JobReady const& e, Packer& out) {
  out.number(e.number);
  out.order(e.order, e.number);
}

std::size_t variable_bytes(effect::JobLeased const& e) { return e.worker.size(); }
void pack(effect::JobLeased const& e, Packer& out) {
  out.number(e.number);
  out.u64(std::to_underlying(e.token));
  out.time(e.at, e.number);
  out.time(e.deadline, e.at);
  out.position(e.previous);
  out.raw(e.worker);
}

void pack(effect::LeaseExtended const& e, Packer& out) {
  out.number(e.number);
  out.time(e.deadline, e.number);
}

std::size_t variable_bytes(effect::JobCompleted const& e) { return e.result.size(); }
void pack(effect::JobCompleted const& e, Packer& out) {
  out.number(e.number);
  out.time(e.at, e.number);
  out.position(e.previous);
  out.u8(std::to_underlying(e.result_kind));
  if (e.result_kind != PayloadKind::none) out.raw(e.result);
}

std::size_t variable_bytes(effect::JobFailed const& e) { return e.code.size() + e.message.size() + e.detail.size(); }
void pack(effect::JobFailed const& e, Packer& out) {
  WM_ASSERT(e.next != JobState::leased && e.next != JobState::completed);
  out.number(e.number);
  out.time(e.at, e.number);
  out.u8(std::to_underlying(e.next));
  if (e.next == JobState::ready) out.order(e.order, e.number);
  if (e.next == JobState::scheduled) out.time(e.ready_at, e.at);
  out.u8(std::to_underlying(e.error_class));
  out.varint(e.attempt);
  out.position(e.previous);
  out.bytes(e.code);
  out.bytes(e.message);
  out.raw(e.detail);
}

void pack(effect::JobReleased const& e, Packer& out) {
  WM_ASSERT(e.next == JobState::ready || e.next == JobState::cancelled);
  out.number(e.number);
  out.time(e.at, e.number);
  out.u8(std::to_underlying(e.next));
  if (e.next == JobState::ready) out.order(e.order, e.number);
}

void pack(effect::JobCancelled const& e, Packer& out) {
  out.number(e.number);
  out.time(e.at, e.number);
  out.position(e.previous);
}

void pack(effect::CancelRequested const& e, Packer& out) { out.number(e.number); }

void pack(effect::JobRetried const& e, Packer& out) {
  out.number(e.number);
  out.order(e.order, e.number);
}

std::size_t variable_bytes(effect::ProgressMade const& e) { return e.message.size(); }
void pack(effect::ProgressMade const& e, Packer& out) {
  WM_ASSERT(e.percent <= 100);
  out.number(e.number);
  out.u8(e.percent);
  out.raw(e.message);
}

std::size_t variable_bytes(effect::LinesLogged const& e) { return e.lines.size(); }
void pack(effect::LinesLogged const& e, Packer& out) {
  out.number(e.number);
  out.position(e.previous);
  out.raw(e.lines);
}

void pack(effect::JobForgotten const& e, Packer& out) {
  out.number(e.number);
  if (e.batch == BatchNumber{}) return;
  out.order(std::to_underlying(e.batch), e.number);
  out.u8(std::to_underlying(e.last));
}

std::size_t variable_bytes(effect::JobSnapshot const& e) {
  return e.spec.size() + e.history.size() + e.checkpoint.size();
}
void pack(effect::JobSnapshot const& e, Packer& out) {
  WM_ASSERT(!e.checkpoint_lost || e.checkpoint.empty());
  bool const has_token = e.token != LeaseToken{};
  out.number(e.number);
  out.u8(static_cast<std::uint8_t>(
      (e.patched ? kSnapshotPatched : 0U) | (e.cancel_requested ? kSnapshotCancelRequested : 0U) |
      (has_token ? kSnapshotToken : 0U) | (e.checkpoint.empty() ? 0U : kSnapshotCheckpoint) |
      (e.checkpoint_lost ? kSnapshotCheckpointLost : 0U) | (e.is_overtaken ? kSnapshotOvertaken : 0U)));
  out.u8(std::to_underlying(e.state));
  out.order(e.order, e.number);
  out.time(e.due, e.number);
  if (has_token) out.u64(std::to_underlying(e.token));
  out.varint(e.attempt);
  out.bytes(e.spec);
  if (!e.checkpoint.empty()) out.bytes(e.checkpoint);
  out.raw(e.history);
}

std::size_t variable_bytes(effect::QueueChanged const& e) { return e.name.size(); }
void pack(effect::QueueChanged const& e, Packer& out) {
  out.u8(static_cast<std::uint8_t>((e.settings.paused ? kQueuePaused : 0U) |
                                   (e.settings.max_depth ? kQueueMaxDepth : 0U) |
                                   (e.settings.when_full == WhenFull::drop_oldest ? kQueueDropOldest : 0U)));
  if (e.settings.max_depth) out.varint(*e.settings.max_depth);
  out.raw(e.name);
}

std::size_t variable_bytes(effect::QueueRemoved const& e) { return e.name.size(); }
void pack(effect::QueueRemoved const& e, Packer& out) { out.raw(e.name); }

std::size_t variable_bytes(effect::RequestRemembered const& e) { return e.key.size() + e.reply.size(); }
void pack(effect::RequestRemembered const& e, Packer& out) {
  out.u64(e.fingerprint);
  out.zigzag(to_ms(e.until));
  out.bytes(e.key);
  out.raw(e.reply);
}

std::size_t variable_bytes(effect::CheckpointMade const& e) { return e.data.size(); }
void pack(effect::CheckpointMade const& e, Packer& out) {
  out.number(e.number);
  out.raw(e.data);
}

std::size_t variable_bytes(effect::CacheStored const& e) {
  return e.key.size() + e.content_type.size() + e.tags.size() + e.body.size();
}
void pack(effect::CacheStored const& e, Packer& out) {
  out.u8(e.is_copy ? 1 : 0);
  out.zigzag(to_ms(e.stored_at));
  out.time(e.fresh_until, e.stored_at);
  out.time(e.stale_until, e.fresh_until);
  out.zigzag(e.compute_time.count());
  out.u64(e.etag);
  out.bytes(e.key);
  out.bytes(e.content_type);
  out.bytes(e.tags);
  out.raw(e.body);
}

std::size_t variable_bytes(effect::CacheFailed const& e) { return e.key.size() + e.code.size() + e.message.size(); }
void pack(effect::CacheFailed const& e, Packer& out) {
  out.zigzag(to_ms(e.until));
  out.u8(std::to_underlying(e.error_class));
  out.bytes(e.key);
  out.bytes(e.code);
  out.raw(e.message);
}

std::size_t variable_bytes(effect::CacheForgotten const& e) { return e.key.size(); }
void pack(effect::CacheForgotten const& e, Packer& out) { out.raw(e.key); }

std::size_t variable_bytes(effect::FlagChanged const& e) { return e.key.size() + e.by.size() + e.definition.size(); }
void pack(effect::FlagChanged const& e, Packer& out) {
  out.varint(e.version);
  out.zigzag(to_ms(e.at));
  out.bytes(e.key);
  out.bytes(e.by);
  out.raw(e.definition);
}

std::size_t variable_bytes(effect::FlagRemoved const& e) { return e.key.size() + e.by.size(); }
void pack(effect::FlagRemoved const& e, Packer& out) {
  out.zigzag(to_ms(e.at));
  out.bytes(e.key);
  out.raw(e.by);
}

void pack(effect::FlightOvertaken const& e, Packer& out) { out.number(e.number); }

std::size_t variable_bytes(effect::BatchMade const& e) {
  return e.id.size() + e.on_success.size() + e.on_finish.size() + e.meta.size() + e.traceparent.size() +
         e.tracestate.size();
}
void pack(effect::BatchMade const& e, Packer& out) {
  out.batch(e.batch);
  out.bytes(e.id);
  out.bytes(e.on_success);
  out.bytes(e.on_finish);
  out.bytes(e.meta);
  out.bytes(e.traceparent);
  out.raw(e.tracestate);
}

void pack(effect::BatchClosed const& e, Packer& out) {
  out.batch(e.batch);
  out.time(e.at, as_job(e.batch));
}

void pack(effect::BatchFired const& e, Packer& out) {
  out.batch(e.batch);
  out.u8(std::to_underlying(e.callback));
  out.near(e.job, e.batch);
  out.time(e.at, as_job(e.batch));
}

void pack(effect::BatchForgotten const& e, Packer& out) { out.batch(e.batch); }

std::size_t variable_bytes(effect::BatchCopied const& e) {
  std::size_t bytes = e.id.size() + e.meta.size() + e.traceparent.size() + e.tracestate.size();
  for (auto const& callback : e.callbacks) bytes += packed_bytes_max(callback.queue) + packed_bytes_max(callback.spec);
  return bytes;
}
void pack(effect::BatchCopied const& e, Packer& out) {
  std::uint32_t flags = e.closed_at ? kBatchClosed : 0U;
  for (std::size_t i = 0; i < kCallbackKinds; ++i) {
    std::uint32_t bits = e.callbacks[i].queue.empty() ? 0U : kBatchHasCallback;
    if (e.callbacks[i].job != JobNumber{}) bits |= kBatchCallbackDone;
    flags |= bits << (kBatchCallbackBits * static_cast<int>(i));
  }
  out.batch(e.batch);
  out.u8(static_cast<std::uint8_t>(flags));
  if (e.closed_at) out.time(*e.closed_at, as_job(e.batch));
  out.time(e.changed_at, as_job(e.batch));
  out.varint(e.gone.deleted);
  out.varint(e.gone.completed);
  out.varint(e.gone.dead);
  out.varint(e.gone.cancelled);
  out.u64(e.fingerprint);
  for (auto const& callback : e.callbacks) {
    if (callback.queue.empty()) continue;
    out.bytes(callback.queue);
    if (callback.job != JobNumber{}) {
      out.near(callback.job, e.batch);
    } else {
      out.bytes(callback.spec);
    }
  }
  out.bytes(e.id);
  out.bytes(e.meta);
  out.bytes(e.traceparent);
  out.raw(e.tracestate);
}

class Reader : public ByteReader {
 public:
  using ByteReader::ByteReader;

  JobNumber number() { return JobNumber{u64()}; }
  BatchNumber batch() { return BatchNumber{u64()}; }
  JobNumber near(BatchNumber batch) { return JobNumber{order(as_job(batch))}; }
  std::uint64_t order(JobNumber job) { return from_distance(zigzag(), std::to_underlying(job)); }
  Instant time(JobNumber job) { return time(created_at(job)); }
  Instant time(Instant since) { return instant_from_bits(from_distance(zigzag(), bits(since))); }
  Position position() {
    Position value{.segment = narrow()};
    if (value) value.offset = u32();
    return value;
  }
  std::uint32_t narrow() {
    std::uint64_t const value = varint();
    require(value <= UINT32_MAX);
    return static_cast<std::uint32_t>(value);
  }
  template <class Enum>
  Enum enumerator(Enum last) {
    std::uint8_t const value = u8();
    require(value <= std::to_underlying(last));
    return static_cast<Enum>(value);
  }
  bool flag() {
    std::uint8_t const value = u8();
    require(value <= 1);
    return value != 0;
  }
  std::uint8_t flags(std::uint8_t known) {
    std::uint8_t const value = u8();
    require((value & ~known) == 0);
    return value;
  }
  BytesView rest() { return raw(remaining()); }
  // Notes that what was read could not have been written.
  void require(bool condition) { valid_ &= condition; }
  bool whole() const { return valid_ && done(); }

 private:
  bool valid_ = true;
};

void unpack(Reader& in, effect::StoreCreated& e) {
  e.salt = in.u64();
  e.last_number = in.number();
  e.last_order = in.u64();
  e.last_token = LeaseToken{in.u64()};
  if (in.done()) return;
  e.last_flag_version = in.varint();
  in.require(e.last_flag_version != 0);
}
void unpack(Reader& in, effect::ServerResumed& e) { e.down = Duration{in.zigzag()}; }
void unpack(Reader&, effect::Alive&) {}

void unpack(Reader& in, effect::JobEnqueued& e) {
  e.number = in.number();
  e.scheduled = in.flag();
  e.order = in.order(e.number);
  e.ready_at = in.time(e.number);
  e.spec = in.rest();
}

void unpack(Reader& in, effect::JobReady& e) {
  e.number = in.number();
  e.order = in.order(e.number);
}

void unpack(Reader& in, effect::JobLeased& e) {
  e.number = in.number();
  e.token = LeaseToken{in.u64()};
  e.at = in.time(e.number);
  e.deadline = in.time(e.at);
  e.previous = in.position();
  e.worker = in.rest();
}

void unpack(Reader& in, effect::LeaseExtended& e) {
  e.number = in.number();
  e.deadline = in.time(e.number);
}

void unpack(Reader& in, effect::JobCompleted& e) {
  e.number = in.number();
  e.at = in.time(e.number);
  e.previous = in.position();
  e.result_kind = in.enumerator(PayloadKind::raw);
  e.result = in.rest();
  in.require(e.result_kind != PayloadKind::none || e.result.empty());
}

void unpack(Reader& in, effect::JobFailed& e) {
  e.number = in.number();
  e.at = in.time(e.number);
  e.next = in.enumerator(JobState::cancelled);
  in.require(e.next != JobState::leased && e.next != JobState::completed);
  if (e.next == JobState::ready) e.order = in.order(e.number);
  if (e.next == JobState::scheduled) e.ready_at = in.time(e.at);
  e.error_class = in.enumerator(ErrorClass::fatal);
  e.attempt = in.narrow();
  e.previous = in.position();
  e.code = in.bytes();
  e.message = in.bytes();
  e.detail = in.rest();
}

void unpack(Reader& in, effect::JobReleased& e) {
  e.number = in.number();
  e.at = in.time(e.number);
  e.next = in.enumerator(JobState::cancelled);
  in.require(e.next == JobState::ready || e.next == JobState::cancelled);
  if (e.next == JobState::ready) e.order = in.order(e.number);
}

void unpack(Reader& in, effect::JobCancelled& e) {
  e.number = in.number();
  e.at = in.time(e.number);
  e.previous = in.position();
}

void unpack(Reader& in, effect::CancelRequested& e) { e.number = in.number(); }

void unpack(Reader& in, effect::JobRetried& e) {
  e.number = in.number();
  e.order = in.order(e.number);
}

void unpack(Reader& in, effect::ProgressMade& e) {
  e.number = in.number();
  e.percent = in.u8();
  in.require(e.percent <= 100);
  e.message = in.rest();
}

void unpack(Reader& in, effect::LinesLogged& e) {
  e.number = in.number();
  e.previous = in.position();
  e.lines = in.rest();
}

void unpack(Reader& in, effect::JobForgotten& e) {
  e.number = in.number();
  if (in.done()) return;
  e.batch = BatchNumber{in.order(e.number)};
  e.last = in.enumerator(JobState::cancelled);
  in.require(e.batch != BatchNumber{});
}

void unpack(Reader& in, effect::JobSnapshot& e) {
  e.number = in.number();
  std::uint8_t const flags = in.flags(kSnapshotFlags);
  e.patched = (flags & kSnapshotPatched) != 0;
  e.cancel_requested = (flags & kSnapshotCancelRequested) != 0;
  e.state = in.enumerator(JobState::cancelled);
  e.order = in.order(e.number);
  e.due = in.time(e.number);
  if (flags & kSnapshotToken) {
    e.token = LeaseToken{in.u64()};
    in.require(e.token != LeaseToken{});
  }
  e.attempt = in.narrow();
  e.spec = in.bytes();
  e.checkpoint_lost = (flags & kSnapshotCheckpointLost) != 0;
  e.is_overtaken = (flags & kSnapshotOvertaken) != 0;
  if (flags & kSnapshotCheckpoint) {
    e.checkpoint = in.bytes();
    in.require(!e.checkpoint.empty() && !e.checkpoint_lost);
  }
  e.history = in.rest();
}

void unpack(Reader& in, effect::QueueChanged& e) {
  std::uint8_t const flags = in.flags(kQueueFlags);
  e.settings.paused = (flags & kQueuePaused) != 0;
  if (flags & kQueueMaxDepth) e.settings.max_depth = in.varint();
  e.settings.when_full = flags & kQueueDropOldest ? WhenFull::drop_oldest : WhenFull::refuse;
  e.name = in.rest();
}

void unpack(Reader& in, effect::QueueRemoved& e) { e.name = in.rest(); }

void unpack(Reader& in, effect::RequestRemembered& e) {
  e.fingerprint = in.u64();
  e.until = instant_from_ms(in.zigzag());
  e.key = in.bytes();
  e.reply = in.rest();
}

void unpack(Reader& in, effect::CheckpointMade& e) {
  e.number = in.number();
  e.data = in.rest();
}

void unpack(Reader& in, effect::CacheStored& e) {
  e.is_copy = in.flag();
  e.stored_at = instant_from_ms(in.zigzag());
  e.fresh_until = in.time(e.stored_at);
  e.stale_until = in.time(e.fresh_until);
  e.compute_time = Duration{in.zigzag()};
  e.etag = in.u64();
  e.key = in.bytes();
  e.content_type = in.bytes();
  e.tags = in.bytes();
  e.body = in.rest();
}

void unpack(Reader& in, effect::CacheFailed& e) {
  e.until = instant_from_ms(in.zigzag());
  e.error_class = in.enumerator(ErrorClass::fatal);
  e.key = in.bytes();
  e.code = in.bytes();
  e.message = in.rest();
}

void unpack(Reader& in, effect::CacheForgotten& e) { e.key = in.rest(); }

void unpack(Reader& in, effect::FlagChanged& e) {
  e.version = in.varint();
  e.at = instant_from_ms(in.zigzag());
  e.key = in.bytes();
  e.by = in.bytes();
  e.definition = in.rest();
}

void unpack(Reader& in, effect::FlagRemoved& e) {
  e.at = instant_from_ms(in.zigzag());
  e.key = in.bytes();
  e.by = in.rest();
}

void unpack(Reader& in, effect::FlightOvertaken& e) { e.number = in.number(); }

void unpack(Reader& in, effect::BatchMade& e) {
  e.batch = in.batch();
  e.id = in.bytes();
  e.on_success = in.bytes();
  e.on_finish = in.bytes();
  e.meta = in.bytes();
  e.traceparent = in.bytes();
  e.tracestate = in.rest();
}

void unpack(Reader& in, effect::BatchClosed& e) {
  e.batch = in.batch();
  e.at = in.time(as_job(e.batch));
}

void unpack(Reader& in, effect::BatchFired& e) {
  e.batch = in.batch();
  e.callback = in.enumerator(CallbackKind::finish);
  e.job = in.near(e.batch);
  e.at = in.time(as_job(e.batch));
}

void unpack(Reader& in, effect::BatchForgotten& e) { e.batch = in.batch(); }

void unpack(Reader& in, effect::BatchCopied& e) {
  e.batch = in.batch();
  std::uint8_t const flags = in.flags(kBatchFlags);
  if (flags & kBatchClosed) e.closed_at = in.time(as_job(e.batch));
  e.changed_at = in.time(as_job(e.batch));
  e.gone.deleted = in.varint();
  e.gone.completed = in.varint();
  e.gone.dead = in.varint();
  e.gone.cancelled = in.varint();
  e.fingerprint = in.u64();
  for (std::size_t i = 0; i < kCallbackKinds; ++i) {
    std::uint32_t const bits = std::uint32_t{flags} >> (kBatchCallbackBits * static_cast<int>(i));
    bool const is_done = (bits & kBatchCallbackDone) != 0;
    if ((bits & kBatchHasCallback) == 0) {
      in.require(!is_done);
      continue;
    }
    e.callbacks[i].queue = in.bytes();
    in.require(!e.callbacks[i].queue.empty());
    if (is_done) {
      e.callbacks[i].job = in.near(e.batch);
      in.require(e.callbacks[i].job != JobNumber{});
    } else {
      e.callbacks[i].spec = in.bytes();
    }
  }
  e.id = in.bytes();
  e.meta = in.bytes();
  e.traceparent = in.bytes();
  e.tracestate = in.rest();
}

auto corrupt(char const* what) { return fail(ErrorCode::log_corrupt, what); }

// Reads the body as the effect of this kind, into the alternative that is made in place.
template <class E>
bool unpack_as(BytesView body, Effect& effect) {
  Reader reader{body};
  unpack(reader, effect.emplace<E>());
  return reader.whole();
}

using UnpackKind = bool (*)(BytesView, Effect&);
template <std::size_t... I>
constexpr auto make_unpack_table(std::index_sequence<I...>) {
  return std::array<UnpackKind, sizeof...(I)>{&unpack_as<std::variant_alternative_t<I, Effect>>...};
}
constexpr auto kUnpackTable = make_unpack_table(std::make_index_sequence<std::variant_size_v<Effect>>{});

std::uint32_t header_word(BytesView bytes) {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < kRecordHeaderBytes; ++i) {
    word |= std::uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return word;
}
std::uint8_t kind_in(std::uint32_t header) { return static_cast<std::uint8_t>(header & 0xff); }
std::uint32_t body_bytes_in(std::uint32_t header) { return header >> 8; }

}  // namespace

std::uint32_t append_record(Effect const& effect, Bytes& out) {
  return std::visit(
      [&]<class E>(E const& e) {
        std::size_t const bytes_max = kRecordHeaderBytes + kFixedBytesMax + variable_bytes(e);
        return static_cast<std::uint32_t>(append_packed(out, bytes_max, [&](BytePacker& packer) {
          char* const start = packer.at();
          Packer body{start + kRecordHeaderBytes};
          pack(e, body);
          auto const body_bytes = static_cast<std::size_t>(body.at() - start) - kRecordHeaderBytes;
          WM_ASSERT(body_bytes <= kRecordBodyBytesMax);
          packer.u32(static_cast<std::uint32_t>(body_bytes) << 8 | kind_of<E>());
          packer = body;
        }));
      },
      effect);
}

std::uint32_t record_bytes(BytesView header) {
  WM_ASSERT(header.size() >= kRecordHeaderBytes);
  return static_cast<std::uint32_t>(kRecordHeaderBytes) + body_bytes_in(header_word(header));
}

Result<Effect> parse_record(BytesView record) {
  if (record.size() < kRecordHeaderBytes) return corrupt("a record is cut off in its header");
  std::uint32_t const header = header_word(record);
  BytesView const body = record.substr(kRecordHeaderBytes);
  if (body.size() != body_bytes_in(header)) return corrupt("a record's length is wrong");
  std::size_t const kind = kind_in(header);
  if (kind == 0 || kind > kUnpackTable.size()) return corrupt("a record is of no known kind");

  Result<Effect> effect{std::in_place};
  if (!kUnpackTable[kind - 1](body, *effect)) return corrupt("a record's body is damaged");
  return effect;
}

Result<BytesView> first_record(BytesView payload) {
  if (payload.size() < kRecordHeaderBytes) return corrupt("a batch ends inside of a record's header");
  std::uint32_t const bytes = record_bytes(payload);
  if (bytes > payload.size()) return corrupt("a batch ends inside of a record");
  return payload.substr(0, bytes);
}

Result<> for_each_record(
    BytesView payload, std::function<Result<>(Effect const&, std::uint32_t offset, std::uint32_t bytes)> const& visit) {
  std::size_t offset = 0;
  while (offset < payload.size()) {
    WM_TRY(BytesView const record, first_record(payload.substr(offset)));
    WM_TRY(Effect const effect, parse_record(record));
    WM_TRY_VOID(visit(effect, static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(record.size())));
    offset += record.size();
  }
  return {};
}

Result<BytesView> spec_of(BytesView record) {
  WM_TRY(Effect const effect, parse_record(record));
  if (auto const* enqueued = std::get_if<effect::JobEnqueued>(&effect)) return enqueued->spec;
  if (auto const* snapshot = std::get_if<effect::JobSnapshot>(&effect)) return snapshot->spec;
  return corrupt("a record holds no spec");
}

}  // namespace workmill::log
