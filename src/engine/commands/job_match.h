#pragma once
#include "engine/commands/decide.h"

namespace workmill::engine {

// Does a job pass a filter? By what the engine knows: state, queue, type, group and batch, their names resolved once.
// Tags and texts stand in the specs, which the shard reads.
class JobMatch {
 public:
  JobMatch(JobFilter const& filter, State const& state)
      : state_(state),
        state_wanted_(filter.state),
        queue_(state.find_queue(filter.queue)),
        type_(state.names().find(filter.type)),
        group_(state.names().find(filter.group)),
        batch_(filter.batch.empty() ? nullptr : state.find_batch(filter.batch)),
        by_queue_(!filter.queue.empty()),
        by_type_(!filter.type.empty()),
        by_group_(!filter.group.empty()),
        by_batch_(!filter.batch.empty()),
        among_(filter.among) {}

  // It asks for the jobs of a batch that is not there.
  bool names_no_batch() const { return by_batch_ && batch_ == nullptr; }

  // Nothing can pass: a name that no job has, no such batch, or a queue without jobs in that state.
  bool is_hopeless() const {
    if (by_type_ && type_ == kNone<NameIndex>) return true;
    if (by_group_ && group_ == kNone<NameIndex>) return true;
    if (names_no_batch()) return true;
    if (!by_queue_) return false;
    if (queue_ == kNone<QueueIndex>) return true;
    Queue const& queue = state_.queue(queue_);
    return queue.jobs == 0 || (state_wanted_ && queue.depth_in(*state_wanted_) == 0);
  }

  // No job before this one can pass: it was made before the batch.
  JobNumber oldest() const { return by_batch_ ? JobNumber{std::to_underlying(batch_->number)} : JobNumber{0}; }

  bool operator()(JobSlot const& job) const {
    if (state_wanted_ && job.state != *state_wanted_) return false;
    if (by_type_ && job.type != type_) return false;
    if (by_batch_ && (!job.has_batch || state_.batch_of(job) != batch_)) return false;
    if (!by_queue_ && !by_group_ && among_ == nullptr) return true;
    Lane const& lane = state_.lane(job);
    if (among_ != nullptr && !among_->contains(state_.queue(lane.queue).name)) return false;
    return (!by_queue_ || lane.queue == queue_) && (!by_group_ || lane.group == group_);
  }

 private:
  State const& state_;
  std::optional<JobState> state_wanted_;
  QueueIndex queue_;
  NameIndex type_;
  NameIndex group_;
  BatchTable::Batch const* batch_;
  bool by_queue_;
  bool by_type_;
  bool by_group_;
  bool by_batch_;
  AllowedQueues among_;
};

}  // namespace workmill::engine
