#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/guarded.h"
#include "log/block_sums.h"
#include "log/disk.h"
#include "log/frame.h"
#include "log/frame_rescue.h"
#include "log/log.h"
#include "log/log_reader.h"

// The log over segment files, whatever disk they are on: FileLog and MemoryLog are this over FileDisk and MemoryDisk,
// so what the simulator breaks is the code that runs on real disks.
//
// Threads, beyond what log.h says. The shard's side (own … trim_oldest) and flush() share two things: the line of
// staged batches under a lock, and what has been written so far. A third thread may call sync_written() and
// prepare_next(): a disk that has one for it syncs in the background and makes the next segment ahead. The bytes of a
// batch belong to the shard's side, stay where they are until the batch is written, and do not change, so the flushing
// thread reads them without a lock; the header in front of them belongs to the flushing thread.
namespace workmill::log {

struct SegmentLogOptions {
  // Nominal size of a segment, kSegmentBytesMin to kSegmentBytesMax; a batch that begins before it may end behind it.
  std::uint32_t segment_bytes = std::uint32_t{64} << 20;
  Durability durability = Durability::sync;
  // Under Durability::interval. Ignored where `synced_elsewhere`.
  Duration sync_interval{50};
  // True: somebody calls sync_written() within each interval. False: a flush syncs when the time that its batches bring
  // along says that the interval is over.
  bool synced_elsewhere = false;
  // What was written last is read from memory: so much of it.
  std::size_t recent_bytes = std::size_t{4} << 20;
  // What a new log is called. Random, so that no client can guess the checksums.
  std::uint64_t log_id = 0;
};
inline constexpr std::uint32_t kSegmentBytesMin = 4096;
inline constexpr std::uint32_t kSegmentBytesMax = std::uint32_t{1} << 30;

class SegmentLog final : public Log {
 public:
  // `disk` outlives the log. bad_configuration for sizes out of range.
  static Result<std::unique_ptr<SegmentLog>> open(Disk& disk, SegmentLogOptions options);
  SegmentLog(Disk& disk, SegmentLogOptions options);
  ~SegmentLog() override;

  Result<Epoch> own() override;
  Result<ReplayReport> replay(std::function<Result<>(ReplayedBatch const&)> const& visit,
                              std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) override;
  Position next_base() override;
  void stage(BytesView payload, Instant at) override;
  Result<> flush() override;
  Result<BytesView> read(Position position, std::size_t length) override;
  std::move_only_function<void()> fetch(Position position, std::size_t length) override;
  Result<std::optional<ReplayedBatch>> next_batch(Position& cursor) override;
  Result<> skip_damaged(Position& cursor) override;
  Result<bool> trim_oldest() override;
  LogStatus status() const override;

  // Marks an orderly end: whatever is damaged before it was lost, not torn. Does nothing where batches are staged and
  // not flushed. The last call; on the shard's thread, with no flush under way.
  Result<> seal();

  // For a third thread. Makes what was written durable; an error comes back from the next flush() too.
  Result<> sync_written();
  // For a third thread: makes the segment after the one being written, if wants_next(). May fail without harm; of
  // disk_full status() tells until there is one.
  Result<> prepare_next();
  // True when there is no next segment, and the one being written is half full, or the disk has so little space left
  // that others may take it before. Any thread.
  bool wants_next() const;

 private:
  struct Batch {
    FrameHeader header;
    Bytes frame;  // Room for the header, the payload, and zeros to the next frame.
  };
  struct Line {  // What the shard's side hands to the flushing thread.
    std::vector<Batch*> staged;
    std::uint32_t oldest = 0;            // First segment that is still needed.
    std::vector<std::uint32_t> dropped;  // Segments to remove once the log says so.
  };
  struct Written {                    // What the flushing and the syncing thread know.
    Position end;                     // Of what was handed to the disk.
    Position durable;                 // Of what is durable for certain.
    std::uint32_t unsynced_from = 0;  // First segment with bytes that may not be durable.
    std::optional<Error> failure;     // The first; final.
  };
  class BlockCache;

  Position next_frame() const;
  std::uint32_t nominal_bytes(std::uint32_t ordinal) const;
  Result<> cut(LogReader::End const& end);
  void put_in_line(FrameKind kind, BytesView payload, Instant at);
  Bytes take_buffer(std::size_t bytes);
  void forget_recent();
  Batch const* find_recent(Position position) const;
  bool has_segment(std::uint32_t ordinal) const;
  std::uint64_t settled_bytes(std::uint32_t ordinal) const;
  Result<BytesView> read_from_disk(Position position, std::size_t length);
  Result<BytesView> read_blocks(Position position, std::size_t length, std::uint64_t settled);
  Result<ReplayedBatch> read_frame(Position start, FrameHeader& header);

  enum class Sync : std::uint8_t { as_opened, always };
  Result<> flush_line(Sync sync);
  Result<> write_staged(Line const& line);
  Result<> append_run(std::span<Batch* const> run, Position durable, std::uint32_t oldest);
  Result<> ensure_segment(std::uint32_t ordinal);
  Bytes segment_head(std::uint32_t ordinal) const;
  Result<> sync_if_due(Sync sync);
  Result<> sync_round();
  Result<> remember_failure(Result<> result);

  Disk& disk_;
  SegmentLogOptions const options_;
  std::uint64_t log_id_;

  // The shard's side.
  enum class Phase : std::uint8_t { opened, replayed, owned };
  Phase phase_ = Phase::opened;
  Epoch epoch_{};
  std::deque<SegmentInfo> segments_;
  SegmentInfo recovered_tail_;  // The segment that replay ended in, and its nominal size; later ones have the options'.
  std::uint64_t next_sequence_ = 1;
  Instant last_at_{};
  std::deque<Batch> recent_;  // Oldest first: everything not yet written, and before it up to recent_bytes.
  std::size_t recent_bytes_ = 0;
  std::vector<Bytes> spare_buffers_;
  std::unique_ptr<BlockCache> blocks_;
  FrameRescue rescue_;  // For what a damaged block leaves whole.
  Bytes scratch_;       // For what straddles blocks.

  // The flushing thread's.
  Line taken_;
  std::vector<BytesView> parts_;
  Instant last_sync_at_{};

  // Shared.
  Guarded<Line> line_;
  Guarded<Written> written_;
  Guarded<BlockSums> sums_;
  Mutex syncing_;                      // Held for a whole round of syncs: there are two who may begin one.
  Guarded<std::uint32_t> created_{0};  // Newest segment on the disk. Held while the next is made.
  std::atomic<std::uint32_t> newest_created_{0};
  std::atomic<bool> next_has_no_room_{false};
  std::atomic<std::uint64_t> written_sequence_{0};  // Of the last frame that was handed to the disk.
  std::atomic<std::uint32_t> write_ordinal_{0};     // The segment being written, and how far.
  std::atomic<std::uint32_t> write_offset_{0};
  std::atomic<std::uint64_t> flushes_{0};
  std::atomic<std::uint64_t> flushed_bytes_{0};
};

}  // namespace workmill::log
