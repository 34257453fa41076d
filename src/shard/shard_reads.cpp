#include <algorithm>
#include <iterator>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "base/variant.h"
#include "shard/attempt_traces.h"
#include "shard/shard_loop.h"

// What a shard reads back from the log for its answers, and what becomes of jobs that cannot be read back.
namespace workmill::shard {
namespace {

constexpr int kListRoundsMax = 16;  // Steps of the engine that one page may cost.
constexpr std::uint32_t kBulkPage = 500;
// What is read for a page, beside its last job. All of it is in memory at once, and the turn takes as long as that.
constexpr std::size_t kPageBytesMax = std::size_t{16} << 20;
// One request ends so many damaged jobs at most, and goes without more.
constexpr std::size_t kDamagedPerLeaseMax = 1'000;
constexpr std::size_t kDamageToldMax = 10'000;  // Beyond these some are told again.

Error damaged_on_disk() {
  return {.code = ErrorCode::payload_damaged, .message = "a part of this job is damaged on the server's disk"};
}

std::size_t bytes_read(JobView const& job) {
  return job.spec.size() + job.history.result.size() + job.checkpoint.data.size();
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

Result<Reply> ShardLoop::lease(Command const& request) {
  bool again = false;
  Reply reply = engine_.execute(request, context(), batch_, &again);
  auto* const leased = std::get_if<LeaseReply>(&reply);
  if (leased == nullptr || leased->jobs.empty()) return reply;
  WM_TRY(std::size_t damaged, take_specs(leased->jobs));
  for (std::size_t ended = damaged; damaged > 0 && ended < kDamagedPerLeaseMax; ended += damaged) {
    Lease rest = std::get<Lease>(request);
    rest.reports.clear();
    rest.max -= static_cast<std::uint32_t>(leased->jobs.size());
    Reply more = engine_.execute(std::move(rest), context(), batch_, &again);
    auto* const next = std::get_if<LeaseReply>(&more);
    if (next == nullptr || next->jobs.empty()) break;
    WM_TRY(damaged, take_specs(next->jobs));
    std::move(next->jobs.begin(), next->jobs.end(), std::back_inserter(leased->jobs));
  }
  return reply;
}

// Reads what was sent for each job, and what an earlier attempt left. Those of which one of the two is damaged are
// ended, and taken out of `jobs`: so many.
Result<std::size_t> ShardLoop::take_specs(std::vector<LeasedJob>& jobs) {
  auto const start = clock_.monotonic();
  std::size_t damaged = 0;
  for (LeasedJob& job : jobs) {
    auto spec = reader_.spec(job.spec_at, job.spec_bytes);
    if (!spec && spec.error().code != ErrorCode::log_corrupt) return std::unexpected(std::move(spec).error());
    if (spec && !is_payload_lost(*spec)) {
      job.spec = *std::move(spec);
      answer_bytes_ += job.spec.size();
      if (!job.checkpoint_at) continue;
      WM_TRY(bool const has_it, take_checkpoint(job));
      if (has_it) continue;
      job.spec.clear();
      ++damaged;
      continue;
    }
    if (WM_MUTATION(damaged_payload_is_leased)) {
      job.spec = engine_.known_spec(job.number);
      continue;
    }
    if (!spec) note_damage(job.number, spec.error());  // Of one that is lost, somebody heard when it was.
    engine_.end_damaged(job.number, engine::DamagedPart::payload, context(), batch_);
    damaged_ended_ = true;
    ++damaged;
  }
  if (damaged > 0) std::erase_if(jobs, [](LeasedJob const& job) { return job.spec.empty(); });
  read_ns_ += static_cast<std::uint64_t>((clock_.monotonic() - start).count());
  return damaged;
}

// False: it is damaged, and the job is ended. A worker that went on without would do again, unasked, what is done.
Result<bool> ShardLoop::take_checkpoint(LeasedJob& job) {
  auto checkpoint = reader_.checkpoint(job.checkpoint_at);
  if (!checkpoint && checkpoint.error().code != ErrorCode::log_corrupt) {
    return std::unexpected(std::move(checkpoint).error());
  }
  if (checkpoint && !checkpoint->is_lost) {
    job.checkpoint = std::move(checkpoint->data);
    answer_bytes_ += job.checkpoint.size();
    return true;
  }
  if (WM_MUTATION(damaged_checkpoint_is_passed_over)) return true;
  if (!checkpoint) note_damage(job.number, checkpoint.error());
  engine_.end_damaged(job.number, engine::DamagedPart::checkpoint, context(), batch_);
  damaged_ended_ = true;
  return false;
}

void ShardLoop::tell_leased(Held& held) {
  if (!traces_) return;
  if (auto* leased = std::get_if<LeaseReply>(&held.answer.reply)) {
    for (LeasedJob& job : leased->jobs) traces_->leased(job, held.worker);
  } else if (auto* sent = std::get_if<StreamJobs>(&held.answer.reply)) {
    for (LeasedJob& job : sent->jobs) traces_->leased(job, held.worker);
  }
}

Result<> ShardLoop::fill_job(JobView& job) {
  auto const start = clock_.monotonic();
  WM_TRY(auto const damage, reader_.fill_over_damage(job, engine_, now_));
  if (damage) note_damage(job.number, *damage);
  answer_bytes_ += bytes_read(job);
  read_ns_ += static_cast<std::uint64_t>((clock_.monotonic() - start).count());
  return {};
}

// The engine keeps no specs, so the new one is made here, from the old one in the log.
Result<std::optional<Error>> ShardLoop::prepare_patch(PatchJob& patch) {
  auto const number = engine_.find(patch.job);
  if (!number) return std::optional<Error>{};  // The engine will say so.
  auto view = engine_.view(*number);
  WM_ASSERT(view.has_value());
  if (view->state == JobState::leased || is_finished(view->state)) return std::optional<Error>{};  // So will it here.
  auto filled = reader_.fill(*view);
  if (filled && view->log_at) {
    auto lines = reader_.log_lines(*view);
    if (lines) view->history.log_lines = *std::move(lines);
    if (!lines) filled = std::unexpected(std::move(lines).error());
  }
  if (!filled) {
    if (filled.error().code != ErrorCode::log_corrupt) return std::unexpected(std::move(filled).error());
    note_damage(*number, filled.error());
    return damaged_on_disk();
  }
  JobSpecView spec;
  WM_TRY_VOID(decode_spec(view->spec, spec));
  JobChanges const& changes = patch.changes;
  if (changes.priority) spec.priority = *changes.priority;
  if (changes.max_attempts) spec.max_attempts = *changes.max_attempts;
  if (changes.queue) spec.queue = *changes.queue;
  if (changes.run_at) {
    spec.run_at = changes.run_at;
    spec.delay.reset();
  }
  if (changes.tags) spec.tags.assign(changes.tags->begin(), changes.tags->end());
  encode_spec(spec, patch.new_spec);
  encode_history(view->history, patch.history);
  patch.checkpoint = std::move(view->checkpoint);
  return std::optional<Error>{};
}

Result<Reply> ShardLoop::list_jobs(ListJobs list) {
  JobsReply page;
  std::size_t bytes = 0;
  for (int round = 0; round < kListRoundsMax && bytes < kPageBytesMax; ++round) {
    bool again = false;
    answer_bytes_ += kLookBytes;
    ListJobs rest = list;
    rest.limit = list.limit - static_cast<std::uint32_t>(page.jobs.size());
    Reply reply = engine_.execute(rest, context(), batch_, &again);
    auto* part = std::get_if<JobsReply>(&reply);
    if (part == nullptr) return reply;
    page.next = part->next;
    for (JobView& one : part->jobs) {
      JobView job = std::move(one);  // Gone at once where it is not wanted.
      WM_TRY(auto const damage, reader_.fill_over_damage(job, engine_, now_));
      if (damage) note_damage(job.number, *damage);
      bytes += bytes_read(job);
      JobNumber const last = job.number;
      WM_TRY(bool const wanted, matches(job, list.filter));
      if (wanted) page.jobs.push_back(std::move(job));
      if (bytes >= kPageBytesMax && &one != &part->jobs.back()) {
        page.next = last;
        break;
      }
    }
    list.before = page.next;
    if (!page.next || page.jobs.size() >= list.limit) break;
  }
  answer_bytes_ += bytes;
  return Reply{std::move(page)};
}

// The engine knows whether there is such a job, the log what was logged.
Result<Reply> ShardLoop::job_log(GetJobLog const& get) {
  bool again = false;
  Reply reply = engine_.execute(get, context(), batch_, &again);
  auto* log = std::get_if<JobLogReply>(&reply);
  if (log == nullptr) return reply;
  auto const number = engine_.find(get.job);
  WM_ASSERT(number.has_value());
  auto const job = engine_.view(*number);
  WM_ASSERT(job.has_value());
  auto lines = reader_.log_lines(*job);
  if (lines) {
    log->lines = *std::move(lines);
    for (Bytes const& line : log->lines) answer_bytes_ += line.size();
  } else if (lines.error().code == ErrorCode::log_corrupt) {
    note_damage(*number, lines.error());
    return Reply{damaged_on_disk()};
  } else {
    return std::unexpected(std::move(lines).error());
  }
  return reply;
}

Result<bool> ShardLoop::matches(JobView const& job, JobFilter const& filter) const {
  if (filter.tag.empty() && filter.text.empty()) return true;
  JobSpecView spec;
  WM_TRY_VOID(decode_spec(job.spec, spec));
  if (!filter.tag.empty() && std::ranges::find(spec.tags, filter.tag) == spec.tags.end()) return false;
  if (filter.text.empty()) return true;
  if (contains(spec.type, filter.text) || contains(spec.payload, filter.text)) return true;
  if (!job.client_id.empty() && contains(job.client_id, filter.text)) return true;
  if (job.client_id.empty()) {
    auto const id = ids_.encode(job.number);
    if (contains(std::string_view(id.data(), id.size()), filter.text)) return true;
  }
  return std::ranges::any_of(job.history.errors, [&](JobError const& error) {
    return contains(error.code, filter.text) || contains(error.message, filter.text);
  });
}

Result<bool> ShardLoop::bulk_by_tag(Unfinished& unfinished, std::optional<Error>& refused) {
  auto const& bulk = std::get<BulkJobs>(unfinished.request.command);
  bool again = false;
  Reply page = engine_.execute(ListJobs{.filter = bulk.filter, .limit = kBulkPage, .before = unfinished.resume_before},
                               context(), batch_, &again);
  auto* jobs = std::get_if<JobsReply>(&page);
  if (jobs == nullptr) {  // Its batch is not there. Where it was, what was done is told.
    if (!unfinished.resume_before) {
      refused = std::get<Error>(std::move(page));
      if (!refused->field.empty()) refused->field.insert(0, "where.");
    }
    return false;
  }
  for (JobView& job : jobs->jobs) {
    if (answer_bytes_ >= kPageBytesMax) return true;  // The rest of the page is looked at again.
    unfinished.resume_before = job.number;
    answer_bytes_ += job.spec_bytes;
    auto spec = reader_.spec(job.spec_at, job.spec_bytes);
    if (!spec) {  // Its tags are not known: what is not known to be meant is left alone.
      if (spec.error().code != ErrorCode::log_corrupt) return std::unexpected(std::move(spec).error());
      note_damage(job.number, spec.error());
      continue;
    }
    job.spec = *std::move(spec);
    WM_TRY(bool const wanted, matches(job, bulk.filter));
    job.spec = {};
    if (!wanted) continue;
    // What is over already is nothing to cancel: the engine says yes to that again, and we would count it again.
    if (bulk.action == BulkAction::cancel && is_finished(job.state)) continue;
    JobRef ref{.number = job.number, .text = {}};
    Command one = DeleteJob{std::move(ref)};
    if (bulk.action == BulkAction::retry)
      one = RetryJob{std::get<DeleteJob>(one).job};
    else if (bulk.action == BulkAction::cancel)
      one = CancelJob{std::get<DeleteJob>(one).job};
    Reply const done = engine_.execute(one, context(), batch_, &again);
    if (!holds<Error>(done)) unfinished.count += 1;  // Others are in no state for it: not counted.
  }
  unfinished.resume_before = jobs->next;
  return jobs->next.has_value();
}

void ShardLoop::note_damage(JobNumber job, Error const& error) {
  if (damage_told_.size() >= kDamageToldMax) damage_told_.clear();
  if (damage_told_.insert(job).second && options_.on_damage) options_.on_damage(job, error);
}

}  // namespace workmill::shard
