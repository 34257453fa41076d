#include "base/variant.h"
#include "sim/checkers/model_detail.h"

namespace workmill::sim {

bool Model::run(shard::Cookie cookie, GetQueue const& command) {
  ModelQueue& queue = queues_[command.name];
  if (queue.known == ModelQueue::Known::no) return expect_error(cookie, ErrorCode::not_found);
  if (queue.known == ModelQueue::Known::maybe) {
    Reply const* reply = replies_ == nullptr ? nullptr : reply_to(cookie);
    if (reply == nullptr) return true;
    bool const exists = holds<QueueReply>(*reply);
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
  Depth depth{};
  for (auto const& [name, queue] : queues_) {
    for (std::size_t i = 0; i < depth.size(); ++i) depth[i] += queue.depth[i];
  }
  std::uint64_t early = 0;
  for (auto const& [queue, jobs] : perhaps_leased_later_) early += jobs;
  auto const later = jobs_leased_later(reply->depth, depth, early);
  WM_SIM_HOLD(reply->jobs == jobs_.size() && later, "the status counts {} jobs ({} by state), and there are {} ({})",
              reply->jobs, fmt::join(reply->depth, ", "), jobs_.size(), fmt::join(depth, ", "));
  WM_SIM_HOLD(reply->flags == flags_.size(), "the status counts {} flags, and there are {}", reply->flags,
              flags_.size());
  WM_SIM_STEP(compare_held_back(reply->gated_jobs));
  std::uint64_t const out = reply->stream_jobs_out;
  WM_SIM_HOLD(reply->streams_away == streams_.size() - streams_attached() && out <= out_on_.size() &&
                  out_on_.size() - out <= *later,
              "the status counts {} streams away and {} jobs out on streams, and there are {} and {}",
              reply->streams_away, out, streams_.size() - streams_attached(), out_on_.size());
  return true;
}

}  // namespace workmill::sim
