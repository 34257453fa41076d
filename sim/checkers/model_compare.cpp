#include "sim/checkers/model_detail.h"

#include <algorithm>

namespace workmill::sim {
namespace {

constexpr std::uint32_t kEventsShown = 50;  // Below what a history is read back for; older errors may be missing.

}  // namespace

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
  bool const says_damaged =
      !view.history.errors.empty() && view.history.errors.front().code == to_string(ErrorCode::payload_damaged);
  if (says_damaged && may_be_damaged(n)) {
    bool const is_lost = view.spec != job.spec;
    WM_SIM_HOLD(!is_lost || (damaged_specs_.contains(n) && is_payload_lost(view.spec)),
                "the spec of job {:x} is not what was sent", n);
    ++figures_[Figure::damaged_shown];
    return true;
  }
  WM_SIM_HOLD(view.checkpoint == job.checkpoint, "the checkpoint of job {:x} is another", n);
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

std::optional<std::uint64_t> Model::jobs_leased_later(Depth const& got, Depth const& want, std::uint64_t most) {
  auto const of = [](Depth const& depth, JobState state) { return depth[static_cast<std::size_t>(state)]; };
  std::uint64_t const later =
      of(want, JobState::leased) - std::min(of(want, JobState::leased), of(got, JobState::leased));
  if (later > most) return std::nullopt;
  Depth before = want;
  before[static_cast<std::size_t>(JobState::leased)] -= later;
  before[static_cast<std::size_t>(JobState::ready)] += later;
  return got == before ? std::optional{later} : std::nullopt;
}

bool Model::compare_queue(std::string const& name, ModelQueue& queue, QueueView const& view) {
  WM_SIM_HOLD(view.name == name && view.settings == queue.settings, "the settings of {} are others", name);
  auto const early = perhaps_leased_later_.find(name);
  auto const later =
      jobs_leased_later(view.depth, queue.depth, early == perhaps_leased_later_.end() ? 0 : early->second);
  WM_SIM_HOLD(later.has_value(), "the depths of {} are wrong", name);
  queue.known = ModelQueue::Known::yes;
  auto const wrong = [&](std::string_view what, std::uint64_t got, std::uint64_t want) {
    return complain("{} counts {} {} instead of {}", name, got, what, want);
  };
  QueueCounters const& got = view.counters;
  QueueCounters const& want = queue.counters;
  if (got.enqueued != want.enqueued) return wrong("enqueued", got.enqueued, want.enqueued);
  if (got.duplicates != want.duplicates) return wrong("duplicates", got.duplicates, want.duplicates);
  if (got.leased + *later != want.leased) return wrong("leased", got.leased, want.leased);
  if (got.completed != want.completed) return wrong("completed", got.completed, want.completed);
  if (got.failed != want.failed) return wrong("failed", got.failed, want.failed);
  if (got.died != want.died) return wrong("died", got.died, want.died);
  if (got.released != want.released) return wrong("released", got.released, want.released);
  if (got.lease_expired != want.lease_expired) return wrong("lease_expired", got.lease_expired, want.lease_expired);
  if (got.cancelled != want.cancelled) return wrong("cancelled", got.cancelled, want.cancelled);
  std::optional<Instant> oldest;
  // Nobody knows which of them counts.
  if (*later > 0 || queue.lines_with(ModelQueue::Offer::maybe) > 0) return true;
  for (auto const& lines : queue.lines) {
    ModelJob const* first = nullptr;
    for (auto const& [group, line] : lines) {
      ModelJob const* const next = next_of(line);
      if (next != nullptr &&
          (first == nullptr || std::pair(next->place, next->number) < std::pair(first->place, first->number)))
        first = next;
    }
    if (first != nullptr && (!oldest || first->due < *oldest)) oldest = first->due;
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
    auto const& want = wanted[i].error;
    auto const& have = got[i].error;
    if (want && have) WM_SIM_HOLD(want->code == have->code, "a report was refused with {}", to_string(have->code));
    WM_SIM_HOLD(wanted[i].cancel_requested == got[i].cancel_requested, "a worker was not told of a cancellation");
    WM_SIM_HOLD(wanted[i].not_stored == got[i].not_stored, "a worker is told that {} values are not stored, not {}",
                got[i].not_stored.size(), wanted[i].not_stored.size());
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
    WM_SIM_HOLD(got[i].checkpoint == wanted[i].checkpoint, "job {:x} was handed out with another checkpoint", n);
  }
  return true;
}

}  // namespace workmill::sim
