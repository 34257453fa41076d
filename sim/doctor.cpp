#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "shard/examination.h"
#include "shard/recovery.h"
#include "sim/simulator.h"

// What `workmill doctor` makes of the log that a death has left, on copies of the disk: it must find nothing wrong but
// a torn tail, count what a server would find, and be able to write all of it into a new log.
namespace workmill::sim {
namespace {

constexpr std::uint64_t kSpace = std::uint64_t{1} << 40;

// A server's start on a disk, short of the server.
struct Started {
  SimClock clock;
  std::unique_ptr<log::Disk> session;
  std::unique_ptr<log::SegmentLog> log;
  engine::Engine engine;

  explicit Started(engine::EngineOptions const& options) : engine(options) {}
  Result<shard::RecoveryReport> start(log::MemoryDisk& disk, log::SegmentLogOptions const& options) {
    session = disk.open();
    WM_TRY(log, log::SegmentLog::open(*session, options));
    Rng chance{1};
    return shard::recover(*log, engine, clock, chance, {});
  }
};

Result<shard::Examiner::Rebuilt> rebuild(shard::Examiner& examiner, log::MemoryDisk& saved,
                                         log::SegmentLogOptions const& options) {
  auto const session = saved.open();
  WM_TRY(auto const fresh, log::SegmentLog::open(*session, options));
  auto const nothing = [](log::ReplayedBatch const&) -> Result<> { return {}; };
  WM_TRY([[maybe_unused]] auto const replayed, fresh->replay(nothing, {}));
  WM_TRY([[maybe_unused]] auto const epoch, fresh->own());
  return examiner.rebuild(*fresh, {});
}

bool is_same_job(JobView const& one, JobView const& other) {
  return one.number == other.number && one.state == other.state && one.attempt == other.attempt &&
         one.spec == other.spec && one.history == other.history && one.ready_at == other.ready_at;
}

}  // namespace

void Simulator::let_the_doctor_look() {
  log::MemoryDisk disk = disk_;
  disk.set_capacity(kSpace);
  auto const session = disk.open();
  shard::Examiner examiner{*session};
  auto const seen = examiner.examine({});
  if (!seen) return complain("the doctor cannot read the log: " + describe(seen.error()));
  if (seen->health == shard::Health::none) return;
  ++figures_[Figure::doctor_visits];
  if (seen->health == shard::Health::damaged) {
    return complain(fmt::format("the doctor says that the log is damaged: {}",
                                seen->refusal ? describe(*seen->refusal) : "and not why"));
  }
  log::SegmentLogOptions options = setup_.log.segments;
  options.durability = log::Durability::sync;
  options.synced_elsewhere = false;
  log::MemoryDisk saved{2};
  if (auto const rebuilt = rebuild(examiner, saved, options); !rebuilt) {
    return complain("the doctor cannot write a new log: " + describe(rebuilt.error()));
  }
  Started server{setup_.engine};
  if (!server.start(disk, options)) return;  // The real start will say so.
  engine::EngineStatus const status = server.engine.status();
  if (seen->jobs.batches != status.batches) {
    return complain(fmt::format("the doctor counts {} batches instead of {}", seen->jobs.batches, status.batches));
  }
  if (seen->jobs.depth != status.depth || seen->jobs.flags != status.flags ||
      seen->jobs.held_back != status.held_back) {
    return complain(fmt::format("the doctor counts {} jobs, {} flags and {} jobs held back instead of {}, {} and {}",
                                seen->jobs.jobs, seen->jobs.flags, seen->jobs.held_back, status.jobs, status.flags,
                                status.held_back));
  }
  Started again{setup_.engine};
  if (auto const started = again.start(saved, options); !started) {
    return complain("no server starts on the log that the doctor has written: " + describe(started.error()));
  }
  auto const jobs = all_jobs(server.engine, *server.log, true);
  auto const jobs_again = all_jobs(again.engine, *again.log, true);
  if (!ok()) return;
  if (!std::equal(jobs.begin(), jobs.end(), jobs_again.begin(), jobs_again.end(), is_same_job)) {
    return complain("the log that the doctor has written holds other jobs");
  }
  auto const batches = batches_of(server.engine);
  if (batches != batches_of(again.engine)) return complain("the log that the doctor has written holds other batches");
  if (!batches.empty()) ++figures_[Figure::doctor_rebuilt_batches];
  auto const histories = flag_histories(server.engine);
  if (histories != flag_histories(again.engine)) {
    return complain("the log that the doctor has written holds other flags");
  }
  if (again.engine.status().held_back != status.held_back) {
    return complain("on the log that the doctor has written other jobs are held back");
  }
  if (histories.empty()) return;
  ++figures_[Figure::doctor_found_flags];
  auto const has_many = [](auto const& history) { return history.second.size() > 1; };
  if (std::ranges::any_of(histories, has_many)) ++figures_[Figure::doctor_rebuilt_flags];
}

}  // namespace workmill::sim
