#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "base/mutation.h"
#include "base/rng.h"
#include "engine/commands/decide.h"

namespace workmill::engine {
namespace {

// The queues that a request may be served from. Those without a weight come first, in their order; the others share
// by weight, in the order that chance decides.
class Choice {
 public:
  Choice(Lease const& request, State const& state, std::uint64_t chance) : state_(state), chance_(chance) {
    for (QueueChoice const& choice : request.queues) {
      QueueIndex const queue = state.find_queue(choice.name);
      if (queue == kNone<QueueIndex> || !state.queue(queue).can_lease() || count_ == candidates_.size()) continue;
      candidates_[count_++] = {.queue = queue, .weight = choice.weight};
    }
  }

  // How many jobs there are to lease, counted up to `most`.
  std::size_t count_ready(std::uint32_t most) const {
    std::uint64_t ready = 0;
    for (std::size_t i = 0; i < count_ && ready < most; ++i) {
      ready += state_.queue(candidates_[i].queue).depth_in(JobState::ready);
    }
    return std::min<std::uint64_t>({ready, most, kJobsPerLeaseMax});
  }

  // The job to lease next; kNone where nothing is left.
  JobIndex next() {
    while (count_ > 0) {
      std::size_t const place = pick();
      Queue const& queue = state_.queue(candidates_[place].queue);
      if (queue.can_lease()) return state_.ready().first(queue);
      --count_;  // Served empty. The others keep their order.
      for (std::size_t i = place; i < count_; ++i) candidates_[i] = candidates_[i + 1];
    }
    return kNone<JobIndex>;
  }

 private:
  struct Candidate {
    QueueIndex queue{};
    std::uint32_t weight = 0;
  };

  std::size_t pick() {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      if (candidates_[i].weight == 0) return i;
      total += candidates_[i].weight;
    }
    if (count_ == 1) return 0;
    chance_ = mix64(chance_);
    std::uint64_t left = chance_ % total;
    std::size_t place = 0;
    while (left >= candidates_[place].weight) left -= candidates_[place++].weight;
    return place;
  }

  State const& state_;
  std::uint64_t chance_;
  std::array<Candidate, kQueuesPerLeaseMax> candidates_;
  std::size_t count_ = 0;
};

}  // namespace

Reply decide(Lease const& command, State const& state, Context const& context, Effects& out) {
  LeaseReply reply;
  if (!command.reports.empty()) reply.reports = decide_reports(command.reports, state, context, out);

  Choice choice{command, state, context.chance};
  reply.jobs.reserve(choice.count_ready(command.max));
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < command.max && i < kJobsPerLeaseMax && bytes < command.bytes_max; ++i) {
    JobIndex const index = choice.next();
    if (index == kNone<JobIndex>) break;
    JobSlot const& job = state.job(index);
    Policy const& policy = state.policy(job);
    effect::JobLeased const leased{.number = job.number,
                                   .token = WM_MUTATION(token_is_job_number)
                                                ? LeaseToken{std::to_underlying(job.number)}
                                                : state.next_token(context.now),
                                   .at = context.now,
                                   .deadline = context.now + command.lease.value_or(policy.lease),
                                   .worker = command.worker,
                                   .previous = job.event_at};
    out.emit(leased, index);
    JobExtra const* const more = state.extra(job);
    reply.jobs.push_back({.number = job.number,
                          .token = leased.token,
                          .lease_expires_at = leased.deadline,
                          .attempt = job.attempt,
                          .max_attempts = policy.max_attempts,
                          .spec_at = job.spec_at,
                          .spec_bytes = job.spec_bytes,
                          .checkpoint_at = more ? more->checkpoint_at : Position{}});
    // How long a checkpoint is only the log knows: as long as it may be.
    bytes += job.spec_bytes + (reply.jobs.back().checkpoint_at ? kCheckpointBytesMax : 0);
  }
  return reply;
}

}  // namespace workmill::engine
