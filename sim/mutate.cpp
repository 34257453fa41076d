#include <algorithm>

#include "base/mutation.h"
#include "base/variant.h"
#include "sim/simulator.h"

// Servers that are broken on purpose, as seen from outside: what comes in and what goes out is changed on its way.
namespace workmill::sim {

bool turn_on(Mutation wanted) {
  auto const text = std::find_if(kMutations.begin(), kMutations.end(),
                                 [&](MutationText const& known) { return known.mutation == wanted; });
#ifdef WM_MUTATIONS
  mutation = text != kMutations.end() && text->is_in_code ? text->name : "";
  return true;
#else
  return text == kMutations.end() || !text->is_in_code;
#endif
}

void Simulator::mutate(Asked& asked) {
  auto const change_specs = [&](auto const& change) {
    auto* enqueue = std::get_if<Enqueue>(&asked.command);
    for (std::size_t i = 0; enqueue != nullptr && i < enqueue->specs.size(); ++i) {
      Bytes const old = std::move(enqueue->specs[i]);
      JobSpecView spec;
      (void)decode_spec(old, spec);
      change(spec);
      enqueue->specs[i].clear();
      encode_spec(spec, enqueue->specs[i]);
    }
  };
  std::vector<Report>* reports = nullptr;
  if (auto* batch = std::get_if<ReportBatch>(&asked.command)) reports = &batch->reports;
  if (auto* lease = std::get_if<Lease>(&asked.command)) reports = &lease->reports;
  switch (options_.mutation) {
    case Mutation::forgets_fencing:
      for (std::size_t i = 0; reports != nullptr && i < reports->size(); ++i) {
        Report& report = (*reports)[i];
        ModelJob const* job = report.job.number ? model_.find(std::to_underlying(*report.job.number)) : nullptr;
        if (job != nullptr && job->state == JobState::leased) report.lease = job->token;
      }
      break;
    case Mutation::counts_released_attempts:
      for (std::size_t i = 0; reports != nullptr && i < reports->size(); ++i) {
        Report& report = (*reports)[i];
        if (holds<Released>(report.outcome)) report.outcome = Failed{.retry_in = Duration{0}};
      }
      break;
    case Mutation::forgets_idempotency:
      if (auto* enqueue = std::get_if<Enqueue>(&asked.command)) enqueue->idempotency.reset();
      break;
    case Mutation::takes_half_a_bulk:
      if (auto* enqueue = std::get_if<Enqueue>(&asked.command); enqueue != nullptr && enqueue->specs.size() > 1) {
        enqueue->specs.pop_back();
      }
      break;
    case Mutation::forgets_unique_keys:
      change_specs([&](JobSpecView& spec) {
        if (chance_.chance(500)) {
          spec.unique_key = {};
          spec.unique_while = UniqueWhile::unfinished;
          spec.unique_for.reset();
        }
      });
      break;
    case Mutation::forgets_priority: change_specs([](JobSpecView& spec) { spec.priority = kPriorityDefault; }); break;
    case Mutation::runs_too_early:
      change_specs([](JobSpecView& spec) {
        if (spec.delay) *spec.delay /= 2;
      });
      break;
    case Mutation::ignores_pause:
      if (auto* patch = std::get_if<PatchQueue>(&asked.command)) patch->paused.reset();
      break;
    case Mutation::leases_too_short:
      if (auto* lease = std::get_if<Lease>(&asked.command); lease != nullptr && lease->lease) *lease->lease /= 2;
      break;
    default: break;
  }
}

void Simulator::mutate(std::unordered_map<shard::Cookie, Reply>& replies) {
  for (auto& [cookie, reply] : replies) {
    auto* leased = std::get_if<LeaseReply>(&reply);
    if (leased == nullptr || leased->jobs.empty()) continue;
    if (options_.mutation == Mutation::serves_another_payload && chance_.chance(100)) {
      leased->jobs.front().spec.back() ^= 1;
    }
    if (options_.mutation == Mutation::leases_too_short) {
      for (LeasedJob& job : leased->jobs) job.lease_expires_at += Duration{1};
    }
    if (options_.mutation == Mutation::answers_twice) {
      if (chance_.chance(100) && holds<LeaseReply>(last_reply_)) {
        reply = last_reply_;
      } else {
        last_reply_ = reply;
      }
    }
  }
}

}  // namespace workmill::sim
