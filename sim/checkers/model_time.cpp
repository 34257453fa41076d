#include "sim/checkers/model_detail.h"

#include <algorithm>

namespace workmill::sim {

bool Model::advance() {
  std::uint64_t became_ready = 0;
  while (at_ < effects_.size()) {
    if (auto const* ready = next<effect::JobReady>()) {
      ModelJob* const job = find(JobRef{.number = ready->number, .text = {}});
      WM_SIM_HOLD(job != nullptr && job->state == JobState::scheduled, "job {:x} became ready, and was not scheduled",
                  raw(ready->number));
      WM_SIM_HOLD(job->due <= now_, "job {:x} became ready {} ms too soon", raw(job->number),
                  (job->due - now_).count());
      WM_SIM_HOLD(!can_expire(*job) || job->expires_at > now_, "job {:x} became ready instead of expiring",
                  raw(job->number));
      ++at_;
      ++became_ready;
      move(*job, JobState::ready, now_);
      ++figures_[Figure::scheduled_became_ready];
      continue;
    }
    if (auto const* failed = next<effect::JobFailed>();
        failed != nullptr && failed->code != to_string(ErrorCode::payload_damaged)) {
      ModelJob* const job = find(JobRef{.number = failed->number, .text = {}});
      WM_SIM_HOLD(job != nullptr, "job {:x} failed, and is not there", raw(failed->number));
      ++at_;
      ModelQueue& queue = queues_[job->queue];
      WM_SIM_HOLD(failed->attempt == job->attempt && failed->at == now_, "the failure of job {:x} is written wrongly",
                  raw(job->number));
      add_error(*job, failed->error_class, failed->code, failed->message);
      job->events += 1;
      if (failed->code == "expired") {
        WM_SIM_HOLD(can_expire(*job) && job->expires_at <= now_ && failed->next == JobState::dead,
                    "job {:x} expired and should not have", raw(job->number));
        ++queue.counters.died;
        ++figures_[Figure::expired_before_lease];
        job->finished_at = now_;
        move(*job, JobState::dead, now_);
        WM_SIM_STEP(fail_flight(*job, failed->error_class, failed->code, failed->message));
        continue;
      }
      WM_SIM_HOLD(failed->code == "lease_expired" && job->state == JobState::leased,
                  "job {:x} failed with {} and nobody reported it", raw(job->number), failed->code);
      if (job->due > now_) {
        WM_SIM_HOLD(overdue_stream_of(*job) != nullptr, "the lease of job {:x} ended {} ms too soon", raw(job->number),
                    (job->due - now_).count());
        ++figures_[Figure::stream_leases_ended];
      }
      JobState next = job->attempt >= job->max_attempts ? JobState::dead : JobState::ready;
      if (next == JobState::ready && is_given_up_for_nobody(*job, failed->next)) {
        next = JobState::cancelled;
        ++figures_[Figure::cache_overtaken_given_up];
      }
      if (job->cancel_requested) next = JobState::cancelled;
      WM_SIM_HOLD(failed->next == next, "job {:x} is {} after its lease ran out in attempt {} of {}", raw(job->number),
                  to_string(failed->next), job->attempt, job->max_attempts);
      ++queue.counters.failed;
      ++queue.counters.lease_expired;
      ++figures_[Figure::lease_expired];
      if (next != JobState::ready) job->finished_at = now_;
      std::string const name = job->queue;
      move(*job, next, now_);
      if (next == JobState::dead) {
        ++queue.counters.died;
        ++figures_[Figure::lease_expired_to_dead];
        WM_SIM_STEP(fail_flight(*job, failed->error_class, failed->code, failed->message));
      } else if (next == JobState::cancelled) {
        ++queue.counters.cancelled;
        ++figures_[Figure::lease_expired_to_cancelled];
        WM_SIM_STEP(surplus(raw(job->number), name, job->keep_result));
      }
      continue;
    }
    if (auto const* forgotten = next<effect::JobForgotten>()) {
      ModelJob* const job = find(JobRef{.number = forgotten->number, .text = {}});
      WM_SIM_HOLD(job != nullptr, "job {:x} was forgotten twice", raw(forgotten->number));
      WM_SIM_HOLD(is_finished(job->state), "job {:x} was forgotten while {}", raw(job->number), to_string(job->state));
      bool const is_dead = job->state == JobState::dead;
      WM_SIM_HOLD(job->due + (is_dead ? options_.dead_kept : job->keep_result) <= now_, "job {:x} was forgotten early",
                  raw(job->number));
      ++at_;
      ++figures_[is_dead ? Figure::dead_kept_long_enough : Figure::kept_long_enough];
      forget(*job);
      continue;
    }
    if (auto const* made = next<effect::JobEnqueued>(); made != nullptr && at_ + 1 < effects_.size()) {
      auto const* const fired = std::get_if<effect::BatchFired>(&effects_[at_ + 1]);
      if (fired == nullptr) break;
      WM_SIM_STEP(take_callback(*made, *fired));
      continue;
    }
    if (auto const* gone = next<effect::BatchForgotten>()) {
      WM_SIM_STEP(take_end_of_batch(*gone));
      continue;
    }
    if (auto const* removed = next<effect::QueueRemoved>()) {
      ModelQueue& queue = queues_[std::string(removed->name)];
      WM_SIM_HOLD(queue.known != ModelQueue::Known::no && queue.jobs() == 0 && queue.settings == QueueSettings{},
                  "queue {} was removed while in use", removed->name);
      ++at_;
      queue.known = ModelQueue::Known::no;
      queue.counters = {};
      ++figures_[Figure::idle_queue_removed];
      continue;
    }
    break;
  }
  if (became_ready > 1) ++figures_[Figure::several_became_ready_at_once];
  return true;
}

bool Model::serve_waiting(bool is_last) {
  for (;;) {
    bool is_any = false;
    WM_SIM_STEP(take_damaged_again(is_any));
    if (is_any) continue;
    auto const* const granted = next<effect::JobLeased>();
    if (granted == nullptr) break;
    if (ModelStream* const stream = attached_stream(std::string(granted->worker))) {
      // Else it comes at the end of the turn, when more has been decided that leaves no record.
      if (!is_last && !(stream->free_credit() > 0 && can_be_of(*stream, *granted))) break;
      WM_SIM_STEP(serve_stream(*stream));
      continue;
    }
    auto const waiter = std::find_if(waiters_.begin(), waiters_.end(), [&](auto const& w) {
      return w.second.lease && w.second.lease->worker == granted->worker;
    });
    if (waiter == waiters_.end()) break;
    auto const [cookie, waits] = *waiter;
    std::vector<LeasedJob> leased;
    std::optional<Lease> const& lease = waits.lease;
    WM_SIM_HOLD(lease.has_value(), "somebody who waits for no job got one");
    WM_SIM_STEP(lease_jobs(lease.value(), leased));
    if (leased.empty()) continue;  // All of them were damaged: it goes on waiting.
    waiters_.erase(waiter);
    if (!is_last) ++served_early_;
    ++figures_[Figure::waiter_served];
    if (has_gate_opened_) ++figures_[Figure::waiter_served_by_gate];
    LeaseReply const* reply = nullptr;
    WM_SIM_STEP(expect(cookie, reply));
    if (reply == nullptr) continue;
    WM_SIM_STEP(compare_leased(leased, reply->jobs) && compare_results(waits.reports, reply->reports));
  }
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    auto const& [cookie, waits] = *waiter;
    WM_SIM_HOLD(!waits.lease || !waits.is_sure || !is_leasable(*waits.lease),
                "a worker waits although there is a job for it");
    bool const is_over = !waits.lease && finished_now_.contains(raw(waits.job));
    if (is_over) WM_SIM_STEP(end_job_wait(cookie, waits));
    waiter = is_over ? waiters_.erase(waiter) : std::next(waiter);
  }
  finished_now_.clear();
  return true;
}

bool Model::end_job_wait(shard::Cookie cookie, Waiter const& waiter) {
  if (!waiter.cache_key.empty()) return end_flight_wait(cookie, waiter);
  JobNumber const number = waiter.job;
  ++figures_[Figure::waiter_for_end_answered];
  ModelJob const* const job = find(raw(number));
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  JobReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_job(*job, reply->job, true);
}

bool Model::end_overdue() {
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    auto const& [cookie, waits] = *waiter;
    if (waits.deadline > now_ && !is_draining_) {
      ++waiter;
      continue;
    }
    ++figures_[Figure::waiter_timed_out];
    if (!waits.lease) {
      WM_SIM_STEP(end_job_wait(cookie, waits));
    } else {
      LeaseReply const* reply = nullptr;
      WM_SIM_STEP(expect(cookie, reply));
      if (reply != nullptr) {
        WM_SIM_HOLD(reply->jobs.empty(), "who waited in vain got something");
        WM_SIM_STEP(compare_results(waits.reports, reply->reports));
      }
    }
    waiter = waiters_.erase(waiter);
  }
  return true;
}

// All that was due has been moved.
bool Model::check_settled() {
  if (!timers_.empty()) {
    auto const& [due, number] = *timers_.begin();
    WM_SIM_HOLD(due > now_, "job {:x} is {} since {} ms", number, to_string(jobs_.at(number).state),
                (now_ - due).count());
  }
  if (!expiries_.empty()) {
    auto const& [due, number] = *expiries_.begin();
    WM_SIM_HOLD(due > now_, "job {:x} should have expired {} ms ago", number, (now_ - due).count());
  }
  for (auto const& [soonest, number] : keepers_) {
    if (soonest > now_) break;
    ModelJob const& job = jobs_.at(number);
    Duration const keep = job.state == JobState::dead ? options_.dead_kept : job.keep_result;
    WM_SIM_HOLD(job.due + keep + keep / 8 + Duration{1} > now_, "job {:x} is kept {} ms too long", number,
                (now_ - job.due - keep).count());
  }
  return check_batches();
}

// The log's own housekeeping: what still lives in the oldest segment is written once more, as it is.
bool Model::take_copies() {
  for (; at_ < effects_.size(); ++at_) {
    if (next<effect::Alive>() != nullptr || next<effect::StoreCreated>() != nullptr) continue;
    if (auto const* failed = next<effect::JobFailed>();
        failed != nullptr && failed->code == to_string(ErrorCode::payload_damaged)) {
      ModelJob* const job = find(JobRef{.number = failed->number, .text = {}});
      WM_SIM_HOLD(job != nullptr && job->is_waiting(), "job {:x} was ended as damaged when it was to be copied",
                  raw(failed->number));
      ++figures_[Figure::damaged_ended_at_copy];
      WM_SIM_STEP(end_damaged(*job, *failed, false));
      --at_;  // The loop moves on.
      continue;
    }
    if (auto const* copy = next<effect::JobSnapshot>(); copy != nullptr && !copy->patched) {
      ModelJob* const job = find(JobRef{.number = copy->number, .text = {}});
      WM_SIM_HOLD(job != nullptr, "job {:x} was copied ahead, and is not there", raw(copy->number));
      if (may_be_damaged(raw(job->number))) WM_SIM_STEP(take_damaged_copy(*job, *copy));
      WM_SIM_HOLD(copy->state == job->state && copy->spec == job->spec && copy->attempt == job->attempt &&
                      copy->cancel_requested == job->cancel_requested && copy->due == job->due &&
                      copy->checkpoint == job->checkpoint.data && copy->checkpoint_lost == job->checkpoint.is_lost &&
                      copy->is_overtaken == job->is_overtaken &&
                      (job->state != JobState::leased || copy->token == job->token),
                  "job {:x} was copied ahead wrongly", raw(copy->number));
      ++figures_[Figure::survivor_copied];
      if (job->checkpoint.is_there()) ++figures_[Figure::checkpoint_copied];
      if (job->state == JobState::leased) ++figures_[Figure::leased_job_copied];
      if (job->is_overtaken) ++figures_[Figure::cache_overtaken_copied];
      if (is_finished(job->state)) ++figures_[Figure::finished_job_copied];
      if (batch_of(*job) != nullptr) ++figures_[Figure::batch_job_copied];
      continue;
    }
    if (auto const* copy = next<effect::CacheStored>()) {
      WM_SIM_STEP(take_cache_copy(*copy));
      continue;
    }
    if (auto const* copy = next<effect::CacheFailed>()) {
      WM_SIM_STEP(take_cache_copy(*copy));
      continue;
    }
    if (auto const* copy = next<effect::FlagChanged>()) {
      WM_SIM_STEP(take_flag_copy(*copy));
      continue;
    }
    if (auto const* copy = next<effect::BatchCopied>()) {
      WM_SIM_STEP(take_batch_copy(*copy));
      continue;
    }
    if (auto const* copy = next<effect::QueueChanged>()) {
      auto const queue = queues_.find(std::string(copy->name));
      WM_SIM_HOLD(queue != queues_.end() && queue->second.settings == copy->settings,
                  "the settings of {} were copied ahead wrongly", copy->name);
      ++figures_[Figure::settings_copied];
      continue;
    }
    if (auto const* copy = next<effect::RequestRemembered>()) {
      auto const kept = answers_.find(std::string(copy->key));
      WM_SIM_HOLD(
          kept != answers_.end() && kept->second.until == copy->until && kept->second.fingerprint == copy->fingerprint,
          "an answer was copied ahead wrongly");
      ++figures_[Figure::answer_copied];
      continue;
    }
    return complain("a record of {} that nothing asked for", kEffectNames[effects_[at_].index()]);
  }
  return true;
}

}  // namespace workmill::sim
