#include "sim/faulty_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/variant.h"
#include "flags/flag.h"
#include "log/record.h"

namespace workmill::sim {
namespace {

// Eight bytes at a time, as every batch is hashed again at every start.
std::uint64_t hash_of(BytesView bytes) {
  std::uint64_t hash = bytes.size();
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 32;
  }
  for (char const c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return mix64(hash);
}

// A disk that passes everything on but sync.
class LyingDisk final : public log::Disk {
 public:
  explicit LyingDisk(std::unique_ptr<log::Disk> disk) : disk_(std::move(disk)) {}
  Result<std::vector<log::DiskFile>> list() override { return disk_->list(); }
  Result<std::size_t> read(std::uint32_t ordinal, std::uint64_t offset, std::span<char> out) override {
    return disk_->read(ordinal, offset, out);
  }
  std::move_only_function<void()> fetch(std::uint32_t ordinal, std::uint64_t offset, std::uint64_t bytes) override {
    return disk_->fetch(ordinal, offset, bytes);
  }
  Result<> create(std::uint32_t ordinal, BytesView head, std::uint64_t bytes) override {
    return disk_->create(ordinal, head, bytes);
  }
  Result<> append(std::uint32_t ordinal, std::uint64_t offset, std::span<BytesView const> parts) override {
    return disk_->append(ordinal, offset, parts);
  }
  Result<> sync(std::uint32_t) override { return {}; }
  void done_reading(std::uint32_t ordinal) override { disk_->done_reading(ordinal); }
  void retire(std::uint32_t ordinal) override { disk_->retire(ordinal); }
  Result<> drop(std::uint32_t ordinal) override { return disk_->drop(ordinal); }
  Result<> claim(Epoch epoch) override { return disk_->claim(epoch); }
  log::DiskSpace space() const override { return disk_->space(); }
  std::string name(std::uint32_t ordinal) const override { return disk_->name(ordinal); }

 private:
  std::unique_ptr<log::Disk> disk_;
};

bool is_kill(Effect const& effect) {
  auto const* const changed = std::get_if<effect::FlagChanged>(&effect);
  if (changed == nullptr) return false;
  auto const flag = flags::decode_flag(changed->definition);
  return flag && !flag->enabled;
}

bool is_skipped(Mutation mutation, Effect const& effect) {
  switch (mutation) {
    case Mutation::replay_skips_completions: return holds<effect::JobCompleted>(effect);
    case Mutation::replay_skips_leases: return holds<effect::JobLeased>(effect);
    case Mutation::replay_skips_extensions: return holds<effect::LeaseExtended>(effect);
    case Mutation::replay_skips_forgetting: return holds<effect::JobForgotten>(effect);
    case Mutation::replay_skips_answers: return holds<effect::RequestRemembered>(effect);
    case Mutation::replay_skips_settings: return holds<effect::QueueChanged>(effect);
    case Mutation::replay_skips_cancel_requests: return holds<effect::CancelRequested>(effect);
    case Mutation::replay_skips_checkpoints: return holds<effect::CheckpointMade>(effect);
    case Mutation::replay_skips_snapshots: return holds<effect::JobSnapshot>(effect);
    case Mutation::replay_skips_cached_values: return holds<effect::CacheStored>(effect);
    case Mutation::replay_skips_cache_deletions: return holds<effect::CacheForgotten>(effect);
    case Mutation::replay_skips_flag_changes: return holds<effect::FlagChanged>(effect);
    case Mutation::replay_skips_kills: return is_kill(effect);
    case Mutation::replay_skips_flag_removals: return holds<effect::FlagRemoved>(effect);
    case Mutation::replay_skips_batch_closings: return holds<effect::BatchClosed>(effect);
    case Mutation::replay_skips_batch_deletions: return holds<effect::BatchForgotten>(effect);
    default: return false;
  }
}

bool skips(Mutation mutation) {
  return mutation >= Mutation::replay_skips_completions && mutation <= Mutation::replay_skips_batch_deletions;
}

}  // namespace

std::uint64_t LogWatch::survived() const {
  auto const newest = std::find_if(batches.rbegin(), batches.rend(), [](Batch const& b) { return !b.of_recovery; });
  return newest == batches.rend() ? 0 : newest->serial;
}

void LogWatch::flush_done(bool is_synced) {
  if (!is_synced) return;
  synced = flushed;
  for (auto batch = batches.rbegin(); batch != batches.rend(); ++batch) {
    if (batch->serial > synced) continue;
    if (batch->acknowledged) break;
    batch->acknowledged = true;
  }
}

void LogWatch::died(bool is_power_cut) {
  if (is_power_cut) flushed = synced;
  for (Batch& batch : batches) batch.acknowledged = batch.serial <= flushed;
}

std::optional<Instant> LogWatch::newest_in_life_at() const {
  auto const newest = std::find_if(batches.rbegin(), batches.rend(), [](Batch const& b) { return !b.of_recovery; });
  return newest == batches.rend() ? std::nullopt : std::optional{newest->at};
}

void LogWatch::recovered() { is_recovering = false; }

FaultyLog::FaultyLog(log::MemoryDisk& memory, std::unique_ptr<log::Disk> disk, FaultyLogOptions const& options,
                     LogWatch& watch, SimClock& clock, Rng chance, Figures& figures)
    : memory_(memory),
      disk_(std::move(disk)),
      options_(options),
      watch_(watch),
      clock_(clock),
      chance_(chance),
      figures_(figures) {}

Result<std::unique_ptr<FaultyLog>> FaultyLog::open(log::MemoryDisk& disk, FaultyLogOptions const& options,
                                                   LogWatch& watch, SimClock& clock, Rng chance, Figures& figures) {
  std::unique_ptr<log::Disk> session = disk.open();
  if (options.mutation == Mutation::sync_lies) session = std::make_unique<LyingDisk>(std::move(session));
  std::unique_ptr<FaultyLog> opened{new FaultyLog(disk, std::move(session), options, watch, clock, chance, figures)};
  WM_TRY(opened->log_, log::SegmentLog::open(*opened->disk_, options.segments));
  watch.is_copying = false;
  watch.is_owned = false;
  return opened;
}

Result<Epoch> FaultyLog::own() {
  WM_TRY(Epoch const epoch, log_->own());
  watch_.flushed = watch_.serial;  // Whatever was read is synced now.
  watch_.flush_done(true);
  watch_.proven = watch_.serial;
  watch_.is_owned = true;
  return epoch;
}

Result<log::ReplayReport> FaultyLog::replay(std::function<Result<>(log::ReplayedBatch const&)> const& visit,
                                            std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) {
  std::size_t next = SIZE_MAX;
  log::ReplayedBatch held{};  // replay_loses_last_batch: one behind.
  Bytes held_payload;
  auto const pass_on = [&](log::ReplayedBatch const& batch) -> Result<> {
    if (!skips(options_.mutation)) return visit(batch);
    return log::for_each_record(batch.payload, [&](Effect const& effect, std::uint32_t offset, std::uint32_t bytes) {
      if (is_skipped(options_.mutation, effect)) return Result<>{};
      return visit({.base = {batch.base.segment, batch.base.offset + offset},
                    .at = batch.at,
                    .payload = batch.payload.substr(offset, bytes)});
    });
  };
  auto replayed = log_->replay(
      [&](log::ReplayedBatch const& batch) -> Result<> {
        WM_TRY_VOID(check_replayed(batch, next));
        if (options_.mutation != Mutation::replay_loses_last_batch) return pass_on(batch);
        if (!held_payload.empty()) WM_TRY_VOID(pass_on(held));
        held_payload = Bytes(batch.payload);
        held = batch;
        held.payload = held_payload;
        return {};
      },
      on_progress);
  if (!replayed) return replayed;
  if (next == SIZE_MAX) next = 0;
  std::size_t const missing = watch_.batches.size() - next;
  if (missing > 0 && watch_.batches[next].acknowledged && watch_.complaint.empty()) {
    watch_.complaint = fmt::format("the batch at segment {}, offset {} was acknowledged and did not come back",
                                   watch_.batches[next].base.segment, watch_.batches[next].base.offset);
  }
  if (missing > 1) ++figures_[Figure::tail_of_several_batches_lost];
  watch_.batches.resize(next);
  if (replayed->cut_bytes > 0) {
    ++figures_[Figure::torn_tail_cut];
    ++watch_.cut_tails;
  }
  if (options_.mutation == Mutation::replay_time_is_wrong) replayed->last_batch_at -= std::chrono::hours{1};
  return replayed;
}

Result<> FaultyLog::check_replayed(log::ReplayedBatch const& batch, std::size_t& next) {
  auto const wrong = [&](std::string_view what) {
    if (watch_.complaint.empty()) {
      watch_.complaint =
          fmt::format("the batch at segment {}, offset {} {}", batch.base.segment, batch.base.offset, what);
    }
    return fail(ErrorCode::internal, "the log broke its promise");
  };
  if (next == SIZE_MAX) {  // The first: everything before it must have been dropped.
    next = 0;
    while (!watch_.batches.empty() && watch_.batches.front().base != batch.base) {
      if (watch_.batches.front().base.segment >= watch_.oldest_kept) return wrong("came first, and there were others");
      watch_.batches.pop_front();
    }
  }
  if (next == watch_.batches.size()) return wrong("came back, and was never staged or was lost once already");
  LogWatch::Batch const& known = watch_.batches[next];
  if (known.base != batch.base) return wrong("came back out of turn");
  if (known.hash != hash_of(batch.payload) || known.at != batch.at) return wrong("came back with other bytes");
  ++next;
  return {};
}

void FaultyLog::stage(BytesView payload, Instant at) {
  watch_.payload = payload;
  watch_.staged = true;
  watch_.largest_batch = std::max<std::uint64_t>(watch_.largest_batch, payload.size());
  watch_.batches.push_back({.base = log_->next_base(),
                            .at = at,
                            .bytes = payload.size(),
                            .hash = hash_of(payload),
                            .serial = ++watch_.serial,
                            .acknowledged = false,
                            .of_recovery = watch_.is_recovering});
  log_->stage(payload, at);
}

Result<> FaultyLog::flush() {
  ++flushes_;
  ++figures_[Figure::batches];
  if (options_.slow_flush_max > Duration{0} && chance_.chance(100)) {
    clock_.advance(Duration{
        static_cast<Duration::rep>(chance_.below(static_cast<std::uint64_t>(options_.slow_flush_max.count()) + 1))});
    ++figures_[Figure::fault_slow_flush];
  }
  bool const is_skipped = options_.mutation == Mutation::acknowledges_before_flush && chance_.chance(300);
  std::uint64_t const synced_before = watch_.synced;
  if (!is_skipped) WM_TRY_VOID(log_->flush());
  watch_.proven = synced_before;
  watch_.flushed = watch_.serial;
  watch_.flush_done(options_.segments.durability == log::Durability::sync || memory_.unsynced_bytes() == 0);
  return {};
}

Result<> FaultyLog::seal() {
  WM_TRY_VOID(log_->seal());
  watch_.flush_done(memory_.unsynced_bytes() == 0);
  return {};
}

Result<> FaultyLog::sync() {
  WM_TRY_VOID(log_->sync_written());
  watch_.flush_done(memory_.unsynced_bytes() == 0);
  return {};
}

std::move_only_function<void()> FaultyLog::fetch(Position position, std::size_t length) {
  if (options_.slow_permille == 0) return {};
  auto fetch = log_->fetch(position, length);
  return chance_.chance(options_.slow_permille) ? std::move(fetch) : std::move_only_function<void()>{};
}

Result<std::optional<log::ReplayedBatch>> FaultyLog::next_batch(Position& cursor) {
  watch_.is_copying = true;
  return log_->next_batch(cursor);
}

Result<bool> FaultyLog::trim_oldest() {
  std::uint32_t const oldest = log_->status().segments.front().ordinal;
  WM_TRY(bool const trimmed, log_->trim_oldest());
  if (!trimmed) return false;
  watch_.is_copying = false;
  watch_.oldest_kept = oldest + 1;
  if (options_.mutation == Mutation::drops_segment_early) {
    WM_TRY(bool const next_too, log_->trim_oldest());
    watch_.oldest_kept += next_too ? 1 : 0;
  }
  ++watch_.dropped_segments;
  ++figures_[Figure::segment_dropped];
  return true;
}

}  // namespace workmill::sim
