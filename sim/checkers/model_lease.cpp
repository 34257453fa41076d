#include "sim/checkers/model_detail.h"

#include <algorithm>
#include <cmath>

namespace workmill::sim {

bool Model::run(shard::Cookie cookie, Lease const& command) {
  WM_SIM_STEP(serve_waiting(false));  // Who waits already comes first.
  LeaseReply wanted;
  for (Report const& report : command.reports) {
    ++moment_;
    WM_SIM_STEP(decide_report(report, wanted.reports.emplace_back()));
  }
  bool const has_gone = gone_.erase(cookie) > 0;
  // Where more closed jobs stand in front than step aside at once, he may have to wait for what is behind them, and
  // have it at the end of the turn. The records are the same, but who looks at jobs in between sees which it was.
  bool const may_be_later = is_any_unsettled_ && command.wait > Duration{0} && !is_leasable(command);
  bool const is_now = !may_be_later || guess(true);
  if (!has_gone && is_now) WM_SIM_STEP(lease_jobs(command, wanted.jobs));
  bool waits = wanted.jobs.empty() && command.wait > Duration{0} && !is_draining_ && !has_gone;
  Room room = room_to_wait();
  if (waits && room == Room::yes && was_perhaps_full(cookie)) {
    auto const* const answered = std::get_if<LeaseReply>(&replies_->at(cookie));
    if (answered != nullptr && answered->jobs.empty()) room = Room::no;
  }
  if (waits && room == Room::no) {
    ++figures_[Figure::waiters_full];
    waits = false;
  }
  if (waits) {
    if (!wanted.reports.empty()) ++figures_[Figure::waiter_reports_kept];
    Waiter waiter{.lease = command, .reports = std::move(wanted.reports), .job = {}, .deadline = now_ + command.wait};
    waiter.is_sure = room == Room::yes;
    waiter.lease->reports.clear();
    waiters_.emplace(cookie, std::move(waiter));
    return true;
  }
  LeaseReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  return compare_leased(wanted.jobs, reply->jobs) && compare_results(wanted.reports, reply->reports);
}

// Where nobody was answered, nobody knows who waits for what is to be computed: that leaves no record.
Model::Room Model::room_to_wait() const {
  if (waiters_.size() + maybe_waiting_ < options_.waiters_max) return Room::yes;
  if (replies_ != nullptr) return Room::no;
  auto const sure = std::ranges::count_if(waiters_, [](auto const& waiter) { return waiter.second.is_sure; });
  return static_cast<std::size_t>(sure) >= options_.waiters_max ? Room::no : Room::nobody_knows;
}

bool Model::was_perhaps_full(shard::Cookie cookie) const {
  return replies_ != nullptr && waiters_.size() + maybe_waiting_ + served_early_ >= options_.waiters_max &&
         replies_->contains(cookie);
}

bool Model::is_leasable(Lease const& request) const {
  return std::any_of(request.queues.begin(), request.queues.end(), [&](QueueChoice const& choice) {
    auto const queue = queues_.find(choice.name);
    return queue != queues_.end() && queue->second.can_lease();
  });
}

// What the request got is in the log; whether it should have been that, and no less, is looked at here.
bool Model::lease_jobs(Lease const& request, std::vector<LeasedJob>& leased, ModelStream const* stream) {
  std::size_t unread = leased.size();  // From here on, what was sent for them has not been read.
  for (;;) {
    auto const* granted = leased.size() < request.max ? next<effect::JobLeased>() : nullptr;
    bool const is_its = granted != nullptr && granted->worker == request.worker;
    if (!is_its || (stream != nullptr && !can_be_of(*stream, *granted))) {
      bool is_any_damaged = false;
      WM_SIM_STEP(take_damaged(leased, unread, is_any_damaged));
      if (!is_any_damaged) break;
      continue;
    }
    ++at_;
    ModelJob* const job = find(JobRef{.number = granted->number, .text = {}});
    WM_SIM_HOLD(job != nullptr, "job {:x} was leased, and is not there", raw(granted->number));
    WM_SIM_HOLD(job->state != JobState::leased, "job {:x} has two valid leases", raw(job->number));
    WM_SIM_HOLD(job->state == JobState::ready, "job {:x} was leased while {}", raw(job->number), to_string(job->state));
    ModelQueue& queue = queues_[job->queue];
    WM_SIM_HOLD(!queue.settings.paused, "job {:x} was leased from a paused queue", raw(job->number));
    WM_SIM_HOLD(!is_closed(job->type_index), "job {:x} was leased, and the gate of its type {} is closed",
                raw(job->number), job->type);

    std::size_t weighted = 0;
    bool is_asked_for = false;
    bool is_served_strictly = false;
    for (QueueChoice const& choice : request.queues) {
      auto const found = queues_.find(choice.name);
      bool const can_lease = found != queues_.end() && found->second.can_lease();
      if (found != queues_.end() && found->second.settings.paused && found->second.depth_in(JobState::ready) > 0) {
        ++figures_[Figure::paused_queue_held_back];
      }
      is_asked_for = is_asked_for || choice.name == job->queue;
      if (can_lease && choice.weight > 0) ++weighted;
      if (!can_lease || choice.weight > 0 || is_served_strictly) continue;
      is_served_strictly = true;
      WM_SIM_HOLD(choice.name == job->queue, "queue {} was served before {}, which comes first", job->queue,
                  choice.name);
    }
    WM_SIM_HOLD(is_asked_for, "job {:x} was leased from a queue that was not asked for", raw(job->number));
    if (!is_served_strictly && weighted > 1) ++figures_[Figure::weighted_choice];

    int const highest = queue.highest();
    WM_SIM_HOLD(job->priority >= highest, "job {:x} of priority {} was leased before one of {}", raw(job->number),
                job->priority, highest);
    auto& lines = queue.lines[job->priority];
    Line& line = lines[job->group];
    for (auto const& [group, other] : lines) {
      bool const is_comparable = other.offer == Offer::yes && other.is_turn_known && line.is_turn_known;
      WM_SIM_HOLD(!is_comparable || other.turn >= line.turn, "group '{}' was served in the turn of '{}'", job->group,
                  group);
    }
    if (lines.size() > 1) ++figures_[Figure::groups_in_turn];
    if (stream != nullptr || line.offer == Offer::maybe) ++perhaps_leased_later_[job->queue];
    ModelJob const* const first = next_of(line);
    WM_SIM_HOLD(first != nullptr && first->place == job->place, "job {:x} was leased before {:x}, which is older",
                raw(job->number), first == nullptr ? 0 : raw(first->number));
    if (line.jobs.begin()->first < first->order) ++figures_[Figure::gated_job_passed_over];
    if (job->order <= line.passed) ++figures_[Figure::gated_job_leased];

    WM_SIM_HOLD(std::to_underlying(granted->token) > last_token_, "token {:x} comes after {:x}",
                std::to_underlying(granted->token), last_token_);
    last_token_ = std::to_underlying(granted->token);
    Instant const deadline = now_ + request.lease.value_or(job->lease);
    WM_SIM_HOLD(granted->at == now_ && granted->deadline == deadline, "job {:x} is leased until {} instead of {}",
                raw(job->number), to_ms(granted->deadline), to_ms(deadline));
    line.turn = ++moment_;
    line.is_turn_known = true;
    move(*job, JobState::leased, deadline);
    job->token = granted->token;
    job->attempt += 1;
    job->events += 1;
    job->started_at = job->leased_at = now_;
    job->worker = request.worker;
    job->progress.reset();
    ++queue.counters.leased;
    ++figures_[Figure::jobs_leased];
    leased.push_back({.number = job->number,
                      .token = job->token,
                      .lease_expires_at = deadline,
                      .attempt = job->attempt,
                      .max_attempts = job->max_attempts,
                      .spec = job->spec,
                      .checkpoint = job->checkpoint.data});
  }
  WM_SIM_HOLD(stream != nullptr || leased.size() == request.max || !is_leasable(request),
              "a worker got {} of {} jobs, and there are more", leased.size(), request.max);
  return true;
}

// Of those just leased some could not be read, and are dead.
bool Model::take_damaged(std::vector<LeasedJob>& leased, std::size_t& unread, bool& is_any) {
  auto const is_just_leased = [&](JobNumber number) {
    return std::any_of(leased.begin() + static_cast<std::ptrdiff_t>(unread), leased.end(),
                       [&](LeasedJob const& job) { return job.number == number; });
  };
  for (;;) {
    ModelJob* without_checkpoint = nullptr;
    if (auto const* dropped = next<effect::CheckpointMade>();
        dropped != nullptr && dropped->data.empty() && is_just_leased(dropped->number)) {
      without_checkpoint = find(JobRef{.number = dropped->number, .text = {}});
      WM_SIM_HOLD(without_checkpoint != nullptr, "the checkpoint of job {:x} was dropped, which is not there",
                  raw(dropped->number));
      WM_SIM_STEP(drop_checkpoint(*without_checkpoint));
    }
    auto const* failed = next<effect::JobFailed>();
    bool const is_damage = failed != nullptr && failed->code == to_string(ErrorCode::payload_damaged);
    WM_SIM_HOLD(without_checkpoint == nullptr || (is_damage && failed->number == without_checkpoint->number),
                "job {:x} lost its checkpoint and goes on", raw(without_checkpoint->number));
    if (!is_damage) break;
    auto const place = std::find_if(leased.begin() + static_cast<std::ptrdiff_t>(unread), leased.end(),
                                    [&](LeasedJob const& job) { return job.number == failed->number; });
    if (place == leased.end()) break;  // That is of the log's housekeeping, at the end of the turn: take_copies().
    leased.erase(place);
    ModelJob* const job = find(JobRef{.number = failed->number, .text = {}});
    if (without_checkpoint == nullptr) {
      ++figures_[job->is_lost ? Figure::damaged_ended_after_worker : Figure::damaged_ended_at_lease];
    }
    WM_SIM_STEP(end_damaged(*job, *failed, without_checkpoint != nullptr));
    is_any = true;
  }
  for (; unread < leased.size(); ++unread) {
    auto const n = raw(leased[unread].number);
    ModelJob const& job = jobs_.at(n);
    WM_SIM_HOLD(!job.is_lost, "job {:x} was handed out, and its payload is lost", n);
    WM_SIM_HOLD(!job.checkpoint.is_lost, "job {:x} was handed out, and its checkpoint is lost", n);
    if (job.checkpoint.data.empty()) continue;
    ++figures_[Figure::checkpoint_handed_on];
    if (job.has_old_checkpoint) ++figures_[Figure::checkpoint_handed_on_after_restart];
    if (job.was_retried) ++figures_[Figure::checkpoint_after_retry];
  }
  return true;
}

bool Model::run(shard::Cookie cookie, ReportBatch const& command) {
  std::vector<ReportResult> wanted;
  for (Report const& report : command.reports) {
    ++moment_;
    WM_SIM_STEP(decide_report(report, wanted.emplace_back()));
  }
  ReportsReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_results(wanted, reply->reports);
}

bool Model::decide_report(Report const& report, ReportResult& result) {
  ModelJob* const job = find(report.job);
  if (job == nullptr || job->state != JobState::leased || job->token != report.lease) {
    ++figures_[Figure::reports_refused];
    if (job == nullptr) ++figures_[Figure::report_unknown_job];
    result.error = Error{.code = job == nullptr ? ErrorCode::job_not_found : ErrorCode::lease_lost, .message = {}};
    return true;
  }
  ++figures_[Figure::reports_accepted];
  reported_now_.insert(raw(job->number));
  if (auto const out = out_on_.find(raw(job->number)); out != out_on_.end()) {
    streams_.at(out->second).reported_until = answered_at_;
  }
  if (job->due <= now_) ++figures_[Figure::report_after_deadline_accepted];
  if (job->due > now_ && job->due <= answered_at_) ++figures_[Figure::report_due_in_group_commit];
  result.cancel_requested = job->cancel_requested;
  ModelQueue& queue = queues_[job->queue];
  std::string const name = job->queue;

  if (auto const* completed = std::get_if<Completed>(&report.outcome)) {
    WM_SIM_STEP(store_results(*job, *completed, result));
    auto const* written = take<effect::JobCompleted>();
    if (written == nullptr) return false;
    WM_SIM_HOLD(written->number == job->number && written->at == now_ && written->result == completed->result,
                "job {:x} is completed wrongly", raw(job->number));
    if (job->cancel_requested) ++figures_[Figure::completed_while_cancel_requested];
    ++queue.counters.completed;
    ++figures_[Figure::jobs_completed];
    job->finished_at = now_;
    job->result_kind = completed->result_kind;
    job->result = completed->result;
    job->checkpoint = {};
    job->events += 1;
    move(*job, JobState::completed, now_);
    return surplus(raw(job->number), name, job->keep_result);
  }
  if (auto const* failed = std::get_if<Failed>(&report.outcome)) {
    auto const* written = take<effect::JobFailed>();
    if (written == nullptr) return false;
    WM_SIM_HOLD(written->number == job->number && written->attempt == job->attempt && written->code == failed->code &&
                    written->error_class == failed->error_class && written->at == now_,
                "the failure of job {:x} is written down wrongly", raw(job->number));
    ++queue.counters.failed;
    ++figures_[Figure::jobs_failed];
    add_error(*job, failed->error_class, failed->code, failed->message);
    job->events += 1;
    bool const again = failed->error_class == ErrorClass::retryable && job->attempt < job->max_attempts;
    bool const is_given_up = again && !job->cancel_requested && is_given_up_for_nobody(*job, written->next);
    if (job->cancel_requested || is_given_up || !again) {
      JobState const next = job->cancel_requested || is_given_up ? JobState::cancelled : JobState::dead;
      WM_SIM_HOLD(written->next == next, "job {:x} failed attempt {} of {} and is {} instead of {}", raw(job->number),
                  job->attempt, job->max_attempts, to_string(written->next), to_string(next));
      ++figures_[is_given_up                                    ? Figure::cache_overtaken_given_up
                 : job->cancel_requested                        ? Figure::failed_while_cancel_requested
                 : failed->error_class == ErrorClass::retryable ? Figure::died_of_attempts
                                                                : Figure::died_of_class];
      ++(next == JobState::dead ? queue.counters.died : queue.counters.cancelled);
      job->finished_at = now_;
      move(*job, next, now_);
      if (next == JobState::dead) return fail_flight(*job, failed->error_class, failed->code, failed->message);
      return surplus(raw(job->number), name, job->keep_result);
    }
    Duration least{}, most{};
    if (failed->retry_in) {
      least = most = *failed->retry_in;
    } else {
      long double wait = static_cast<long double>(job->backoff.first.count());
      for (std::uint32_t i = 1; i < job->attempt; ++i) wait *= job->backoff.factor_permille / 1000.0L;
      wait = std::min(wait, static_cast<long double>(job->backoff.cap.count()));
      long double const spread = wait * job->backoff.jitter_permille / 1000.0L;
      least = Duration{static_cast<Duration::rep>(std::max(0.0L, std::floor(wait - spread) - 1))};
      most = Duration{static_cast<Duration::rep>(std::ceil(wait + spread) + 1)};
    }
    JobState const next = written->next;
    WM_SIM_HOLD(next == JobState::scheduled || next == JobState::ready, "job {:x} is to be retried and is {}",
                raw(job->number), to_string(next));
    Duration const wait = next == JobState::scheduled ? written->ready_at - now_ : Duration{0};
    WM_SIM_HOLD(next == JobState::ready || wait > Duration{0}, "job {:x} is scheduled for now", raw(job->number));
    WM_SIM_HOLD(wait >= least && wait <= most, "job {:x} is retried in {} ms, not {} to {}", raw(job->number),
                wait.count(), least.count(), most.count());
    ++figures_[next == JobState::scheduled ? Figure::retried_with_backoff : Figure::retried_at_once];
    move(*job, next, now_ + wait);
    return true;
  }
  if (auto const* extend = std::get_if<Extend>(&report.outcome)) {
    auto const* written = take<effect::LeaseExtended>();
    if (written == nullptr) return false;
    WM_SIM_HOLD(written->number == job->number && written->deadline == now_ + extend->by,
                "the lease of job {:x} is extended wrongly", raw(job->number));
    timers_.erase({job->due, raw(job->number)});
    job->due = now_ + extend->by;
    timers_.emplace(job->due, raw(job->number));
    return true;
  }
  if (auto const* progress = std::get_if<Progress>(&report.outcome)) {
    job->progress = JobProgress{.percent = progress->percent, .message = progress->message};
    return take_for<effect::ProgressMade>(*job, "progress");
  }
  if (auto const* log = std::get_if<LogLines>(&report.outcome)) {
    if (log->lines.empty()) return true;
    job->lines.insert(job->lines.end(), log->lines.begin(), log->lines.end());
    return take_for<effect::LinesLogged>(*job, "log lines");
  }
  if (auto const* checkpoint = std::get_if<Checkpoint>(&report.outcome)) {
    auto const* written = take<effect::CheckpointMade>();
    if (written == nullptr) return false;
    WM_SIM_HOLD(written->number == job->number && written->data == checkpoint->data,
                "the checkpoint of job {:x} is written down wrongly", raw(job->number));
    if (job->checkpoint.is_there()) ++figures_[Figure::checkpoint_replaced];
    job->checkpoint = {.data = checkpoint->data};
    job->has_old_checkpoint = false;
    return true;
  }
  auto const* written = take<effect::JobReleased>();
  if (written == nullptr) return false;
  JobState const next = job->cancel_requested ? JobState::cancelled : JobState::ready;
  WM_SIM_HOLD(written->number == job->number && written->next == next && written->at == now_,
              "job {:x} is released wrongly", raw(job->number));
  ++queue.counters.released;
  job->attempt -= 1;
  if (next == JobState::ready) {
    move(*job, next, now_);
    return true;
  }
  ++figures_[Figure::released_while_cancel_requested];
  ++queue.counters.cancelled;
  job->finished_at = now_;
  move(*job, next, now_);
  return surplus(raw(job->number), name, job->keep_result);
}

}  // namespace workmill::sim
