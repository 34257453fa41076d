#include <algorithm>

#include "sim/checkers/model_detail.h"

// What may become of jobs that are damaged on the disk (docs/adr/0014).
namespace workmill::sim {

bool Model::is_refused_as_damaged(shard::Cookie cookie) const {
  if (replies_ == nullptr) return false;
  auto const reply = replies_->find(cookie);
  if (reply == replies_->end()) return false;
  auto const* const error = std::get_if<Error>(&reply->second);
  return error != nullptr && error->code == ErrorCode::payload_damaged;
}

// The record of that is next: the job is leased, and will be ended as its checkpoint cannot be read.
bool Model::drop_checkpoint(ModelJob& job) {
  auto const n = raw(job.number);
  ++at_;
  WM_SIM_HOLD(job.checkpoint.is_lost || (job.checkpoint.is_there() && may_be_damaged(n)),
              "the checkpoint of job {:x} was dropped, and is not damaged", n);
  ++figures_[Figure::damaged_checkpoint_ended];
  job.checkpoint = {};
  return true;
}

// The record of that is next.
bool Model::end_damaged(ModelJob& job, effect::JobFailed const& failed, bool is_checkpoint) {
  auto const n = raw(job.number);
  ++at_;
  WM_SIM_HOLD(is_checkpoint || job.is_lost || damaged_specs_.contains(n), "job {:x} was ended as damaged, and is not",
              n);
  WM_SIM_HOLD(job.is_unfinished(), "job {:x} was ended as damaged while {}", n, to_string(job.state));
  WM_SIM_HOLD(failed.next == JobState::dead && failed.error_class == ErrorClass::fatal &&
                  failed.attempt == job.attempt && failed.at == now_,
              "the end of job {:x}, which is damaged, is written wrongly", n);
  ModelQueue& queue = queues_[job.queue];
  if (job.state == JobState::leased) ++queue.counters.failed;
  ++queue.counters.died;
  add_error(job, failed.error_class, failed.code, failed.message);
  job.events += 1;
  job.finished_at = now_;
  move(job, JobState::dead, now_);
  return fail_flight(job, failed.error_class, failed.code, failed.message);
}

// What could not be read is not in the copy, and the copy says so; what the job is from here on, is what it says.
bool Model::take_damaged_copy(ModelJob& job, effect::JobSnapshot const& copy) {
  auto const n = raw(job.number);
  if (copy.spec != job.spec) {
    WM_SIM_HOLD(damaged_specs_.contains(n) && is_payload_lost(copy.spec), "job {:x} was copied ahead wrongly", n);
    ++figures_[Figure::damaged_copied_without];
    if (job.is_flight() && job.is_unfinished()) ++figures_[Figure::damaged_flight_copied];
    JobSpecView kept;
    WM_SIM_HOLD(decode_spec(copy.spec, kept).has_value(), "the copy of job {:x} cannot be read", n);
    WM_SIM_HOLD(kept.type == job.type && kept.queue == job.queue && kept.group == job.group &&
                    kept.id == job.client_id && kept.priority == job.priority && kept.lease == job.lease &&
                    kept.keep_result == job.keep_result && kept.max_attempts == job.max_attempts &&
                    kept.backoff == job.backoff,
                "the copy of job {:x}, whose payload is lost, lacks more than it must", n);
    WM_SIM_HOLD(kept.batch == (batch_of(job) != nullptr ? job.batch : std::string{}),
                "the copy of job {:x}, whose payload is lost, is in another batch", n);
    WM_SIM_HOLD(
        kept.cache_key == job.cache_key && kept.cache_fresh == job.cache_fresh && kept.cache_stale == job.cache_stale &&
            kept.cache_error_for == job.cache_error_for &&
            std::equal(kept.cache_tags.begin(), kept.cache_tags.end(), job.cache_tags.begin(), job.cache_tags.end()),
        "the copy of job {:x}, whose payload is lost, computes something else", n);
    if (!job.unique_key.empty() && !job.is_flight()) {  // It was known by its hash only, which no spec can say.
      auto const key = unique_.find(job.key());
      key->second.erase(n);
      if (key->second.empty()) unique_.erase(key);
      job.unique_key.clear();
    }
    job.is_lost = true;
    job.spec = copy.spec;
    job.tags.clear();
  }
  if (copy.checkpoint_lost && !job.checkpoint.is_lost) {
    WM_SIM_HOLD(job.checkpoint.is_there(), "the copy of job {:x} lost a checkpoint that there was none of", n);
    ++figures_[Figure::damaged_checkpoint_copied];
    job.checkpoint = {.data = {}, .is_lost = true};
  }
  auto history = decode_history(copy.history);
  WM_SIM_HOLD(history.has_value(), "the history in the copy of job {:x} cannot be read", n);
  if (history->errors.empty() || history->errors.front().code != to_string(ErrorCode::payload_damaged)) return true;
  ++figures_[Figure::damaged_history_copied];
  job.errors.assign(history->errors.begin(), history->errors.end());
  job.started_at = history->started_at;
  job.worker = history->worker;
  job.result_kind = history->result_kind;
  job.result = history->result;
  job.lines = history->log_lines;
  return true;
}

}  // namespace workmill::sim
