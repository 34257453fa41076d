#include "shard/shard_loop.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "base/variant.h"
#include "shard/access.h"
#include "shard/attempt_traces.h"

namespace workmill::shard {
namespace {

constexpr Duration kLookAround =
    std::chrono::seconds{1};  // How often free space, rates and the log's use are looked at.
constexpr Duration kAliveEvery = std::chrono::seconds{1};  // While anything is leased.
constexpr std::size_t kGoneMax = 65'536;  // Beyond it a request is decided as if its client were still there.
// So many jobs are given to streams in one turn; those who ask and report get theirs in between.
constexpr std::size_t kStreamJobsPerTurn = 8'192;

// Commands that may be dropped when their asker has gone: nobody hears the answer, and nothing is freed by them.
bool only_makes_work(Command const& command) {
  if (auto const* lease = std::get_if<Lease>(&command)) return lease->reports.empty();
  return holds<Enqueue>(command) || holds<GetJob>(command) || holds<ListJobs>(command) || holds<GetJobLog>(command) ||
         holds<ListQueues>(command) || holds<GetQueue>(command) || holds<GetStatus>(command) ||
         holds<OpenStream>(command) || holds<ComputeCached>(command) || holds<ReadCached>(command) ||
         holds<GetFlagHistory>(command) || holds<MakeBatch>(command) || holds<GetBatch>(command) ||
         holds<ListBatches>(command);
}

Error nearly_full() {
  return {.code = ErrorCode::disk_full,
          .message = "the disk is nearly full: no new jobs or values are taken until there is space again"};
}

Error no_memory_for_jobs() {
  return {
      .code = ErrorCode::overloaded,
      .message = "jobs take as much memory as they may (jobs_memory_max): no new ones are taken until some have gone"};
}

// Of an answer that may be large without anything being read for it.
std::size_t bytes_shown(Reply const& reply) {
  std::size_t bytes = 0;
  if (auto const* batches = std::get_if<BatchesReply>(&reply)) {
    for (BatchView const& batch : batches->batches) bytes += sizeof batch + batch.meta.size();
  } else if (auto const* history = std::get_if<FlagHistoryReply>(&reply)) {
    for (FlagChange const& change : history->changes) bytes += sizeof change + change.definition.size();
  } else if (auto const* queues = std::get_if<QueuesReply>(&reply)) {
    bytes = queues->queues.size() * sizeof(QueueView);
  } else if (auto const* status = std::get_if<StatusReply>(&reply)) {
    bytes = status->queues.size() * sizeof(QueueView);
  }
  return bytes;
}

// One that the table itself has just named.
Waiter take_known(Waiters& waiters, Waiters::Id id) {
  auto waiter = waiters.take(id);
  WM_ASSERT(waiter.has_value());
  return std::move(*waiter);
}

}  // namespace

ShardLoop::ShardLoop(ShardOptions options, log::Log& log, engine::Engine& engine, Clock const& clock, Rng chance,
                     std::uint32_t ports, std::function<void()> wake, RecoveryReport const& recovery)
    : options_(std::move(options)),
      log_(log),
      engine_(engine),
      clock_(clock),
      chance_(chance),
      ids_(engine.salt()),
      wake_(std::move(wake)),
      recovery_(recovery),
      reader_(log),
      desk_(options_.cache == nullptr
                ? nullptr
                : std::make_unique<CacheDesk>(options_.cache_desk, *options_.cache, reader_, options_.on_cache_damage)),
      survivors_(options_.survivors, log, engine, reader_, desk_.get(),
                 [this](JobNumber job, Error const& error) { note_damage(job, error); }),
      streams_(options_.streams),
      recorder_(options_.times),
      ready_(ports),
      now_(std::max(clock.now(), recovery.replay.last_batch_at)),
      batch_at_(now_),
      disk_reserve_(options_.disk_reserve_bytes),
      jobs_memory_max_(options_.jobs_memory_bytes_max) {
  if (options_.tracer != nullptr) {
    traces_ = std::make_unique<AttemptTraces>(*options_.tracer, ids_, engine, reader_, log.next_base());
    batch_.add_watch(*traces_);
  }
  batch_.add_watch(streams_);
  if (desk_) batch_.set_cache_watch(*desk_);
  flag_board_.publish(engine.flags());
  flags_revision_ = engine.flags_revision();
  look_around();
  look_at_memory();
}

ShardLoop::~ShardLoop() = default;

Result<> ShardLoop::admits(Command const& command) const {
  // The callbacks of a batch wait in memory, as jobs do.
  bool const is_enqueue = holds<Enqueue>(command) || holds<MakeBatch>(command);
  if (disk_low() && (is_enqueue || holds<PutCache>(command))) return std::unexpected(nearly_full());
  if (memory_full() && is_enqueue) return std::unexpected(no_memory_for_jobs());
  return {};
}

Result<> ShardLoop::submit(Request&& request) {
  WM_ASSERT(request.port < ready_.size());
  if (inbox_.size() - inbox_done_ >= options_.inbox_max) {
    return fail(ErrorCode::overloaded, "the shard has as many requests waiting as it may");
  }
  WM_TRY_VOID(admits(request.command));
  inbox_.push_back(std::move(request));
  return {};
}

void ShardLoop::abandon(Port port, Cookie cookie) {
  if (auto const waiter = waiters_.take(port, cookie)) {
    if (auto const* job = std::get_if<JobWait>(&waiter->what)) engine_.unwatch(job->job);
    if (auto const* flight = std::get_if<FlightWait>(&waiter->what)) engine_.unwatch(flight->job);
  } else if (auto* const stream = streams_.find(port, cookie)) {
    streams_.drop(*stream, std::max(now_, clock_.now()));
    streams_full_.store(streams_.is_full(), std::memory_order_relaxed);
  } else if (!forget_fetching(port, cookie) && has_requests() && gone_.size() < kGoneMax) {
    gone_.emplace(port, cookie);
  }
}

bool ShardLoop::take_gone(Request const& request) {
  return !gone_.empty() && gone_.erase({request.port, request.cookie}) > 0;
}

void ShardLoop::take_answers(Port port, std::vector<Answer>& out) {
  auto& ready = ready_[port];
  if (ready.empty()) return;
  ready_count_ -= ready.size();
  if (out.empty()) {
    std::swap(out, ready);
    return;
  }
  std::move(ready.begin(), ready.end(), std::back_inserter(out));
  ready.clear();
}

void ShardLoop::drain() { draining_ = true; }

bool ShardLoop::idle() const {
  return inbox_.size() == inbox_done_ && unfinished_.empty() &&
         (fetching_.empty() || WM_MUTATION(drains_do_not_wait_for_fetches)) && waiters_.size() == 0 && held_.empty() &&
         ready_count_ == 0 && staged_ == durable_;
}

engine::Context ShardLoop::context() { return {.now = now_, .chance = chance_.next()}; }

Result<Turn> ShardLoop::turn() {
  auto const start = turn_at_ = clock_.monotonic();
  std::uint64_t const commands_before = commands_;
  std::uint64_t const read_before = read_ns_;
  now_ = std::max(now_, clock_.now());
  turns_ += 1;
  if (traces_) traces_->begin_turn(start);
  WM_TRY_VOID(harvest());
  if (now_ - looked_at_ >= kLookAround || log_.next_base().segment != segment_) look_around();

  batch_.begin(log_.next_base());
  reader_.set_open_batch(batch_.base(), &batch_.payload());
  Turn turn;
  turn.paused = !has_room();
  if (!turn.paused) {
    engine_.begin_batch(batch_.base(), batch_);
    stream_jobs_left_ = kStreamJobsPerTurn;
    if (desk_ && desk_->has_gone()) write_gone();
    WM_TRY_VOID(take_commands());
    advance_more_ = engine_.advance(context(), batch_);
    if (!streams_.empty()) draining_ ? end_streams_for_drain() : end_streams_overdue();
    WM_TRY_VOID(serve_waiting());
    if (desk_ && waiters_.has_flight_waits()) answer_with_stored();
    while (answer_bytes_ < kAnswerBytesPerTurn) {  // Who is left is overdue in the next turn, too.
      auto const overdue = draining_ ? waiters_.any() : waiters_.first_overdue(now_);
      if (!overdue) break;
      WM_TRY_VOID(end_waiting(take_known(waiters_, *overdue)));
    }
    if (to_sweep_ > 0) to_sweep_ -= std::min(to_sweep_, desk_->sweep(now_));
    std::uint64_t const trimmed = survivors_.figures().trimmed_segments;
    std::uint64_t const ended = survivors_.figures().ended_jobs;
    WM_TRY_VOID(survivors_.step(batch_, now_, staged_, durable_));
    if (survivors_.figures().ended_jobs > ended) WM_TRY_VOID(serve_waiting());
    tell_streams();
    // The log gives a dropped segment's space back with the next flush. There may be no other: where the disk is full,
    // everything that would write waits for that space.
    if (batch_.empty() && survivors_.figures().trimmed_segments > trimmed) engine_.note_alive(batch_);
    if (batch_.empty() && now_ - batch_at_ >= kAliveEvery &&
        engine_.status().depth[static_cast<int>(JobState::leased)] > 0) {
      engine_.note_alive(batch_);
    }
  }
  look_at_memory();
  decide_ns_ += static_cast<std::uint64_t>((clock_.monotonic() - start).count()) - (read_ns_ - read_before);
  WM_TRY_VOID(finish_batch(commands_ - commands_before));

  turn.more = has_room() && (inbox_done_ < inbox_.size() || !unfinished_.empty() || !fetched_.empty() ||
                             !put_off_.empty() || advance_more_ || survivors_.busy() || (desk_ && desk_->has_gone()));
  if (!streams_.empty() && has_room()) turn.more |= streams_overdue_ || (streams_.has_work() && streams_.has_room());
  // Survivors whose copies are with the writer wait for it: it wakes us.
  if (turn.more && survivors_.busy() && inbox_.empty() && unfinished_.empty() && fetched_.empty() && put_off_.empty() &&
      !advance_more_ && staged_ > durable_ && !streams_overdue_ && !streams_.has_work() &&
      !(desk_ && desk_->has_gone())) {
    turn.more = false;
  }
  turn.more |= has_room() && draining_ && waiters_.any();
  turn.next = engine_.next_due();
  auto const sooner = [&turn](std::optional<Instant> when) {
    if (when && (!turn.next || *when < *turn.next)) turn.next = when;
  };
  sooner(waiters_.next_deadline());
  if (fetching_until_ != kNever) sooner(fetching_until_);
  if (!draining_) sooner(streams_.next_deadline());
  if (engine_.status().depth[static_cast<int>(JobState::leased)] > 0) sooner(batch_at_ + kAliveEvery);
  // What is due is for a turn that is not paused, and that begins with the end of a flush: it wakes us.
  if (turn.paused && !has_room()) turn.next.reset();
  return turn;
}

Result<> ShardLoop::take_commands() {
  flight_looks_ = 0;
  answer_bytes_ = 0;
  if (!unfinished_.empty()) {  // One part a turn, so that what comes in meanwhile gets its own.
    Unfinished next = std::move(unfinished_.front());
    unfinished_.pop_front();
    WM_TRY_VOID(execute_in_parts(std::move(next)));
  }
  std::size_t taken = 0;
  if (now_ >= fetching_until_) give_up_fetching();
  if (fetcher_) WM_TRY_VOID(take_fetched());
  while (inbox_done_ < inbox_.size() && taken < options_.commands_per_turn &&
         batch_.payload().size() < options_.batch_bytes && answer_bytes_ < kAnswerBytesPerTurn) {
    recorder_.waited(inbox_[inbox_done_].parsed_at, turn_at_);
    WM_TRY_VOID(execute(std::move(inbox_[inbox_done_++])));
    ++taken;
  }
  commands_ += taken;
  if (inbox_done_ == inbox_.size()) {
    inbox_.clear();
    inbox_done_ = 0;
    gone_.clear();
  } else if (inbox_done_ > options_.commands_per_turn) {
    inbox_.erase(inbox_.begin(), inbox_.begin() + static_cast<std::ptrdiff_t>(inbox_done_));
    inbox_done_ = 0;
  }
  return {};
}

// Nobody wants it any more, and so it is not decided: nothing happens by it.
bool ShardLoop::is_given_up(Request const& request) {
  if (!gone_.empty() && only_makes_work(request.command) && take_gone(request)) {
    given_up_ += 1;
    return true;
  }
  if (now_ < request.give_up_at) return false;
  given_up_ += 1;
  answer(request.port, request.cookie,
         Error{.code = ErrorCode::deadline_exceeded,
               .message = "its time was over before its turn came: nothing was done"});
  return true;
}

Result<> ShardLoop::execute(Request&& request) {
  if (is_given_up(request)) return {};
  Command& command = request.command;
  if (request.allowed.is_limited()) {
    if (auto refused = narrow(command, request.allowed, engine_)) {
      answer(request.port, request.cookie, *std::move(refused));
      return {};
    }
  }
  if (holds<Lease>(command)) {
    return execute_lease(std::move(request));
  } else if (holds<GetJob>(command)) {
    return execute_get(std::move(request));
  } else if (holds<BulkJobs>(command) || holds<PurgeQueue>(command) || (desk_ && holds<ForgetCachedBy>(command))) {
    return execute_in_parts({.request = std::move(request), .count = 0, .resume_before = {}});
  } else if (auto* list = std::get_if<ListJobs>(&command)) {
    WM_TRY(auto reply, list_jobs(std::move(*list)));
    answer(request.port, request.cookie, std::move(reply));
  } else if (auto const* of = std::get_if<GetJobLog>(&command)) {
    WM_TRY(auto reply, job_log(*of));
    answer(request.port, request.cookie, std::move(reply));
  } else if (holds<OpenStream>(command)) {
    open_stream(std::move(request));
  } else if (auto const* word = std::get_if<TellStream>(&command)) {
    tell_stream(request.port, *word);
  } else if (holds<PutCache>(command) || holds<ComputeCached>(command) || holds<ReadCached>(command) ||
             holds<ForgetCached>(command) || holds<ForgetCachedBy>(command)) {
    return execute_cached(std::move(request));
  } else if (auto const* wanted = std::get_if<GetStatus>(&command)) {
    Reply reply = status(wanted->with_queues);
    answer_bytes_ += bytes_shown(reply);
    answer(request.port, request.cookie, std::move(reply));
  } else {
    if (auto* patch = std::get_if<PatchJob>(&command)) {
      WM_TRY(auto refused, prepare_patch(*patch));
      if (refused) {
        answer(request.port, request.cookie, *std::move(refused));
        return {};
      }
    }
    bool again = false;
    auto const* queues_of = request.allowed.queues ? std::get_if<ListQueues>(&command) : nullptr;
    Reply reply = queues_of != nullptr ? list_allowed_queues(*queues_of, *request.allowed.queues, engine_)
                                       : engine_.execute(command, context(), batch_, &again);
    WM_ASSERT(!again);
    if (auto* job = std::get_if<JobReply>(&reply)) WM_TRY_VOID(fill_job(job->job));
    if (auto* queue = std::get_if<QueueReply>(&reply)) {
      sample_rates();
      rates_.fill(queue->queue);
    } else if (auto* queues = std::get_if<QueuesReply>(&reply)) {
      sample_rates();
      for (QueueView& view : queues->queues) rates_.fill(view);
    }
    answer_bytes_ += bytes_shown(reply);
    if (holds<BatchesReply>(reply)) answer_bytes_ += kLookBytes;
    answer(request.port, request.cookie, std::move(reply));
  }
  return {};
}

Result<> ShardLoop::execute_lease(Request&& request) {
  WM_TRY_VOID(serve_waiting());  // Who waits already comes first.
  auto& lease = std::get<Lease>(request.command);
  if (take_gone(request)) {  // Its reports count all the same.
    lease.max = 0;
    lease.wait = Duration{0};
  }
  WM_TRY(Reply reply, this->lease(request.command));
  auto* leased = std::get_if<LeaseReply>(&reply);
  bool const waits = leased != nullptr && leased->jobs.empty() && lease.wait > Duration{0} && !draining_;
  if (!waits) {
    answer(request.port, request.cookie, std::move(reply));
    if (traces_) pending_.back().worker = std::move(lease.worker);
    return {};
  }
  if (waiters_.size() >= options_.waiters_max) {
    // Its reports are decided and must be answered; that it cannot wait, it sees from an empty answer.
    answer(request.port, request.cookie, std::move(reply));
    return {};
  }
  Instant const deadline = std::min(now_ + lease.wait, request.give_up_at);
  lease.reports.clear();
  waiters_.add({.port = request.port,
                .cookie = request.cookie,
                .deadline = deadline,
                .what = LeaseWait{.request = std::move(lease), .reports = std::move(leased->reports)}});
  return {};
}

Result<> ShardLoop::execute_get(Request&& request) {
  bool again = false;
  Reply reply = engine_.execute(request.command, context(), batch_, &again);
  auto const& get = std::get<GetJob>(request.command);
  auto* job = std::get_if<JobReply>(&reply);
  if (job == nullptr || is_finished(job->job.state) || get.wait <= Duration{0} || draining_ || take_gone(request) ||
      waiters_.size() >= options_.waiters_max) {
    if (job != nullptr) WM_TRY_VOID(fill_job(job->job));
    answer(request.port, request.cookie, std::move(reply));
    return {};
  }
  engine_.watch(job->job.number);
  waiters_.add({.port = request.port,
                .cookie = request.cookie,
                .deadline = std::min(now_ + get.wait, request.give_up_at),
                .what = JobWait{.job = job->job.number},
                .allowed = std::move(request.allowed.queues)});
  return {};
}

Result<> ShardLoop::execute_in_parts(Unfinished unfinished) {
  bool again = false;
  answer_bytes_ += kLookBytes;
  auto* bulk = std::get_if<BulkJobs>(&unfinished.request.command);
  if (bulk != nullptr && !bulk->filter.tag.empty()) {
    std::optional<Error> refused;
    WM_TRY(again, bulk_by_tag(unfinished, refused));
    if (refused) {
      answer(unfinished.request.port, unfinished.request.cookie, *std::move(refused));
      return {};
    }
  } else if (holds<ForgetCachedBy>(unfinished.request.command)) {
    WM_TRY_VOID(forget_cached_by(unfinished, again));
  } else {
    Reply reply = engine_.execute(unfinished.request.command, context(), batch_, &again);
    auto const* part = std::get_if<CountReply>(&reply);
    if (part == nullptr) {
      answer(unfinished.request.port, unfinished.request.cookie, std::move(reply));
      return {};
    }
    unfinished.count += part->count;
    if (bulk != nullptr) bulk->before = part->next;
    if (auto* purge = std::get_if<PurgeQueue>(&unfinished.request.command)) purge->before = part->next;
  }
  if (again) {
    unfinished_.push_back(std::move(unfinished));
  } else {
    answer(unfinished.request.port, unfinished.request.cookie, CountReply{.count = unfinished.count});
  }
  return {};
}

// Workers that wait and jobs that have become ready meet here, in the batch that made them ready: one flush for both.
Result<> ShardLoop::serve_waiting() {
  do {  // A job that is found damaged is finished too, and somebody may wait for that. Each is ended once.
    damaged_ended_ = false;
    auto happened = engine_.take_happenings();
    happened.ready_queues.insert(happened.ready_queues.end(), put_off_.begin(), put_off_.end());
    put_off_.clear();
    WM_TRY_VOID(serve_happened(happened));
  } while (damaged_ended_);
  return {};
}

Result<> ShardLoop::serve_happened(engine::Happenings const& happened) {
  for (std::string const& queue : happened.ready_queues) {
    // In turns, so that neither those who ask again and again nor those who wait for good keep the others from jobs.
    std::uint64_t share = 0;
    for (bool waiters = true, streams = !streams_.empty(); waiters || streams;) {
      if (waiters && answer_bytes_ >= kAnswerBytesPerTurn) {
        if (waiters_.first_for_queue(queue) != nullptr) put_off_.insert(queue);
        waiters = false;
      }
      if (waiters) {
        WM_TRY(waiters, serve_waiter(queue));
      }
      if (streams) {
        WM_TRY(streams, serve_stream(queue, share));
      }
    }
  }
  if (!streams_.empty()) WM_TRY_VOID(serve_eager_streams());
  for (JobNumber const job : happened.finished) {
    auto const waiting = waiters_.ids_for_job(job);
    WM_TRY_VOID(end_flight(waiting));
  }
  return {};
}

// Whoever has waited longest for a job of this queue gets what he asked for. False: nobody does, or there is nothing.
Result<bool> ShardLoop::serve_waiter(std::string const& queue) {
  auto const id = waiters_.first_id_for_queue(queue);
  if (!id || !engine_.has_ready(std::get<LeaseWait>(waiters_.first_for_queue(queue)->what).request)) return false;
  Waiter waiter = take_known(waiters_, *id);
  auto& wait = std::get<LeaseWait>(waiter.what);
  Command command = std::move(wait.request);
  WM_TRY(Reply reply, lease(command));
  auto* const leased = std::get_if<LeaseReply>(&reply);
  if (leased != nullptr && leased->jobs.empty()) {  // All that there was is damaged: it goes on waiting.
    wait.request = std::get<Lease>(std::move(command));
    waiters_.put_back(*id, std::move(waiter));
    return true;
  }
  if (leased != nullptr) leased->reports = std::move(wait.reports);
  answer(waiter.port, waiter.cookie, std::move(reply));
  if (traces_) pending_.back().worker = std::get<Lease>(command).worker;
  return true;
}

// Answers with what holds now.
Result<> ShardLoop::end_waiting(Waiter waiter) {
  if (auto* lease = std::get_if<LeaseWait>(&waiter.what)) {
    answer(waiter.port, waiter.cookie, LeaseReply{.jobs = {}, .reports = std::move(lease->reports)});
    return {};
  }
  if (auto const* flight = std::get_if<FlightWait>(&waiter.what)) {
    engine_.unwatch(flight->job);
    WM_TRY(auto reply, end_of_flight(*flight));
    answer(waiter.port, waiter.cookie, std::move(reply));
    return {};
  }
  JobNumber const job = std::get<JobWait>(waiter.what).job;
  engine_.unwatch(job);
  JobRef ref{.number = job, .text = {}};
  if (waiter.allowed && !may_see(*waiter.allowed, job, engine_)) ref = {};
  bool again = false;
  Reply reply = engine_.execute(GetJob{.job = std::move(ref), .wait = {}}, context(), batch_, &again);
  if (auto* seen = std::get_if<JobReply>(&reply)) WM_TRY_VOID(fill_job(seen->job));
  answer(waiter.port, waiter.cookie, std::move(reply));
  return {};
}

void ShardLoop::answer(Port port, Cookie cookie, Reply reply) {
  pending_.push_back(
      {.batch = 0, .port = port, .answer = {.cookie = cookie, .reply = std::move(reply), .turn = turns_}});
}

void ShardLoop::sample_rates() {
  if (!rates_.is_stale(now_)) return;
  engine_.queue_views(queue_views_);
  rates_.sample(now_, queue_views_);
}

void ShardLoop::look_around() {
  looked_at_ = now_;
  segment_ = log_.next_base().segment;
  log::LogStatus const log = log_.status();
  std::uint64_t const reserve = disk_reserve_.load(std::memory_order_relaxed);
  bool const low = log.free_bytes < reserve || log.next_has_no_room;
  disk_low_.store(low, std::memory_order_relaxed);
  tell_shortage(told_disk_low_, {.of = Shortage::Of::disk,
                                 .begins = low,
                                 .bytes = log.free_bytes,
                                 .bound = reserve,
                                 .next_has_no_room = log.next_has_no_room});
  tell_shortage(told_memory_full_, {.of = Shortage::Of::memory,
                                    .begins = memory_full(),
                                    .bytes = engine_.status().jobs_bytes(),
                                    .bound = jobs_memory_max_.load(std::memory_order_relaxed)});
  survivors_.look_again(low);
  if (desk_ && to_sweep_ == 0) to_sweep_ = desk_->index().places();
  sample_rates();
}

// Once for each turn of events, and seen once a second, so that what goes up and down at its bound fills no log.
void ShardLoop::tell_shortage(bool& told, Shortage const& is) {
  if (told == is.begins) return;
  told = is.begins;
  if (options_.on_shortage) options_.on_shortage(is);
}

// In each turn, as a second is long enough to fill a good part of any memory. What has been let in by then is decided.
void ShardLoop::look_at_memory() {
  std::uint64_t const most = jobs_memory_max_.load(std::memory_order_relaxed);
  memory_full_.store(most != 0 && engine_.status().jobs_bytes() >= most, std::memory_order_relaxed);
}

}  // namespace workmill::shard
