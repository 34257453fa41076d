#include "engine/commands/job_match.h"

namespace workmill::engine {

Reply look(ListJobs const& command, State const& state) {
  JobsReply reply;
  JobMatch const match{command.filter, state};
  if (match.names_no_batch()) return no_such_batch("batch");
  if (match.is_hopeless()) return reply;
  JobNumber const before = command.before.value_or(JobNumber{UINT64_MAX});
  std::uint32_t looked_at = 0;
  JobNumber last{};
  state.by_number().walk_older(before, [&](JobNumber number, JobIndex job) {
    if (number < match.oldest()) return false;
    if (reply.jobs.size() == command.limit || looked_at == state.options().steps_max) {
      reply.next = last;
      return false;
    }
    ++looked_at;
    last = number;
    if (match(state.job(job))) reply.jobs.push_back(state.view(job));
    return true;
  });
  return reply;
}

}  // namespace workmill::engine
