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
  static std::string const payload = '"' + std::string(98, 'x') + '"';
  JobSpecView spec;
  spec.type = "bench";
  spec.payload_kind = PayloadKind::json;
  spec.payload = payload;
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
  shard::Survivors survivors{{}, *store.log, *store.engine, reader};
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
      WM_ASSERT(std::holds_alternative<EnqueueReply>(reply));
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
    WM_ASSERT(survivors.step(batch, staged, staged).has_value());
    store.log->stage(batch.payload(), context.now);
    WM_ASSERT(store.log->flush().has_value());
    ++staged;
  }
  count(state, cpu_before, jobs);
}
BENCHMARK(engine_and_log_whole_life)->Arg(512)->MeasureProcessCPUTime()->UseRealTime();

// The same through the shard's loop, as the front ends drive it, payloads read back for the worker.
void shard_whole_life(benchmark::State& state) {
  auto const jobs = static_cast<std::size_t>(state.range(0));
  Store store{log::Durability::sync};
  shard::ShardLoop loop{{}, *store.log, *store.engine, store.clock, store.chance, 1, [] {}, store.recovery};
  Bytes const spec = spec_of_100_bytes();
  std::vector<shard::Answer> answers;
  ReportBatch reports;
  double const cpu_before = process_cpu_seconds();
  for (auto _ : state) {
    for (std::size_t i = 0; i < jobs; ++i) {
      Enqueue enqueue;
      enqueue.specs.push_back(spec);
      WM_ASSERT(loop.submit({.port = 0, .cookie = i + 10, .command = std::move(enqueue)}).has_value());
    }
    Lease lease = lease_of(static_cast<std::uint32_t>(std::min<std::size_t>(jobs, kJobsPerLeaseMax)));
    lease.reports = std::move(reports.reports);
    WM_ASSERT(loop.submit({.port = 0, .cookie = 1, .command = std::move(lease)}).has_value());
    answers.clear();
    while (answers.size() < jobs + 1) {
      WM_ASSERT(loop.turn().has_value());
      loop.take_answers(0, answers);
    }
    for (shard::Answer const& answer : answers) {
      if (answer.cookie == 1) reports = completion_of(std::get<LeaseReply>(answer.reply));
    }
    WM_ASSERT(reports.reports.size() == jobs);
  }
  count(state, cpu_before, jobs);
}
BENCHMARK(shard_whole_life)->Arg(64)->Arg(512)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace workmill
