#include "log/segment_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/mutation.h"
#include "log/crc32c.h"

namespace workmill::log {
namespace {

constexpr std::size_t kBlocks = 16;
constexpr std::size_t kSpareBuffersMax = 4;
// With less free space than so many segments the next one is made at once.
constexpr std::uint64_t kScarceSegments = 4;
constexpr std::uint64_t kProgressBytes = std::uint64_t{1} << 20;

constexpr std::array<char, kBlockBytes> kZeros{};
// Behind the last frame stands a header of zeros: so a reader knows the end although the space behind it is recycled.
constexpr BytesView kEndMark{kZeros.data(), kFrameHeaderBytes};

}  // namespace

// Parts of segments as read from the disk, and found to be what was written: a backlog that is worked off in order
// costs one read a block.
class SegmentLog::BlockCache {
 public:
  BlockCache(Disk& disk, Guarded<BlockSums> const& sums) : disk_(disk), sums_(sums) {}

  // The bytes from `offset` to `end`, or to the end of the block that `offset` is in. What the segment holds before
  // `settled` changes no more. Good until the block is used for another, kBlocks calls later at the soonest.
  Result<BytesView> read(std::uint32_t ordinal, std::uint64_t offset, std::uint64_t end, std::uint64_t settled) {
    std::uint64_t const start = offset / kBlockBytes * kBlockBytes;
    std::size_t const first = static_cast<std::size_t>(offset - start);
    std::size_t const last = static_cast<std::size_t>(std::min<std::uint64_t>(end - start, kBlockBytes));
    Block& block = find(ordinal, start);
    block.last_use = ++uses_;
    if (block.size < last) WM_TRY_VOID(fill(block, last, settled));  // New, or read when the segment was shorter.
    return BytesView{block.bytes.get() + first, last - first};
  }

  void forget(std::uint32_t ordinal) {
    for (Block& block : blocks_) {
      if (block.ordinal == ordinal) block.ordinal = 0;
    }
  }

 private:
  struct Block {
    std::uint32_t ordinal = 0;
    std::uint64_t start = 0;
    std::size_t size = 0;
    std::uint64_t last_use = 0;
    std::unique_ptr<char[]> bytes;
  };

  Result<> fill(Block& block, std::size_t needed, std::uint64_t settled) {
    if (!block.bytes) block.bytes = std::make_unique<char[]>(kBlockBytes);
    auto const sum =
        sums_.with([&](BlockSums const& sums) { return sums.find(block.ordinal, block.start / kBlockBytes); });
    std::size_t const wanted =
        sum ? sum->bytes : static_cast<std::size_t>(std::min<std::uint64_t>(settled - block.start, kBlockBytes));
    block.size = 0;
    WM_TRY(std::size_t const size, disk_.read(block.ordinal, block.start, {block.bytes.get(), wanted}));
    if (size < std::max(needed, sum ? sum->bytes : 0)) {
      return fail(ErrorCode::log_corrupt,
                  fmt::format("{} ends at {}: it was longer", disk_.name(block.ordinal), block.start + size));
    }
    if (sum && sum->crc != crc32c({block.bytes.get(), size}) && !WM_MUTATION(serves_what_it_reads)) {
      return fail(ErrorCode::log_corrupt, fmt::format("{}: the bytes from {} to {} are not what was written there",
                                                      disk_.name(block.ordinal), block.start, block.start + size));
    }
    block.size = size;
    return {};
  }

  // The block, or the one that was not used for longest, emptied.
  Block& find(std::uint32_t ordinal, std::uint64_t start) {
    Block* oldest = &blocks_.front();
    for (Block& block : blocks_) {
      if (block.ordinal == ordinal && block.start == start) return block;
      if (block.last_use < oldest->last_use) oldest = &block;
    }
    oldest->ordinal = ordinal;
    oldest->start = start;
    oldest->size = 0;
    return *oldest;
  }

  Disk& disk_;
  Guarded<BlockSums> const& sums_;
  std::array<Block, kBlocks> blocks_;
  std::uint64_t uses_ = 0;
};

Result<std::unique_ptr<SegmentLog>> SegmentLog::open(Disk& disk, SegmentLogOptions options) {
  if (options.segment_bytes < kSegmentBytesMin || options.segment_bytes > kSegmentBytesMax) {
    return fail(ErrorCode::bad_configuration, fmt::format("a log segment has {} to {} bytes, not {}", kSegmentBytesMin,
                                                          kSegmentBytesMax, options.segment_bytes));
  }
  return std::make_unique<SegmentLog>(disk, options);
}

SegmentLog::SegmentLog(Disk& disk, SegmentLogOptions options)
    : disk_(disk),
      options_(options),
      log_id_(options.log_id),
      blocks_(std::make_unique<BlockCache>(disk, sums_)),
      rescue_(disk) {}

SegmentLog::~SegmentLog() = default;

// ---- Start: read everything, cut what is torn, own it.

Result<ReplayReport> SegmentLog::replay(std::function<Result<>(ReplayedBatch const&)> const& visit,
                                        std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) {
  WM_ASSERT(phase_ == Phase::opened);
  ReplayReport report;
  BlockSums sums;
  LogReader reader{disk_, &sums};
  std::uint64_t reported = 0;
  while (true) {
    WM_TRY(auto const frame, reader.next());
    if (!frame) break;
    if (frame->header.kind == FrameKind::batch) {
      Position base = frame->header.start;
      base.offset += kFrameHeaderBytes;
      WM_TRY_VOID(visit({.base = base, .at = frame->header.at, .payload = frame->payload}));
      ++report.batches;
      report.bytes += frame->payload.size();
      report.last_batch_at = frame->header.at;
    }
    if (on_progress && reader.bytes_read() >= reported + kProgressBytes) {
      reported = reader.bytes_read();
      on_progress(reported, reader.bytes_total());
    }
  }
  if (on_progress) on_progress(reader.bytes_total(), reader.bytes_total());

  LogReader::End const& end = reader.end();
  WM_TRY_VOID(cut(end));
  if (end.torn) {
    report.cut_at = end.next;
    report.cut_file = disk_.name(end.next.segment);
    report.cut_bytes = end.torn_bytes;
  }
  if (end.next) {
    log_id_ = end.log_id;
    recovered_tail_ = {.ordinal = end.next.segment, .bytes = end.segment_bytes};
  }
  for (DiskFile const& segment : end.segments) segments_.push_back({segment.ordinal, segment.bytes});
  epoch_ = end.epoch;
  next_sequence_ = end.next_sequence;
  last_at_ = report.last_batch_at;
  sums_.with([&](BlockSums& shared) { shared = std::move(sums); });
  phase_ = Phase::replayed;
  return report;
}

// Safe to be cut short itself: until the last step the log reads as torn at the same place.
Result<> SegmentLog::cut(LogReader::End const& end) {
  for (std::size_t i = WM_MUTATION(segments_behind_a_cut_stay) ? 0 : end.behind.size(); i > 0;
       --i) {  // From behind, so that no gap appears.
    disk_.done_reading(end.behind[i - 1].ordinal);
    WM_TRY_VOID(disk_.drop(end.behind[i - 1].ordinal));
  }
  if (!end.torn && end.torn_until == end.next.offset) return {};
  std::vector<BytesView> zeros;
  for (std::uint64_t left = end.torn_until - end.next.offset; left > 0;) {
    zeros.emplace_back(kZeros.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, kZeros.size())));
    left -= zeros.back().size();
  }
  WM_TRY_VOID(disk_.append(end.next.segment, end.next.offset, zeros));
  return disk_.sync(end.next.segment);
}

Result<Epoch> SegmentLog::own() {
  WM_ASSERT(phase_ == Phase::replayed);
  epoch_ = Epoch{std::to_underlying(epoch_) + 1};
  WM_TRY_VOID(disk_.claim(epoch_));
  // An owner that did not sync each flush may have left bytes that only the operating system has seen.
  for (SegmentInfo const& segment : segments_) {
    WM_TRY_VOID(disk_.sync(segment.ordinal));
    if (segment.ordinal != segments_.back().ordinal) disk_.retire(segment.ordinal);
  }
  std::uint32_t const newest = segments_.empty() ? 0 : segments_.back().ordinal;
  created_.with([&](std::uint32_t& created) { created = newest; });
  newest_created_.store(newest);
  if (newest != 0) {
    Position const end{newest, static_cast<std::uint32_t>(segments_.back().bytes)};
    written_.with([&](Written& written) { written = {.end = end, .durable = end, .unsynced_from = 0, .failure = {}}; });
  }
  line_.with([&](Line& line) { line.oldest = segments_.empty() ? 1 : segments_.front().ordinal; });
  phase_ = Phase::owned;
  put_in_line(FrameKind::owner, {}, last_at_);
  WM_TRY_VOID(flush_line(Sync::always));
  return epoch_;
}

// ---- The shard's side.

std::uint32_t SegmentLog::nominal_bytes(std::uint32_t ordinal) const {
  return ordinal == recovered_tail_.ordinal ? static_cast<std::uint32_t>(recovered_tail_.bytes)
                                            : options_.segment_bytes;
}

// A frame never straddles segments: it begins in the last one if its header fits there, and else the next one.
Position SegmentLog::next_frame() const {
  if (segments_.empty()) return {1, kSegmentHeaderBytes};
  SegmentInfo const& tail = segments_.back();
  if (tail.bytes + kFrameHeaderBytes > nominal_bytes(tail.ordinal)) return {tail.ordinal + 1, kSegmentHeaderBytes};
  return {tail.ordinal, static_cast<std::uint32_t>(tail.bytes)};
}

Position SegmentLog::next_base() {
  WM_ASSERT(phase_ == Phase::owned);
  Position base = next_frame();
  base.offset += kFrameHeaderBytes;
  return base;
}

void SegmentLog::stage(BytesView payload, Instant at) {
  WM_ASSERT(phase_ == Phase::owned);
  WM_ASSERT(!payload.empty() && payload.size() <= kBatchBytesMax);
  put_in_line(FrameKind::batch, payload, at);
  forget_recent();
}

void SegmentLog::put_in_line(FrameKind kind, BytesView payload, Instant at) {
  Position const start = next_frame();
  if (segments_.empty() || segments_.back().ordinal != start.segment) {
    segments_.push_back({start.segment, kSegmentHeaderBytes});
  }
  std::size_t const bytes = static_cast<std::size_t>(frame_bytes(payload.size()));
  Batch& batch = recent_.emplace_back();
  batch.frame = take_buffer(bytes);
  batch.frame.append(kFrameHeaderBytes, '\0');
  batch.frame.append(payload);
  batch.frame.append(bytes - batch.frame.size(), '\0');
  batch.header = {.payload_crc = crc32c(payload),
                  .payload_bytes = static_cast<std::uint32_t>(payload.size()),
                  .start = start,
                  .sequence = next_sequence_++,
                  .at = at,
                  .epoch = epoch_,
                  .durable = {},
                  .oldest = 0,
                  .kind = kind};
  recent_bytes_ += sizeof(Batch) + batch.frame.capacity();
  segments_.back().bytes = start.offset + bytes;
  last_at_ = at;
  line_.with([&](Line& line) { line.staged.push_back(&batch); });
}

Bytes SegmentLog::take_buffer(std::size_t bytes) {
  for (Bytes& spare : spare_buffers_) {
    // Not a large one for a small batch: what a batch occupies is counted, and would crowd out others.
    if (spare.capacity() < bytes || spare.capacity() > 2 * bytes) continue;
    Bytes buffer = std::move(spare);
    spare = std::move(spare_buffers_.back());
    spare_buffers_.pop_back();
    buffer.clear();
    return buffer;
  }
  Bytes buffer;
  buffer.reserve(bytes);
  return buffer;
}

void SegmentLog::forget_recent() {
  std::uint64_t const written = written_sequence_.load(std::memory_order_acquire);
  while (recent_bytes_ > options_.recent_bytes && recent_.front().header.sequence <= written) {
    Batch& batch = recent_.front();
    recent_bytes_ -= sizeof(Batch) + batch.frame.capacity();
    if (spare_buffers_.size() == kSpareBuffersMax) spare_buffers_.erase(spare_buffers_.begin());
    spare_buffers_.push_back(std::move(batch.frame));
    recent_.pop_front();
  }
}

SegmentLog::Batch const* SegmentLog::find_recent(Position position) const {
  auto const after =
      std::upper_bound(recent_.begin(), recent_.end(), position,
                       [](Position const& wanted, Batch const& batch) { return wanted < batch.header.start; });
  return after == recent_.begin() ? nullptr : &*std::prev(after);
}

Result<BytesView> SegmentLog::read(Position position, std::size_t length) {
  WM_ASSERT(phase_ == Phase::owned && has_segment(position.segment));
  Batch const* const batch = find_recent(position);
  if (batch == nullptr) return read_from_disk(position, length);
  std::size_t const offset = position.offset - batch->header.start.offset;
  bool const is_inside = position.segment == batch->header.start.segment && offset >= kFrameHeaderBytes &&
                         offset + length <= kFrameHeaderBytes + batch->header.payload_bytes;
  if (!is_inside) {
    return fail(ErrorCode::log_corrupt, fmt::format("{} has no {} bytes of a batch at offset {}",
                                                    disk_.name(position.segment), length, position.offset));
  }
  return BytesView{batch->frame}.substr(offset, length);
}

// Whole blocks, as that is what is read, and what checksums are of.
std::move_only_function<void()> SegmentLog::fetch(Position position, std::size_t length) {
  WM_ASSERT(phase_ == Phase::owned && has_segment(position.segment));
  if (find_recent(position) != nullptr) return {};
  std::uint64_t const from = position.offset / kBlockBytes * kBlockBytes;
  std::uint64_t const until = (position.offset + length + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  std::uint64_t const end = std::min(until, settled_bytes(position.segment));
  if (end <= from) return {};
  return disk_.fetch(position.segment, from, end - from);
}

bool SegmentLog::has_segment(std::uint32_t ordinal) const {
  return !segments_.empty() && ordinal >= segments_.front().ordinal && ordinal <= segments_.back().ordinal;
}

// How far a segment has been written for certain: everything before the recent batches.
std::uint64_t SegmentLog::settled_bytes(std::uint32_t ordinal) const {
  if (!recent_.empty()) {
    Position const first = recent_.front().header.start;
    if (first.segment == ordinal) return first.offset;
    if (first.segment < ordinal) return 0;
  }
  return segments_[ordinal - segments_.front().ordinal].bytes;
}

Result<BytesView> SegmentLog::read_from_disk(Position position, std::size_t length) {
  std::uint64_t const settled = settled_bytes(position.segment);
  std::uint64_t const end = std::uint64_t{position.offset} + length;
  if (end > settled) {
    return fail(ErrorCode::log_corrupt, fmt::format("{} has no {} bytes of a batch at offset {}",
                                                    disk_.name(position.segment), length, position.offset));
  }
  if (length == 0) return BytesView{};
  auto read = read_blocks(position, length, settled);
  if (read || read.error().code != ErrorCode::log_corrupt || WM_MUTATION(damage_takes_its_block)) return read;
  return rescue_.read(log_id_, position, length, settled);
}

Result<BytesView> SegmentLog::read_blocks(Position position, std::size_t length, std::uint64_t settled) {
  std::uint64_t const end = std::uint64_t{position.offset} + length;
  WM_TRY(BytesView const first, blocks_->read(position.segment, position.offset, end, settled));
  if (first.size() == length) return first;
  scratch_.assign(first);
  while (scratch_.size() < length) {
    std::uint64_t const from = position.offset + scratch_.size();
    WM_TRY(BytesView const more, blocks_->read(position.segment, from, end, settled));
    scratch_.append(more);
  }
  return BytesView{scratch_};
}

Result<std::optional<ReplayedBatch>> SegmentLog::next_batch(Position& cursor) {
  WM_ASSERT(phase_ == Phase::owned && has_segment(cursor.segment));
  if (cursor.offset == 0) cursor.offset = kSegmentHeaderBytes;
  std::uint64_t const end = segments_[cursor.segment - segments_.front().ordinal].bytes;
  while (cursor.offset + kFrameHeaderBytes <= end) {
    Batch const* const recent = find_recent(cursor);
    if (recent != nullptr && recent->header.sequence > written_sequence_.load(std::memory_order_acquire)) break;
    FrameHeader header;
    ReplayedBatch batch;
    if (recent != nullptr) {
      WM_ASSERT(recent->header.start == cursor);
      header = recent->header;
      batch.payload = BytesView{recent->frame}.substr(kFrameHeaderBytes, header.payload_bytes);
    } else {
      WM_TRY(batch, read_frame(cursor, header));
    }
    batch.at = header.at;
    batch.base = {cursor.segment, cursor.offset + static_cast<std::uint32_t>(kFrameHeaderBytes)};
    cursor.offset += static_cast<std::uint32_t>(frame_bytes(header.payload_bytes));
    if (header.kind == FrameKind::batch) return batch;
  }
  return std::optional<ReplayedBatch>{};
}

Result<ReplayedBatch> SegmentLog::read_frame(Position start, FrameHeader& header) {
  WM_TRY(BytesView const head, read_from_disk(start, kFrameHeaderBytes));
  auto const decoded = decode_frame_header(head, log_id_);
  if (!decoded || decoded->start != start) {
    return fail(ErrorCode::log_corrupt,
                fmt::format("{} at offset {}: a frame should begin here", disk_.name(start.segment), start.offset));
  }
  header = *decoded;
  ReplayedBatch batch;
  Position payload = start;
  payload.offset += kFrameHeaderBytes;
  WM_TRY(batch.payload, read_from_disk(payload, header.payload_bytes));
  if (crc32c(batch.payload) != header.payload_crc) {
    return fail(ErrorCode::log_corrupt, fmt::format("{} at offset {}: the checksum of the batch does not match",
                                                    disk_.name(start.segment), start.offset));
  }
  return batch;
}

Result<> SegmentLog::skip_damaged(Position& cursor) {
  WM_ASSERT(phase_ == Phase::owned && has_segment(cursor.segment));
  WM_TRY(std::uint64_t const next, rescue_.next_header(log_id_, cursor, settled_bytes(cursor.segment)));
  cursor.offset = static_cast<std::uint32_t>(next);
  return {};
}

Result<bool> SegmentLog::trim_oldest() {
  WM_ASSERT(phase_ == Phase::owned);
  if (segments_.size() < 2 || write_ordinal_.load() <= segments_.front().ordinal) return false;
  std::uint32_t const ordinal = segments_.front().ordinal;
  segments_.pop_front();
  blocks_->forget(ordinal);
  rescue_.forget(ordinal);
  disk_.done_reading(ordinal);
  line_.with([&](Line& line) {
    line.oldest = ordinal + 1;
    line.dropped.push_back(ordinal);
  });
  sums_.with([&](BlockSums& sums) { sums.forget(ordinal); });
  return true;
}

LogStatus SegmentLog::status() const {
  DiskSpace const space = disk_.space();
  return {.epoch = epoch_,
          .segments = {segments_.begin(), segments_.end()},
          .disk_bytes = space.used_bytes,
          .free_bytes = space.free_bytes,
          .next_has_no_room = next_has_no_room_.load(),
          .flushes = flushes_.load(std::memory_order_relaxed),
          .flushed_bytes = flushed_bytes_.load(std::memory_order_relaxed)};
}

// ---- The flushing thread's side.

Result<> SegmentLog::flush() { return flush_line(Sync::as_opened); }

Result<> SegmentLog::seal() {
  WM_ASSERT(phase_ == Phase::owned);
  if (line_.with([](Line& line) { return !line.staged.empty(); })) return {};  // Not an orderly end.
  put_in_line(FrameKind::seal, {}, last_at_);
  return flush_line(Sync::always);
}

Result<> SegmentLog::flush_line(Sync sync) {
  auto const failure = written_.with([](Written const& written) { return written.failure; });
  if (failure) return std::unexpected(*failure);
  taken_.staged.clear();
  taken_.dropped.clear();
  line_.with([&](Line& line) {
    if (line.staged.empty()) return;  // Nothing to say that segments were dropped, so they stay until there is.
    std::swap(taken_.staged, line.staged);
    std::swap(taken_.dropped, line.dropped);
    taken_.oldest = line.oldest;
  });
  if (taken_.staged.empty()) return {};
  WM_TRY_VOID(remember_failure(write_staged(taken_)));
  // What replaced a dropped segment is on the disk before the segment goes, whatever the durability.
  WM_TRY_VOID(sync_if_due(taken_.dropped.empty() || WM_MUTATION(drops_segment_unsynced) ? sync : Sync::always));
  for (std::uint32_t const ordinal : taken_.dropped) WM_TRY_VOID(remember_failure(disk_.drop(ordinal)));
  flushes_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Result<> SegmentLog::write_staged(Line const& line) {
  Position const durable = written_.with([](Written const& written) { return written.durable; });
  std::span<Batch* const> rest{line.staged};
  while (!rest.empty()) {
    std::uint32_t const ordinal = rest.front()->header.start.segment;
    auto const next = std::find_if(rest.begin(), rest.end(),
                                   [&](Batch const* batch) { return batch->header.start.segment != ordinal; });
    auto const run = rest.first(static_cast<std::size_t>(next - rest.begin()));
    WM_TRY_VOID(ensure_segment(ordinal));
    WM_TRY_VOID(append_run(run, durable, line.oldest));
    rest = rest.subspan(run.size());
  }
  written_sequence_.store(line.staged.back()->header.sequence, std::memory_order_release);
  return {};
}

// Frames that stand behind each other in one segment.
Result<> SegmentLog::append_run(std::span<Batch* const> run, Position durable, std::uint32_t oldest) {
  Position const start = run.front()->header.start;
  std::uint64_t end = start.offset;
  parts_.clear();
  for (Batch* const batch : run) {
    WM_ASSERT(batch->header.start.offset == end);
    batch->header.durable = durable;
    batch->header.oldest = oldest;
    encode_frame_header(batch->header, log_id_, batch->frame.data());
    parts_.emplace_back(batch->frame);
    end += batch->frame.size();
  }
  if (end + kFrameHeaderBytes <= nominal_bytes(start.segment)) parts_.push_back(kEndMark);
  WM_TRY_VOID(disk_.append(start.segment, start.offset, parts_));

  // After the write: whoever finds a sum may read what it is of.
  sums_.with([&](BlockSums& sums) {
    if (start.offset == kSegmentHeaderBytes && sums.growing() != start.segment) {
      sums.add(start.segment, segment_head(start.segment));
    }
    WM_ASSERT(sums.growing() == start.segment && sums.growing_bytes() == start.offset);
    for (Batch const* const batch : run) sums.add(start.segment, batch->frame);
  });
  if (options_.durability == Durability::os && write_ordinal_.load() != start.segment && write_ordinal_.load() != 0) {
    disk_.retire(write_ordinal_.load());  // Elsewhere a segment is retired once it is synced.
  }
  written_.with([&](Written& written) {
    written.end = {start.segment, static_cast<std::uint32_t>(end)};
    if (written.unsynced_from == 0) written.unsynced_from = start.segment;
  });
  write_offset_.store(static_cast<std::uint32_t>(end));
  write_ordinal_.store(start.segment);
  flushed_bytes_.fetch_add(end - start.offset, std::memory_order_relaxed);
  return {};
}

Result<> SegmentLog::ensure_segment(std::uint32_t ordinal) {
  if (newest_created_.load() >= ordinal) return {};
  return created_.with(
      [&](std::uint32_t& created) -> Result<> {  // Held over I/O, so that the other thread waits for it.
        if (created >= ordinal) return {};
        WM_ASSERT(created + 1 == ordinal);
        std::array<char, kSegmentHeaderBytes> head;
        encode_segment_header(
            {.log_id = log_id_, .ordinal = ordinal, .epoch = epoch_, .segment_bytes = options_.segment_bytes},
            head.data());
        Result<> const made = disk_.create(ordinal, {head.data(), head.size()}, options_.segment_bytes);
        next_has_no_room_.store(!made && made.error().code == ErrorCode::disk_full);
        WM_TRY_VOID(made);
        created = ordinal;
        newest_created_.store(ordinal);
        return {};
      });
}

Bytes SegmentLog::segment_head(std::uint32_t ordinal) const {
  Bytes head(kSegmentHeaderBytes, '\0');
  encode_segment_header(
      {.log_id = log_id_, .ordinal = ordinal, .epoch = epoch_, .segment_bytes = options_.segment_bytes}, head.data());
  return head;
}

Result<> SegmentLog::sync_if_due(Sync sync) {
  bool is_due = sync == Sync::always || options_.durability == Durability::sync;
  if (options_.durability == Durability::interval && !options_.synced_elsewhere) {
    is_due = is_due || taken_.staged.back()->header.at >= last_sync_at_ + options_.sync_interval;
  }
  if (!is_due || WM_MUTATION(flush_does_not_sync)) return {};
  last_sync_at_ = taken_.staged.back()->header.at;
  return sync_written();
}

bool SegmentLog::wants_next() const {
  std::uint32_t const ordinal = write_ordinal_.load();
  if (ordinal == 0 || newest_created_.load() != ordinal) return false;
  // Where there was no room for it, that is to be found out again: jobs are refused meanwhile.
  return write_offset_.load() >= nominal_bytes(ordinal) / 2 || next_has_no_room_.load() ||
         disk_.space().free_bytes < kScarceSegments * options_.segment_bytes;
}

Result<> SegmentLog::prepare_next() {
  if (!wants_next()) return {};
  return ensure_segment(write_ordinal_.load() + 1);
}

Result<> SegmentLog::sync_written() {
  Lock const lock{syncing_};
  return remember_failure(sync_round());
}

Result<> SegmentLog::sync_round() {
  Written const before = written_.with([](Written const& written) { return written; });
  if (before.failure) return std::unexpected(*before.failure);
  if (before.unsynced_from == 0) return {};
  std::uint32_t const first = WM_MUTATION(syncs_newest_segment_only) ? before.end.segment : before.unsynced_from;
  for (std::uint32_t ordinal = first; ordinal <= before.end.segment; ++ordinal) {
    WM_TRY_VOID(disk_.sync(ordinal));
    if (ordinal < before.end.segment) disk_.retire(ordinal);
  }
  written_.with([&](Written& written) {
    written.durable = before.end;
    written.unsynced_from = written.end == before.end ? 0 : before.end.segment;
  });
  return {};
}

// After a write or a sync that failed nobody knows what is on the disk, and trying again proves nothing.
Result<> SegmentLog::remember_failure(Result<> result) {
  if (result) return result;
  written_.with([&](Written& written) {
    if (!written.failure) written.failure = result.error();
  });
  return result;
}

}  // namespace workmill::log
