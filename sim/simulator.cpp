#include "sim/simulator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "base/assert.h"
#include "base/variant.h"
#include "log/record.h"
#include "shard/job_reader.h"

namespace workmill::sim {
namespace {

constexpr int kTurnsToRestMax = 50'000;
constexpr int kTurnsToSettleMax = 60;

// For what only looks.
class NoSink final : public EffectSink {
 public:
  Written write(Effect const&) override {
    WM_ASSERT(false);
    return {};
  }
};

Result<> read_effects(BytesView payload, std::vector<Effect>& out) {
  out.clear();
  return log::for_each_record(payload, [&](Effect const& effect, std::uint32_t, std::uint32_t) -> Result<> {
    out.push_back(effect);
    return {};
  });
}

std::string_view name_of(Command const& command) {
  constexpr std::array<std::string_view, std::variant_size_v<Command>> kNames{
      "Enqueue",      "Lease",          "ReportBatch", "GetJob",     "GetJobLog",      "ListJobs",      "CancelJob",
      "RetryJob",     "DeleteJob",      "PatchJob",    "BulkJobs",   "ListQueues",     "GetQueue",      "PatchQueue",
      "PurgeQueue",   "GetStatus",      "OpenStream",  "TellStream", "PutCache",       "ComputeCached", "ReadCached",
      "ForgetCached", "ForgetCachedBy", "SetFlag",     "RemoveFlag", "GetFlagHistory", "MakeBatch",     "CloseBatch",
      "ForgetBatch",  "GetBatch",       "ListBatches"};
  return kNames[command.index()];
}

std::string details(Command const& command) {
  if (auto const* bulk = std::get_if<BulkJobs>(&command)) {
    JobFilter const& filter = bulk->filter;
    return fmt::format(" action {} state {} queue '{}' type '{}' group '{}' tag '{}'", static_cast<int>(bulk->action),
                       filter.state ? to_string(*filter.state) : "any", filter.queue, filter.type, filter.group,
                       filter.tag);
  }
  JobRef const* job = std::visit(
      []<class C>(C const& c) -> JobRef const* {
        if constexpr (requires { c.job; })
          return &c.job;
        else
          return nullptr;
      },
      command);
  if (job == nullptr) return {};
  return job->number ? fmt::format(" {:x}", std::to_underlying(*job->number)) : " " + job->text;
}

// All kinds of requests but some.
WorkloadOptions without(WorkloadOptions workload, std::uint32_t bits) {
  for (std::size_t i = 0; i < kActions; ++i) {
    if ((bits >> (kWithoutActionsFrom + i) & 1) != 0) workload.weights[i] = 0;
  }
  return workload;
}

}  // namespace

Simulator::Simulator(SimOptions const& options)
    : options_(options),
      setup_(draw_setup(options.seed)),
      chance_(options.seed),
      disk_(mix64(options.seed)),
      writer_(watch_, figures_),
      fetcher_(figures_),
      model_({.finished_kept_per_queue = setup_.engine.finished_kept_per_queue,
              .dead_kept = setup_.engine.dead_kept,
              .idempotency_keys_max = setup_.engine.idempotency_keys_max,
              .steps_max = setup_.engine.steps_max,
              .waiters_max = setup_.shard.waiters_max,
              .streams_max = setup_.shard.streams.streams_max,
              .reconnect_within = setup_.shard.streams.reconnect_within,
              .stream_window = setup_.shard.streams.window_bytes,
              .stream_window_all = setup_.shard.streams.window_bytes_all,
              .cache_jitter_permille = setup_.engine.cache_jitter_permille,
              .cache_volatile = setup_.engine.cache_volatile,
              .cache_disk_bytes = setup_.cache.disk_bytes,
              .cache_memory_bytes = setup_.cache.memory_bytes,
              .flags_max = setup_.engine.flags_max,
              .batches_max = setup_.engine.batches_max,
              .batch_kept = setup_.engine.batch_kept},
             figures_),
      clients_(without(setup_.workload, options.without), chance_.fork(), figures_),
      stream_workers_(is_without(Without::streams) ? StreamWorkload{} : setup_.streams, chance_.fork()),
      cache_callers_(is_without(Without::cache) ? CacheWorkload{} : setup_.cache_callers, chance_.fork()),
      // Apart, so that all else stays as it was.
      flag_callers_(is_without(Without::flags) ? FlagWorkload{} : setup_.flag_callers,
                    Rng{mix64(options.seed ^ 0xf1a65)}),
      batch_callers_(is_without(Without::batches) ? BatchWorkload{} : setup_.batch_callers,
                     Rng{mix64(options.seed ^ 0xba7c5)}),
      doctor_chance_(mix64(options.seed ^ 0xd0c)),
      fetch_chance_(mix64(options.seed ^ 0xfe7c4)) {
  (void)turn_on(options.mutation);
  setup_.log.mutation = options.mutation;
  setup_.shard.make_flusher = [this](log::Log& log) { return writer_.make(log); };
  setup_.shard.make_fetcher = [this] { return fetcher_.make(setup_.fetches_max); };
  disk_.set_slow(setup_.log.slow_permille > 0);
  disk_bytes_ = setup_.disk_bytes;
  if (is_without(Without::deaths)) setup_.requests_per_death = 0;
  if (is_without(Without::disk_faults)) setup_.requests_per_fault = setup_.recovery_fault_permille = 0;
  if (is_without(Without::jumps)) setup_.jump_permille = setup_.clock_back_permille = 0;
  if (is_without(Without::flips)) setup_.flip_permille = 0;
  if (is_without(Without::writer)) setup_.shard.flush_by = shard::FlushBy::turn;
  if (is_without(Without::slow_flush)) setup_.log.slow_flush_max = Duration{0};
}

SimResult Simulator::run() {
  trace(describe(setup_));
  if (disk_bytes_ > 0) disk_.set_capacity(disk_bytes_);
  start();
  while (ok() && figures_[Figure::operations] < options_.operations) step();
  if (ok()) come_to_rest();
  if (ok()) {
    die(Death::power_cut);
    start();
  }
  if (ok()) come_to_rest();
  return {.ok = ok(), .complaint = complaint_, .figures = figures_};
}

void Simulator::complain(std::string text) {
  if (complaint_.empty()) complaint_ = std::move(text);
}

void Simulator::trace(std::string_view text) const {
  if (options_.trace) fmt::print(stderr, "{:>8} {} {}\n", figures_[Figure::turns], to_ms(now_) % 100'000'000, text);
}

// ---- One step: time goes by, requests come in, the shard turns, and something may break.

void Simulator::step() {
  pass_time();
  send_requests();
  if (comes_once_in(setup_.requests_per_fault)) arm_fault();
  if (!flipped_ && chance_.chance(setup_.flip_permille) && settle()) flip_a_bit_in_life();
  if (!ok()) return;
  turn();
  if (ok() && chance_.chance(30) && settle()) look_closely(chance_.chance(100));
  if (ok() && chance_.chance(2)) come_to_rest();
  if (!ok() || !comes_once_in(setup_.requests_per_death)) return;
  if (chance_.chance(50)) {
    stop_orderly();
  } else {
    if (!sent_.empty()) ++figures_[Figure::died_with_requests_waiting];
    die(draw_death());
  }
  if (ok()) start();
}

bool Simulator::comes_once_in(std::uint64_t requests) {
  return chance_.below(1'000'000) < chance_per_turn(setup_, requests);
}

void Simulator::pass_time() {
  if (setup_.tick_ms_max > 0 && chance_.chance(600)) {
    advance(Duration{static_cast<Duration::rep>(chance_.below(setup_.tick_ms_max + 1))});
  }
  if (chance_.chance(setup_.jump_permille)) {
    ++figures_[Figure::fault_stall];
    std::uint64_t const far = chance_.below(3) == 0 ? 100'000'000 : 400'000;
    advance(Duration{static_cast<Duration::rep>(chance_.below(far))});
  }
  if (chance_.chance(setup_.clock_back_permille)) {
    ++figures_[Figure::fault_clock_back];
    clock_.set_back(Duration{static_cast<Duration::rep>(chance_.below(chance_.chance(200) ? 3'600'000 : 2'000))});
  }
  if (setup_.log.segments.durability == log::Durability::os && chance_.chance(20)) (void)log_->sync();
}

// Where a thread syncs, it does so on time, also in the middle of a long pause.
void Simulator::advance(Duration by) {
  auto const& segments = setup_.log.segments;
  if (segments.durability == log::Durability::interval && segments.synced_elsewhere) {
    auto const left = std::chrono::ceil<Duration>(synced_at_ + segments.sync_interval - clock_.monotonic());
    if (left > Duration{0} && left < by) {
      clock_.advance(left);
      by -= left;
    }
    run_syncer();
  }
  clock_.advance(by);
  run_syncer();
}

void Simulator::run_syncer() {
  auto const& segments = setup_.log.segments;
  if (segments.durability != log::Durability::interval || !segments.synced_elsewhere || !log_) return;
  if (clock_.monotonic() < synced_at_ + segments.sync_interval) return;
  (void)log_->sync();  // A failure comes back from the next flush.
  synced_at_ = clock_.monotonic();
}

void Simulator::arm_fault() {
  if (chance_.chance(500)) {
    disk_.fail_sync_after(1 + chance_.below(2));
    trace("the disk will fail to sync");
  } else {
    disk_.fail_after(1 + chance_.below(6));
    trace("the disk will fail to write");
  }
}

// What the writer thread has done meanwhile.
void Simulator::step_writer() {
  if (writer_.is_asked() && chance_.chance(600)) flush_by_writer();
  if (writer_.is_unheard() && chance_.chance(500)) writer_.tell();
}

// And the thread that waits for the disk.
void Simulator::step_fetcher() {
  while (fetcher_.is_waiting() && fetch_chance_.chance(setup_.fetched_permille)) fetcher_.finish_one();
}

void Simulator::flush_by_writer() {
  writer_.flush();
  note_flushed();
}

void Simulator::note_flushed() {
  for (auto open = open_.rbegin(); open != open_.rend() && !open->flushed_at; ++open) {
    if (open->rests_on <= watch_.flushed) open->flushed_at = clock_.monotonic();
  }
}

bool Simulator::turn() {
  ++figures_[Figure::turns];
  run_syncer();
  step_writer();
  step_fetcher();
  watch_.begin_turn();
  now_ = std::max(now_, clock_.now());
  if (options_.trace) {
    for (std::size_t i = 0; i < std::min(setup_.shard.commands_per_turn, sent_.size()); ++i)
      trace(fmt::format("{} {}{}", sent_[i].cookie, name_of(sent_[i].command), details(sent_[i].command)));
  }
  bool const was_in_bulk = model_.has_unfinished_bulk();
  bool const was_disk_low = loop_->disk_low();
  std::uint64_t const told = writer_.told();
  std::uint64_t const evicted_before = lost_entries();
  if (writer_.is_unheard()) ++figures_[Figure::turn_while_flush_under_way];

  auto const turned = front_->turn();

  check_room();
  ++loop_turns_;
  if (sent_.size() < loop_->requests()) {
    complain("the shard has more requests than were sent");
    return false;
  }
  std::size_t const decided = sent_.size() - loop_->requests();
  Open open;
  open.record.now = now_;
  open.record.is_draining = is_draining_;
  open.record.is_disk_low = was_disk_low || loop_->disk_low();
  open.record.evicted_before = evicted_before;
  open.record.evicted_after = lost_entries();
  open.record.unfinished = loop_->unfinished();
  open.record.oldest_segment = watch_.oldest_kept;
  open.set_aside = fetcher_.take_set_aside();
  open.fetched = fetcher_.take_fetched();
  set_aside_.insert(open.set_aside.begin(), open.set_aside.end());
  open.number = loop_turns_;
  open.asked.assign(std::make_move_iterator(sent_.begin()),
                    std::make_move_iterator(sent_.begin() + static_cast<std::ptrdiff_t>(decided)));
  sent_.erase(sent_.begin(), sent_.begin() + static_cast<std::ptrdiff_t>(decided));
  if (watch_.staged) {
    open.payload = watch_.payload;
    open.batch = watch_.serial;
    bool const is_on_writer = watch_.serial <= writer_.handed_over();
    if (is_on_writer != was_on_writer_) ++figures_[Figure::flush_changed_hands];
    was_on_writer_ = is_on_writer;
  }
  open.rests_on = watch_.serial;
  if (!turned) {
    turn_failed(turned.error(), std::move(open), was_in_bulk);
    return true;
  }
  if (was_disk_low) {
    for (Asked const& asked : open.asked) {
      if (holds<Lease>(asked.command) || holds<ReportBatch>(asked.command) || holds<DeleteJob>(asked.command)) {
        ++figures_[Figure::worked_while_disk_low];
      }
    }
    if (!loop_->disk_low()) ++figures_[Figure::disk_low_over];
  }
  if (turned->paused) {
    ++figures_[Figure::paused_for_unflushed];
    if (watch_.staged || decided > 0) complain("a turn that was to do nothing did something");
  } else {
    open.abandoned = std::exchange(abandoned_, {});
    std::optional<Instant> const next = turned->next;
    open.record.is_settled = !next || *next > now_;
    open_.push_back(std::move(open));
    note_flushed();
    if (sent_.empty() && idempotent_at_ == Instant::max()) idempotent_at_ = now_;
  }
  // What a turn flushes itself is durable when it returns; of the writer's flushes it knew what it was told before.
  take_answers(watch_.serial > writer_.handed_over() ? watch_.serial : told);
  tell_model();
  if (flipped_ && --flipped_->turns_left == 0) flip_back();
  return turned->more;
}

void Simulator::turn_failed(Error const& error, Open open, bool was_in_bulk) {
  trace(fmt::format("the turn failed: {}", describe(error)));
  switch (error.code) {
    case ErrorCode::io_failed:
      ++figures_[error.message.starts_with("cannot sync") ? Figure::fault_sync_failed : Figure::fault_write_failed];
      break;
    case ErrorCode::disk_full: ++figures_[Figure::fault_disk_full]; break;
    default: complain(fmt::format("the shard gave up: {}", describe(error)));
  }
  if (was_in_bulk) ++figures_[Figure::died_in_bulk];
  if (watch_.staged) {
    open.abandoned = std::exchange(abandoned_, {});
    open_.push_back(std::move(open));
  }
  die(draw_death());
  if (ok()) start();
}

// An answer may leave once batch `durable` and all before it are durable, if it rests on no later one; and then it
// does.
void Simulator::take_answers(std::uint64_t durable) {
  std::vector<LeaseReply> to_nobody;
  for (auto& [answer, has_gone, is_push] : front_->take_answers()) {
    auto const open = std::lower_bound(open_.begin(), open_.end(), answer.turn,
                                       [](Open const& o, std::uint64_t number) { return o.number < number; });
    if (open == open_.end() || open->number != answer.turn || open->is_answered) {
      return complain("an answer came of a turn that is over");
    }
    if (open->rests_on > durable) return complain("an answer left before what it rests on was durable");
    if (is_push) {
      if (has_gone) {
        ++figures_[Figure::stream_push_to_nobody];
      } else {
        stream_workers_.pushed(answer.cookie, answer.reply);
      }
      open->pushes[answer.cookie].push_back({.reply = std::move(answer.reply), .answers_before = open->replies.size()});
      continue;
    }
    if (has_gone) {
      ++figures_[Figure::answer_to_nobody];
      open->gone.push_back(answer.cookie);
      if (auto const* leased = std::get_if<LeaseReply>(&answer.reply)) to_nobody.push_back(*leased);
    }
    set_aside_.erase(answer.cookie);
    open->replies.emplace(answer.cookie, std::move(answer.reply));
  }
  for (Open& open : open_) {
    if (open.is_answered || open.rests_on > durable) continue;
    open.is_answered = true;
    open.record.answered_at = std::max(now_, clock_.now());
    if (options_.mutation != Mutation::none) mutate(open.replies);
    for (auto const& [cookie, reply] : open.replies) {
      if (std::ranges::find(open.gone, cookie) != open.gone.end()) continue;
      clients_.answered(cookie, reply);
      batch_callers_.answered(reply);
      if (forgetting_by_ == cookie) forgetting_by_.reset();
      if (auto const* enqueued = std::get_if<EnqueueReply>(&reply)) remember_ids(*enqueued);
    }
  }
  for (LeaseReply const& leased : to_nobody) give_back(leased);
  if (!front_->complaint().empty()) complain(front_->complaint());
}

void Simulator::tell_model() {
  while (ok() && !open_.empty() && open_.front().is_answered && open_.front().rests_on <= watch_.synced) {
    tell_model(open_.front(), true);
    open_.pop_front();
  }
}

void Simulator::tell_model(Open& open, bool was_answered) {
  if (open.restart) {
    model_.restarted(open.restart->resumed_at, open.restart->last_in_life_at, open.restart->evicted);
    tell_model_of_looks(open);
    if (!ok()) return;
    // Not before: should this start be lost, one that failed before it may not be, and the next goes by the life
    // before.
    for (LogWatch::Batch& batch : watch_.batches) {
      if (batch.serial <= open.rests_on) batch.of_recovery = false;
    }
    return;
  }
  effects_.clear();
  if (open.batch != 0) {
    if (auto const read = read_effects(open.payload, effects_); !read) return complain(describe(read.error()));
  }
  if (options_.trace) {
    trace(fmt::format("the model is told of turn {}{}: {} requests, {} records", open.number,
                      was_answered ? "" : ", unanswered", open.asked.size(), effects_.size()));
  }
  for (auto const& [cookie, at] : open.abandoned) model_.abandon(cookie, at);
  open.record.asked = open.asked;
  open.record.set_aside = open.set_aside;
  open.record.fetched = open.fetched;
  open.record.effects = effects_;
  open.record.replies = was_answered ? &open.replies : nullptr;
  open.record.pushes = &open.pushes;
  if (!model_.turn(open.record)) {
    return complain(was_answered ? model_.complaint() : "in a turn that nobody was answered in: " + model_.complaint());
  }
  tell_model_of_looks(open);
}

void Simulator::tell_model_of_looks(Open const& open) {
  for (CacheSeen const& seen : open.seen) {
    if (!model_.saw(seen)) return complain("somebody looked, and " + model_.complaint());
  }
  for (FlagsSeen const& seen : open.flags_seen) {
    if (!model_.saw(seen)) return complain("somebody looked, and " + model_.complaint());
  }
}

void Simulator::hurry() {
  if (writer_.is_asked()) flush_by_writer();
  if (writer_.is_unheard()) writer_.tell();
  if (setup_.log.segments.durability != log::Durability::sync && !log_->sync()) {
    ++figures_[Figure::fault_sync_failed];  // There may be no flush any more that would bring it back.
    die(Death::kill);
    if (ok()) start();
    return;
  }
  tell_model();
}

bool Simulator::settle() {
  for (int i = 0; ok() && !open_.empty() && i < kTurnsToSettleMax; ++i) {
    turn();
    if (ok()) hurry();
  }
  return ok() && open_.empty() && !flipped_;
}

// What lives bounds what is used: 2.5 times, two segments, and the one being written.
void Simulator::check_disk_bound(std::uint64_t live_before) {
  ++figures_[Figure::disk_bound_checks];
  std::uint64_t used = 0;
  for (log::SegmentInfo const& segment : log_->status().segments) used += segment.bytes;
  // The shard looks at its log once a second: what lived then counts.
  auto const live = static_cast<double>(std::max(live_before, engine_->live_bytes() + cache_->live_bytes()));
  std::uint64_t const segment = setup_.log.segments.segment_bytes;
  auto const allowed = static_cast<std::uint64_t>(2.5 * live) + 3 * segment + watch_.largest_batch;
  if (used > allowed && !has_been_damaged_) {
    complain(fmt::format("the log uses {} bytes, and {} live: {} are allowed", used, live, allowed));
  }
}

void Simulator::look_closely(bool with_content) {
  ++figures_[Figure::invariant_checks];
  if (std::string wrong = engine_->check_invariants(); !wrong.empty()) {
    return complain("the engine contradicts itself: " + wrong);
  }
  if (std::string wrong = loop_->check_streams(); !wrong.empty()) {
    return complain("the table of streams contradicts itself: " + wrong);
  }
  if (!model_.compare(all_jobs(*engine_, *log_, with_content), with_content)) return complain(model_.complaint());
  std::vector<QueueView> queues;
  engine_->queue_views(queues);
  if (!model_.compare_queues(queues)) return complain(model_.complaint());
  check_cache();
  if (ok()) check_flags();
  if (ok()) check_batches();
  if (!ok() || !with_content) return;
  shard::JobReader reader{*log_};
  for (auto const& [number, job] : model_.jobs()) {
    auto const view = engine_->view(job.number);
    if (!view) return complain(fmt::format("job {:x} cannot be looked at", number));
    auto const lines = reader.log_lines(*view);
    if (!lines) return complain(describe(lines.error()));
    if (!model_.compare_lines(job.number, *lines)) return complain(model_.complaint());
  }
}

std::vector<JobView> Simulator::all_jobs(engine::Engine& engine, log::Log& log, bool with_content) {
  std::vector<JobView> all;
  NoSink sink;
  std::optional<JobNumber> before;
  do {
    bool again = false;
    Reply reply = engine.execute(ListJobs{.filter = {}, .limit = 1'000, .before = before}, {.now = now_, .chance = 0},
                                 sink, &again);
    auto& page = std::get<JobsReply>(reply);
    before = page.next;
    if (all.empty() && !before) {  // Nearly always, and there are some at each restart.
      all = std::move(page.jobs);
    } else {
      std::move(page.jobs.begin(), page.jobs.end(), std::back_inserter(all));
    }
  } while (before);
  if (!with_content) return all;
  shard::JobReader reader{log};
  for (JobView& job : all) {
    if (auto const filled = reader.fill(job); !filled) {
      complain(describe(filled.error()));
      break;
    }
  }
  return all;
}

// Nobody asks for anything for a few seconds. Then nothing is left to do, and the log is no larger than it may be.
void Simulator::come_to_rest() {
  disk_.heal();
  flip_back();
  if (clock_.now() < now_) clock_.advance(now_ - clock_.now());  // It had been set back, and time stood still.
  std::uint64_t live_before = 0;
  std::uint64_t const restarts = figures_[Figure::restarts];
  for (int second = 0; ok() && second < 4; ++second) {
    live_before = engine_->live_bytes() + cache_->live_bytes();
    advance(std::chrono::milliseconds{1'100});
    bool more = true;
    for (int i = 0; ok() && more; ++i) {
      if (i > kTurnsToRestMax) return complain("the shard does not come to rest");
      if (fetcher_.is_waiting()) fetcher_.finish_one();
      more = turn();
      if (ok()) hurry();
      more = more || !sent_.empty() || !open_.empty() || fetcher_.is_busy();
    }
  }
  if (!ok()) return;
  look_closely(chance_.chance(300));
  // On a disk that is full to the last byte the process may have died again and again: that is no rest.
  if (ok() && figures_[Figure::restarts] == restarts) check_disk_bound(live_before);
}

}  // namespace workmill::sim
