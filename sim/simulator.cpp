#include "sim/simulator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/assert.h"
#include "log/record.h"
#include "shard/job_reader.h"
#include "shard/recovery.h"

namespace workmill::sim {
namespace {

constexpr int kTurnsToRestMax = 50'000;
constexpr std::size_t kUnansweredMax = 100;
constexpr std::uint64_t kDiskEnough = std::uint64_t{1} << 40;

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
      "Enqueue",   "Lease",    "ReportBatch", "GetJob",     "GetJobLog", "ListJobs",   "CancelJob",  "RetryJob",
      "DeleteJob", "PatchJob", "BulkJobs",    "ListQueues", "GetQueue",  "PatchQueue", "PurgeQueue", "GetStatus"};
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

std::string describe(Setup const& setup) {
  return fmt::format(
      "segments of {}, {} recent bytes, {} finished kept, {} answers kept, {} steps, {} commands a turn, {} waiters, "
      "scans {}, copies {}, {} queues, {} groups, {} workers, {} jobs, payloads of {}, {} requests a turn, disk of {}",
      setup.log.segments.segment_bytes, setup.log.segments.recent_bytes, setup.engine.finished_kept_per_queue,
      setup.engine.idempotency_keys_max, setup.engine.steps_max, setup.shard.commands_per_turn, setup.shard.waiters_max,
      setup.shard.survivors.scan_bytes_per_step, setup.shard.survivors.copy_bytes_per_step, setup.workload.queues,
      setup.workload.groups, setup.workload.workers, setup.workload.backlog, setup.workload.payload_bytes_max,
      setup.requests_per_turn_max, setup.disk_bytes);
}

}  // namespace

Setup draw_setup(std::uint64_t seed) {
  Rng chance{mix64(seed ^ 0x5e70b)};
  auto const below = [&](std::uint64_t n) { return chance.below(n); };
  auto const one_of = [&](std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(chance.below(values.size())));
  };
  Setup setup;
  auto const segment = static_cast<std::uint32_t>(one_of({4096, 4096, 8192, 16384, 65536}));
  setup.log.segments.segment_bytes = segment;
  setup.log.segments.recent_bytes = static_cast<std::size_t>(one_of({0, 2'000, 20'000, 1 << 20}));
  setup.log.segments.log_id = chance.next();
  if (chance.chance(300)) setup.log.slow_flush_max = Duration{static_cast<Duration::rep>(1 + below(500))};

  setup.engine.finished_kept_per_queue = static_cast<std::uint32_t>(one_of({0, 1, 5, 30, 30, 100}));
  setup.engine.dead_kept = Duration{static_cast<Duration::rep>(one_of({1'000, 60'000, 3'600'000}))};
  setup.engine.idempotency_keys_max = static_cast<std::uint32_t>(one_of({1, 10, 50, 1'000'000}));
  setup.engine.steps_max = static_cast<std::uint32_t>(one_of({1, 2, 5, 50, 1'000, 1'000, 1'000}));

  setup.shard.flush_by = shard::FlushBy::turn;
  setup.shard.inbox_max = one_of({4, 65'536});
  setup.shard.waiters_max = one_of({0, 2, 65'536, 65'536});
  setup.shard.commands_per_turn = one_of({1, 3, 8'192, 8'192});
  setup.shard.disk_reserve_bytes = 0;
  setup.shard.survivors.used_to_live_max = 2.5;
  setup.shard.survivors.slack_bytes = 2 * std::uint64_t{segment};
  setup.shard.survivors.scan_bytes_per_step = one_of({1, 500, 4'000, 1 << 20});
  setup.shard.survivors.copy_bytes_per_step = one_of({1, 200, 2'000, 256 << 10});

  WorkloadOptions& work = setup.workload;
  //               one  bulk rep lease report stale get log list canc retry rm patch bulk lq gq pq purge status
  work.weights = {240, 40, 25, 250, 260, 30, 20, 6, 6, 15, 12, 8, 20, 2, 3, 5, 6, 1, 2};
  for (std::uint32_t& weight : work.weights) {
    if (chance.chance(150)) weight = static_cast<std::uint32_t>(weight * below(4));
  }
  work.weights[static_cast<std::size_t>(Action::enqueue_one)] += 50;
  work.weights[static_cast<std::size_t>(Action::lease)] += 100;
  work.weights[static_cast<std::size_t>(Action::report)] += 100;
  work.queues = static_cast<std::uint32_t>(1 + below(5));
  work.groups = static_cast<std::uint32_t>(one_of({0, 1, 4, 12}));
  work.workers = static_cast<std::uint32_t>(1 + below(20));
  work.backlog = one_of({5, 20, 60, 60, 200});
  work.bulk_max = static_cast<std::uint32_t>(one_of({3, 10, 40}));
  work.payload_bytes_max = one_of({10, 60, 60, 300, 3'000});
  for (std::uint32_t* share : {&work.delay, &work.expiry, &work.id, &work.key, &work.group, &work.priority,
                               &work.retries, &work.keep, &work.idempotent, &work.vanish}) {
    if (chance.chance(250)) *share = 0;
  }
  setup.requests_per_turn_max = one_of({1, 4, 8, 16, 40});
  setup.death_permille = static_cast<std::uint32_t>(one_of({2, 10, 10, 40}));
  setup.fault_permille = static_cast<std::uint32_t>(one_of({0, 10, 10, 40}));
  setup.recovery_fault_permille = static_cast<std::uint32_t>(one_of({0, 200, 500}));
  setup.clock_back_permille = static_cast<std::uint32_t>(one_of({0, 2, 2, 20}));
  setup.jump_permille = static_cast<std::uint32_t>(one_of({0, 2, 10}));
  setup.tick_ms_max = static_cast<std::uint32_t>(one_of({0, 1, 20, 20, 200}));
  if (chance.chance(150)) {
    setup.disk_bytes = std::uint64_t{segment} * (10 + below(40));
    setup.shard.disk_reserve_bytes = std::uint64_t{segment} * one_of({0, 4, 8});
  }
  return setup;
}

Simulator::Simulator(SimOptions const& options)
    : options_(options),
      setup_(draw_setup(options.seed)),
      chance_(options.seed),
      disk_(mix64(options.seed)),
      model_({.finished_kept_per_queue = setup_.engine.finished_kept_per_queue,
              .dead_kept = setup_.engine.dead_kept,
              .idempotency_keys_max = setup_.engine.idempotency_keys_max,
              .steps_max = setup_.engine.steps_max,
              .waiters_max = setup_.shard.waiters_max},
             figures_),
      clients_(setup_.workload, chance_.fork(), figures_) {
  setup_.log.mutation = options.mutation;
}

SimResult Simulator::run() {
  trace(describe(setup_));
  if (setup_.disk_bytes > 0) disk_.set_capacity(setup_.disk_bytes);
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
  if (chance_.chance(setup_.fault_permille)) arm_fault();
  turn();
  if (ok() && chance_.chance(2)) come_to_rest();
  if (!ok() || !chance_.chance(setup_.death_permille)) return;
  if (chance_.chance(50)) {
    stop_orderly();
  } else {
    if (!sent_.empty()) ++figures_[Figure::died_with_requests_waiting];
    die(draw_death());
  }
  if (ok()) start();
}

void Simulator::pass_time() {
  if (setup_.tick_ms_max > 0 && chance_.chance(600)) {
    clock_.advance(Duration{static_cast<Duration::rep>(chance_.below(setup_.tick_ms_max + 1))});
  }
  if (chance_.chance(setup_.jump_permille)) {
    ++figures_[Figure::fault_stall];
    std::uint64_t const far = chance_.below(3) == 0 ? 100'000'000 : 400'000;
    clock_.advance(Duration{static_cast<Duration::rep>(chance_.below(far))});
  }
  if (chance_.chance(setup_.clock_back_permille)) {
    ++figures_[Figure::fault_clock_back];
    clock_.set_back(Duration{static_cast<Duration::rep>(chance_.below(chance_.chance(200) ? 3'600'000 : 2'000))});
  }
}

void Simulator::send_requests() {
  // Nobody asks for ever more while nothing is answered.
  std::uint64_t const count = sent_.size() > kUnansweredMax ? 0 : chance_.below(setup_.requests_per_turn_max + 1);
  for (std::uint64_t i = 0; i < count; ++i) {
    shard::Cookie const cookie = next_cookie_++;
    send(clients_.next(model_, std::max(now_, clock_.now()), cookie), cookie);
  }
  if (chance_.chance(10)) {
    auto const cookie = clients_.hang_up();
    if (cookie && std::none_of(sent_.begin(), sent_.end(), [&](Asked const& a) { return a.cookie == *cookie; })) {
      loop_->abandon(0, *cookie);
      model_.abandon(*cookie);
      ++figures_[Figure::waiter_abandoned];
    }
  }
}

void Simulator::send(Command command, shard::Cookie cookie) {
  ++figures_[Figure::operations];
  // Which of two answers of one millisecond goes first where only some are kept, nobody has promised.
  if (auto* enqueue = std::get_if<Enqueue>(&command);
      enqueue != nullptr && enqueue->idempotency && setup_.engine.idempotency_keys_max < 1'000'000) {
    if (now_ <= idempotent_at_ && clock_.now() <= idempotent_at_) enqueue->idempotency.reset();
    idempotent_at_ = Instant::max();
  }
  Asked asked{.cookie = cookie, .command = std::move(command)};
  Asked mutated = asked;
  if (options_.mutation != Mutation::none) mutate(mutated);
  auto const taken = loop_->submit({.port = 0, .cookie = cookie, .command = std::move(mutated.command)});
  if (taken) {
    sent_.push_back(std::move(asked));
    return;
  }
  clients_.refused(cookie);
  switch (taken.error().code) {
    case ErrorCode::overloaded:
      ++figures_[Figure::inbox_full];
      if (sent_.size() < setup_.shard.inbox_max) complain("a request was refused as too many, and they were not");
      return;
    case ErrorCode::disk_full:
      ++figures_[Figure::disk_low_refused];
      if (!std::holds_alternative<Enqueue>(asked.command)) complain("something else than an enqueue was refused");
      return;
    default: return complain(fmt::format("a request was refused: {}", describe(taken.error())));
  }
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

bool Simulator::turn() {
  ++figures_[Figure::turns];
  watch_.begin_turn();
  now_ = std::max(now_, clock_.now());
  std::size_t const decided = std::min<std::size_t>(setup_.shard.commands_per_turn, sent_.size());
  std::vector<Asked> asked{std::make_move_iterator(sent_.begin()),
                           std::make_move_iterator(sent_.begin() + static_cast<std::ptrdiff_t>(decided))};
  sent_.erase(sent_.begin(), sent_.begin() + static_cast<std::ptrdiff_t>(decided));
  if (options_.trace) {
    for (Asked const& one : asked)
      trace(fmt::format("{} {}{}", one.cookie, name_of(one.command), details(one.command)));
  }
  bool const was_in_bulk = model_.has_unfinished_bulk();
  TurnRecord record;
  record.now = now_;
  record.is_draining = is_draining_;
  auto const turned = loop_->turn();

  if (!turned) {
    trace(fmt::format("the turn failed: {}", describe(turned.error())));
    switch (turned.error().code) {
      case ErrorCode::io_failed:
        ++figures_[turned.error().message.starts_with("cannot sync") ? Figure::fault_sync_failed
                                                                     : Figure::fault_write_failed];
        break;
      case ErrorCode::disk_full: ++figures_[Figure::fault_disk_full]; break;
      default: complain(fmt::format("the shard gave up: {}", describe(turned.error())));
    }
    if (was_in_bulk) ++figures_[Figure::died_in_bulk];
    lost_ = Lost{.record = record,
                 .asked = std::move(asked),
                 .payload = watch_.payload,
                 .batch = watch_.staged ? watch_.serial : 0};
    die(draw_death());
    if (ok()) start();
    return true;
  }
  std::vector<shard::Answer> answers;
  loop_->take_answers(0, answers);
  std::unordered_map<shard::Cookie, Reply> replies;
  for (shard::Answer& answer : answers) replies.emplace(answer.cookie, std::move(answer.reply));
  if (options_.mutation != Mutation::none) mutate(replies);
  effects_.clear();
  if (watch_.staged) {
    if (auto const read = read_effects(watch_.payload, effects_); !read) {
      complain(describe(read.error()));
      return false;
    }
  }
  record.asked = asked;
  record.effects = effects_;
  record.replies = &replies;
  record.is_settled = !turned->next || *turned->next > now_;
  if (!model_.turn(record)) {
    complain(model_.complaint());
    return false;
  }
  if (sent_.empty() && idempotent_at_ == Instant::max()) idempotent_at_ = now_;
  for (auto& [cookie, reply] : replies) clients_.answered(cookie, reply);
  if (chance_.chance(30)) look_closely(chance_.chance(100));
  return turned->more;
}

// What lives bounds what is used: 2.5 times, two segments, and the one being written.
void Simulator::check_disk_bound(std::uint64_t live_before) {
  std::uint64_t used = 0;
  for (log::SegmentInfo const& segment : log_->status().segments) used += segment.bytes;
  // The shard looks at its log once a second: what lived then counts.
  auto const live = static_cast<double>(std::max(live_before, engine_->live_bytes()));
  std::uint64_t const segment = setup_.log.segments.segment_bytes;
  auto const allowed = static_cast<std::uint64_t>(2.5 * live) + 3 * segment + watch_.largest_batch;
  if (used > allowed) {
    complain(fmt::format("the log uses {} bytes, and {} live: {} are allowed", used, live, allowed));
  }
}

void Simulator::look_closely(bool with_content) {
  ++figures_[Figure::invariant_checks];
  if (std::string wrong = engine_->check_invariants(); !wrong.empty()) {
    return complain("the engine contradicts itself: " + wrong);
  }
  if (!model_.compare(all_jobs(*engine_, *log_, with_content), with_content)) return complain(model_.complaint());
  std::vector<QueueView> queues;
  engine_->queue_views(queues);
  if (!model_.compare_queues(queues)) return complain(model_.complaint());
  if (!with_content) return;
  shard::JobReader reader{*log_};
  for (auto const& [number, job] : model_.jobs()) {
    auto const lines = reader.log_lines(*engine_->view(job.number));
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
    for (JobView& job : page.jobs) all.push_back(std::move(job));
    before = page.next;
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

// ---- The end of a process, and the next one.

Simulator::Death Simulator::draw_death() { return static_cast<Death>(chance_.below(4)); }

void Simulator::die(Death death) {
  ++figures_[Figure::restarts];
  if (watch_.is_copying) ++figures_[Figure::died_while_copying];
  if (model_.waiting() > 0) ++figures_[Figure::died_with_workers_waiting];
  loop_.reset();
  engine_.reset();
  log_.reset();
  disk_.heal();
  is_draining_ = false;
  sent_.clear();
  clients_.server_died();
  trace(fmt::format("the process dies ({}), {} bytes unsynced", static_cast<int>(death), disk_.unsynced_bytes()));
  switch (death) {
    case Death::kill: ++figures_[Figure::fault_kill]; break;
    case Death::power_cut:
      ++figures_[Figure::fault_power_cut];
      disk_.crash();
      break;
    case Death::power_cut_prefix:
      ++figures_[Figure::fault_power_cut_prefix];
      disk_.crash_keeping(chance_.below(disk_.unsynced_bytes() + 1));
      break;
    case Death::power_cut_sectors:
      ++figures_[Figure::fault_power_cut_sectors];
      disk_.crash_keeping_some(chance_.chance(500) ? 512 : 1 + chance_.below(100));
      break;
  }
}

void Simulator::start() {
  if (!lost_ && chance_.chance(100)) flip_a_bit();
  watch_.is_recovering = true;
  for (int attempt = 0; ok(); ++attempt) {
    clock_.advance(Duration{static_cast<Duration::rep>(chance_.below(chance_.chance(100) ? 100'000 : 50))});
    bool const breaks = attempt < 6 && chance_.chance(setup_.recovery_fault_permille);
    if (breaks) disk_.fail_after(1 + chance_.below(6));
    auto const booted = boot();
    if (!watch_.complaint.empty()) return complain(watch_.complaint);
    if (booted) break;
    trace(fmt::format("the start failed: {}", describe(booted.error())));
    if (watch_.is_owned) ++figures_[Figure::died_in_recovery_after_owning];
    switch (booted.error().code) {
      case ErrorCode::io_failed: ++figures_[Figure::fault_in_recovery]; break;
      case ErrorCode::disk_full:
        ++figures_[Figure::fault_disk_full];
        disk_.set_capacity(kDiskEnough);  // Somebody makes room.
        break;
      default: return complain(fmt::format("the shard does not start: {}", describe(booted.error())));
    }
    die(draw_death());
  }
  if (!ok()) return;
  disk_.heal();
  resolve_lost_turn();
  if (!ok()) return;
  auto const last_in_life = watch_.newest_in_life_at();
  Instant const resumed_at = watch_.newest_at();
  watch_.recovered();
  now_ = std::max(clock_.now(), resumed_at);
  idempotent_at_ = now_;
  model_.restarted(resumed_at, last_in_life.value_or(resumed_at));
  trace("the process is up");
  look_closely(chance_.chance(200));
}

Result<> Simulator::boot() {
  Rng chance = chance_.fork();
  WM_TRY(log_, FaultyLog::open(disk_, setup_.log, watch_, clock_, chance_.fork(), figures_));
  engine_ = std::make_unique<engine::Engine>(setup_.engine);
  WM_TRY(auto const recovery, shard::recover(*log_, *engine_, clock_, chance, {}));
  loop_ = std::make_unique<shard::ShardLoop>(setup_.shard, *log_, *engine_, clock_, chance.fork(), 1, [] {}, recovery);
  return {};
}

// Nobody was answered in the turn that failed. If its batch is on the disk, it happened all the same.
void Simulator::resolve_lost_turn() {
  if (!lost_) return;
  Lost lost = *std::exchange(lost_, std::nullopt);
  if (lost.batch == 0 || !watch_.holds(lost.batch)) {
    ++figures_[Figure::died_unanswered_and_lost];
    return;
  }
  ++figures_[Figure::died_unanswered_but_durable];
  if (auto const read = read_effects(lost.payload, effects_); !read) return complain(describe(read.error()));
  lost.record.asked = lost.asked;
  lost.record.effects = effects_;
  lost.record.replies = nullptr;
  if (!model_.turn(lost.record)) complain("in the turn that failed: " + model_.complaint());
}

void Simulator::stop_orderly() {
  trace("an orderly stop");
  loop_->drain();
  is_draining_ = true;
  for (int i = 0; ok() && loop_ && !loop_->idle(); ++i) {
    if (i > 1'000) return complain("a drained shard does not become idle");
    turn();
  }
  if (!ok() || !is_draining_) return;
  if (model_.waiting() > 0) return complain("somebody still waits after a drain");
  ++figures_[Figure::orderly_stop];
  if (auto const sealed = log_->seal();
      !sealed && sealed.error().code != ErrorCode::io_failed && sealed.error().code != ErrorCode::disk_full) {
    return complain(describe(sealed.error()));
  }
  die(draw_death());
}

// Nobody asks for anything for a few seconds. Then nothing is left to do, and the log is no larger than it may be.
void Simulator::come_to_rest() {
  disk_.heal();
  if (clock_.now() < now_) clock_.advance(now_ - clock_.now());  // It had been set back, and time stood still.
  std::uint64_t live_before = 0;
  for (int second = 0; ok() && second < 4; ++second) {
    live_before = engine_->live_bytes();
    clock_.advance(std::chrono::milliseconds{1'100});
    bool more = true;
    for (int i = 0; ok() && more; ++i) {
      if (i > kTurnsToRestMax) return complain("the shard does not come to rest");
      more = turn() || !sent_.empty();
    }
  }
  if (!ok()) return;
  look_closely(chance_.chance(300));
  if (ok()) check_disk_bound(live_before);
}

// A copy of the disk with one bit turned must not start, or must show the very same jobs. Only the newest batch, which
// nothing behind it proves to have been durable, may be taken for torn, and that is reported.
void Simulator::flip_a_bit() {
  auto const files = disk_.files();
  if (files.empty()) return;
  ++figures_[Figure::fault_bit_flipped];
  log::DiskFile const& file = chance_.chance(500) ? files.back() : files[chance_.below(files.size())];
  std::uint64_t offset = chance_.below(file.bytes);
  bool const is_newest = !watch_.batches.empty() && file.ordinal == watch_.batches.back().base.segment;
  if (is_newest && chance_.chance(500)) {  // The newest batch or so: most of the rest of its segment is empty.
    offset = std::min<std::uint64_t>(file.bytes - 1, watch_.batches.back().base.offset + chance_.below(200));
  } else if (is_newest) {
    offset = chance_.below(std::min<std::uint64_t>(file.bytes, watch_.batches.back().base.offset + 200));
  }
  struct Copy {
    log::MemoryDisk disk;
    LogWatch watch;
    SimClock clock;
    std::unique_ptr<log::Disk> session;
    std::unique_ptr<log::SegmentLog> log;
    engine::Engine engine;
  };
  auto const start_copy = [&](Copy& copy) -> Result<shard::RecoveryReport> {
    copy.session = copy.disk.open();
    WM_TRY(copy.log, log::SegmentLog::open(*copy.session, setup_.log.segments));
    Rng chance{1};
    return shard::recover(*copy.log, copy.engine, copy.clock, chance, {});
  };
  Copy right{disk_, watch_, clock_, nullptr, nullptr, engine::Engine{setup_.engine}};
  Copy flipped{disk_, watch_, clock_, nullptr, nullptr, engine::Engine{setup_.engine}};
  right.disk.set_capacity(kDiskEnough);
  flipped.disk.set_capacity(kDiskEnough);
  if (!flipped.disk.flip_bit(file.ordinal, offset, static_cast<int>(chance_.below(8)))) return;
  auto const unharmed = start_copy(right);
  if (!unharmed) return;  // The real start will say so.
  auto const harmed = start_copy(flipped);
  if (!harmed) {
    ++figures_[Figure::flip_refused];
    if (harmed.error().code != ErrorCode::log_corrupt && harmed.error().code != ErrorCode::log_version) {
      complain(fmt::format("a flipped bit is reported as {}", describe(harmed.error())));
    }
    return;
  }
  auto const before = all_jobs(right.engine, *right.log, true);
  auto const after = all_jobs(flipped.engine, *flipped.log, true);
  bool const same =
      std::equal(before.begin(), before.end(), after.begin(), after.end(), [](auto const& a, auto const& b) {
        return a.number == b.number && a.state == b.state && a.attempt == b.attempt && a.spec == b.spec &&
               a.history == b.history && a.ready_at == b.ready_at;
      });
  if (harmed->replay.batches == unharmed->replay.batches && same) {
    ++figures_[Figure::flip_harmless];
    return;
  }
  ++figures_[Figure::flip_cut_as_torn];
  if (harmed->replay.cut_bytes == 0 || harmed->replay.batches + 1 < unharmed->replay.batches) {
    complain(fmt::format("a bit flipped in segment {} at {} was not detected: {} batches of {}, {} bytes cut",
                         file.ordinal, offset, harmed->replay.batches, unharmed->replay.batches,
                         harmed->replay.cut_bytes));
  }
}

// ---- Servers that are broken on purpose, as seen from outside.

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
        if (std::holds_alternative<Released>(report.outcome)) report.outcome = Failed{.retry_in = Duration{0}};
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
      if (chance_.chance(100) && std::holds_alternative<LeaseReply>(last_reply_)) {
        reply = last_reply_;
      } else {
        last_reply_ = reply;
      }
    }
  }
}

}  // namespace workmill::sim
