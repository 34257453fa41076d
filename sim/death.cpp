#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <type_traits>
#include <utility>
#include <variant>

#include "log/record.h"
#include "shard/recovery.h"
#include "sim/simulator.h"

// The end of a process, and the next one.
namespace workmill::sim {
namespace {

constexpr std::uint64_t kDiskEnough = std::uint64_t{1} << 40;
constexpr int kTurnsToDrainMax = 50'000;  // Several actions on many jobs, of one job a turn each.
constexpr std::uint64_t kTurnsAskedWhileDraining = 4;
constexpr std::uint64_t kSegmentsOfRoom = 16;  // Made by somebody when a start finds the disk full.

}  // namespace

Simulator::Death Simulator::draw_death() { return static_cast<Death>(chance_.below(4)); }

void Simulator::die(Death death) {
  ++figures_[Figure::restarts];
  if (watch_.is_copying) ++figures_[Figure::died_while_copying];
  if (model_.waiting() > 0) ++figures_[Figure::died_with_workers_waiting];
  if (model_.waiting_for_flights() > 0) ++figures_[Figure::died_with_flight];
  if (model_.jobs_on_streams() > 0) ++figures_[Figure::died_with_jobs_on_streams];
  if (!set_aside_.empty()) ++figures_[Figure::died_while_fetching];
  if (writer_.is_unheard()) ++figures_[Figure::died_with_flush_done_unheard];
  if (std::count_if(open_.begin(), open_.end(), [](Open const& open) { return open.batch != 0; }) > 1) {
    ++figures_[Figure::died_with_several_turns_open];
  }
  if (model_.is_deleting_cached()) ++figures_[Figure::died_in_deletion];
  if (is_flag_change_open()) ++figures_[Figure::died_with_flag_change_open];
  if (front_) evicted_before_ = lost_entries();
  front_.reset();
  loop_.reset();
  cache_.reset();
  engine_.reset();
  log_.reset();
  writer_.died();
  fetcher_.died();
  set_aside_.clear();
  disk_.heal();
  flip_back();
  has_been_damaged_ = false;
  is_draining_ = false;
  was_on_writer_ = false;
  sent_.clear();
  abandoned_.clear();
  loop_turns_ = 0;
  clients_.server_died();
  stream_workers_.server_died();
  claims_.clear();
  forgetting_by_.reset();
  quiet_.clear();
  watch_.died(death != Death::kill);
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
  if (open_.empty() && chance_.chance(40)) flip_a_bit();
  if (ok() && doctor_chance_.chance(20)) let_the_doctor_look();
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
        disk_bytes_ += kSegmentsOfRoom * setup_.log.segments.segment_bytes;  // Somebody makes room.
        disk_.set_capacity(disk_bytes_);
        break;
      default: return complain(fmt::format("the shard does not start: {}", describe(booted.error())));
    }
    die(draw_death());
  }
  if (!ok()) return;
  disk_.heal();
  resolve_open_turns();
  if (!ok()) return;
  auto const last_in_life = watch_.newest_in_life_at();
  Instant const resumed_at = watch_.newest_at();
  watch_.recovered();
  now_ = std::max(clock_.now(), resumed_at);
  idempotent_at_ = now_;
  Open restart;
  restart.restart = Restart{.resumed_at = resumed_at,
                            .last_in_life_at = last_in_life.value_or(resumed_at),
                            .evicted = std::exchange(evicted_before_, 0)};
  restart.rests_on = watch_.serial;
  restart.is_answered = true;
  open_.push_back(std::move(restart));
  if (chance_.chance(500) && setup_.log.segments.durability != log::Durability::sync) (void)log_->sync();
  tell_model();
  trace("the process is up");
  if (open_.empty()) look_closely(chance_.chance(200));
}

Result<> Simulator::boot() {
  Rng chance = chance_.fork();
  WM_TRY(log_, FaultyLog::open(disk_, setup_.log, watch_, clock_, chance_.fork(), figures_));
  engine_ = std::make_unique<engine::Engine>(setup_.engine);
  cache_ = std::make_unique<cache::Cache>(setup_.cache);
  WM_TRY(auto const recovery, shard::recover(*log_, *engine_, clock_, chance, {}, cache_.get()));
  setup_.shard.cache = cache_.get();
  loop_ = std::make_unique<shard::ShardLoop>(setup_.shard, *log_, *engine_, clock_, chance.fork(), 1, [] {}, recovery);
  front_ = std::make_unique<FrontEnd>(*loop_, clock_, figures_);
  check_ids();
  return {};
}

// The open turns whose batch is on the disk have happened, whether or not somebody was answered.
void Simulator::resolve_open_turns() {
  std::uint64_t const there = watch_.survived();
  std::uint64_t kept = 0, lost = 0;
  std::optional<Instant> first_lost, last_lost;
  bool is_start_lost = false;
  for (Open& open : open_) {
    bool const is_there = open.rests_on <= there;
    if (open.batch != 0) {
      ++(is_there ? kept : lost);
      if (!open.is_answered) {
        ++figures_[is_there ? Figure::died_unanswered_but_durable : Figure::died_unanswered_and_lost];
      }
    }
    if (is_there) {
      tell_model(open, open.is_answered);
      if (!ok()) return;
    } else if (open.restart && !std::exchange(is_start_lost, true)) {
      // The model will not hear of this start: what it knows of the cache is still of the life before it.
      evicted_before_ = open.restart->evicted;
    } else if (open.is_answered && open.batch != 0) {
      ++figures_[Figure::answered_before_durable_and_lost];
      // A thread that syncs goes by the time that something was written, a flush by the time that it was decided.
      bool const is_on_time = setup_.log.segments.synced_elsewhere;
      Instant const at =
          is_on_time ? Instant{std::chrono::duration_cast<Duration>(open.flushed_at.value_or(clock_.monotonic()))}
                     : open.record.now;
      first_lost = first_lost.value_or(at);
      last_lost = at;
    }
  }
  open_.clear();
  if (kept > 0 && lost > 0) ++figures_[Figure::open_turns_partly_lost];
  if (first_lost && last_lost && setup_.log.segments.durability == log::Durability::interval) {
    Duration const loss = *last_lost - *first_lost;
    // While a flush takes its time, the simulator's other thread stands still, which a real one does not.
    Duration const slow = setup_.log.slow_flush_max;
    if (slow == Duration{0}) {
      figures_.interval_loss_ms_max = std::max(figures_.interval_loss_ms_max, static_cast<std::uint64_t>(loss.count()));
    }
    if (loss > setup_.log.segments.sync_interval + 2 * slow) {
      complain(fmt::format("a power cut took the answered turns of {} ms, and what was answered is synced every {} ms",
                           loss.count(), setup_.log.segments.sync_interval.count()));
    }
  }
}

void Simulator::stop_orderly() {
  trace("an orderly stop");
  if (model_.waiting() > 0) ++figures_[Figure::drained_with_waiters];
  front_->drain();
  is_draining_ = true;
  // Connections stay open for a while, and their clients go on.
  for (std::uint64_t i = chance_.below(kTurnsAskedWhileDraining); ok() && is_draining_ && i > 0; --i) {
    send_requests();
    turn();
  }
  for (int i = 0; ok() && is_draining_ && !front_->idle(); ++i) {
    if (i > kTurnsToDrainMax) return complain("a drained shard does not become idle");
    turn();
  }
  if (!ok() || !is_draining_) return;
  hurry();
  if (!ok() || !is_draining_) return;
  front_->check_drained();
  if (!front_->complaint().empty()) return complain(front_->complaint());
  if (open_.empty() && model_.waiting() > 0) return complain("somebody still waits after a drain");
  ++figures_[Figure::orderly_stop];
  if (auto const sealed = log_->seal();
      !sealed && sealed.error().code != ErrorCode::io_failed && sealed.error().code != ErrorCode::disk_full) {
    return complain(describe(sealed.error()));
  }
  die(draw_death());
}

// A copy of the disk with one bit turned must not start, or must show the very same jobs. Only batches
// that nothing behind them proves to have been durable, which is those of the newest flush, may be taken for torn, and
// that is reported.
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
      flag_histories(right.engine) == flag_histories(flipped.engine) &&
      std::equal(before.begin(), before.end(), after.begin(), after.end(), [](auto const& a, auto const& b) {
        return a.number == b.number && a.state == b.state && a.attempt == b.attempt && a.spec == b.spec &&
               a.history == b.history && a.ready_at == b.ready_at;
      });
  if (harmed->replay.batches == unharmed->replay.batches && same) {
    ++figures_[Figure::flip_harmless];
    return;
  }
  ++figures_[Figure::flip_cut_as_torn];
  auto const unproven = static_cast<std::uint64_t>(std::count_if(
      watch_.batches.begin(), watch_.batches.end(), [&](auto const& b) { return b.serial > watch_.proven; }));
  if (harmed->replay.cut_bytes == 0 || harmed->replay.batches + unproven < unharmed->replay.batches) {
    complain(fmt::format("a bit flipped in segment {} at {} was not detected: {} batches of {}, {} bytes cut",
                         file.ordinal, offset, harmed->replay.batches, unharmed->replay.batches,
                         harmed->replay.cut_bytes));
  }
}

// In a batch that is durable and no longer the newest: whatever reads it must find out, or get what was written.
void Simulator::flip_a_bit_in_life() {
  if (watch_.batches.empty()) return;
  LogWatch::Batch const batch = draw_batch_to_damage();
  if (!batch.acknowledged || batch.base.segment == watch_.batches.back().base.segment) return;
  if (!sent_.empty() || model_.has_unfinished_bulk()) return;  // See send().
  if (batch.base.segment < watch_.oldest_kept) return;         // Gone.
  std::uint64_t const frame = batch.base.offset - log::kFrameHeaderBytes;
  int const turns_max = setup_.flip_permille > 100 ? 150 : 400;  // Where bits turn often, they are right again sooner.
  Flipped flipped{.ordinal = batch.base.segment,
                  .offset = chance_.chance(150) ? frame + chance_.below(log::kFrameHeaderBytes)
                                                : batch.base.offset + chance_.below(batch.bytes),
                  .bit = static_cast<int>(chance_.below(8)),
                  .turns_left = static_cast<int>(1 + chance_.below(static_cast<std::uint64_t>(turns_max)))};
  tell_model_of_damage(batch);
  if (!disk_.flip_bit(flipped.ordinal, flipped.offset, flipped.bit)) return;
  ++figures_[Figure::fault_bit_flipped_in_life];
  has_been_damaged_ = true;
  trace(fmt::format("a bit turns in segment {} at {}", flipped.ordinal, flipped.offset));
  flipped_ = flipped;
}

// Where the spec stands of the leased job that computes a value and will be copied ahead first.
std::optional<Position> Simulator::oldest_leased_flight() const {
  std::optional<Position> oldest;
  for (auto const& [number, job] : model_.jobs()) {
    if (!job.is_flight() || job.is_overtaken || job.state != JobState::leased) continue;
    Position const stands = engine_->view(job.number)->spec_at;
    if (!oldest || stands < *oldest) oldest = stands;
  }
  return oldest;
}

// Any, that of some job, of one that is out on a stream, of one that computes a value, or of the job which will be
// copied ahead first.
LogWatch::Batch Simulator::draw_batch_to_damage() {
  auto const& jobs = model_.jobs();
  std::uint64_t const kind = chance_.below(8);
  bool const is_of_value = kind == 7 || (kind >= 3 && setup_.cache_callers.refreshes_fail);
  if (kind == 0 || jobs.empty()) return watch_.batches[chance_.below(watch_.batches.size())];
  Position at{};
  auto const flight = fetch_chance_.chance(setup_.flights_permille) ? oldest_leased_flight() : std::nullopt;
  auto const drawn = std::next(jobs.begin(), static_cast<std::ptrdiff_t>(chance_.below(jobs.size())));
  if (flight) {
    at = *flight;
  } else if (is_of_value && !model_.cached().empty()) {
    // Any, unless a failure is remembered beside some: of these the oldest, which will be copied ahead first.
    auto const& cached = model_.cached();
    auto const any = std::next(cached.begin(), static_cast<std::ptrdiff_t>(chance_.below(cached.size())));
    if (auto const place = cache_->place(any->first)) at = place->at;
    std::optional<Position> oldest;
    for (auto const& [key, value] : cached) {
      auto const place = is_failure_beside_value(key) ? cache_->place(key) : std::nullopt;
      if (place && (!oldest || place->at < *oldest)) oldest = place->at;
    }
    at = oldest.value_or(at);
  } else if (kind == 1) {
    at = engine_->view(drawn->second.number)->spec_at;
  } else if (kind <= 3) {  // Checkpoints are rare: the next job that has one, and is not finished.
    auto const has_one = [](auto const& entry) {
      return entry.second.checkpoint.is_there() && entry.second.is_unfinished();
    };
    auto found = std::find_if(drawn, jobs.end(), has_one);
    if (found == jobs.end()) found = std::find_if(jobs.begin(), jobs.end(), has_one);
    auto const view = engine_->view((found == jobs.end() ? drawn : found)->second.number);
    at = view->checkpoint_at ? view->checkpoint_at : view->spec_at;
  } else if (auto const out = model_.job_on_stream(); out && kind >= 5) {
    at = engine_->view(*out)->spec_at;
  } else {
    for (auto const& [number, job] : jobs) {
      Position const stands = engine_->view(job.number)->spec_at;
      if (!at || stands < at) at = stands;
    }
  }
  auto const after =
      std::upper_bound(watch_.batches.begin(), watch_.batches.end(), at,
                       [](Position wanted, LogWatch::Batch const& batch) { return wanted < batch.base; });
  return after == watch_.batches.begin() ? watch_.batches.front() : *std::prev(after);
}

// Whose records stand in that batch, which is still whole.
void Simulator::tell_model_of_damage(LogWatch::Batch const& batch) {
  std::set<std::uint64_t> specs, events;
  damaged_keys_.clear();
  BytesView const payload = BytesView{disk_.bytes_of(batch.base.segment)}.substr(batch.base.offset, batch.bytes);
  auto const read = log::for_each_record(
      payload, [&](Effect const& effect, std::uint32_t offset, std::uint32_t /*bytes*/) -> Result<> {
        Position const at{batch.base.segment, batch.base.offset + offset};
        std::visit(
            [&]<class E>(E const& e) {
              if constexpr (std::is_same_v<E, effect::CacheStored>) {  // A failure is in memory too, and not lost.
                model_.damage_fetched(std::string{e.key});
                auto const place = cache_->place(e.key);
                if (place && place->at == at) {
                  std::string key{e.key};
                  ++figures_[Figure::cache_damaged];
                  if (is_failure_beside_value(key)) ++figures_[Figure::cache_damaged_beside_failure];
                  model_.damage_cached(key);
                  damaged_keys_.push_back(std::move(key));
                }
              } else if constexpr (std::is_same_v<E, effect::JobEnqueued> || std::is_same_v<E, effect::JobSnapshot>) {
                auto const view = engine_->view(e.number);
                if (view && view->spec_at == at) specs.insert(std::to_underlying(e.number));
              } else if constexpr (requires { e.number; }) {
                events.insert(std::to_underlying(e.number));
              }
            },
            effect);
        return {};
      });
  if (!read) complain(describe(read.error()));
  damaged_.assign(specs.begin(), specs.end());
  damaged_.insert(damaged_.end(), events.begin(), events.end());
  model_.damage(specs, events);
}

// So that the next start finds what was written: somebody has a copy.
void Simulator::flip_back() {
  if (flipped_) disk_.flip_bit(flipped_->ordinal, flipped_->offset, flipped_->bit);
  flipped_.reset();
}

}  // namespace workmill::sim
