#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/mutation.h"
#include "engine/state.h"

// Replay: effects that come out of the log are looked at before they are applied, since a log can be damaged where
// our own decisions cannot. And the way from there into life.
namespace workmill::engine {
namespace {

// The states in which an effect finds its job; false contradicts the log before it.
bool fits(effect::JobReady const&, JobSlot const& job) { return job.state == JobState::scheduled; }
bool fits(effect::JobLeased const&, JobSlot const& job) {
  return job.state == JobState::ready && job.attempt <= kMaxAttemptsLimit;
}
bool fits(effect::LeaseExtended const&, JobSlot const& job) { return job.state == JobState::leased; }
bool fits(effect::JobCompleted const&, JobSlot const& job) { return job.state == JobState::leased; }
bool fits(effect::JobFailed const& e, JobSlot const& job) {
  if (e.next == JobState::leased || e.next == JobState::completed) return false;
  bool const is_expiry = e.next == JobState::dead && !is_finished(job.state);
  return job.state == JobState::leased || is_expiry;
}
bool fits(effect::JobReleased const& e, JobSlot const& job) {
  return job.state == JobState::leased && job.attempt > 0 &&
         (e.next == JobState::ready || e.next == JobState::cancelled);
}
bool fits(effect::JobCancelled const&, JobSlot const& job) {
  return job.state == JobState::scheduled || job.state == JobState::ready;
}
bool fits(effect::CancelRequested const&, JobSlot const& job) { return job.state == JobState::leased; }
bool fits(effect::JobRetried const&, JobSlot const& job) {
  return job.state == JobState::scheduled || job.state == JobState::dead || job.state == JobState::cancelled;
}
bool fits(effect::ProgressMade const&, JobSlot const& job) { return job.state == JobState::leased; }
bool fits(effect::LinesLogged const&, JobSlot const& job) { return job.state == JobState::leased; }
bool fits(effect::CheckpointMade const&, JobSlot const& job) { return job.state == JobState::leased; }
bool fits(effect::JobForgotten const&, JobSlot const& job) { return job.state != JobState::leased; }
bool fits(effect::JobSnapshot const& e, JobSlot const& job) {
  if (e.patched) return job.state == JobState::scheduled || job.state == JobState::ready;
  return e.state == job.state && e.attempt == job.attempt;
}

Result<> contradiction(JobNumber number, Position at) {
  return fail(ErrorCode::log_corrupt,
              fmt::format("the record at segment {}, offset {} contradicts what the log says of job {:016x} before it",
                          at.segment, at.offset, std::to_underlying(number)));
}

Result<> contradiction(BatchNumber number, Position at) {
  return fail(
      ErrorCode::log_corrupt,
      fmt::format("the record at segment {}, offset {} contradicts what the log says of batch {:016x} before it",
                  at.segment, at.offset, std::to_underlying(number)));
}

}  // namespace

template <class E>
Result<> State::replay_one(E const& e, Written w, Instant at) {
  if constexpr (requires { e.number; }) {
    JobIndex const job = find(e.number);
    if (job == kNone<JobIndex>) return {};
    if (!fits(e, slots_[job])) return contradiction(e.number, w.at);
    apply(e, w, at, job);
  } else {
    apply(e, w, at, kNone<JobIndex>);
  }
  return {};
}

Result<> State::replay_one(effect::JobEnqueued const& e, Written w, Instant at) {
  if (find(e.number) != kNone<JobIndex>) return contradiction(e.number, w.at);
  WM_TRY_VOID(decode_spec(e.spec, spec_));
  if (!spec_.id.empty() && find_client_id(spec_.id) != kNone<JobIndex>) return contradiction(e.number, w.at);
  apply(e, spec_, w, at);
  return {};
}

Result<> State::replay_one(effect::JobSnapshot const& e, Written w, Instant at) {
  JobIndex const job = find(e.number);
  if (job != kNone<JobIndex> && !fits(e, slots_[job])) return contradiction(e.number, w.at);
  if (e.attempt > kMaxAttemptsLimit) return contradiction(e.number, w.at);
  WM_TRY_VOID(decode_spec(e.spec, spec_));
  JobIndex const namesake = spec_.id.empty() ? kNone<JobIndex> : find_client_id(spec_.id);
  if (namesake != kNone<JobIndex> && namesake != job) return contradiction(e.number, w.at);
  apply(e, spec_, w, at, job);
  return {};
}

Result<> State::replay_one(effect::QueueRemoved const& e, Written w, Instant at) {
  QueueIndex const queue = queues_.find(e.name);
  if (queue != kNone<QueueIndex> && queues_[queue].jobs > 0) {
    return fail(ErrorCode::log_corrupt, fmt::format("the record at segment {}, offset {} removes a queue with jobs",
                                                    w.at.segment, w.at.offset));
  }
  apply(e, w, at, kNone<JobIndex>);
  return {};
}

Result<> State::replay_one(effect::FlagChanged const& e, Written w, Instant at) {
  WM_TRY_VOID(FlagTable::check(e));
  apply(e, w, at, kNone<JobIndex>);
  return {};
}

Result<> State::replay_one(effect::FlightOvertaken const& e, Written w, Instant at) {
  JobIndex const job = find(e.number);
  if (job == kNone<JobIndex>) return {};
  if (flight(slots_[job]) == nullptr || is_finished(slots_[job].state)) return contradiction(e.number, w.at);
  apply(e, w, at, job);
  return {};
}

// What it says of the job's batch counts also where the job is not known: that stood in the record of its going, and
// the job's own record may have gone before.
Result<> State::replay_one(effect::JobForgotten const& e, Written w, Instant at) {
  JobIndex const job = find(e.number);
  if (job != kNone<JobIndex>) {
    if (!fits(e, slots_[job])) return contradiction(e.number, w.at);
    apply(e, w, at, job);
  } else if (e.batch != BatchNumber{}) {
    batches_.count_gone(e.batch, e.last, at);
  }
  return {};
}

Result<> State::replay_one(effect::BatchMade const& e, Written w, Instant at) {
  if (batches_.find(e.batch) != nullptr || batches_.find(e.id) != nullptr) return contradiction(e.batch, w.at);
  for (CallbackKind const kind : kAllCallbackKinds) {
    if (!e.callback(kind).empty()) WM_TRY_VOID(decode_spec(e.callback(kind), spec_));
  }
  apply(e, w, at, kNone<JobIndex>);
  return {};
}

Result<> State::replay_one(effect::BatchClosed const& e, Written w, Instant at) {
  BatchTable::Batch const* const batch = batches_.find(e.batch);
  if (batch != nullptr && batch->closed_at) return contradiction(e.batch, w.at);
  apply(e, w, at, kNone<JobIndex>);
  return {};
}

Result<> State::replay_one(effect::BatchFired const& e, Written w, Instant at) {
  BatchTable::Batch const* const batch = batches_.find(e.batch);
  bool const is_possible = batch == nullptr ||
                           (batch->closed_at && batch->state_of(e.callback) == CallbackState::waiting) ||
                           WM_MUTATION(open_batch_calls_back) || WM_MUTATION(copied_batch_forgets_gone_jobs);
  if (!is_possible) return contradiction(e.batch, w.at);
  apply(e, w, at, kNone<JobIndex>);
  return {};
}

Result<> State::replay_one(effect::BatchCopied const& e, Written w, Instant at) {
  BatchTable::Batch const* const namesake = batches_.find(e.id);
  if (namesake != nullptr && namesake->number != e.batch) return contradiction(e.batch, w.at);
  if (namesake == nullptr && batches_.find(e.batch) != nullptr) return contradiction(e.batch, w.at);
  for (auto const& callback : e.callbacks) {
    if (!callback.spec.empty()) WM_TRY_VOID(decode_spec(callback.spec, spec_));
  }
  apply(e, w, at, kNone<JobIndex>);
  return {};
}

Result<> State::replay(Effect const& effect, Written w, Instant at) {
  WM_ASSERT(!is_live_);
  return std::visit(
      [&](auto const& e) {
        see(e, at);
        return replay_one(e, w, at);
      },
      effect);
}

// Everything that replay has left out is put up now, in one walk over the jobs: the lines of the ready, the wheel,
// the lines of the finished.
void State::finish_replay(Instant now) {
  WM_ASSERT(!is_live_);
  is_live_ = true;
  note_time(now);
  wheel_.start(now);
  std::vector<std::pair<Instant, JobIndex>> finished;
  by_number_.walk([&](JobNumber, JobIndex job) {
    JobSlot const& slot = slots_[job];
    if (slot.state == JobState::ready) {
      ready_.push_unsorted(job);
    } else if (is_finished(slot.state)) {
      finished.emplace_back(slot.due, job);
    } else {
      link(job);
    }
  });
  ready_.finish_replay();
  std::sort(finished.begin(), finished.end(), [this](auto const& a, auto const& b) {
    return a.first != b.first ? a.first < b.first : slots_[a.second].number < slots_[b.second].number;
  });
  for (auto const& [due, job] : finished) link(job);
  idempotency_.finish_replay(now);
  flags_.finish_replay();
  batches_.finish_replay([this](std::string_view id) { return find_batch(id); },
                         [this](JobNumber job) {
                           JobSlot const& slot = slots_[find(job)];
                           return std::pair{slot.state, slot.due};
                         },
                         [this](JobNumber job) { slots_[find(job)].has_batch = false; });
  if (!WM_MUTATION(restart_opens_all_gates)) set_gates();
  queues_.walk({}, [&](QueueIndex index) {
    Queue& queue = queues_[index];
    queue.counters = {};  // They count from the start of the process.
    if (queue.jobs == 0) note_idle(index, now);
    return true;
  });
}

}  // namespace workmill::engine
