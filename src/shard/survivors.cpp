#include "shard/survivors.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/variant.h"
#include "log/frame.h"
#include "log/record.h"

namespace workmill::shard {
namespace {

// What a look at steps_max jobs in memory counts for, beside bytes that are scanned: it takes about as long.
constexpr std::uint64_t kScanOfJobs = std::uint64_t{64} << 10;
// A batch of more than that takes no further copy, and the rest waits for the next turn. The largest copy, of a job
// with its payload, result, checkpoint, errors and lines, takes less than what is left of kBatchBytesMax.
constexpr std::size_t kBatchBytesWhenCopying = std::size_t{40} << 20;
static_assert(kBatchBytesWhenCopying + kPayloadBytesMax + kResultBytesMax + kCheckpointBytesMax +
                  (std::size_t{4} << 20) <
              log::kBatchBytesMax);

// So many bytes of batches that stood in a damaged part are written again in one step, and one batch more.
constexpr std::size_t kBatchesRewrittenBytes = std::size_t{1} << 20;

bool is_full(Batch const& batch) { return batch.payload().size() > kBatchBytesWhenCopying; }

}  // namespace

Result<> Survivors::step(Batch& batch, Instant now, std::uint64_t staged, std::uint64_t durable) {
  if (!oldest_ && look_) WM_TRY_VOID(start_if_needed());
  if (!oldest_) return {};
  if (!dispensable_) {
    WM_TRY_VOID(copy_some(batch, now));
    if (!oldest_) return {};
    if (engine_.live_records_in(*oldest_) > 0) return {};
    if (live_cached_in(*oldest_) > 0 && !scanned_) return {};
    dispensable_ = true;
    // It may be the copies, or the end of a job, in the batch at hand that nothing is left: were the segment dropped
    // before that is on disk, a crash now would lose what still stood on it.
    dispensable_in_ = staged + (batch.empty() ? 0 : 1);
  }
  return finish(durable);
}

Result<> Survivors::start_if_needed() {
  look_ = false;
  auto const status = log_.status();
  if (status.segments.size() < 2) return {};
  std::uint64_t used = 0;
  for (auto const& segment : status.segments) used += segment.bytes;
  std::uint32_t const oldest = status.segments.front().ordinal;
  // What waits to be published there will be in a moment: that is looked at then.
  if (desk_ != nullptr && desk_->is_waiting_in(oldest)) {
    look_ = true;
    return {};
  }
  // What somebody waits for the disk to read, though it was replaced: looked at again within a second.
  if (desk_ != nullptr && desk_->is_held_in(oldest)) return {};
  bool const empty = engine_.live_records_in(oldest) + live_cached_in(oldest) == 0;
  auto const allowed = static_cast<std::uint64_t>(options_.used_to_live_max * static_cast<double>(live_bytes()));
  if (!empty && oldest == held_by_answers_) return {};
  if (!empty && used <= allowed + (tight_ ? 0 : options_.slack_bytes)) return {};
  oldest_ = oldest;
  has_damage_ = false;
  damaged_.reset();  // Of a segment that went before all of that was looked at: nothing lived there any more.
  cursor_ = Position{oldest, 0};
  scratch_.clear();
  scratch_done_ = 0;
  dispensable_ = false;
  scanned_ = false;
  return {};
}

// Where 1 / 2.5 of a segment lives, giving back what a turn wrote and what was copied meanwhile takes scanning 1.7
// times what it wrote and copying 0.7 times as much. More than twice that is enough also where more lives in the oldest
// than elsewhere; and where all of it does, everything that is scanned is copied.
Result<> Survivors::copy_some(Batch& batch, Instant now) {
  std::uint64_t const written = batch.payload().size();
  std::uint64_t const scan_bytes = std::max(options_.scan_bytes_per_step, 4 * written);
  std::uint64_t const copy_bytes = std::max(options_.copy_bytes_per_step, 4 * written);
  std::uint64_t scanned = 0;
  std::uint64_t copied = 0;
  while (scanned < scan_bytes && copied < copy_bytes && !is_full(batch) && !scanned_ &&
         engine_.live_records_in(*oldest_) + live_cached_in(*oldest_) > 0) {
    if (damaged_) {
      scanned += kScanOfJobs;
      WM_TRY_VOID(copy_damaged(batch, now, copied));
      continue;
    }
    if (scratch_done_ < scratch_.size()) {
      WM_TRY_VOID(copy_records(batch, now, copy_bytes, copied));
      continue;
    }
    auto const next = log_.next_batch(cursor_);
    if (!next) {
      if (next.error().code != ErrorCode::log_corrupt) return std::unexpected(next.error());
      WM_TRY_VOID(begin_damaged(next.error(), batch));
      continue;
    }
    if (!next->has_value()) {
      // What another thread is still writing is looked at in a later turn.
      auto const oldest = log_.status().segments.front();
      if (cursor_.offset + log::kFrameHeaderBytes <= oldest.bytes) return {};
      scanned_ = true;
      if (engine_.live_records_in(*oldest_) == 0) return {};  // Copies of cached values are under way.
      // Every record was looked at, and each that is needed has moved, but for answers in what is damaged. Anything
      // else is a bug of ours, and trimming would make it a loss.
      WM_ASSERT(has_damage_);
      held_by_answers_ = *oldest_;
      oldest_.reset();
      return {};
    }
    scanned += (*next)->payload.size();
    scratch_.assign((*next)->payload);
    scratch_base_ = (*next)->base;
    scratch_done_ = 0;
    WM_TRY_VOID(copy_records(batch, now, copy_bytes, copied));
  }
  return {};
}

// A batch of the log may hold thousands of jobs, and what has become of them more than a batch takes, however small
// they were when they were written. What is too much for this turn is left for the next.
Result<> Survivors::copy_records(Batch& batch, Instant now, std::uint64_t copy_bytes, std::uint64_t& copied) {
  while (scratch_done_ < scratch_.size() && copied < copy_bytes && !is_full(batch)) {
    WM_TRY(BytesView const whole, log::first_record(BytesView{scratch_}.substr(scratch_done_)));
    WM_TRY(Effect const record, log::parse_record(whole));
    Position const at{scratch_base_.segment, scratch_base_.offset + static_cast<std::uint32_t>(scratch_done_)};
    WM_TRY_VOID(copy_record(record, at, batch, now, copied));
    scratch_done_ += whole.size();
  }
  return {};
}

Result<> Survivors::copy_record(Effect const& record, Position at, Batch& batch, Instant now, std::uint64_t& copied) {
  if (desk_ != nullptr) {
    std::uint64_t const bytes = desk_->survive(record, at, now, batch);
    copied += bytes;
    figures_.copied_cached += bytes > 0 ? 1U : 0U;
  }
  std::size_t const before = batch.payload().size();
  auto const survival = engine_.survive(record, at, batch);
  copied += batch.payload().size() - before;
  if (survival != engine::Engine::Survival::copy_job) return {};
  JobNumber const job = holds<effect::JobEnqueued>(record) ? std::get<effect::JobEnqueued>(record).number
                                                           : std::get<effect::JobSnapshot>(record).number;
  WM_TRY(auto const bytes, copy_job(job, batch, now));
  copied += bytes;
  return {};
}

// The batch at the cursor cannot be read. What stood in it is found from the other end, by those who stand on it.
Result<> Survivors::begin_damaged(Error const& error, Batch& batch) {
  has_damage_ = true;
  Position const from = cursor_;
  WM_TRY_VOID(log_.skip_damaged(cursor_));
  WM_ASSERT(cursor_ > from);
  engine_.rewrite_standing_in(from, cursor_, batch);
  damaged_ = Damaged{
      .from = from, .until = cursor_, .batches = BatchNumber{}, .before = JobNumber{UINT64_MAX}, .error = error};
  damaged_->cached.done = desk_ == nullptr;
  return {};
}

Result<> Survivors::copy_damaged(Batch& batch, Instant now, std::uint64_t& copied) {
  if (damaged_->batches) {
    std::size_t const before = batch.payload().size();
    damaged_->batches = engine_.rewrite_batches_standing_in(damaged_->from, damaged_->until, *damaged_->batches,
                                                            kBatchesRewrittenBytes, batch);
    copied += batch.payload().size() - before;
    return {};
  }
  if (!damaged_->cached.done) {  // A part of the index, and that is the step.
    std::size_t const forgotten =
        desk_->forget_damaged(damaged_->from, damaged_->until, damaged_->cached, batch, copied);
    if (forgotten > 0 && !std::exchange(damaged_->is_cached_told, true)) desk_->tell_damage(damaged_->error);
    return {};
  }
  found_.clear();
  bool const more = engine_.jobs_standing_in(damaged_->from, damaged_->until, damaged_->before, found_);
  for (JobNumber const job : found_) {
    if (is_full(batch)) {  // It, and those behind it, which are older, are found again.
      damaged_->before = JobNumber{std::to_underlying(job) + 1};
      return {};
    }
    auto const view = engine_.view(job);
    WM_ASSERT(view.has_value());
    on_damage_(job, damaged_->error);
    bool const waits = view->state == JobState::scheduled || view->state == JobState::ready;
    if (waits) {
      engine_.end_damaged(job, engine::DamagedPart::payload, {.now = now, .chance = 0}, batch);
      figures_.ended_jobs += 1;
    }
    WM_TRY(auto const bytes, copy_job(job, batch, now));
    copied += bytes;
  }
  if (!more) damaged_.reset();
  return {};
}

Result<std::uint64_t> Survivors::copy_job(JobNumber job, Batch& batch, Instant now) {
  auto view = engine_.view(job);
  WM_ASSERT(view.has_value());
  WM_TRY(auto damage, reader_.fill_over_damage(*view, engine_, now));
  if (view->log_at) {
    auto lines = reader_.log_lines(*view);
    if (lines) {
      view->history.log_lines = *std::move(lines);
    } else if (lines.error().code != ErrorCode::log_corrupt) {
      return std::unexpected(std::move(lines).error());
    } else {
      JobReader::say_damaged(*view, now);
      if (!damage) damage = std::move(lines).error();
    }
  }
  if (damage) on_damage_(job, *damage);
  Bytes history;
  encode_history(view->history, history);
  engine_.copy_ahead(job, view->spec, history, view->checkpoint, batch);
  std::uint64_t const bytes = view->spec.size() + history.size() + view->checkpoint.data.size();
  figures_.copied_jobs += 1;
  figures_.copied_bytes += bytes;
  return bytes;
}

Result<> Survivors::finish(std::uint64_t durable) {
  if (durable < dispensable_in_) return {};
  WM_ASSERT(engine_.live_records_in(*oldest_) == 0 && live_cached_in(*oldest_) == 0);
  WM_TRY(bool const trimmed, log_.trim_oldest());
  if (trimmed) figures_.trimmed_segments += 1;
  oldest_.reset();
  dispensable_ = false;
  look_ = true;  // The next one may be due as well.
  return {};
}

}  // namespace workmill::shard
