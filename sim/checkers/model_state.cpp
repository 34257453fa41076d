#include "sim/checkers/model_detail.h"

#include <algorithm>

#include "base/assert.h"

namespace workmill::sim {

std::uint64_t ModelQueue::jobs() const {
  std::uint64_t sum = 0;
  for (std::uint64_t const count : depth) sum += count;
  return sum;
}

ModelJob const* Model::find(std::uint64_t number) const {
  auto const job = jobs_.find(number);
  return job == jobs_.end() ? nullptr : &job->second;
}

ModelJob* Model::find(JobRef const& ref) {
  std::uint64_t number = 0;
  if (ref.number) {
    number = raw(*ref.number);
  } else if (auto const found = client_ids_.find(ref.text); found != client_ids_.end()) {
    number = found->second;
  }
  auto const job = jobs_.find(number);
  return job == jobs_.end() ? nullptr : &job->second;
}

ModelJob* Model::find_same(JobSpecView const& spec) {
  if (!spec.id.empty()) {
    if (ModelJob* same = find(JobRef{.number = {}, .text = std::string(spec.id)})) return same;
  }
  if (!spec.cache_key.empty()) return flight_of(std::string(spec.cache_key));
  return spec.unique_key.empty() ? nullptr : holder_of(std::string(spec.queue), std::string(spec.unique_key));
}

bool Model::holds_key(ModelJob const& job) {
  switch (job.unique_while) {
    case UniqueWhile::scheduled: return job.state == JobState::scheduled;
    case UniqueWhile::queued: return job.is_waiting();
    case UniqueWhile::unfinished: return job.is_unfinished() && !job.is_overtaken;
  }
  return false;
}

ModelJob* Model::holder_of(std::string const& queue, std::string const& key) {
  auto const found = unique_.find({queue, key});
  if (found == unique_.end()) return nullptr;
  for (std::uint64_t const number : found->second) {  // The oldest.
    ModelJob& job = jobs_.at(number);
    if (holds_key(job) && job.unique_until > now_) return &job;
  }
  if (!found->second.empty()) ++figures_[Figure::key_free_again];
  return nullptr;
}

// Only a job that was never leased expires; one that is put in line again after its time has a new lease of life.
bool Model::can_expire(ModelJob const& job) {
  return job.expires_at != Instant::max() && job.attempt == 0 && job.is_waiting() && job.expires_at > job.since;
}

void Model::read_spec(ModelJob& job, Bytes const& bytes) {
  JobSpecView spec;
  bool const is_spec = decode_spec(bytes, spec).has_value();
  WM_ASSERT(is_spec);
  job.spec = bytes;
  job.type = spec.type;
  job.type_index = type_index(job.type);
  job.queue = spec.queue;
  job.group = spec.group;
  job.client_id = spec.id;
  job.batch = spec.batch;
  job.unique_key = spec.unique_key;
  job.tags.assign(spec.tags.begin(), spec.tags.end());
  job.priority = spec.priority;
  job.unique_while = spec.unique_while;
  Instant const created = created_at(job.number);
  job.unique_until = spec.unique_for ? created + *spec.unique_for : Instant::max();
  job.expires_at = spec.expires_in ? created + *spec.expires_in : Instant::max();
  job.lease = spec.lease.value_or(std::chrono::seconds{60});
  job.keep_result = spec.keep_result.value_or(std::chrono::hours{1});
  job.backoff = spec.backoff.value_or(Backoff{});
  job.max_attempts = spec.max_attempts.value_or(20);
  job.cache_key = spec.cache_key;
  job.cache_fresh = spec.cache_fresh;
  job.cache_stale = spec.cache_stale;
  job.cache_error_for = spec.cache_error_for;
  job.cache_tags.assign(spec.cache_tags.begin(), spec.cache_tags.end());
  if (job.is_flight()) job.unique_key = job.cache_key;
}

ModelJob& Model::add(ModelJob made) {
  std::uint64_t const number = raw(made.number);
  ModelJob& job = jobs_.emplace(number, std::move(made)).first->second;
  queues_[job.queue].known = ModelQueue::Known::yes;
  if (!job.client_id.empty()) client_ids_[job.client_id] = number;
  if (!job.unique_key.empty()) unique_[job.key()].insert(number);
  if (!job.batch.empty()) join_batch(job);
  enter(job);
  return job;
}

void Model::enter(ModelJob& job, bool keeps_place) {
  std::uint64_t const number = raw(job.number);
  if (!keeps_place) {
    job.place = moment_;
    job.order = ++last_order_;
    job.since = now_;
  }
  ModelQueue& queue = queues_[job.queue];
  queue.known = ModelQueue::Known::yes;
  ++queue.depth[at(job.state)];
  if (job.state != JobState::leased) job.cancel_requested = false;
  if (can_expire(job)) expiries_.emplace(job.expires_at, number);
  switch (job.state) {
    case JobState::ready: join_line(queue, job); break;
    case JobState::scheduled:
    case JobState::leased: timers_.emplace(job.due, number); break;
    case JobState::dead: keepers_.emplace(job.due + options_.dead_kept, number); break;
    case JobState::completed:
    case JobState::cancelled:
      keepers_.emplace(job.due + job.keep_result, number);
      queue.kept.emplace(job.due, number);
      break;
  }
  if (job.is_unfinished())
    ++unfinished_;
  else
    note_finished(number);
  if (job.is_flight() && !job.is_unfinished()) ended_flights_[number] = job.state;
}

// For those who wait for its end by now: who begins to wait after it was put in line again, waits for the next one.
void Model::note_finished(std::uint64_t number) {
  bool const is_awaited = std::any_of(waiters_.begin(), waiters_.end(), [&](auto const& waiter) {
    return !waiter.second.lease && raw(waiter.second.job) == number;
  });
  if (is_awaited) finished_now_.insert(number);
}

void Model::leave(ModelJob& job) {
  std::uint64_t const number = raw(job.number);
  ModelQueue& queue = queues_[job.queue];
  --queue.depth[at(job.state)];
  if (can_expire(job)) expiries_.erase({job.expires_at, number});
  switch (job.state) {
    case JobState::ready: leave_line(queue, job); break;
    case JobState::leased: end_out(number); [[fallthrough]];
    case JobState::scheduled: timers_.erase({job.due, number}); break;
    case JobState::dead: keepers_.erase({job.due + options_.dead_kept, number}); break;
    case JobState::completed:
    case JobState::cancelled:
      keepers_.erase({job.due + job.keep_result, number});
      queue.kept.erase({job.due, number});
      break;
  }
  if (job.is_unfinished()) --unfinished_;
}

void Model::move(ModelJob& job, JobState to, Instant due) {
  leave(job);
  job.state = to;
  job.due = due;
  enter(job);
}

void Model::forget(ModelJob& job) {
  std::uint64_t const number = raw(job.number);
  if (!job.batch.empty()) leave_batch(job);
  leave(job);
  note_finished(number);
  if (!job.client_id.empty()) client_ids_.erase(job.client_id);
  if (!job.unique_key.empty()) {
    auto const key = unique_.find(job.key());
    key->second.erase(number);
    if (key->second.empty()) unique_.erase(key);
  }
  jobs_.erase(number);
}

bool Model::cancel_now(ModelJob& job) {
  WM_SIM_STEP(take_for<effect::JobCancelled>(job, "a cancellation"));
  ++queues_[job.queue].counters.cancelled;
  job.finished_at = now_;
  job.events += 1;
  std::uint64_t const number = raw(job.number);
  std::string const queue = job.queue;
  Duration const keep = job.keep_result;
  move(job, JobState::cancelled, now_);
  return surplus(number, queue, keep);
}

// A job was completed or cancelled: what is kept of it and of the others is bounded.
bool Model::surplus(std::uint64_t number, std::string const& name, Duration keep_result) {
  if (keep_result <= Duration{0}) {
    ModelJob* const job = find(JobRef{.number = JobNumber{number}, .text = {}});
    WM_SIM_STEP(take_for<effect::JobForgotten>(*job, "the end of a job that is not kept"));
    forget(*job);
    ++figures_[Figure::kept_nothing];
  }
  ModelQueue& queue = queues_[name];
  for (int i = 0; i < 2 && queue.kept.size() > options_.finished_kept_per_queue; ++i) {
    auto const* forgotten = take<effect::JobForgotten>();
    if (forgotten == nullptr) return false;
    ModelJob* const oldest = find(JobRef{.number = forgotten->number, .text = {}});
    WM_SIM_HOLD(oldest != nullptr && oldest->queue == name && queue.kept.contains({oldest->due, raw(oldest->number)}) &&
                    oldest->due == queue.kept.begin()->first,
                "job {:x} was forgotten, and is not the oldest that finished", raw(forgotten->number));
    forget(*oldest);
    ++figures_[Figure::budget_forgot_finished];
  }
  return true;
}

void Model::add_error(ModelJob& job, ErrorClass error_class, std::string_view code, std::string_view message) {
  job.errors.push_front({.error_class = error_class,
                         .code = Bytes(code),
                         .message = Bytes(message),
                         .detail = {},
                         .attempt = job.attempt,
                         .at = now_});
  if (job.errors.size() > 10) job.errors.pop_back();
}

}  // namespace workmill::sim
