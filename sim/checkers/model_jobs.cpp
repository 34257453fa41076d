#include "sim/checkers/model_detail.h"

#include <algorithm>

namespace workmill::sim {
namespace {

constexpr std::uint32_t kTaggedPage = 500;  // Jobs whose tags are read in one part of an action on many.

}  // namespace

// ---- Single jobs.

bool Model::run(shard::Cookie cookie, GetJob const& command) {
  ModelJob* const job = find(command.job);
  if (job == nullptr) return expect_error(cookie, ErrorCode::job_not_found);
  bool const waits = job->is_unfinished() && command.wait > Duration{0} && !is_draining_ && !gone_.contains(cookie);
  Room room = waits ? room_to_wait() : Room::no;
  if (room == Room::yes && was_perhaps_full(cookie)) {
    auto const* const answered = std::get_if<JobReply>(&replies_->at(cookie));
    if (answered != nullptr && !is_finished(answered->job.state)) room = Room::no;  // Who waits hears of an end.
  }
  if (room == Room::nobody_knows) {
    ++maybe_waiting_;
    return true;
  }
  if (room == Room::yes) {
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
  if (may_be_damaged(raw(job->number)) && is_refused_as_damaged(cookie)) {
    ++figures_[Figure::damaged_lines_refused];
    return expect_error(cookie, ErrorCode::payload_damaged);
  }
  JobLogReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  return reply == nullptr || compare_lines(job->number, reply->lines);
}

bool Model::run(shard::Cookie cookie, ListJobs const& command) {
  if (names_no_batch(command.filter)) return expect_error(cookie, ErrorCode::batch_not_found);
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
        note_cancel(raw(job.number));
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
  if (job.is_flight() && !job.is_overtaken && is_finished(job.state) && flight_of(job.cache_key) != nullptr) {
    ++figures_[Figure::cache_retry_refused];
    return ErrorCode::wrong_state;
  }
  if (job.is_flight() && is_finished(job.state)) ++figures_[Figure::cache_flight_retried];
  fine = take_for<effect::JobRetried>(job, "a retry");
  ++moment_;
  job.was_retried = job.was_retried || is_finished(job.state);
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
  if (may_be_damaged(raw(job->number))) {
    bool const is_written =
        std::any_of(effects_.begin() + static_cast<std::ptrdiff_t>(at_), effects_.end(), [&](Effect const& effect) {
          auto const* const written = std::get_if<effect::JobSnapshot>(&effect);
          return written != nullptr && written->patched && written->number == job->number;
        });
    if (is_refused_as_damaged(cookie)) return expect_error(cookie, ErrorCode::payload_damaged);
    if (replies_ == nullptr && !is_written) return true;
  }
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
  WM_SIM_HOLD(written->patched && written->number == job->number && written->spec == bytes &&
                  written->checkpoint == job->checkpoint.data && written->checkpoint_lost == job->checkpoint.is_lost &&
                  written->is_overtaken == job->is_overtaken,
              "the change of job {:x} is written down wrongly", raw(job->number));
  if (job->checkpoint.is_there()) ++figures_[Figure::checkpoint_patched];
  ++moment_;
  Instant const due = job->due;
  bool const was_ready = job->state == JobState::ready;
  bool const is_ready = changes.run_at ? *changes.run_at <= now_ : was_ready;
  bool const keeps_place = is_ready && was_ready && !is_elsewhere && !is_other_priority;
  Line line;  // As it is, jobs aside.
  if (keeps_place) line = queues_[job->queue].lines[job->priority][job->group];
  leave(*job);
  std::uint64_t const number = raw(job->number);
  if (!job->unique_key.empty()) unique_[job->key()].erase(number);
  read_spec(*job, bytes);
  if (!job->unique_key.empty()) unique_[job->key()].insert(number);
  job->state = is_ready ? JobState::ready : JobState::scheduled;
  if (!is_ready) {
    job->due = changes.run_at.value_or(due);
  } else {
    job->due = keeps_place ? due : now_;
  }
  enter(*job, keeps_place);
  if (keeps_place) {
    restore_line(queues_[job->queue], *job, line);
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
  if (names_no_batch(command.filter)) return expect_error(cookie, ErrorCode::batch_not_found);
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
  bool const is_hopeless = no_job_can_match(filter);
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
  // The server sees sooner that there is nothing more where a whole queue or a type has no more jobs. Where nobody was
  // answered, whether it did so decides what it does in its next turns.
  bool const is_answered = replies_ != nullptr ? replies_->contains(bulk.cookie) : is_hopeless;
  if (is_answered && more && !more_match) more = false;
  WM_SIM_HOLD(replies_ == nullptr || is_answered == !more, "an action on many jobs {}",
              more ? "ended too soon" : "was not answered");
  if (more) {
    ++figures_[Figure::bulk_in_parts];
    before = rest;
    bulks_.push_back(std::move(bulk));
    return true;
  }
  CountReply const* reply = nullptr;
  WM_SIM_STEP(expect(bulk.cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(reply->count == bulk.count, "an action on many jobs counts {} instead of {}", reply->count, bulk.count);
  return true;
}

// No job of that type, of that group, or in that queue and state.
bool Model::no_job_can_match(JobFilter const& filter) const {
  auto const has = [&](std::string const& wanted, std::string ModelJob::* name) {
    return wanted.empty() ||
           std::any_of(jobs_.begin(), jobs_.end(), [&](auto const& job) { return job.second.*name == wanted; });
  };
  if (names_no_batch(filter)) return true;
  if (!has(filter.type, &ModelJob::type) || !has(filter.group, &ModelJob::group)) return true;
  if (filter.queue.empty()) return false;
  auto const queue = queues_.find(filter.queue);
  if (queue == queues_.end() || queue->second.jobs() == 0) return true;
  return filter.state && queue->second.depth_in(*filter.state) == 0;
}

bool Model::matches(ModelJob const& job, JobFilter const& filter, bool with_text) const {
  if (filter.state && *filter.state != job.state) return false;
  if (!filter.queue.empty() && filter.queue != job.queue) return false;
  if (!filter.type.empty() && filter.type != job.type) return false;
  if (!filter.group.empty() && filter.group != job.group) return false;
  if (!filter.batch.empty()) {
    auto const batch = batches_.find(filter.batch);
    if (batch == batches_.end() || !batch->second.jobs.contains(raw(job.number))) return false;
  }
  if (!filter.tag.empty() && std::find(job.tags.begin(), job.tags.end(), filter.tag) == job.tags.end()) return false;
  if (!with_text || filter.text.empty()) return true;
  JobSpecView spec;
  (void)decode_spec(job.spec, spec);
  auto const has = [&](std::string_view text) { return text.find(filter.text) != std::string_view::npos; };
  return has(spec.type) || has(spec.payload) || has(job.client_id) ||
         std::any_of(job.errors.begin(), job.errors.end(),
                     [&](JobError const& error) { return has(error.code) || has(error.message); });
}

}  // namespace workmill::sim
