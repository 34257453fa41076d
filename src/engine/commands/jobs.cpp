#include <algorithm>
#include <utility>

#include "engine/commands/decide.h"
#include "model/job.h"

// What callers do to single jobs: look, cancel, retry, delete, change.
namespace workmill::engine {
namespace {

// How many jobs one that finishes can push out. One is the rule; more only where the budget was made smaller.
constexpr int kSurplusPerFinish = 2;

Error wrong_state(JobState state, std::string_view wanted) {
  Error error{.code = ErrorCode::wrong_state, .message = "the job is "};
  error.message.append(to_string(state)).append("; ").append(wanted);
  return error;
}

Error job_leased() {
  return {.code = ErrorCode::job_leased, .message = "a worker holds this job: wait for its report, or cancel it"};
}

}  // namespace

Error no_such_job() { return {.code = ErrorCode::job_not_found, .message = "there is no such job, or no longer"}; }

void forget(JobIndex job, State const& state, Effects& out) {
  JobSlot const& slot = state.job(job);
  effect::JobForgotten forgotten{.number = slot.number};
  if (BatchTable::Batch const* const batch = state.batch_of(slot)) {
    forgotten.batch = batch->number;
    forgotten.last = slot.state;
  }
  out.emit(forgotten, job);
}

void forget_surplus(JobIndex job, State const& state, Effects& out) {
  JobSlot const& slot = state.job(job);
  Queue const& queue = state.queue_of(slot);
  if (state.policy(slot).keep_result <= Duration{0}) {
    forget(job, state, out);
  }
  for (int i = 0; i < kSurplusPerFinish && queue.kept() > state.options().finished_kept_per_queue; ++i) {
    JobIndex const oldest = state.retention().oldest_kept(queue);
    forget(oldest, state, out);
  }
}

void cancel(JobIndex job, State const& state, Context const& context, Effects& out) {
  JobSlot const& slot = state.job(job);
  out.emit(effect::JobCancelled{.number = slot.number, .at = context.now, .previous = slot.event_at}, job);
  forget_surplus(job, state, out);
}

Reply look(GetJob const& command, State const& state) {
  JobIndex const job = state.find(command.job);
  if (job == kNone<JobIndex>) return no_such_job();
  return JobReply{.job = state.view(job)};
}

Reply look(GetJobLog const& command, State const& state) {
  if (state.find(command.job) == kNone<JobIndex>) return no_such_job();
  return JobLogReply{};  // The lines stand in the log: the shard reads them.
}

Reply decide(CancelJob const& command, State const& state, Context const& context, Effects& out) {
  JobIndex const index = state.find(command.job);
  if (index == kNone<JobIndex>) return no_such_job();
  JobSlot const& job = state.job(index);
  switch (job.state) {
    case JobState::scheduled:
    case JobState::ready: cancel(index, state, context, out); break;
    case JobState::leased:
      if (!job.cancel_requested) out.emit(effect::CancelRequested{.number = job.number}, index);
      break;
    case JobState::cancelled: break;
    case JobState::completed:
    case JobState::dead: return wrong_state(job.state, "only a job that is not finished can be cancelled");
  }
  return DoneReply{};
}

Reply decide(RetryJob const& command, State const& state, Context const& context, Effects& out) {
  JobIndex const index = state.find(command.job);
  if (index == kNone<JobIndex>) return no_such_job();
  JobSlot const& job = state.job(index);
  switch (job.state) {
    case JobState::dead:
    case JobState::cancelled:
      if (Flight const* const flight = state.flight(job);
          flight != nullptr && !flight->is_overtaken && state.find_flight(flight->key) != kNone<JobIndex>) {
        return Error{.code = ErrorCode::wrong_state, .message = "another job computes this cached value now"};
      }
      [[fallthrough]];
    case JobState::scheduled:
      out.emit(effect::JobRetried{.number = job.number, .order = state.next_order(context.now)}, index);
      return DoneReply{};
    case JobState::ready:
    case JobState::leased:
    case JobState::completed: break;
  }
  return wrong_state(job.state, "only a dead, cancelled or scheduled one can be retried");
}

Reply decide(DeleteJob const& command, State const& state, Context const&, Effects& out) {
  JobIndex const index = state.find(command.job);
  if (index == kNone<JobIndex>) return no_such_job();
  JobSlot const& job = state.job(index);
  if (job.state == JobState::leased) return job_leased();
  forget(index, state, out);
  return DoneReply{};
}

Reply decide(PatchJob const& command, State const& state, Context const& context, Effects& out) {
  JobIndex const index = state.find(command.job);
  if (index == kNone<JobIndex>) return no_such_job();
  JobSlot const& job = state.job(index);
  if (job.state == JobState::leased) return job_leased();
  if (is_finished(job.state)) return wrong_state(job.state, "only a job that is not finished can be changed");

  JobSpecView spec;
  bool const is_spec = decode_spec(command.new_spec, spec).has_value();
  WM_ASSERT(is_spec);  // The shard has read it from the log, changed it and encoded it.
  Queue const& queue = state.queue_of(job);
  bool const is_elsewhere = spec.queue != queue.name;
  if (is_elsewhere) {
    QueueIndex const target = state.find_queue(spec.queue);
    if (target != kNone<QueueIndex>) {
      auto const room = make_room(state.queue(target), state, context, out);
      if (!room) return room.error();
    }
  }

  Instant due = job.due;
  if (command.changes.run_at) due = std::max(*command.changes.run_at, context.now);
  bool const is_ready = command.changes.run_at ? due <= context.now : job.state == JobState::ready;
  bool const keeps_place =
      is_ready && job.state == JobState::ready && !is_elsewhere && spec.priority == state.lane(job).priority;
  std::uint64_t const order = keeps_place ? job.order : state.next_order(context.now);
  if (is_ready && !keeps_place) due = created_at(JobNumber{order});
  if (keeps_place) due = job.due;
  out.emit(effect::JobSnapshot{.number = job.number,
                               .patched = true,
                               .state = is_ready ? JobState::ready : JobState::scheduled,
                               .cancel_requested = job.cancel_requested,
                               .order = order,
                               .due = due,
                               .attempt = job.attempt,
                               .spec = command.new_spec,
                               .history = command.history,
                               .checkpoint = command.checkpoint.data,
                               .checkpoint_lost = command.checkpoint.is_lost,
                               .is_overtaken = state.is_overtaken(job)},
           spec, index);
  return JobReply{.job = state.view(index)};
}

}  // namespace workmill::engine
