#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "model/ids.h"
#include "model/position.h"

// The seam to disks and databases: an append-only sequence of batches, cut into segments, of which only the oldest is
// ever dropped. The log is the database: state is what replaying it gives.
//
// A batch is an opaque payload (records laid out by log/record.h) under a header with its length, its CRC32C, the time
// and the position up to which the log was durable when the batch was staged. A batch is valid whole or not at all.
//
// Threads. One thread, the shard's, calls everything but flush(). flush() may be called by one other thread at a time,
// which is how a slow disk is moved off the shard's thread; without such a thread the shard calls it itself.
namespace workmill::log {

enum class Durability : std::uint8_t {
  sync,      // flush() returns when the batches are on disk.
  interval,  // flush() returns when they are written; a sync follows within the interval. A power cut may take that
             // much.
  os,        // flush() returns when they are written; the operating system syncs when it likes.
};

struct SegmentInfo {
  std::uint32_t ordinal = 0;
  std::uint64_t bytes = 0;  // Used, header included.
  bool operator==(SegmentInfo const&) const = default;
};

struct LogStatus {
  Epoch epoch{};
  std::vector<SegmentInfo> segments;  // Oldest first; the last one is being written.
  std::uint64_t disk_bytes = 0;       // On the device, preallocated and spare space included.
  std::uint64_t free_bytes = 0;       // What the device has left.
  // There was no room for the segment after the one being written when it was to be made last: what is left of this one
  // is all that can be written.
  bool next_has_no_room = false;
  std::uint64_t flushes = 0;
  std::uint64_t flushed_bytes = 0;
};

// What replay() found besides the batches.
struct ReplayReport {
  std::uint64_t batches = 0;
  std::uint64_t bytes = 0;
  Instant last_batch_at{};  // Time of the newest batch; the epoch where there is none.
  Position cut_at{};        // Where a torn tail was cut off; no position where the log ended cleanly.
  std::string cut_file{};   // The segment's name for people, where something was cut.
  std::uint64_t cut_bytes = 0;
};

// One batch handed to replay's visitor. `payload` is lent for the call. `base` is the position of payload[0].
struct ReplayedBatch {
  Position base;
  Instant at;
  BytesView payload;
};

class Log {
 public:
  virtual ~Log() = default;

  // Takes ownership under a new epoch, larger than every earlier one, durable before this returns. From then on an
  // append by an earlier owner fails with log_fenced. Call once, after replay() and before the first stage().
  virtual Result<Epoch> own() = 0;

  // Calls `visit` for each batch from the oldest, in order, on the caller's thread; stops at the first error of
  // `visit` and returns it. Cuts a torn tail, and reports it. log_corrupt, with segment and offset in the message,
  // where a batch is damaged that was durable once (a later batch says so). Progress: `on_progress(done, total)` in
  // bytes, may be empty.
  virtual Result<ReplayReport> replay(std::function<Result<>(ReplayedBatch const&)> const& visit,
                                      std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) = 0;

  // Where payload[0] of the next staged batch will stand. Stable until the next stage().
  virtual Position next_base() = 0;

  // Puts a batch in line for the next flush(), at next_base(). It can be read from now on; it is not durable yet.
  // `payload` is not empty, at most kBatchBytesMax. `at` is written into the header. No I/O, so no error.
  virtual void stage(BytesView payload, Instant at) = 0;

  // Writes every batch staged so far, in one piece, and makes it as durable as the device was opened for. An error
  // means that nobody knows what is on disk: the caller must stop using this log (never flush again).
  virtual Result<> flush() = 0;

  // `length` bytes from `position` of a payload, staged or durable. The view is good until the next call of stage, read
  // or trim_oldest. io_failed or log_corrupt where it cannot be read: what is damaged is the batch that it is in, and
  // no other. Positions in dropped segments are a bug of the caller.
  virtual Result<BytesView> read(Position position, std::size_t length) = 0;

  // Where read() of these bytes would wait for a device: what waits in its place. To be called once, on any thread,
  // while the log is there; the segment may be dropped before. read() finds them in memory after that, for a while.
  // Empty where they are in memory, or where nobody can tell.
  virtual std::move_only_function<void()> fetch(Position /*position*/, std::size_t /*length*/) { return {}; }

  // For copying the survivors of the oldest segment: the next batch of the segment that `cursor` stands in, from
  // `cursor.offset` (0: the first) on, and moves the cursor behind it. Nothing when that segment has no more, or when
  // what follows is not flushed yet. The payload is lent as with read(). Checksums are verified: log_corrupt.
  virtual Result<std::optional<ReplayedBatch>> next_batch(Position& cursor) = 0;

  // After next_batch() has answered log_corrupt: moves `cursor` behind the damage, to the next frame of its segment
  // that has a header, or to the segment's end. io_failed.
  virtual Result<> skip_damaged(Position& cursor) = 0;

  // Drops the oldest segment, for good; its space comes back with the next flush. The caller has made sure that nothing
  // in it is needed and that what replaced it is durable. Never the segment being written (returns false then).
  virtual Result<bool> trim_oldest() = 0;

  virtual LogStatus status() const = 0;
};

inline constexpr std::size_t kBatchBytesMax = std::size_t{64} << 20;

}  // namespace workmill::log
