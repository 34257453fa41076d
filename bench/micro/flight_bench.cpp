// The shared cache in the shard: the turn in which a flight lands that many callers wait for, and what a value costs to
// be stored. The figure to reach: 10,000 callers are answered within 50 ms of the completion, sockets included.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/rng.h"
#include "cache/cache.h"
#include "engine/engine.h"
#include "log/memory/memory_log.h"
#include "shard/recovery.h"
#include "shard/shard_loop.h"
#include "shard/system_clock.h"

namespace workmill {
namespace {

// A shard with a cache over a disk in memory.
class CachingShard {
 public:
  CachingShard() {
    auto opened = log::open_memory_log(disk_, {.segment_bytes = 4 << 20});
    WM_ASSERT(opened.has_value());
    log_ = std::move(*opened);
    auto recovered = shard::recover(*log_, engine_, clock_, chance_, {}, &cache_);
    WM_ASSERT(recovered.has_value());
    shard::ShardOptions options;
    options.cache = &cache_;
    options.flush_by = shard::FlushBy::turn;
    loop_ = std::make_unique<shard::ShardLoop>(options, *log_, engine_, clock_, chance_.fork(), 1, [] {}, *recovered);
  }
  void submit(Command command) {
    bool const taken = loop_->submit({.port = 0, .cookie = next_cookie_++, .command = std::move(command)}).has_value();
    WM_ASSERT(taken);
  }
  std::vector<shard::Answer> const& turn() {
    answers_.clear();
    bool const turned = loop_->turn().has_value();
    WM_ASSERT(turned);
    loop_->take_answers(0, answers_);
    return answers_;
  }

 private:
  shard::SystemClock clock_;
  Rng chance_{1};
  log::MemoryDisk disk_;
  std::unique_ptr<log::Log> log_;
  engine::Engine engine_{{}};
  cache::Cache cache_{{}};
  std::unique_ptr<shard::ShardLoop> loop_;
  std::uint64_t next_cookie_ = 1;
  std::vector<shard::Answer> answers_;
};

ComputeCached compute(std::string const& key) {
  JobSpecView spec{.type = "compute", .keep_result = Duration{0}, .cache_key = key};
  spec.cache_fresh = std::chrono::hours{1};
  ComputeCached command{.key = key, .wait = std::chrono::minutes{1}};
  encode_spec(spec, command.spec);
  return command;
}

void flight_lands_for_many_callers(benchmark::State& state) {
  auto const callers = static_cast<std::size_t>(state.range(0));
  CachingShard shard;
  std::uint64_t flight = 0;
  for (auto _ : state) {
    state.PauseTiming();
    std::string const key = "key " + std::to_string(flight++);
    for (std::size_t i = 0; i < callers; ++i) shard.submit(compute(key));
    for (std::size_t turned = 0; turned < callers; turned += 8'192) shard.turn();
    Lease lease;
    lease.queues.push_back({.name = "default", .weight = 0});
    shard.submit(lease);
    LeasedJob const job = std::get<LeaseReply>(shard.turn().at(0).reply).jobs.at(0);
    Completed completed{.result_kind = PayloadKind::json, .result = '"' + std::string(1'022, 'x') + '"'};
    ReportBatch reports;
    reports.reports.push_back(
        {.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = std::move(completed)});
    shard.submit(std::move(reports));
    state.ResumeTiming();

    std::size_t answered = 0;
    for (auto const& answer : shard.turn()) answered += 1 + answer.also.size();
    WM_ASSERT(answered == callers + 1);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(callers));
}
BENCHMARK(flight_lands_for_many_callers)->Arg(1)->Arg(10'000)->Unit(benchmark::kMillisecond);

void values_are_put(benchmark::State& state) {
  CachingShard shard;
  std::string const body(static_cast<std::size_t>(state.range(0)), 'x');
  std::uint64_t key = 0;
  constexpr int kPerTurn = 512;
  for (auto _ : state) {
    for (int i = 0; i < kPerTurn; ++i) {
      PutCache put{.key = "key " + std::to_string(key++ % 100'000)};
      put.set = {.content_type = "text/plain", .body = body, .fresh = std::chrono::hours{1}};
      shard.submit(std::move(put));
    }
    WM_ASSERT(shard.turn().size() == kPerTurn);
  }
  state.SetItemsProcessed(state.iterations() * kPerTurn);
}
BENCHMARK(values_are_put)->Arg(1'024);

}  // namespace
}  // namespace workmill
