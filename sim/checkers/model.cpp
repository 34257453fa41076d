#include "sim/checkers/model.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace workmill::sim {
namespace {

constexpr std::size_t at(JobState state) { return static_cast<std::size_t>(state); }
std::uint64_t raw(JobNumber number) { return std::to_underlying(number); }

constexpr std::array<std::string_view, std::variant_size_v<Effect>> kEffectNames{
    "StoreCreated", "ServerResumed",   "Alive",        "JobEnqueued",  "JobReady",
    "JobLeased",    "LeaseExtended",   "JobCompleted", "JobFailed",    "JobReleased",
    "JobCancelled", "CancelRequested", "JobRetried",   "ProgressMade", "LinesLogged",
    "JobForgotten", "JobSnapshot",     "QueueChanged", "QueueRemoved", "RequestRemembered"};

template <class E, std::size_t I = 0>
constexpr std::size_t kind_of() {
  if constexpr (std::is_same_v<std::variant_alternative_t<I, Effect>, E>)
    return I;
  else
    return kind_of<E, I + 1>();
}

constexpr std::uint32_t kEventsShown = 50;  // Below what a history is read back for; older errors may be missing.

constexpr std::uint32_t kTaggedPage = 500;  // Jobs whose tags are read in one part of an action on many.

}  // namespace

#define WM_SIM_HOLD(condition, ...)                 \
  do {                                              \
    if (!(condition)) return complain(__VA_ARGS__); \
  } while (false)
#define WM_SIM_STEP(...)              \
  do {                                \
    if (!(__VA_ARGS__)) return false; \
  } while (false)

std::uint64_t ModelQueue::jobs() const {
  std::uint64_t sum = 0;
  for (std::uint64_t const count : depth) sum += count;
  return sum;
}

// ---- A turn.

bool Model::turn(TurnRecord const& record) {
  now_ = record.now;
  effects_ = record.effects;
  at_ = 0;
  replies_ = record.replies;
  replies_taken_ = 0;
  is_draining_ = record.is_draining;
  finished_now_.clear();
  last_number_before_ = last_number_;

  while (next<effect::StoreCreated>() != nullptr) ++at_;  // At the head of each segment.
  if (!bulks_.empty()) {
    Bulk next = std::move(bulks_.front());
    bulks_.pop_front();
    WM_SIM_STEP(bulk_part(std::move(next)));
  }
  for (Asked const& asked : record.asked) {
    ++moment_;
    WM_SIM_STEP(execute(asked));
  }
  ++moment_;
  WM_SIM_STEP(advance());
  ++moment_;
  WM_SIM_STEP(serve_waiting());
  WM_SIM_STEP(end_overdue());
  WM_SIM_STEP(take_copies());
  if (replies_ != nullptr) {
    WM_SIM_HOLD(replies_taken_ == replies_->size(), "{} answers in a turn that owed {}", replies_->size(),
                replies_taken_);
    if (record.is_settled) return check_settled();
    ++figures_[Figure::advance_in_parts];
  }
  return true;
}

bool Model::restarted(Instant now, Instant last_batch_at) {
  waiters_.clear();
  bulks_.clear();
  ++moment_;
  Duration const down = now - last_batch_at;
  for (auto& [number, job] : jobs_) {
    if (job.state != JobState::leased) continue;
    timers_.erase({job.due, number});
    job.due += down;
    timers_.emplace(job.due, number);
    if (down > Duration{0}) ++figures_[Figure::lease_lengthened_by_restart];
  }
  for (auto& [key, answer] : answers_) answer.is_of_earlier_life = true;
  for (auto& [name, queue] : queues_) {
    queue.counters = {};
    if (queue.jobs() == 0 && queue.settings == QueueSettings{} && queue.known == ModelQueue::Known::yes) {
      queue.known = ModelQueue::Known::maybe;
    }
    for (auto& lines : queue.lines) {
      for (auto& [group, line] : lines) line.turn = moment_;  // Whose turn it was is not written down.
    }
  }
  now_ = now;
  return true;
}

bool Model::execute(Asked const& asked) {
  return std::visit([&](auto const& command) { return run(asked.cookie, command); }, asked.command);
}

// ---- Enqueue.

bool Model::run(shard::Cookie cookie, Enqueue const& command) {
  if (command.idempotency) {
    auto const kept = answers_.find(command.idempotency->key);
    if (kept != answers_.end() && kept->second.until > now_) {
      if (kept->second.fingerprint != command.idempotency->fingerprint) {
        ++figures_[Figure::idempotent_key_reused];
        return expect_error(cookie, ErrorCode::idempotency_key_reused);
      }
      ++figures_[Figure::idempotent_replay];
      if (kept->second.is_of_earlier_life) ++figures_[Figure::idempotent_replay_after_restart];
      EnqueueReply const* reply = nullptr;
      WM_SIM_STEP(expect(cookie, reply));
      if (reply == nullptr) return true;
      WM_SIM_HOLD(reply->replayed, "the answer to a repeated request is not marked as replayed");
      WM_SIM_HOLD(reply->jobs.size() == kept->second.reply.jobs.size(), "a repeated request got another answer");
      for (std::size_t i = 0; i < reply->jobs.size(); ++i) {
        EnqueuedJob const& got = reply->jobs[i];
        EnqueuedJob const& first = kept->second.reply.jobs[i];
        WM_SIM_HOLD(got.number == first.number && got.client_id == first.client_id && got.state == first.state &&
                        got.duplicate == first.duplicate,
                    "a repeated request got another answer: job {:x} instead of {:x}", raw(got.number),
                    raw(first.number));
      }
      return true;
    }
  }
  bool const is_limited = std::any_of(queues_.begin(), queues_.end(),
                                      [](auto const& q) { return q.second.settings.max_depth.has_value(); });
  if (is_limited && !has_room(command.specs)) {
    ++figures_[Figure::queue_full_refused];
    return expect_error(cookie, ErrorCode::queue_full);
  }
  EnqueueReply wanted;
  for (Bytes const& spec : command.specs) {
    ++moment_;
    WM_SIM_STEP(enqueue_one(spec, wanted.jobs.emplace_back()));
    EnqueuedJob const& last = wanted.jobs.back();
    if (last.duplicate && std::any_of(wanted.jobs.begin(), wanted.jobs.end() - 1, [&](EnqueuedJob const& other) {
          return other.number == last.number && !other.duplicate;
        })) {
      ++figures_[Figure::duplicate_in_one_bulk];
    }
  }
  if (command.idempotency) {
    auto const* remembered = take<effect::RequestRemembered>();
    if (remembered == nullptr) return false;
    WM_SIM_HOLD(remembered->key == command.idempotency->key &&
                    remembered->fingerprint == command.idempotency->fingerprint &&
                    remembered->until == now_ + kIdempotencyKept,
                "an answer is remembered wrongly");
    if (auto const old = answers_.find(command.idempotency->key); old != answers_.end()) answers_.erase(old);
    while (answers_.size() >= options_.idempotency_keys_max && !answers_by_age_.empty()) {
      auto const [until, key] = answers_by_age_.front();
      answers_by_age_.pop_front();
      auto const oldest = answers_.find(key);
      if (oldest != answers_.end() && oldest->second.until == until) {
        if (until > now_) ++figures_[Figure::answer_forgotten_early];
        answers_.erase(oldest);
      }
    }
    Instant const until = now_ + kIdempotencyKept;
    answers_by_age_.emplace_back(until, command.idempotency->key);
    answers_.emplace(command.idempotency->key,
                     Answer{.fingerprint = command.idempotency->fingerprint, .until = until, .reply = wanted});
  }
  EnqueueReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(!reply->replayed, "a first answer is marked as replayed");
  WM_SIM_HOLD(reply->jobs.size() == wanted.jobs.size(), "{} jobs answered of {}", reply->jobs.size(),
              wanted.jobs.size());
  for (std::size_t i = 0; i < wanted.jobs.size(); ++i) {
    EnqueuedJob const& got = reply->jobs[i];
    EnqueuedJob const& want = wanted.jobs[i];
    WM_SIM_HOLD(got.duplicate == want.duplicate, "job {:x} is answered as duplicate: {}, and is: {}", raw(got.number),
                got.duplicate, want.duplicate);
    WM_SIM_HOLD(got.number == want.number, "job {:x} is answered as {:x}", raw(want.number), raw(got.number));
    WM_SIM_HOLD(got.client_id == want.client_id && got.state == want.state, "job {:x} is answered wrongly",
                raw(want.number));
  }
  return true;
}

bool Model::enqueue_one(Bytes const& spec, EnqueuedJob& answer) {
  ModelJob job;
  JobSpecView view;
  WM_SIM_HOLD(decode_spec(spec, view).has_value(), "a spec that the workload made cannot be read");
  if (ModelJob const* same = find_same(view)) {
    ++queues_[same->queue].counters.duplicates;
    ++figures_[!view.id.empty() && same->client_id == view.id ? Figure::duplicate_by_id : Figure::duplicate_by_key];
    if (raw(same->number) > last_number_before_) ++figures_[Figure::duplicate_while_first_undurable];
    answer = {.number = same->number, .client_id = same->client_id, .state = same->state, .duplicate = true};
    return true;
  }
  bool has_room = false;
  WM_SIM_STEP(make_room(std::string(view.queue), has_room));

  auto const* made = take<effect::JobEnqueued>();
  if (made == nullptr) return false;
  job.number = made->number;
  WM_SIM_HOLD(raw(job.number) > last_number_, "job number {:x} comes after {:x}", raw(job.number), last_number_);
  WM_SIM_HOLD(created_at(job.number) >= now_, "job number {:x} is of {} ms, and it is {}", raw(job.number),
              to_ms(created_at(job.number)), to_ms(now_));
  last_number_ = raw(job.number);
  WM_SIM_HOLD(made->spec == spec, "job {:x} is written down with another spec", raw(job.number));
  read_spec(job, spec);
  Instant ready_at = now_;
  if (view.run_at) ready_at = std::max(now_, *view.run_at);
  if (view.delay) ready_at = now_ + *view.delay;
  job.state = ready_at > now_ ? JobState::scheduled : JobState::ready;
  job.due = ready_at;
  WM_SIM_HOLD(made->scheduled == (job.state == JobState::scheduled) && made->ready_at == ready_at,
              "job {:x} becomes ready at {} and was asked for at {}", raw(job.number), to_ms(made->ready_at),
              to_ms(ready_at));
  answer = {.number = job.number, .client_id = job.client_id, .state = job.state, .duplicate = false};
  ++figures_[Figure::jobs_enqueued];
  ++queues_[job.queue].counters.enqueued;
  add(std::move(job));
  return true;
}

// All of the bulk or nothing: played through on figures, with what of it is a duplicate left out.
bool Model::has_room(std::vector<Bytes> const& specs) const {
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> rooms;  // Unfinished and ready.
  std::set<std::string> ids;
  std::set<std::pair<std::string, std::string>> keys;
  for (Bytes const& bytes : specs) {
    JobSpecView spec;
    if (!decode_spec(bytes, spec)) return true;
    if (const_cast<Model*>(this)->find_same(spec) != nullptr) continue;
    if (!spec.id.empty() && ids.contains(std::string(spec.id))) continue;
    std::pair<std::string, std::string> const key{spec.queue, spec.unique_key};
    if (!spec.unique_key.empty() && keys.contains(key)) continue;
    bool const is_scheduled = (spec.run_at && *spec.run_at > now_) || (spec.delay && *spec.delay > Duration{0});
    auto const found = queues_.find(key.first);
    if (found != queues_.end() && found->second.settings.max_depth) {
      ModelQueue const& queue = found->second;
      auto& [unfinished, ready] =
          rooms.try_emplace(key.first, queue.unfinished(), queue.depth_in(JobState::ready)).first->second;
      if (unfinished >= *queue.settings.max_depth) {
        if (queue.settings.when_full == WhenFull::refuse || ready == 0) return false;
        --ready;
        --unfinished;
      }
      ++unfinished;
      if (!is_scheduled) ++ready;
    }
    if (!spec.id.empty()) ids.insert(std::string(spec.id));
    if (!spec.unique_key.empty() && (is_scheduled || spec.unique_while != UniqueWhile::scheduled)) keys.insert(key);
  }
  return true;
}

bool Model::make_room(std::string const& name, bool& has_room) {
  has_room = true;
  auto const found = queues_.find(name);
  if (found == queues_.end()) return true;
  ModelQueue& queue = found->second;
  if (!queue.settings.max_depth || queue.unfinished() < *queue.settings.max_depth) return true;
  has_room = false;
  if (queue.settings.when_full == WhenFull::refuse || queue.depth_in(JobState::ready) == 0) return true;
  has_room = true;
  ++figures_[Figure::queue_full_dropped_oldest];
  auto const lowest = std::find_if(queue.lines.begin(), queue.lines.end(), [](auto const& l) { return !l.empty(); });
  std::uint64_t oldest = UINT64_MAX;
  for (auto const& [group, line] : *lowest) oldest = std::min(oldest, line.jobs.begin()->first);
  auto const* cancelled = next<effect::JobCancelled>();
  WM_SIM_HOLD(cancelled != nullptr, "a full queue dropped nothing");
  ModelJob* const victim = find(JobRef{.number = cancelled->number, .text = {}});
  WM_SIM_HOLD(victim != nullptr && victim->queue == name && victim->state == JobState::ready &&
                  victim->priority == lowest - queue.lines.begin() && victim->place == oldest,
              "a full queue dropped job {:x}, which is not the oldest of the lowest priority", raw(cancelled->number));
  return cancel_now(*victim);
}

// ---- Leases and reports.

bool Model::run(shard::Cookie cookie, Lease const& command) {
  WM_SIM_STEP(serve_waiting());  // Who waits already comes first.
  LeaseReply wanted;
  for (Report const& report : command.reports) {
    ++moment_;
    WM_SIM_STEP(decide_report(report, wanted.reports.emplace_back()));
  }
  WM_SIM_STEP(lease_jobs(command, wanted.jobs));
  bool waits = wanted.jobs.empty() && command.wait > Duration{0} && !is_draining_;
  if (waits && waiters_.size() >= options_.waiters_max) {
    ++figures_[Figure::waiters_full];
    waits = false;
  }
  if (waits) {
    if (!wanted.reports.empty()) ++figures_[Figure::waiter_reports_kept];
    Waiter waiter{.lease = command, .reports = std::move(wanted.reports), .job = {}, .deadline = now_ + command.wait};
    waiter.lease->reports.clear();
    waiters_.emplace(cookie, std::move(waiter));
    return true;
  }
  LeaseReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  return compare_leased(wanted.jobs, reply->jobs) && compare_results(wanted.reports, reply->reports);
}

bool Model::is_leasable(Lease const& request) const {
  return std::any_of(request.queues.begin(), request.queues.end(), [&](QueueChoice const& choice) {
    auto const queue = queues_.find(choice.name);
    return queue != queues_.end() && queue->second.can_lease();
  });
}

// What the request got is in the log; whether it should have been that, and no less, is looked at here.
bool Model::lease_jobs(Lease const& request, std::vector<LeasedJob>& leased) {
  while (leased.size() < request.max) {
    auto const* granted = next<effect::JobLeased>();
    if (granted == nullptr || granted->worker != request.worker) break;
    ++at_;
    ModelJob* const job = find(JobRef{.number = granted->number, .text = {}});
    WM_SIM_HOLD(job != nullptr, "job {:x} was leased, and is not there", raw(granted->number));
    WM_SIM_HOLD(job->state != JobState::leased, "job {:x} has two valid leases", raw(job->number));
    WM_SIM_HOLD(job->state == JobState::ready, "job {:x} was leased while {}", raw(job->number), to_string(job->state));
    ModelQueue& queue = queues_[job->queue];
    WM_SIM_HOLD(!queue.settings.paused, "job {:x} was leased from a paused queue", raw(job->number));

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

    std::size_t highest = kPriorityMax;
    while (queue.lines[highest].empty()) --highest;
    WM_SIM_HOLD(job->priority == highest, "job {:x} of priority {} was leased before one of {}", raw(job->number),
                job->priority, highest);
    ModelQueue::Line& line = queue.lines[highest][job->group];
    for (auto const& [group, other] : queue.lines[highest]) {
      WM_SIM_HOLD(other.turn >= line.turn, "group '{}' was served in the turn of '{}'", job->group, group);
    }
    if (queue.lines[highest].size() > 1) ++figures_[Figure::groups_in_turn];
    WM_SIM_HOLD(line.jobs.begin()->first == job->place, "job {:x} was leased before {:x}, which is older",
                raw(job->number), line.jobs.begin()->second);

    WM_SIM_HOLD(std::to_underlying(granted->token) > last_token_, "token {:x} comes after {:x}",
                std::to_underlying(granted->token), last_token_);
    last_token_ = std::to_underlying(granted->token);
    Instant const deadline = now_ + request.lease.value_or(job->lease);
    WM_SIM_HOLD(granted->at == now_ && granted->deadline == deadline, "job {:x} is leased until {} instead of {}",
                raw(job->number), to_ms(granted->deadline), to_ms(deadline));
    line.turn = ++moment_;
    move(*job, JobState::leased, deadline);
    job->token = granted->token;
    job->attempt += 1;
    job->events += 1;
    job->started_at = now_;
    job->worker = request.worker;
    job->progress.reset();
    ++queue.counters.leased;
    ++figures_[Figure::jobs_leased];
    leased.push_back({.number = job->number,
                      .token = job->token,
                      .lease_expires_at = deadline,
                      .attempt = job->attempt,
                      .max_attempts = job->max_attempts,
                      .spec = job->spec});
  }
  WM_SIM_HOLD(leased.size() == request.max || !is_leasable(request), "a worker got {} of {} jobs, and there are more",
              leased.size(), request.max);
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
  if (job->due <= now_) ++figures_[Figure::report_after_deadline_accepted];
  result.cancel_requested = job->cancel_requested;
  ModelQueue& queue = queues_[job->queue];
  std::string const name = job->queue;

  if (auto const* completed = std::get_if<Completed>(&report.outcome)) {
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
    if (job->cancel_requested || !again) {
      JobState const next = job->cancel_requested ? JobState::cancelled : JobState::dead;
      WM_SIM_HOLD(written->next == next, "job {:x} failed attempt {} of {} and is {} instead of {}", raw(job->number),
                  job->attempt, job->max_attempts, to_string(written->next), to_string(next));
      ++figures_[job->cancel_requested                          ? Figure::failed_while_cancel_requested
                 : failed->error_class == ErrorClass::retryable ? Figure::died_of_attempts
                                                                : Figure::died_of_class];
      ++(next == JobState::dead ? queue.counters.died : queue.counters.cancelled);
      job->finished_at = now_;
      move(*job, next, now_);
      return next == JobState::dead || surplus(raw(job->number), name, job->keep_result);
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

// ---- Single jobs.

bool Model::run(shard::Cookie cookie, GetJob const& command) {
  ModelJob* const job = find(command.job);
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  bool const waits =
      job->is_unfinished() && command.wait > Duration{0} && !is_draining_ && waiters_.size() < options_.waiters_max;
  if (waits) {
    waiters_.emplace(cookie, Waiter{.lease = {}, .reports = {}, .job = job->number, .deadline = now_ + command.wait});
    return true;
  }
  JobReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_job(*job, reply->job, true);
}

bool Model::run(shard::Cookie cookie, GetJobLog const& command) {
  ModelJob* const job = find(command.job);
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  JobLogReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_lines(job->number, reply->lines);
}

bool Model::run(shard::Cookie cookie, ListJobs const& command) {
  JobsReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  std::uint64_t const before = command.before ? raw(*command.before) : UINT64_MAX;
  std::uint64_t const down_to = reply->next ? raw(*reply->next) : 0;
  std::size_t count = 0;
  WM_SIM_HOLD(reply->jobs.size() <= command.limit, "a page of {} jobs has {}", command.limit, reply->jobs.size());
  for (auto job = jobs_.rbegin(); job != jobs_.rend(); ++job) {
    if (job->first >= before || !matches(job->second, command.filter, true)) continue;
    if (job->first < down_to) break;
    WM_SIM_HOLD(count < reply->jobs.size(), "a page of jobs lacks job {:x}", job->first);
    WM_SIM_HOLD(reply->jobs[count].number == job->second.number, "a page of jobs has {:x} in the place of {:x}",
                raw(reply->jobs[count].number), job->first);
    WM_SIM_STEP(compare_job(job->second, reply->jobs[count], true));
    ++count;
  }
  WM_SIM_HOLD(count == reply->jobs.size(), "a page of jobs has {:x}, which does not belong there",
              raw(reply->jobs[count].number));
  return true;
}

std::optional<ErrorCode> Model::cancel(ModelJob& job, bool& fine) {
  switch (job.state) {
    case JobState::scheduled:
    case JobState::ready: fine = cancel_now(job); return std::nullopt;
    case JobState::leased:
      if (!job.cancel_requested) {
        job.cancel_requested = true;
        fine = take_for<effect::CancelRequested>(job, "a cancellation");
      }
      return std::nullopt;
    case JobState::cancelled: return std::nullopt;
    case JobState::completed:
    case JobState::dead: break;
  }
  return ErrorCode::wrong_state;
}

std::optional<ErrorCode> Model::retry(ModelJob& job, bool& fine) {
  if (job.state != JobState::scheduled && job.state != JobState::dead && job.state != JobState::cancelled) {
    return ErrorCode::wrong_state;
  }
  fine = take_for<effect::JobRetried>(job, "a retry");
  ++moment_;
  leave(job);
  job.attempt = 0;
  job.finished_at.reset();
  job.state = JobState::ready;
  job.due = now_;
  enter(job);
  return std::nullopt;
}

std::optional<ErrorCode> Model::remove(ModelJob& job, bool& fine) {
  if (job.state == JobState::leased) return ErrorCode::job_leased;
  fine = take_for<effect::JobForgotten>(job, "the end of a job");
  if (fine) forget(job);
  return std::nullopt;
}

bool Model::run(shard::Cookie cookie, CancelJob const& command) {
  ModelJob* const job = find(command.job);
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  bool fine = true;
  auto const error = cancel(*job, fine);
  return fine && (error ? expect_error(cookie, *error) : expect_done(cookie));
}

bool Model::run(shard::Cookie cookie, RetryJob const& command) {
  ModelJob* const job = find(command.job);
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  bool fine = true;
  auto const error = retry(*job, fine);
  return fine && (error ? expect_error(cookie, *error) : expect_done(cookie));
}

bool Model::run(shard::Cookie cookie, DeleteJob const& command) {
  ModelJob* const job = find(command.job);
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  bool fine = true;
  auto const error = remove(*job, fine);
  return fine && (error ? expect_error(cookie, *error) : expect_done(cookie));
}

bool Model::run(shard::Cookie cookie, PatchJob const& command) {
  ModelJob* const job = find(command.job);
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  if (job->state == JobState::leased) return expect_error(cookie, ErrorCode::job_leased);
  if (is_finished(job->state)) return expect_error(cookie, ErrorCode::wrong_state);
  JobChanges const& changes = command.changes;
  JobSpecView spec;
  WM_SIM_HOLD(decode_spec(job->spec, spec).has_value(), "a spec of ours cannot be read");
  bool const is_elsewhere = changes.queue && *changes.queue != job->queue;
  bool const is_other_priority = changes.priority && *changes.priority != job->priority;
  if (changes.priority) spec.priority = *changes.priority;
  if (changes.max_attempts) spec.max_attempts = *changes.max_attempts;
  if (changes.queue) spec.queue = *changes.queue;
  if (changes.run_at) {
    spec.run_at = changes.run_at;
    spec.delay.reset();
  }
  if (changes.tags) spec.tags.assign(changes.tags->begin(), changes.tags->end());
  Bytes bytes;
  encode_spec(spec, bytes);
  if (is_elsewhere) {
    bool has_room = true;
    WM_SIM_STEP(make_room(*changes.queue, has_room));
    if (!has_room) return expect_error(cookie, ErrorCode::queue_full);
  }
  auto const* written = take<effect::JobSnapshot>();
  if (written == nullptr) return false;
  WM_SIM_HOLD(written->patched && written->number == job->number && written->spec == bytes,
              "the change of job {:x} is written down wrongly", raw(job->number));
  ++moment_;
  Instant const due = job->due;
  bool const was_ready = job->state == JobState::ready;
  bool const is_ready = changes.run_at ? *changes.run_at <= now_ : was_ready;
  bool const keeps_place = is_ready && was_ready && !is_elsewhere && !is_other_priority;
  std::uint64_t const turn = keeps_place ? queues_[job->queue].lines[job->priority][job->group].turn : 0;
  leave(*job);
  std::uint64_t const number = raw(job->number);
  if (!job->unique_key.empty()) unique_[{job->queue, job->unique_key}].erase(number);
  read_spec(*job, bytes);
  if (!job->unique_key.empty()) unique_[{job->queue, job->unique_key}].insert(number);
  job->state = is_ready ? JobState::ready : JobState::scheduled;
  if (!is_ready) {
    job->due = changes.run_at.value_or(due);
  } else {
    job->due = keeps_place ? due : now_;
  }
  enter(*job, keeps_place);
  if (keeps_place) {
    queues_[job->queue].lines[job->priority][job->group].turn = turn;
    ++figures_[Figure::patched_kept_place];
  }
  if (is_elsewhere) ++figures_[Figure::patched_to_other_queue];
  if (!is_ready && was_ready) ++figures_[Figure::patched_to_schedule];
  JobReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_job(*job, reply->job, true);
}

// ---- Many jobs.

bool Model::run(shard::Cookie cookie, BulkJobs const& command) {
  return bulk_part({.cookie = cookie, .command = command, .count = 0});
}

bool Model::run(shard::Cookie cookie, PurgeQueue const& command) {
  auto const queue = queues_.find(command.name);
  bool const exists = queue != queues_.end() && queue->second.known == ModelQueue::Known::yes;
  if (!exists && (queue == queues_.end() || queue->second.known == ModelQueue::Known::no)) {
    return expect_error(cookie, ErrorCode::not_found);
  }
  if (!exists) {  // After a restart nobody knows: either answer is right.
    Reply const* reply = reply_to(cookie);
    if (reply == nullptr) return true;
    if (auto const* error = std::get_if<Error>(reply))
      return error->code == ErrorCode::not_found || complain("a purge failed");
    auto const* count = std::get_if<CountReply>(reply);
    return (count != nullptr && count->count == 0) || complain("a purge found jobs in an empty queue");
  }
  return bulk_part({.cookie = cookie, .command = command, .count = 0});
}

bool Model::bulk_part(Bulk bulk) {
  auto* const jobs = std::get_if<BulkJobs>(&bulk.command);
  auto* const purge = std::get_if<PurgeQueue>(&bulk.command);
  JobFilter const filter = jobs != nullptr ? jobs->filter : JobFilter{.state = purge->state, .queue = purge->name};
  auto& before = jobs != nullptr ? jobs->before : purge->before;
  std::vector<std::uint64_t> found;
  JobFilter untagged = filter;
  untagged.tag.clear();
  std::uint32_t looked_at = 0;
  std::uint32_t in_page = 0;
  std::optional<JobNumber> rest;
  auto job = jobs_.rbegin();
  for (; job != jobs_.rend(); ++job) {
    if (before && job->first >= raw(*before)) continue;
    if (looked_at == options_.steps_max || (!filter.tag.empty() && in_page == kTaggedPage)) break;
    ++looked_at;
    rest = JobNumber{job->first};
    if (matches(job->second, untagged, false)) ++in_page;
    if (matches(job->second, filter, false)) found.push_back(job->first);
  }
  bool more = job != jobs_.rend();
  bool const more_match =
      std::any_of(job, jobs_.rend(), [&](auto const& j) { return matches(j.second, filter, false); });

  for (std::uint64_t const number : found) {
    auto const still = jobs_.find(number);
    if (still == jobs_.end()) continue;  // Pushed out by the budget when another one was cancelled.
    ModelJob& one = still->second;
    bool fine = true;
    std::optional<ErrorCode> error;
    if (jobs == nullptr || jobs->action == BulkAction::remove) {
      error = remove(one, fine);
    } else if (jobs->action == BulkAction::retry) {
      error = retry(one, fine);
    } else if (one.state == JobState::cancelled) {
      continue;
    } else {
      error = cancel(one, fine);
    }
    if (!fine) return false;
    if (!error) ++bulk.count;
  }
  if (replies_ == nullptr) return true;
  bool const is_answered = replies_->contains(bulk.cookie);
  // The server sees sooner that there is nothing more where a whole queue or a type has no more jobs.
  if (is_answered && more && !more_match) more = false;
  WM_SIM_HOLD(is_answered == !more, "an action on many jobs {}", more ? "ended too soon" : "was not answered");
  if (more) {
    ++figures_[Figure::bulk_in_parts];
    before = rest;
    bulks_.push_back(std::move(bulk));
    return true;
  }
  CountReply const* reply = nullptr;
  WM_SIM_STEP(expect(bulk.cookie, reply));
  WM_SIM_HOLD(reply->count == bulk.count, "an action on many jobs counts {} instead of {}", reply->count, bulk.count);
  return true;
}

bool Model::matches(ModelJob const& job, JobFilter const& filter, bool with_text) const {
  if (filter.state && *filter.state != job.state) return false;
  if (!filter.queue.empty() && filter.queue != job.queue) return false;
  if (!filter.type.empty() && filter.type != job.type) return false;
  if (!filter.group.empty() && filter.group != job.group) return false;
  if (!filter.tag.empty() && std::find(job.tags.begin(), job.tags.end(), filter.tag) == job.tags.end()) return false;
  if (!with_text || filter.text.empty()) return true;
  JobSpecView spec;
  (void)decode_spec(job.spec, spec);
  auto const has = [&](std::string_view text) { return text.find(filter.text) != std::string_view::npos; };
  return has(spec.type) || has(spec.payload) || has(job.client_id) ||
         std::any_of(job.errors.begin(), job.errors.end(),
                     [&](JobError const& error) { return has(error.code) || has(error.message); });
}

// ---- Queues.

bool Model::run(shard::Cookie cookie, GetQueue const& command) {
  ModelQueue& queue = queues_[command.name];
  if (queue.known == ModelQueue::Known::no) return expect_error(cookie, ErrorCode::not_found);
  if (queue.known == ModelQueue::Known::maybe) {
    Reply const* reply = replies_ == nullptr ? nullptr : reply_to(cookie);
    if (reply == nullptr) return true;
    bool const exists = std::holds_alternative<QueueReply>(*reply);
    queue.known = exists ? ModelQueue::Known::yes : ModelQueue::Known::no;
    return true;
  }
  QueueReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_queue(command.name, queue, reply->queue);
}

bool Model::run(shard::Cookie cookie, ListQueues const& command) {
  QueuesReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(reply->queues.size() <= command.limit, "a page of queues is too long");
  std::size_t count = 0;
  for (auto& [name, queue] : queues_) {
    if (name <= command.after || queue.known == ModelQueue::Known::no) continue;
    if (reply->next && name > *reply->next) break;
    bool const is_there = count < reply->queues.size() && reply->queues[count].name == name;
    if (!is_there && queue.known == ModelQueue::Known::maybe) {
      queue.known = ModelQueue::Known::no;
      continue;
    }
    WM_SIM_HOLD(is_there, "a page of queues lacks {}", name);
    WM_SIM_STEP(compare_queue(name, queue, reply->queues[count++]));
  }
  WM_SIM_HOLD(count == reply->queues.size(), "a page of queues has {} too many", reply->queues.size() - count);
  return true;
}

bool Model::run(shard::Cookie cookie, PatchQueue const& command) {
  ModelQueue& queue = queues_[command.name];
  QueueSettings after = queue.settings;
  if (command.paused) after.paused = *command.paused;
  if (command.max_depth) after.max_depth = *command.max_depth;
  if (command.when_full) after.when_full = *command.when_full;
  auto const* changed = next<effect::QueueChanged>();
  bool const is_written = changed != nullptr && changed->name == command.name;
  bool const may_be_written = after != queue.settings || queue.known != ModelQueue::Known::yes;
  bool const must_be_written = after != queue.settings || queue.known == ModelQueue::Known::no;
  if (must_be_written || (may_be_written && is_written)) {
    WM_SIM_HOLD(is_written && changed->settings == after, "the settings of {} are written down wrongly", command.name);
    ++at_;
  }
  queue.settings = after;
  queue.known = ModelQueue::Known::yes;
  QueueReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_queue(command.name, queue, reply->queue);
}

bool Model::run(shard::Cookie cookie, GetStatus const&) {
  StatusReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  std::array<std::uint64_t, kJobStates> depth{};
  for (auto const& [name, queue] : queues_) {
    for (std::size_t i = 0; i < depth.size(); ++i) depth[i] += queue.depth[i];
  }
  WM_SIM_HOLD(reply->jobs == jobs_.size() && reply->depth == depth, "the status counts {} jobs, and there are {}",
              reply->jobs, jobs_.size());
  return true;
}

// ---- Time, and those who wait.

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
    if (auto const* failed = next<effect::JobFailed>()) {
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
        continue;
      }
      WM_SIM_HOLD(failed->code == "lease_expired" && job->state == JobState::leased,
                  "job {:x} failed with {} and nobody reported it", raw(job->number), failed->code);
      WM_SIM_HOLD(job->due <= now_, "the lease of job {:x} ended {} ms too soon", raw(job->number),
                  (job->due - now_).count());
      JobState next = job->attempt >= job->max_attempts ? JobState::dead : JobState::ready;
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

bool Model::serve_waiting() {
  while (auto const* granted = next<effect::JobLeased>()) {
    auto const waiter = std::find_if(waiters_.begin(), waiters_.end(), [&](auto const& w) {
      return w.second.lease && w.second.lease->worker == granted->worker;
    });
    if (waiter == waiters_.end()) break;
    auto const [cookie, waits] = *waiter;
    waiters_.erase(waiter);
    std::vector<LeasedJob> leased;
    WM_SIM_STEP(lease_jobs(*waits.lease, leased));
    ++figures_[Figure::waiter_served];
    LeaseReply const* reply = nullptr;
    WM_SIM_STEP(expect(cookie, reply));
    if (reply == nullptr) continue;
    WM_SIM_STEP(compare_leased(leased, reply->jobs) && compare_results(waits.reports, reply->reports));
  }
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    auto const& [cookie, waits] = *waiter;
    WM_SIM_HOLD(!waits.lease || !is_leasable(*waits.lease), "a worker waits although there is a job for it");
    bool const is_over = !waits.lease && finished_now_.contains(raw(waits.job));
    if (is_over) WM_SIM_STEP(end_job_wait(cookie, waits.job));
    waiter = is_over ? waiters_.erase(waiter) : std::next(waiter);
  }
  finished_now_.clear();
  return true;
}

bool Model::end_job_wait(shard::Cookie cookie, JobNumber number) {
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
      WM_SIM_STEP(end_job_wait(cookie, waits.job));
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
  return true;
}

// The log's own housekeeping: what still lives in the oldest segment is written once more, as it is.
bool Model::take_copies() {
  for (; at_ < effects_.size(); ++at_) {
    if (next<effect::Alive>() != nullptr || next<effect::StoreCreated>() != nullptr) continue;
    if (auto const* copy = next<effect::JobSnapshot>(); copy != nullptr && !copy->patched) {
      ModelJob const* const job = find(JobRef{.number = copy->number, .text = {}});
      WM_SIM_HOLD(job != nullptr, "job {:x} was copied ahead, and is not there", raw(copy->number));
      WM_SIM_HOLD(copy->state == job->state && copy->spec == job->spec && copy->attempt == job->attempt &&
                      copy->cancel_requested == job->cancel_requested && copy->due == job->due &&
                      (job->state != JobState::leased || copy->token == job->token),
                  "job {:x} was copied ahead wrongly", raw(copy->number));
      ++figures_[Figure::survivor_copied];
      if (job->state == JobState::leased) ++figures_[Figure::leased_job_copied];
      if (is_finished(job->state)) ++figures_[Figure::finished_job_copied];
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

// ---- Comparing.

bool Model::compare(std::span<JobView const> views, bool with_content) {
  ++figures_[Figure::audits];
  auto job = jobs_.rbegin();
  for (JobView const& view : views) {
    WM_SIM_HOLD(job != jobs_.rend() && job->first <= raw(view.number), "job {:x} is there, and nobody sent it",
                raw(view.number));
    WM_SIM_HOLD(job->first == raw(view.number), "job {:x} ({}) is missing", job->first, to_string(job->second.state));
    WM_SIM_STEP(compare_job(job->second, view, with_content));
    ++job;
  }
  WM_SIM_HOLD(job == jobs_.rend(), "job {:x} ({}) is missing", job->first, to_string(job->second.state));
  return true;
}

bool Model::compare_job(ModelJob const& job, JobView const& view, bool with_content) {
  auto const n = raw(job.number);
  WM_SIM_HOLD(view.number == job.number && view.client_id == job.client_id, "job {:x} is shown as {:x}", n,
              raw(view.number));
  WM_SIM_HOLD(view.state == job.state, "job {:x} is {} instead of {}", n, to_string(view.state), to_string(job.state));
  WM_SIM_HOLD(view.attempt == job.attempt, "job {:x} is in attempt {} instead of {}", n, view.attempt, job.attempt);
  WM_SIM_HOLD(view.max_attempts == job.max_attempts, "job {:x} has {} attempts instead of {}", n, view.max_attempts,
              job.max_attempts);
  WM_SIM_HOLD(view.cancel_requested == job.cancel_requested, "job {:x}: cancellation asked for: {} instead of {}", n,
              view.cancel_requested, job.cancel_requested);
  WM_SIM_HOLD(view.ready_at == (job.is_waiting() ? std::optional{job.due} : std::nullopt),
              "job {:x} ({}) is ready at {} instead of {}", n, to_string(job.state),
              view.ready_at ? to_ms(*view.ready_at) : 0, to_ms(job.due));
  WM_SIM_HOLD(view.lease_expires_at == (job.state == JobState::leased ? std::optional{job.due} : std::nullopt),
              "job {:x} is leased until {} instead of {}", n, view.lease_expires_at ? to_ms(*view.lease_expires_at) : 0,
              to_ms(job.due));
  WM_SIM_HOLD(view.progress == job.progress, "the progress of job {:x} is lost", n);
  if (!with_content) return true;
  WM_SIM_HOLD(view.spec == job.spec, "the spec of job {:x} is not what was sent", n);
  JobHistory const& history = view.history;
  WM_SIM_HOLD(history.started_at == job.started_at, "job {:x} was started at another time", n);
  WM_SIM_HOLD(history.finished_at == job.finished_at, "job {:x} ({}) finished at {} instead of {}", n,
              to_string(job.state), history.finished_at ? to_ms(*history.finished_at) : 0,
              job.finished_at ? to_ms(*job.finished_at) : 0);
  WM_SIM_HOLD(history.worker == job.worker, "job {:x} was run by '{}' instead of '{}'", n, history.worker, job.worker);
  WM_SIM_HOLD(history.progress == job.progress, "the progress of job {:x} is lost", n);
  bool const is_completed = job.state == JobState::completed;
  WM_SIM_HOLD(history.result == (is_completed ? job.result : Bytes{}) &&
                  history.result_kind == (is_completed ? job.result_kind : PayloadKind::none),
              "the result of job {:x} is another", n);
  if (job.events > kEventsShown) return true;
  WM_SIM_HOLD(history.errors.size() == job.errors.size(), "job {:x} has {} errors instead of {}", n,
              history.errors.size(), job.errors.size());
  for (std::size_t i = 0; i < job.errors.size(); ++i) {
    WM_SIM_HOLD(history.errors[i] == job.errors[i], "error {} of job {:x} is another", i, n);
  }
  return true;
}

bool Model::compare_lines(JobNumber number, std::vector<Bytes> const& lines) {
  ModelJob const* const job = find(raw(number));
  WM_SIM_HOLD(job != nullptr && lines == job->lines, "the log of job {:x} has {} lines instead of {}", raw(number),
              lines.size(), job == nullptr ? 0 : job->lines.size());
  return true;
}

bool Model::compare_queues(std::span<QueueView const> views) {
  auto view = views.begin();
  for (auto& [name, queue] : queues_) {
    bool const is_there = view != views.end() && view->name == name;
    WM_SIM_HOLD(is_there || queue.known != ModelQueue::Known::yes, "queue {} is missing", name);
    WM_SIM_HOLD(!is_there || queue.known != ModelQueue::Known::no, "queue {} is there, and nobody made it", name);
    queue.known = is_there ? ModelQueue::Known::yes : ModelQueue::Known::no;
    if (is_there) WM_SIM_STEP(compare_queue(name, queue, *view++));
  }
  WM_SIM_HOLD(view == views.end(), "queue {} is there, and nobody made it", view->name);
  return true;
}

bool Model::compare_queue(std::string const& name, ModelQueue& queue, QueueView const& view) {
  WM_SIM_HOLD(view.name == name && view.settings == queue.settings, "the settings of {} are others", name);
  WM_SIM_HOLD(view.depth == queue.depth, "the depths of {} are wrong", name);
  queue.known = ModelQueue::Known::yes;
  auto const wrong = [&](std::string_view what, std::uint64_t got, std::uint64_t want) {
    return complain("{} counts {} {} instead of {}", name, got, what, want);
  };
  QueueCounters const& got = view.counters;
  QueueCounters const& want = queue.counters;
  if (got.enqueued != want.enqueued) return wrong("enqueued", got.enqueued, want.enqueued);
  if (got.duplicates != want.duplicates) return wrong("duplicates", got.duplicates, want.duplicates);
  if (got.leased != want.leased) return wrong("leased", got.leased, want.leased);
  if (got.completed != want.completed) return wrong("completed", got.completed, want.completed);
  if (got.failed != want.failed) return wrong("failed", got.failed, want.failed);
  if (got.died != want.died) return wrong("died", got.died, want.died);
  if (got.released != want.released) return wrong("released", got.released, want.released);
  if (got.lease_expired != want.lease_expired) return wrong("lease_expired", got.lease_expired, want.lease_expired);
  if (got.cancelled != want.cancelled) return wrong("cancelled", got.cancelled, want.cancelled);
  std::optional<Instant> oldest;
  for (auto const& lines : queue.lines) {
    std::pair<std::uint64_t, std::uint64_t> first{UINT64_MAX, 0};
    for (auto const& [group, line] : lines) first = std::min(first, *line.jobs.begin());
    if (lines.empty()) continue;
    Instant const since = jobs_.at(first.second).due;
    if (!oldest || since < *oldest) oldest = since;
  }
  WM_SIM_HOLD(view.oldest_ready_at == oldest, "the oldest ready job of {} is of {} instead of {}", name,
              view.oldest_ready_at ? to_ms(*view.oldest_ready_at) : 0, oldest ? to_ms(*oldest) : 0);
  return true;
}

bool Model::compare_status(engine::EngineStatus const& status) {
  WM_SIM_HOLD(status.jobs == jobs_.size(), "there are {} jobs instead of {}", status.jobs, jobs_.size());
  return true;
}

bool Model::compare_results(std::vector<ReportResult> const& wanted, std::vector<ReportResult> const& got) {
  WM_SIM_HOLD(wanted.size() == got.size(), "{} reports answered of {}", got.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    WM_SIM_HOLD(wanted[i].error.has_value() == got[i].error.has_value(), "a report was {} and should have been {}",
                got[i].error ? "refused" : "accepted", wanted[i].error ? "refused" : "accepted");
    WM_SIM_HOLD(!wanted[i].error || wanted[i].error->code == got[i].error->code, "a report was refused with {}",
                to_string(got[i].error->code));
    WM_SIM_HOLD(wanted[i].cancel_requested == got[i].cancel_requested, "a worker was not told of a cancellation");
  }
  return true;
}

bool Model::compare_leased(std::vector<LeasedJob> const& wanted, std::vector<LeasedJob> const& got) {
  WM_SIM_HOLD(wanted.size() == got.size(), "a worker got {} jobs instead of {}", got.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    auto const n = raw(wanted[i].number);
    WM_SIM_HOLD(got[i].number == wanted[i].number && got[i].token == wanted[i].token,
                "a worker got another lease than was written down for job {:x}", n);
    WM_SIM_HOLD(got[i].attempt == wanted[i].attempt && got[i].max_attempts == wanted[i].max_attempts,
                "job {:x} was handed out as attempt {} instead of {}", n, got[i].attempt, wanted[i].attempt);
    WM_SIM_HOLD(got[i].lease_expires_at == wanted[i].lease_expires_at, "job {:x} was handed out for another time", n);
    WM_SIM_HOLD(got[i].spec == wanted[i].spec, "job {:x} was handed out with another spec than was sent", n);
  }
  return true;
}

// ---- State.

ModelJob const* Model::find(std::uint64_t number) const {
  auto const job = jobs_.find(number);
  return job == jobs_.end() ? nullptr : &job->second;
}

ModelJob* Model::find(JobRef const& ref) {
  std::uint64_t number = 0;
  if (ref.number) {
    number = raw(*ref.number);
  } else if (auto const found = client_ids_.find(ref.text); found != client_ids_.end()) {
    number = found->second;
  }
  auto const job = jobs_.find(number);
  return job == jobs_.end() ? nullptr : &job->second;
}

ModelJob* Model::find_same(JobSpecView const& spec) {
  if (!spec.id.empty()) {
    if (ModelJob* same = find(JobRef{.number = {}, .text = std::string(spec.id)})) return same;
  }
  return spec.unique_key.empty() ? nullptr : holder_of(std::string(spec.queue), std::string(spec.unique_key));
}

bool Model::holds_key(ModelJob const& job) {
  switch (job.unique_while) {
    case UniqueWhile::scheduled: return job.state == JobState::scheduled;
    case UniqueWhile::queued: return job.is_waiting();
    case UniqueWhile::unfinished: return job.is_unfinished();
  }
  return false;
}

ModelJob* Model::holder_of(std::string const& queue, std::string const& key) {
  auto const found = unique_.find({queue, key});
  if (found == unique_.end()) return nullptr;
  for (std::uint64_t const number : found->second) {  // The oldest.
    ModelJob& job = jobs_.at(number);
    if (holds_key(job) && job.unique_until > now_) return &job;
  }
  if (!found->second.empty()) ++figures_[Figure::key_free_again];
  return nullptr;
}

// Only a job that was never leased expires; one that is put in line again after its time has a new lease of life.
bool Model::can_expire(ModelJob const& job) {
  return job.expires_at != Instant::max() && job.attempt == 0 && job.is_waiting() && job.expires_at > job.since;
}

void Model::read_spec(ModelJob& job, Bytes const& bytes) const {
  JobSpecView spec;
  bool const is_spec = decode_spec(bytes, spec).has_value();
  WM_ASSERT(is_spec);
  job.spec = bytes;
  job.type = spec.type;
  job.queue = spec.queue;
  job.group = spec.group;
  job.client_id = spec.id;
  job.unique_key = spec.unique_key;
  job.tags.assign(spec.tags.begin(), spec.tags.end());
  job.priority = spec.priority;
  job.unique_while = spec.unique_while;
  Instant const created = created_at(job.number);
  job.unique_until = spec.unique_for ? created + *spec.unique_for : Instant::max();
  job.expires_at = spec.expires_in ? created + *spec.expires_in : Instant::max();
  job.lease = spec.lease.value_or(std::chrono::seconds{60});
  job.keep_result = spec.keep_result.value_or(std::chrono::hours{1});
  job.backoff = spec.backoff.value_or(Backoff{});
  job.max_attempts = spec.max_attempts.value_or(20);
}

ModelJob& Model::add(ModelJob made) {
  std::uint64_t const number = raw(made.number);
  ModelJob& job = jobs_.emplace(number, std::move(made)).first->second;
  queues_[job.queue].known = ModelQueue::Known::yes;
  if (!job.client_id.empty()) client_ids_[job.client_id] = number;
  if (!job.unique_key.empty()) unique_[{job.queue, job.unique_key}].insert(number);
  enter(job);
  return job;
}

void Model::enter(ModelJob& job, bool keeps_place) {
  std::uint64_t const number = raw(job.number);
  if (!keeps_place) {
    job.place = moment_;
    job.since = now_;
  }
  ModelQueue& queue = queues_[job.queue];
  queue.known = ModelQueue::Known::yes;
  ++queue.depth[at(job.state)];
  if (job.state != JobState::leased) job.cancel_requested = false;
  if (can_expire(job)) expiries_.emplace(job.expires_at, number);
  switch (job.state) {
    case JobState::ready: {
      auto const [line, is_new] = queue.lines[job.priority].try_emplace(job.group);
      if (is_new) line->second.turn = moment_;
      line->second.jobs.emplace(job.place, number);
      break;
    }
    case JobState::scheduled:
    case JobState::leased: timers_.emplace(job.due, number); break;
    case JobState::dead: keepers_.emplace(job.due + options_.dead_kept, number); break;
    case JobState::completed:
    case JobState::cancelled:
      keepers_.emplace(job.due + job.keep_result, number);
      queue.kept.emplace(job.due, number);
      break;
  }
  if (job.is_unfinished())
    ++unfinished_;
  else
    finished_now_.insert(number);
}

void Model::leave(ModelJob& job) {
  std::uint64_t const number = raw(job.number);
  ModelQueue& queue = queues_[job.queue];
  --queue.depth[at(job.state)];
  if (can_expire(job)) expiries_.erase({job.expires_at, number});
  switch (job.state) {
    case JobState::ready: {
      auto const line = queue.lines[job.priority].find(job.group);
      line->second.jobs.erase({job.place, number});
      if (line->second.jobs.empty()) queue.lines[job.priority].erase(line);
      break;
    }
    case JobState::scheduled:
    case JobState::leased: timers_.erase({job.due, number}); break;
    case JobState::dead: keepers_.erase({job.due + options_.dead_kept, number}); break;
    case JobState::completed:
    case JobState::cancelled:
      keepers_.erase({job.due + job.keep_result, number});
      queue.kept.erase({job.due, number});
      break;
  }
  if (job.is_unfinished()) --unfinished_;
}

void Model::move(ModelJob& job, JobState to, Instant due) {
  leave(job);
  job.state = to;
  job.due = due;
  enter(job);
}

void Model::forget(ModelJob& job) {
  std::uint64_t const number = raw(job.number);
  leave(job);
  finished_now_.insert(number);
  if (!job.client_id.empty()) client_ids_.erase(job.client_id);
  if (!job.unique_key.empty()) {
    auto const key = unique_.find({job.queue, job.unique_key});
    key->second.erase(number);
    if (key->second.empty()) unique_.erase(key);
  }
  jobs_.erase(number);
}

bool Model::cancel_now(ModelJob& job) {
  WM_SIM_STEP(take_for<effect::JobCancelled>(job, "a cancellation"));
  ++queues_[job.queue].counters.cancelled;
  job.finished_at = now_;
  job.events += 1;
  std::uint64_t const number = raw(job.number);
  std::string const queue = job.queue;
  Duration const keep = job.keep_result;
  move(job, JobState::cancelled, now_);
  return surplus(number, queue, keep);
}

// A job was completed or cancelled: what is kept of it and of the others is bounded.
bool Model::surplus(std::uint64_t number, std::string const& name, Duration keep_result) {
  if (keep_result <= Duration{0}) {
    ModelJob* const job = find(JobRef{.number = JobNumber{number}, .text = {}});
    WM_SIM_STEP(take_for<effect::JobForgotten>(*job, "the end of a job that is not kept"));
    forget(*job);
    ++figures_[Figure::kept_nothing];
  }
  ModelQueue& queue = queues_[name];
  for (int i = 0; i < 2 && queue.kept.size() > options_.finished_kept_per_queue; ++i) {
    auto const* forgotten = take<effect::JobForgotten>();
    if (forgotten == nullptr) return false;
    ModelJob* const oldest = find(JobRef{.number = forgotten->number, .text = {}});
    WM_SIM_HOLD(oldest != nullptr && oldest->queue == name && queue.kept.contains({oldest->due, raw(oldest->number)}) &&
                    oldest->due == queue.kept.begin()->first,
                "job {:x} was forgotten, and is not the oldest that finished", raw(forgotten->number));
    forget(*oldest);
    ++figures_[Figure::budget_forgot_finished];
  }
  return true;
}

void Model::add_error(ModelJob& job, ErrorClass error_class, std::string_view code, std::string_view message) {
  job.errors.push_front({.error_class = error_class,
                         .code = Bytes(code),
                         .message = Bytes(message),
                         .detail = {},
                         .attempt = job.attempt,
                         .at = now_});
  if (job.errors.size() > 10) job.errors.pop_back();
}

// ---- Effects and replies.

template <class E>
E const* Model::take() {
  E const* const taken = next<E>();
  if (taken == nullptr) {
    complain("{} should have been written, and {} was", kEffectNames[kind_of<E>()],
             at_ < effects_.size() ? kEffectNames[effects_[at_].index()] : "nothing");
    return nullptr;
  }
  ++at_;
  return taken;
}

template <class E>
bool Model::take_for(ModelJob const& job, std::string_view what) {
  E const* const taken = take<E>();
  if (taken == nullptr) return false;
  WM_SIM_HOLD(taken->number == job.number, "{} of job {:x} was written for {:x}", what, raw(job.number),
              raw(taken->number));
  return true;
}

Reply const* Model::reply_to(shard::Cookie cookie) {
  if (replies_ == nullptr) return nullptr;
  auto const found = replies_->find(cookie);
  if (found == replies_->end()) return nullptr;
  ++replies_taken_;
  return &found->second;
}

template <class R>
bool Model::expect(shard::Cookie cookie, R const*& out) {
  out = nullptr;
  if (replies_ == nullptr) return true;  // Nobody was answered.
  Reply const* const reply = reply_to(cookie);
  WM_SIM_HOLD(reply != nullptr, "a request was not answered");
  out = std::get_if<R>(reply);
  if (out != nullptr) return true;
  auto const* error = std::get_if<Error>(reply);
  return complain("a request was refused that should not have been: {}",
                  error != nullptr ? describe(*error) : "(an answer of another kind)");
}

bool Model::expect_error(shard::Cookie cookie, ErrorCode code) {
  Error const* error = nullptr;
  if (replies_ == nullptr) return true;
  Reply const* const reply = reply_to(cookie);
  WM_SIM_HOLD(reply != nullptr, "a request was not answered");
  error = std::get_if<Error>(reply);
  WM_SIM_HOLD(error != nullptr, "a request was taken that should have been refused with {}", to_string(code));
  WM_SIM_HOLD(error->code == code, "a request was refused with {} instead of {}", to_string(error->code),
              to_string(code));
  return true;
}

bool Model::expect_done(shard::Cookie cookie) {
  DoneReply const* done = nullptr;
  return expect(cookie, done);
}

}  // namespace workmill::sim
