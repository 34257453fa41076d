// The whole life of a job (enqueued, leased, completed) through the engine and a log on disk: what the server does for
// it besides the network. The figure to reach: 1,000,000 jobs a second and 0.8 µs of CPU a job, in batches of 512, each
// flushed with fdatasync.

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/rng.h"
#include "base/variant.h"
#include "engine/engine.h"
#include "log/file/file_log.h"
#include "shard/batch.h"
#include "shard/recovery.h"
#include "shard/shard_loop.h"
#include "shard/system_clock.h"

namespace workmill {
namespace {

std::string fresh_folder() {
  char const* root = std::getenv("WORKMILL_BENCH_DIR");
  std::filesystem::path const folder = std::filesystem::path(root != nullptr ? root : "build/bench-data") / "life";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder.parent_path());
  return folder.string();
}

double process_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto const seconds = [](timeval time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Type, queue and payload: 100 bytes of payload.
Bytes spec_of_100_bytes() {
  static std::string const kPayload = '"' + std::string(98, 'x') + '"';
  JobSpecView spec;
  spec.type = "bench";
  spec.payload_kind = PayloadKind::json;
  spec.payload = kPayload;
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

Lease lease_of(std::uint32_t max) {
  Lease lease;
  lease.queues.push_back({.name = "default", .weight = 0});
  lease.max = max;
  lease.worker = "bench";
  return lease;
}

ReportBatch completion_of(LeaseReply const& leased) {
  ReportBatch reports;
  reports.reports.reserve(leased.jobs.size());
  for (LeasedJob const& job : leased.jobs) {
    reports.reports.push_back({.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Completed{}});
  }
  return reports;
}

struct Store {
  explicit Store(log::Durability durability) {
    log::FileLogOptions options;
    options.folder = fresh_folder();
    options.durability = durability;
    auto opened = log::open_file_log(options);
    WM_ASSERT(opened.has_value());
    log = std::move(*opened);
    engine = std::make_unique<engine::Engine>(engine::EngineOptions{});
    auto recovered = shard::recover(*log, *engine, clock, chance, {});
    WM_ASSERT(recovered.has_value());
    recovery = *recovered;
  }
  shard::SystemClock clock;
  Rng chance{1};
  std::unique_ptr<log::Log> log;
  std::unique_ptr<engine::Engine> engine;
  shard::RecoveryReport recovery;
};

void count(benchmark::State& state, double cpu_before, std::size_t jobs) {
  auto const done = static_cast<double>(state.iterations()) * static_cast<double>(jobs);
  state.counters["jobs/s"] = benchmark::Counter(done, benchmark::Counter::kIsRate);
  state.counters["cpu_us/job"] = (process_cpu_seconds() - cpu_before) * 1e6 / done;
}

// Engine and log alone: 512 jobs are enqueued, leased and completed in one batch.
void engine_and_log_whole_life(benchmark::State& state) {
  auto const jobs = static_cast<std::size_t>(state.range(0));
  Store store{log::Durability::sync};
  Bytes const spec = spec_of_100_bytes();
  shard::Batch batch;
  shard::JobReader reader{*store.log};
  shard::Survivors survivors{{}, *store.log, *store.engine, reader, nullptr, {}};
  std::uint64_t staged = 0;
  std::uint32_t segment = 0;
  double const cpu_before = process_cpu_seconds();
  for (auto _ : state) {
    engine::Context const context{.now = store.clock.now(), .chance = 0};
    bool again = false;
    batch.begin(store.log->next_base());
    for (std::size_t i = 0; i < jobs; ++i) {
      Enqueue enqueue;
      enqueue.specs.push_back(spec);
      Reply const reply = store.engine->execute(enqueue, context, batch, &again);
      WM_ASSERT(holds<EnqueueReply>(reply));
    }
    Reply const leased = store.engine->execute(lease_of(static_cast<std::uint32_t>(jobs)), context, batch, &again);
    WM_ASSERT(std::get<LeaseReply>(leased).jobs.size() == jobs);
    Reply const reported = store.engine->execute(completion_of(std::get<LeaseReply>(leased)), context, batch, &again);
    WM_ASSERT(std::get<ReportsReply>(reported).reports.size() == jobs);
    store.engine->advance(context, batch);
    if (batch.base().segment != segment) {
      segment = batch.base().segment;
      survivors.look_again(false);
    }
    WM_ASSERT(survivors.step(batch, context.now, staged, staged).has_value());
    store.log->stage(batch.payload(), context.now);
    WM_ASSERT(store.log->flush().has_value());
    ++staged;
  }
  count(state, cpu_before, jobs);
}
BENCHMARK(engine_and_log_whole_life)->Arg(512)->MeasureProcessCPUTime()->UseRealTime();

// A shard as the front ends drive it.
class BusyShard {
 public:
  // `jobs` come in, are leased and reported, one step after another; payloads are read back for the worker.
  void live(std::size_t jobs) {
    for (std::size_t i = 0; i < jobs; ++i) {
      Enqueue enqueue;
      enqueue.specs.push_back(spec_);
      submit(i + 10, std::move(enqueue));
    }
    Lease lease = lease_of(static_cast<std::uint32_t>(std::min<std::size_t>(jobs, kJobsPerLeaseMax)));
    lease.reports = std::move(reports_.reports);
    submit(1, std::move(lease));
    turn_until_answered(jobs + 1);
    for (shard::Answer const& answer : answers_) {
      if (answer.cookie == 1) reports_ = completion_of(std::get<LeaseReply>(answer.reply));
    }
    WM_ASSERT(reports_.reports.size() == jobs);
  }

  // Jobs of next year: whatever happens before, they live.
  void schedule(std::size_t jobs) {
    constexpr std::size_t kAtOnce = 1'000;
    JobSpecView view;
    WM_ASSERT(decode_spec(spec_, view).has_value());
    view.delay = std::chrono::days{365};
    Bytes delayed;
    encode_spec(view, delayed);
    for (std::size_t left = jobs; left > 0; left -= std::min(left, kAtOnce)) {
      Enqueue enqueue;
      enqueue.specs.assign(std::min(left, kAtOnce), delayed);
      submit(2, std::move(enqueue));
      turn_until_answered(1);
    }
  }

  log::LogStatus log() const { return store_.log->status(); }

 private:
  // No writer thread, whatever the disk does: waiting for it here would be spinning.
  static shard::ShardOptions options() {
    shard::ShardOptions options;
    options.flush_by = shard::FlushBy::turn;
    return options;
  }

  void submit(shard::Cookie cookie, Command command) {
    WM_ASSERT(loop_.submit({.port = 0, .cookie = cookie, .command = std::move(command)}).has_value());
  }
  void turn_until_answered(std::size_t count) {
    answers_.clear();
    while (answers_.size() < count) {
      WM_ASSERT(loop_.turn().has_value());
      loop_.take_answers(0, answers_);
    }
  }

  Store store_{log::Durability::sync};
  shard::ShardLoop loop_{options(),     *store_.log, *store_.engine, store_.clock,
                         store_.chance, 1,           [] {},          store_.recovery};
  Bytes const spec_ = spec_of_100_bytes();
  std::vector<shard::Answer> answers_;
  ReportBatch reports_;
};

void shard_whole_life(benchmark::State& state) {
  auto const jobs = static_cast<std::size_t>(state.range(0));
  BusyShard shard;
  double const cpu_before = process_cpu_seconds();
  for (auto _ : state) shard.live(jobs);
  count(state, cpu_before, jobs);
}
BENCHMARK(shard_whole_life)->Arg(64)->Arg(512)->MeasureProcessCPUTime()->UseRealTime();

// The same once the log goes round: while so many scheduled jobs are copied ahead, over and over.
void shard_whole_life_among_survivors(benchmark::State& state) {
  constexpr std::size_t kJobs = 64;
  bool const is_smoke = std::getenv("WM_BENCH_SMOKE") != nullptr;
  auto const scheduled = static_cast<std::size_t>(is_smoke ? state.range(0) / 100 : state.range(0));
  BusyShard shard;
  shard.schedule(scheduled);
  std::uint32_t const filled = shard.log().segments.back().ordinal;
  while (!is_smoke && shard.log().segments.front().ordinal <= filled) shard.live(512);
  double const cpu_before = process_cpu_seconds();
  std::uint64_t const bytes_before = shard.log().flushed_bytes;
  for (auto _ : state) shard.live(kJobs);
  count(state, cpu_before, kJobs);
  auto const done = static_cast<double>(state.iterations()) * static_cast<double>(kJobs);
  state.counters["bytes/job"] = static_cast<double>(shard.log().flushed_bytes - bytes_before) / done;
}
BENCHMARK(shard_whole_life_among_survivors)->Arg(0)->Arg(1'000'000)->MinTime(4)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace workmill
