#include <string_view>
#include <utility>

#include "base/mutation.h"
#include "engine/commands/decide.h"

// What happens because time has passed.
namespace workmill::engine {
namespace {

// Callbacks are as large as jobs, and any number of batches may end at once: so many bytes of them are enqueued in a
// turn, and one batch's more. The rest is due in the next.
constexpr std::size_t kCallbackBytesPerTurn = std::size_t{1} << 20;

// The end of a job that has failed by no report of a worker's.
effect::JobFailed death(JobSlot const& job, std::string_view code, std::string_view message, Context const& context) {
  return {.number = job.number,
          .at = context.now,
          .next = JobState::dead,
          .order = std::to_underlying(job.number),
          .ready_at = context.now,
          .error_class = ErrorClass::fatal,
          .code = code,
          .message = message,
          .attempt = job.attempt,
          .previous = job.event_at};
}

void expire(JobIndex index, State const& state, Context const& context, Effects& out) {
  JobSlot const& job = state.job(index);
  auto const effect = death(job, kExpired, "the job was not leased within its expires_in", context);
  out.emit(effect, index);
  note_flight_failed(job, effect, state, context, out);
}

}  // namespace

void end_lease(JobIndex index, State const& state, Context const& context, Effects& out) {
  JobSlot const& job = state.job(index);
  auto effect = death(job, kLeaseExpired, "the lease ran out before its worker reported", context);
  effect.error_class = ErrorClass::retryable;
  bool const may_try_again = job.attempt < state.policy(job).max_attempts || WM_MUTATION(lease_end_never_kills);
  if (job.cancel_requested || (may_try_again && is_for_nobody(job, state))) {
    effect.next = JobState::cancelled;
  } else if (may_try_again) {
    effect.next = JobState::ready;
    effect.order = state.next_order(context.now);
  }
  out.emit(effect, index);
  note_flight_failed(job, effect, state, context, out);
  if (effect.next == JobState::cancelled) forget_surplus(index, state, out);
}

void decide_due(State const& state, Context const& context, Effects& out) {
  std::size_t called_back = 0;
  for (std::uint32_t step = 0; step < state.options().steps_max; ++step) {
    // Callbacks before all, as each is due once; but no more of them than a turn has time to write.
    BatchNumber const batch = called_back < kCallbackBytesPerTurn ? state.batches().first_due() : BatchTable::kNoBatch;
    if (batch != BatchTable::kNoBatch) {
      called_back += call_back(*state.batches().find(batch), state, context, out);
      continue;
    }
    // Expiry next: a job whose time to run and time to expire have both come is dead.
    if (JobIndex const job = state.first_to_expire(context.now); job != kNone<JobIndex>) {
      expire(job, state, context, out);
    } else if (JobIndex const due = state.wheel().first_due(); due != kNone<JobIndex>) {
      JobSlot const& slot = state.job(due);
      if (slot.state == JobState::leased) {
        end_lease(due, state, context, out);
      } else {
        out.emit(effect::JobReady{.number = slot.number, .order = state.next_order(context.now)}, due);
      }
    } else if (JobIndex const old = state.retention().first_expired(context.now); old != kNone<JobIndex>) {
      forget(old, state, out);
    } else if (QueueIndex const idle = state.first_idle_queue(context.now); idle != kNone<QueueIndex>) {
      out.emit(effect::QueueRemoved{.name = state.queue(idle).name});
    } else if (auto const over = state.batches().next_to_go(); over && *over <= context.now) {
      out.emit(effect::BatchForgotten{.batch = state.batches().first_to_go()});
    } else {
      return;
    }
  }
}

void decide_damaged(JobIndex index, DamagedPart part, State const& state, Context const& context, Effects& out) {
  JobSlot const& job = state.job(index);
  WM_ASSERT(!is_finished(job.state));
  if (WM_MUTATION(damaged_job_is_dropped)) return out.emit(effect::JobForgotten{.number = job.number}, index);
  bool const is_checkpoint = part == DamagedPart::checkpoint;
  // Whoever retries the job has read that it starts without one.
  if (is_checkpoint) out.emit(effect::CheckpointMade{.number = job.number}, index);
  auto const effect =
      death(job, kPayloadDamaged, is_checkpoint ? kCheckpointDamagedText : kPayloadDamagedText, context);
  out.emit(effect, index);
  note_flight_failed(job, effect, state, context, out);
}

Engine::Survival decide_survival(Effect const& record, Position at, State const& state, Effects& out) {
  JobNumber number{};
  if (auto const* enqueued = std::get_if<effect::JobEnqueued>(&record)) number = enqueued->number;
  if (auto const* snapshot = std::get_if<effect::JobSnapshot>(&record)) number = snapshot->number;
  if (number != JobNumber{}) {
    // What became of a job stands behind its spec: where that is copied ahead, everything is.
    JobIndex const job = state.find(number);
    bool const lives = job != kNone<JobIndex> && state.job(job).spec_at == at;
    return lives ? Engine::Survival::copy_job : Engine::Survival::gone;
  }
  if (!state.stands_on(record, at)) return Engine::Survival::gone;
  if (auto const* store = std::get_if<effect::StoreCreated>(&record)) out.emit(*store);
  if (auto const* queue = std::get_if<effect::QueueChanged>(&record)) out.emit(*queue);
  if (auto const* request = std::get_if<effect::RequestRemembered>(&record)) out.emit(*request);
  if (auto const* made = std::get_if<effect::BatchMade>(&record)) out.emit(state.batches().find(made->batch)->copy());
  if (auto const* copied = std::get_if<effect::BatchCopied>(&record)) {
    out.emit(state.batches().find(copied->batch)->copy());
  }
  if (auto const* flag = std::get_if<effect::FlagChanged>(&record)) {
    if (!WM_MUTATION(copy_loses_flag_history) || state.flags().find(flag->key)->back().version == flag->version) {
      out.emit(*flag);
    }
  }
  return Engine::Survival::rewritten;
}

}  // namespace workmill::engine
