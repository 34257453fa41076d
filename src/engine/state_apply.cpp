#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "engine/state.h"

// What each effect does to a state: the same as it is decided and as the log is replayed.
namespace workmill::engine {

void State::apply(effect::StoreCreated const& e, Written w, Instant, JobIndex) {
  salt_ = e.salt;
  last_number_ = std::max(last_number_, std::to_underlying(e.last_number));
  last_order_ = std::max(last_order_, e.last_order);
  last_token_ = std::max(last_token_, std::to_underlying(e.last_token));
  flags_.apply(e);
  segments_.add(w.at, w.bytes);
  segments_.drop(store_at_, store_bytes_);
  store_at_ = w.at;
  store_bytes_ = w.bytes;
}

void State::apply(effect::ServerResumed const& e, Written, Instant, JobIndex) {
  if (depth_[std::to_underlying(JobState::leased)] == 0 || WM_MUTATION(restart_shortens_leases)) return;
  if (!is_live_) {
    by_number_.walk([&](JobNumber, JobIndex job) {
      if (slots_[job].state == JobState::leased) slots_[job].due += e.down;
    });
    return;
  }
  std::vector<JobIndex> leased;
  wheel_.walk([&](JobIndex job) {
    if (slots_[job].state == JobState::leased) leased.push_back(job);
  });
  for (JobIndex const job : leased) {
    wheel_.remove(job);
    slots_[job].due += e.down;
    wheel_.insert(job);
  }
}

void State::apply(effect::Alive const&, Written, Instant, JobIndex) {}  // It is the batch's time that counts.

void State::apply(effect::JobEnqueued const& e, JobSpecView const& spec, Written w, Instant) {
  JobIndex const job = make_job(e.number, spec, w);
  JobSlot& slot = slots_[job];
  slot.due = e.ready_at;
  slot.order = e.order;
  ++queue_at(job).counters.enqueued;
  if (is_measuring()) {
    ++types_.of(slot.type).enqueued;
    if (!e.scheduled) stage(JobStage::enqueued_to_ready).observe(e.ready_at - created_at(e.number));
  }
  enter(job, e.scheduled ? JobState::scheduled : JobState::ready);
}

void State::apply(effect::JobReady const& e, Written, Instant, JobIndex job) {
  if (slots_[job].attempt == 0 && is_measuring()) {
    stage(JobStage::enqueued_to_ready).observe(time_of(e.order) - created_at(e.number));
  }
  change(job, JobState::ready, time_of(e.order), e.order);
}

void State::apply(effect::JobLeased const& e, Written w, Instant, JobIndex job) {
  JobSlot& slot = slots_[job];
  if (is_live_) ready_.pass_turn(slot.lane);
  if (is_measuring()) stage(JobStage::ready_to_leased).observe(e.at - slot.due);
  ++slot.attempt;
  slot.event_at = w.at;
  if (slot.extra != kNone<ExtraIndex>) extras_[slot.extra].progress.reset();
  ++queue_at(job).counters.leased;
  change(job, JobState::leased, e.deadline, std::to_underlying(e.token));
}

void State::apply(effect::LeaseExtended const& e, Written, Instant, JobIndex job) {
  if (is_live_) wheel_.remove(job);
  slots_[job].due = e.deadline;
  if (is_live_) wheel_.insert(job);
}

void State::apply(effect::JobCompleted const& e, Written w, Instant, JobIndex job) {
  slots_[job].event_at = w.at;
  ++queue_at(job).counters.completed;
  if (is_measuring()) {
    note_attempt_over(slots_[job], e.at);
    ++types_.of(slots_[job].type).completed;
  }
  set_checkpoint(job, {});  // There is no next attempt.
  change(job, JobState::completed, e.at, std::to_underlying(e.number));
}

void State::apply(effect::JobFailed const& e, Written w, Instant, JobIndex job) {
  slots_[job].event_at = w.at;
  QueueCounters& counters = queue_at(job).counters;
  if (slots_[job].state == JobState::leased) {
    ++counters.failed;
    if (is_measuring()) {
      note_attempt_over(slots_[job], e.at);
      ++types_.of(slots_[job].type).failed;
    }
  }
  if (e.code == kLeaseExpired) ++counters.lease_expired;
  std::uint64_t order = std::to_underlying(e.number);
  Instant due = e.at;
  switch (e.next) {
    case JobState::ready: order = e.order; break;
    case JobState::scheduled: due = e.ready_at; break;
    case JobState::dead: ++counters.died; break;
    case JobState::cancelled: ++counters.cancelled; break;
    case JobState::leased:
    case JobState::completed: WM_ASSERT(false);
  }
  change(job, e.next, due, order);
}

// A token says when it was granted.
void State::note_attempt_over(JobSlot const& job, Instant at) {
  stage(JobStage::leased_to_done).observe(at - time_of(job.order));
}

void State::apply(effect::JobReleased const& e, Written, Instant, JobIndex job) {
  JobSlot& slot = slots_[job];
  WM_ASSERT(slot.attempt > 0);
  --slot.attempt;
  QueueCounters& counters = queue_at(job).counters;
  ++counters.released;
  if (e.next == JobState::cancelled) ++counters.cancelled;
  change(job, e.next, e.at, e.next == JobState::ready ? e.order : std::to_underlying(e.number));
}

void State::apply(effect::JobCancelled const& e, Written w, Instant, JobIndex job) {
  slots_[job].event_at = w.at;
  ++queue_at(job).counters.cancelled;
  change(job, JobState::cancelled, e.at, std::to_underlying(e.number));
}

void State::apply(effect::CancelRequested const&, Written, Instant, JobIndex job) {
  slots_[job].cancel_requested = true;
}

void State::apply(effect::JobRetried const& e, Written, Instant, JobIndex job) {
  slots_[job].attempt = 0;
  change(job, JobState::ready, time_of(e.order), e.order);
}

void State::apply(effect::ProgressMade const& e, Written, Instant, JobIndex job) {
  ensure_extra(job).progress = JobProgress{.percent = e.percent, .message = Bytes{e.message}};
}

void State::apply(effect::LinesLogged const&, Written w, Instant, JobIndex job) { ensure_extra(job).log_at = w.at; }

void State::apply(effect::JobForgotten const& e, Written, Instant at, JobIndex job) {
  leave(job);
  JobSlot const& slot = slots_[job];
  if (slot.has_batch) batches_.part(e.number);
  if (e.batch != BatchNumber{}) batches_.count_gone(e.batch, e.last, at);
  segments_.drop(slot.spec_at, slot.spec_bytes);
  by_number_.erase(e.number);
  if (slot.is_watched && !is_finished(slot.state)) finished_.push_back(slot.number);
  detach(job, at);
  if (slot.extra != kNone<ExtraIndex>) extras_.give(slot.extra);
  slots_.give(job);
}

void State::apply(effect::JobSnapshot const& e, JobSpecView const& spec, Written w, Instant at, JobIndex job) {
  Position const checkpoint_at = e.checkpoint.empty() && !e.checkpoint_lost ? Position{} : w.at;
  if (job != kNone<JobIndex>) {
    move_record(job, w);
    set_checkpoint(job, checkpoint_at);
  }
  if (job != kNone<JobIndex> && !e.patched) {
    if (spec.payload_kind == PayloadKind::lost) release_key(job);
    return;
  }

  bool keeps_place = false;
  if (job == kNone<JobIndex>) {
    job = make_job(e.number, spec, w);
    if (slots_[job].has_batch && WM_MUTATION(copy_leaves_its_batch)) {
      slots_[job].has_batch = false;
      batches_.part(e.number);
    }
    slots_[job].event_at = w.at;
    restore_history(job, e.history, w);
    set_checkpoint(job, checkpoint_at);
  } else {
    JobSlot const& slot = slots_[job];
    LaneIndex const lane = ready_.take_lane(queues_.ensure(spec.queue), spec.priority, spec.group);
    keeps_place =
        lane == slot.lane && slot.state == JobState::ready && e.state == JobState::ready && slot.order == e.order;
    NameIndex const type = names_.take(names_.text(slot.type));
    if (!keeps_place) leave(job);
    detach(job, at);
    attach(job, spec);
    // Counted twice until now, so that a lane that stays is not taken down in between; nor the name by which it counts
    // there.
    ready_.give_lane(lane);
    names_.give(type);
  }
  JobSlot& slot = slots_[job];
  slot.due = e.due;
  slot.order = e.state == JobState::leased ? std::to_underlying(e.token) : e.order;
  slot.attempt = static_cast<std::uint16_t>(e.attempt);
  slot.cancel_requested = e.cancel_requested;
  if (slot.extra != kNone<ExtraIndex> && extras_[slot.extra].flight) {
    extras_[slot.extra].flight->is_overtaken = e.is_overtaken && !WM_MUTATION(copy_loses_overtaking);
  }
  if (!keeps_place) return enter(job, e.state);
  if (slot.extra != kNone<ExtraIndex>) reindex(job);
}

void State::apply(effect::QueueChanged const& e, Written w, Instant at, JobIndex) {
  QueueIndex const index = queues_.ensure(e.name);
  Queue& queue = queues_[index];
  limited_queues_ -= queue.settings.max_depth ? 1U : 0U;
  // Defaults need no record once those that said otherwise are gone, and they go first.
  Position const stands_at = e.settings == QueueSettings{} ? Position{} : w.at;
  segments_.add(stands_at, w.bytes);
  segments_.drop(queue.settings_at, queue.settings_bytes);
  queue.settings = e.settings;
  queue.settings_at = stands_at;
  queue.settings_bytes = w.bytes;
  limited_queues_ += queue.settings.max_depth ? 1U : 0U;
  if (queue.jobs == 0) note_idle(index, at);
  if (is_live_ && queue.can_lease()) announce(index);
}

void State::apply(effect::QueueRemoved const& e, Written, Instant, JobIndex) {
  QueueIndex const index = queues_.find(e.name);
  if (index == kNone<QueueIndex>) return;
  Queue const& queue = queues_[index];
  limited_queues_ -= queue.settings.max_depth ? 1U : 0U;
  std::erase(announced_, index);
  if (queue.idle_check) idle_checks_.erase({*queue.idle_check, index});
  segments_.drop(queue.settings_at, queue.settings_bytes);
  retention_.remove_lines(index);
  queues_.remove(index);
}

void State::apply(effect::RequestRemembered const& e, Written w, Instant, JobIndex) {
  idempotency_.remember(
      hash_of(e.key),
      {.fingerprint = e.fingerprint, .until = e.until, .at = w.at, .bytes = w.bytes, .reply = Bytes{e.reply}});
}

void State::apply(effect::CheckpointMade const& e, Written w, Instant, JobIndex job) {
  if (WM_MUTATION(first_checkpoint_wins) && slots_[job].extra != kNone<ExtraIndex> &&
      extras_[slots_[job].extra].checkpoint_at)
    return;
  set_checkpoint(job, e.data.empty() ? Position{} : w.at);
}

void State::apply(effect::FlightOvertaken const&, Written, Instant, JobIndex job) {
  JobExtra& more = extras_[slots_[job].extra];
  more.flight->is_overtaken = true;
  drop_key(job, more);
}

void State::apply(effect::BatchMade const& e, Written w, Instant, JobIndex) {
  std::array<std::string_view, kCallbackKinds> queues;
  JobSpecView spec;
  for (CallbackKind const kind : kAllCallbackKinds) {
    if (e.callback(kind).empty()) continue;
    bool const is_spec = decode_spec(e.callback(kind), spec).has_value();
    WM_ASSERT(is_spec);  // Looked at when it was sent, or replayed.
    queues[static_cast<std::size_t>(kind)] = spec.queue;
  }
  batches_.apply(e, queues, w);
}
void State::apply(effect::BatchClosed const& e, Written, Instant, JobIndex) { batches_.apply(e); }
void State::apply(effect::BatchFired const& e, Written, Instant, JobIndex) { batches_.apply(e); }
void State::apply(effect::BatchForgotten const& e, Written, Instant, JobIndex) { batches_.apply(e); }
void State::apply(effect::BatchCopied const& e, Written w, Instant, JobIndex) { batches_.apply(e, w); }

void State::apply(effect::FlagChanged const& e, Written w, Instant, JobIndex) {
  std::uint64_t const before = flags_.revision();
  flags_.apply(e, w);
  if (flags_.revision() != before) set_gates();
}

void State::apply(effect::FlagRemoved const& e, Written, Instant, JobIndex) {
  std::uint64_t const before = flags_.revision();
  flags_.apply(e);
  if (flags_.revision() != before && !WM_MUTATION(removed_flag_keeps_its_gate)) set_gates();
}

// What the flags say of types of jobs holds at once. Whoever waits for a queue in which something was let through hears
// of it.
void State::set_gates() {
  std::vector<std::string> closed = flags::closed_types(*flags_.set());
  if (closed == closed_types_) return;
  closed_types_ = std::move(closed);
  ready_.set_closed(closed_types_);
  if (WM_MUTATION(opened_gate_tells_nobody)) return;
  queues_.walk({}, [this](QueueIndex index) {
    if (queues_[index].can_lease()) announce(index);
    return true;
  });
}

void State::set_checkpoint(JobIndex job, Position at) {
  if (at) {
    ensure_extra(job).checkpoint_at = at;
  } else if (slots_[job].extra != kNone<ExtraIndex>) {
    extras_[slots_[job].extra].checkpoint_at = {};
  }
}

void State::restore_history(JobIndex job, BytesView history, Written w) {
  if (history.empty()) return;
  auto decoded = decode_history(history);
  if (!decoded) return;
  if (decoded->progress) ensure_extra(job).progress = std::move(decoded->progress);
  if (!decoded->log_lines.empty()) ensure_extra(job).log_at = w.at;
}

}  // namespace workmill::engine
