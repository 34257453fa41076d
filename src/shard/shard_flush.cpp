#include <algorithm>
#include <utility>

#include "base/mutation.h"
#include "shard/attempt_traces.h"
#include "shard/shard_loop.h"

// How the batch of a turn becomes durable, by whom it is flushed, and what may leave then: answers, flags and spans.
namespace workmill::shard {
namespace {

constexpr double kFlushWeight = 0.05;  // Of a new flush in the moving average.

}  // namespace

Result<> ShardLoop::finish_batch(std::uint64_t commands) {
  auto const start = clock_.monotonic();
  std::size_t answers = 0;
  for (Held& held : pending_) {
    tell_leased(held);
    answers += 1 + held.answer.also.size();
  }
  reader_.set_open_batch({}, nullptr);
  auto const filled = clock_.monotonic();
  read_ns_ += static_cast<std::uint64_t>((filled - start).count());
  recorder_.decided(filled - turn_at_, commands);
  auto ready_at = filled;

  last_batch_bytes_ = batch_.payload().size();
  if (!batch_.empty()) {
    log_.stage(batch_.payload(), now_);
    batch_at_ = now_;
    staged_ += 1;
    if (engine_.flags_revision() != flags_revision_) {
      flags_revision_ = engine_.flags_revision();
      new_flags_.emplace_back(staged_, engine_.flags());
      if (WM_MUTATION(readers_see_flags_too_early)) flag_board_.publish(engine_.flags());
    }
    recorder_.staged(staged_, filled, answers, batch_.payload().size());
    if (traces_) traces_->staged(staged_);
    if (on_writer_) {
      unflushed_.emplace_back(staged_, batch_.payload().size());
      unflushed_bytes_ += batch_.payload().size();
      writer_->request(staged_);
    } else {
      WM_TRY_VOID(log_.flush());
      durable_ = staged_;
      publish_flags();
      ready_at = clock_.monotonic();
      recorder_.durable(durable_, ready_at);
      note_flush(ready_at - filled, 1);
      tell_traces();
    }
  }
  if (desk_) {  // Before an answer leaves: whoever has it finds in the index what it says.
    desk_->staged(staged_);
    desk_->durable(durable_);
  }
  for (Held& held : pending_) {
    if (staged_ == durable_) {
      make_ready(std::move(held), ready_at);
    } else {
      held.batch = staged_;
      held_.push_back(std::move(held));
    }
  }
  pending_.clear();
  choose_flusher();
  return {};
}

Result<> ShardLoop::harvest() {
  if (!on_writer_) return {};
  auto progress = writer_->progress();
  if (progress.error) return std::unexpected(std::move(*progress.error));
  std::uint64_t const fresh = progress.flushes - writer_flushes_seen_;
  if (fresh > 0) {
    writer_flushes_seen_ = progress.flushes;
    note_flush(progress.last, fresh);
  }
  release(progress.durable);
  return {};
}

void ShardLoop::release(std::uint64_t durable) {
  durable_ = std::max(durable_, durable);
  publish_flags();
  while (!unflushed_.empty() && unflushed_.front().first <= durable_) {
    unflushed_bytes_ -= unflushed_.front().second;
    unflushed_.pop_front();
  }
  if (desk_) desk_->durable(durable_);
  while (!held_.empty() && held_.front().batch <= durable_) {
    make_ready(std::move(held_.front()), turn_at_);
    held_.pop_front();
  }
  recorder_.durable(durable_, turn_at_);
  tell_traces();
}

// Before the answers that tell of them: whoever has heard that a flag is set sees it so on every thread.
void ShardLoop::publish_flags() {
  if (new_flags_.empty() || new_flags_.front().first > durable_) return;
  flags::FlagSetPtr newest;
  for (; !new_flags_.empty() && new_flags_.front().first <= durable_; new_flags_.pop_front()) {
    newest = std::move(new_flags_.front().second);
  }
  flag_board_.publish(std::move(newest));
}

// Spans tell of what is durable, and no sooner.
void ShardLoop::tell_traces() {
  if (traces_ && traces_->has_ended()) traces_->durable(durable_, clock_.monotonic());
}

void ShardLoop::make_ready(Held&& held, std::chrono::nanoseconds at) {
  held.answer.ready_at = at;
  ready_[held.port].push_back(std::move(held.answer));
  ready_count_ += 1;
}

void ShardLoop::note_flush(std::chrono::nanoseconds took, std::uint64_t flushes) {
  flushes_ += flushes;
  recorder_.flushed(took, flushes);
  flush_ns_ += static_cast<std::uint64_t>(took.count()) *
               flushes;  // The writer tells of its last flush only; close enough for where time goes.
  double const ns = static_cast<double>(took.count());
  flush_ns_average_ = flushes_ <= 1 ? ns : flush_ns_average_ + kFlushWeight * (ns - flush_ns_average_);
}

bool ShardLoop::has_room() const {
  return unflushed_bytes_ <= options_.unflushed_bytes_max && !(leaving_writer_ && staged_ != durable_);
}

// Changes hands between flushes only. On a busy server the writer always has one under way, so to leave it takes a
// pause of one flush.
void ShardLoop::choose_flusher() {
  double const slow = static_cast<double>(std::chrono::nanoseconds(options_.flush_slow).count());
  double const fast = static_cast<double>(std::chrono::nanoseconds(options_.flush_fast).count());
  bool wanted = on_writer_;
  switch (options_.flush_by) {
    case FlushBy::turn: wanted = false; break;
    case FlushBy::writer: wanted = true; break;
    case FlushBy::adaptive:
      if (flush_ns_average_ > slow) wanted = true;
      if (flush_ns_average_ < fast) wanted = false;
      break;
  }
  leaving_writer_ = on_writer_ && !wanted;
  if (staged_ != durable_) return;
  leaving_writer_ = false;
  if (wanted && !writer_) {
    if (options_.make_flusher) {
      writer_ = options_.make_flusher(log_);
    } else {
      writer_ = std::make_unique<FlushWriter>(log_, clock_, [this] { wake_(); });
    }
  }
  if (wanted && !on_writer_) {
    // The writer counts batches from its own start; what came before is durable already.
    writer_flushes_seen_ = writer_->progress().flushes;
  }
  on_writer_ = wanted;
}

}  // namespace workmill::shard
