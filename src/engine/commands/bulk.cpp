#include <utility>
#include <vector>

#include "base/variant.h"
#include "engine/commands/job_match.h"

// The same done to many jobs, from the newest to the oldest, steps_max looked at in one go. A cursor carries the place
// from one part to the next, so each job is looked at once.
namespace workmill::engine {
namespace {

// The jobs to act on next, and where to go on. Found first and acted on afterwards: a walk and a change do not mix.
std::vector<JobIndex> find_next(JobMatch const& match, State const& state, std::optional<JobNumber> before,
                                std::optional<JobNumber>& next) {
  std::vector<JobIndex> found;
  if (match.is_hopeless()) return found;
  std::uint32_t looked_at = 0;
  JobNumber last{};
  state.by_number().walk_older(before.value_or(JobNumber{UINT64_MAX}), [&](JobNumber number, JobIndex job) {
    if (number < match.oldest()) return false;
    if (looked_at == state.options().steps_max) {
      next = last;
      return false;
    }
    ++looked_at;
    last = number;
    if (match(state.job(job))) found.push_back(job);
    return true;
  });
  return found;
}

bool act(BulkAction action, JobIndex index, State const& state, Context const& context, Effects& out) {
  JobSlot const& job = state.job(index);
  JobRef ref{.number = job.number, .text = {}};
  switch (action) {
    case BulkAction::retry: return holds<DoneReply>(decide(RetryJob{ref}, state, context, out));
    case BulkAction::remove: return holds<DoneReply>(decide(DeleteJob{ref}, state, context, out));
    case BulkAction::cancel:
      if (job.state == JobState::cancelled) return false;
      return holds<DoneReply>(decide(CancelJob{ref}, state, context, out));
  }
  return false;
}

}  // namespace

Reply decide(BulkJobs const& command, State const& state, Context const& context, Effects& out, bool& again) {
  again = false;
  if (!command.filter.tag.empty() || !command.filter.text.empty()) {
    // Tags stand in the specs, in the log. To act on all jobs instead would be the worst of answers.
    return Error{
        .code = ErrorCode::invalid_field, .message = "jobs cannot be chosen by tag here", .field = "where.tag"};
  }
  CountReply reply;
  JobMatch const match{command.filter, state};
  // Of one that goes while this is under way the rest is left alone, and what was done is told.
  if (match.names_no_batch() && !command.before) return no_such_batch("where.batch");
  std::vector<std::pair<JobNumber, JobIndex>> found;
  for (JobIndex const job : find_next(match, state, command.before, reply.next)) {
    found.emplace_back(state.job(job).number, job);
  }
  for (auto const& [number, job] : found) {
    if (state.find(number) != job) continue;  // Pushed out by the budget when another one was cancelled.
    if (act(command.action, job, state, context, out)) ++reply.count;
  }
  again = reply.next.has_value();
  return reply;
}

Reply decide(PurgeQueue const& command, State const& state, Context const&, Effects& out, bool& again) {
  again = false;
  if (state.find_queue(command.name) == kNone<QueueIndex>) return no_such_queue(command.name);
  CountReply reply;
  JobMatch const match{JobFilter{.state = command.state, .queue = command.name}, state};
  for (JobIndex const job : find_next(match, state, command.before, reply.next)) {
    JobSlot const& slot = state.job(job);
    if (slot.state == JobState::leased) continue;
    forget(job, state, out);
    ++reply.count;
  }
  again = reply.next.has_value();
  return reply;
}

}  // namespace workmill::engine
