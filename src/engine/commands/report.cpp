#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "base/assert.h"
#include "base/mutation.h"
#include "base/rng.h"
#include "engine/commands/decide.h"
#include "model/retry_policy.h"

namespace workmill::engine {
namespace {

constexpr std::size_t kProgressTextBytesMax = 1'024;  // It is kept in memory.

// At most `bytes` of a text, and no half character at its end.
std::string_view cut_text(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

// A report on a job that its worker holds. Each outcome is decided by one of these.
struct Reported {
  JobIndex index;
  JobSlot const& job;
  State const& state;
  Context const& context;
  Effects& out;
  ReportResult& result;

  void operator()(Completed const& completed) const {
    result.not_stored = store_results(job, completed, state, context, out);
    out.emit(effect::JobCompleted{.number = job.number,
                                  .at = context.now,
                                  .result_kind = completed.result_kind,
                                  .result = completed.result,
                                  .previous = job.event_at},
             index);
    forget_surplus(index, state, out);
  }

  void operator()(Failed const& failed) const {
    Policy const& policy = state.policy(job);
    effect::JobFailed effect{
        .number = job.number,
        .at = context.now,
        .next = JobState::dead,
        .order = std::to_underlying(job.number),
        .ready_at = context.now,
        .error_class = failed.error_class,
        .code = failed.code,
        .message = cut_text(failed.message, kErrorTextBytesMax),
        // Half a JSON value is of no use to anybody.
        .detail = failed.detail.size() <= kErrorTextBytesMax ? BytesView{failed.detail} : BytesView{},
        .attempt = job.attempt,
        .previous = job.event_at};
    bool const may_try_again = failed.error_class == ErrorClass::retryable &&
                               (job.attempt < policy.max_attempts || WM_MUTATION(retries_for_ever));
    if (job.cancel_requested || (may_try_again && is_for_nobody(job, state))) {
      effect.next = JobState::cancelled;
    } else if (may_try_again) {
      std::uint64_t const chance = mix64(context.chance ^ std::to_underlying(job.number));
      Duration const wait = failed.retry_in.value_or(backoff_after(policy.backoff, job.attempt, chance));
      effect.ready_at = context.now + wait;
      effect.next = wait > Duration{0} ? JobState::scheduled : JobState::ready;
      if (effect.next == JobState::ready) effect.order = state.next_order(context.now);
    }
    out.emit(effect, index);
    note_flight_failed(job, effect, state, context, out);
    if (effect.next == JobState::cancelled) forget_surplus(index, state, out);
  }

  void operator()(Extend const& extend) const {
    out.emit(effect::LeaseExtended{.number = job.number, .deadline = context.now + extend.by}, index);
  }

  void operator()(Progress const& progress) const {
    out.emit(effect::ProgressMade{.number = job.number,
                                  .percent = progress.percent,
                                  .message = cut_text(progress.message, kProgressTextBytesMax)},
             index);
  }

  void operator()(LogLines const& log) const {
    if (log.lines.empty()) return;
    Bytes lines;
    ByteWriter writer{lines};
    for (Bytes const& line : log.lines) writer.bytes(line);
    JobExtra const* const more = state.extra(job);
    out.emit(effect::LinesLogged{.number = job.number, .lines = lines, .previous = more ? more->log_at : Position{}},
             index);
  }

  void operator()(Checkpoint const& checkpoint) const {
    WM_ASSERT(!checkpoint.data.empty());
    out.emit(effect::CheckpointMade{.number = job.number, .data = checkpoint.data}, index);
  }

  void operator()(Released const&) const {
    bool const is_cancelled = job.cancel_requested;
    out.emit(effect::JobReleased{.number = job.number,
                                 .order = is_cancelled ? std::to_underlying(job.number) : state.next_order(context.now),
                                 .next = is_cancelled ? JobState::cancelled : JobState::ready,
                                 .at = context.now},
             index);
    if (is_cancelled) forget_surplus(index, state, out);
  }
};

ReportResult decide_report(Report const& report, State const& state, Context const& context, Effects& out) {
  JobIndex const index = state.find(report.job);
  if (index == kNone<JobIndex>) return {.error = no_such_job()};
  JobSlot const& job = state.job(index);
  bool const is_current = job.token() == report.lease || WM_MUTATION(takes_any_token);
  if (job.state != JobState::leased || !is_current) {
    return {.error = Error{
                .code = ErrorCode::lease_lost,
                .message = "the job is not leased under this token: its lease ran out, or it was reported before"}};
  }
  ReportResult result{.cancel_requested = job.cancel_requested};
  std::visit(Reported{index, job, state, context, out, result}, report.outcome);
  return result;
}

}  // namespace

std::vector<ReportResult> decide_reports(std::vector<Report> const& reports, State const& state, Context const& context,
                                         Effects& out) {
  std::vector<ReportResult> results;
  results.reserve(reports.size());
  for (Report const& report : reports) results.push_back(decide_report(report, state, context, out));
  return results;
}

Reply decide(ReportBatch const& command, State const& state, Context const& context, Effects& out) {
  return ReportsReply{.reports = decide_reports(command.reports, state, context, out)};
}

}  // namespace workmill::engine
