#include <benchmark/benchmark.h>
#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/rng.h"
#include "engine/engine.h"
#include "engine/timing_wheel.h"
#include "flags/flag.h"
#include "model/cache_set.h"
#include "model/command.h"
#include "model/job.h"

// The engine alone: no log, no encoding of records. What a job costs in time at backlogs of 10 thousand to 10 million,
// and in memory.
namespace workmill::engine {
namespace {

using std::chrono::seconds;

constexpr Instant kStart = instant_from_ms(1'700'000'000'000);

// Stands in for the log: says where the record would be, and forgets it.
class NoLog final : public EffectSink {
 public:
  Written write(Effect const& effect) override {
    benchmark::DoNotOptimize(&effect);
    Written const written{.at = {.segment = 1 + static_cast<std::uint32_t>(at_ >> 26),
                                 .offset = static_cast<std::uint32_t>(at_ & ((1U << 26) - 1))},
                          .bytes = 120};
    at_ += 120;
    return written;
  }

 private:
  std::uint64_t at_ = 0;
};

Bytes spec_of(std::string_view queue, std::string_view type = "thumbnail") {
  Bytes out;
  encode_spec({.type = type, .queue = queue, .payload_kind = PayloadKind::json, .payload = std::string(90, '1')}, out);
  return out;
}

// An engine in life, with jobs in line.
class Shop {
 public:
  explicit Shop(std::int64_t backlog) : engine_(EngineOptions{}) {
    engine_.finish_replay(now_);
    engine_.create_store(7, log_);
    set_batch(1'000);
    for (std::int64_t left = backlog; left > 0; left -= 1'000) {
      pass();
      execute(enqueue_);
    }
  }

  void pass() { now_ += Duration{1}; }
  void set_batch(std::int64_t jobs) {
    std::get<Enqueue>(enqueue_).specs.assign(static_cast<std::size_t>(jobs), spec_of("default"));
  }
  Reply enqueue() { return execute(enqueue_); }
  LeaseReply lease(std::uint32_t max) {
    std::get<Lease>(lease_).max = max;
    return std::get<LeaseReply>(execute(lease_));
  }
  void complete(LeaseReply const& leased) {
    auto& reports = std::get<ReportBatch>(reports_).reports;
    reports.resize(leased.jobs.size());
    for (std::size_t i = 0; i < reports.size(); ++i) {
      reports[i].job.number = leased.jobs[i].number;
      reports[i].lease = leased.jobs[i].token;
    }
    benchmark::DoNotOptimize(execute(reports_));
  }
  void advance() {
    while (engine_.advance({.now = now_, .chance = 1}, log_)) {
    }
  }
  void live(std::int64_t jobs, std::uint32_t batch) {
    for (std::int64_t left = jobs; left > 0; left -= batch) {
      pass();
      enqueue();
      complete(lease(batch));
      advance();
      engine_.take_happenings();
    }
  }
  // Of each of so many types a job is in line in front of all others, and flags hold them back.
  void close_types(std::int64_t types) {
    flags::Flag off{.variants = {{.name = "off", .value = flags::boolean_value(false)}}};
    std::vector<Bytes> specs;
    for (std::int64_t i = 0; i < types; ++i) {
      off.gates.push_back("closed" + std::to_string(i));
      specs.push_back(spec_of("default", off.gates.back()));
      if (off.gates.size() < flags::kGatesMax && i + 1 < types) continue;
      Bytes definition;
      flags::encode_flag(off, definition);
      execute(SetFlag{.key = "off" + std::to_string(i), .definition = std::move(definition)});
      execute(Enqueue{.specs = std::exchange(specs, {})});
      off.gates.clear();
    }
    advance();
  }
  // So many jobs are leased that compute a cached value each.
  void begin_flights(std::int64_t flights) {
    for (std::int64_t i = 0; i < flights; ++i) {
      std::string const key = "key/" + std::to_string(i);
      Bytes spec;
      encode_spec({.type = "compute", .cache_key = key, .cache_tags = {"some", "tags"}}, spec);
      execute(Enqueue{.specs = {std::move(spec)}});
      if (i % 1'000 == 999 || i + 1 == flights) lease(1'000);
    }
  }
  Engine& engine() { return engine_; }
  EffectSink& log() { return log_; }

 private:
  Reply execute(Command const& command) {
    bool again = false;
    return engine_.execute(command, {.now = now_, .chance = 1}, log_, &again);
  }

  NoLog log_;
  Engine engine_;
  Instant now_ = kStart;
  Command enqueue_ = Enqueue{};
  Command lease_ = Lease{.queues = {{.name = "default", .weight = 0}}, .max = 1, .worker = "host-1"};
  Command reports_ = ReportBatch{};
};

bool is_smoke() { return std::getenv("WM_BENCH_SMOKE") != nullptr; }

// Setting up ten million jobs takes seconds, so each backlog is made once.
Shop& shop_with(std::int64_t backlog) {
  static std::int64_t made_for = -1;
  static std::unique_ptr<Shop> shop;
  if (made_for != backlog) {
    shop.reset();
    shop = std::make_unique<Shop>(backlog);
    shop->set_batch(500);
    if (!is_smoke()) shop->live(150'000, 500);  // Until as many finished jobs are kept as ever will be.
    made_for = backlog;
  }
  return *shop;
}

// Enqueue, lease, complete, and the forgetting of a job that was finished long ago.
void BM_EngineLife(benchmark::State& state) {
  Shop& shop = shop_with(state.range(0));
  auto const batch = static_cast<std::uint32_t>(state.range(1));
  shop.set_batch(batch);
  for (auto _ : state) shop.live(batch, batch);
  state.SetItemsProcessed(state.iterations() * batch);
}

void backlogs(benchmark::internal::Benchmark* bench) {
  for (std::int64_t const backlog : {10'000, 100'000, 1'000'000, 10'000'000}) {
    if (backlog > 10'000 && is_smoke()) continue;
    for (std::int64_t const batch : {1, 512}) bench->Args({backlog, batch});
  }
}
BENCHMARK(BM_EngineLife)->Apply(backlogs)->ArgNames({"backlog", "batch"});

// The same life in a line beside which jobs of closed types stand, of so many types.
void BM_EngineLifeBesideClosedTypes(benchmark::State& state) {
  Shop shop{0};
  shop.close_types(state.range(0));
  shop.set_batch(1);
  for (auto _ : state) shop.live(1, 1);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_EngineLifeBesideClosedTypes)->Arg(0)->Arg(100)->Arg(is_smoke() ? 200 : 10'000)->ArgName("types");

// A deletion by a tag looks at every flight that is under way, in one turn.
void BM_EngineLooksAtFlights(benchmark::State& state) {
  Shop shop{0};
  shop.begin_flights(state.range(0));
  auto const is_meant = [](std::string_view, BytesView tags) { return has_cache_tag(tags, "another"); };
  for (auto _ : state) benchmark::DoNotOptimize(shop.engine().overtake_flights("", is_meant, shop.log()));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_EngineLooksAtFlights)->Arg(is_smoke() ? 2'000 : 100'000)->Unit(benchmark::kMillisecond);

std::size_t heap_bytes() {
  struct mallinfo2 const info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Not a time: the counter says how many bytes of heap a job takes.
void BM_EngineMemory(benchmark::State& state) {
  shop_with(0);
  for (auto _ : state) {
    std::size_t const before = heap_bytes();
    Shop shop{state.range(0)};
    state.counters["bytes_per_job"] = static_cast<double>(heap_bytes() - before) / static_cast<double>(state.range(0));
    state.counters["counted_per_job"] =
        static_cast<double>(shop.engine().status().memory_bytes) / static_cast<double>(state.range(0));
  }
}
BENCHMARK(BM_EngineMemory)->Arg(is_smoke() ? 10'000 : 1'000'000)->Iterations(1)->Unit(benchmark::kMillisecond);

void BM_EngineReplay(benchmark::State& state) {
  Bytes const spec = spec_of("default");
  for (auto _ : state) {
    Engine engine{EngineOptions{}};
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      auto const number = (static_cast<std::uint64_t>(to_ms(kStart) + i / 1'000) << kCounterBits) +
                          static_cast<std::uint64_t>(i % 1'000);
      EffectSink::Written const written{.at = {.segment = 1, .offset = static_cast<std::uint32_t>(i)}, .bytes = 120};
      auto const result = engine.replay(
          effect::JobEnqueued{.number = JobNumber{number}, .order = number, .ready_at = kStart, .spec = spec}, written,
          kStart);
      if (!result) state.SkipWithError("replay failed");
    }
    engine.finish_replay(kStart);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_EngineReplay)->Arg(is_smoke() ? 10'000 : 1'000'000)->Unit(benchmark::kMillisecond);

// Puts a job into the wheel and takes it out again, among `others`, at times of up to a day.
void BM_WheelInsertRemove(benchmark::State& state) {
  JobSlots slots;
  TimingWheel wheel{slots};
  wheel.start(kStart);
  Rng rng{1};
  std::vector<JobIndex> jobs;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    JobIndex const job = slots.take();
    slots[job].due = kStart + Duration{rng.below(86'400'000)};
    wheel.insert(job);
    jobs.push_back(job);
  }
  std::size_t at = 0;
  for (auto _ : state) {
    JobIndex const job = jobs[at++ % jobs.size()];
    wheel.remove(job);
    slots[job].due = kStart + Duration{rng.below(86'400'000)};
    wheel.insert(job);
  }
}
BENCHMARK(BM_WheelInsertRemove)->Arg(10'000)->Arg(is_smoke() ? 20'000 : 1'000'000);

// Jobs fall due one after the other: what the wheel costs for each, cascades included.
void BM_WheelTurn(benchmark::State& state) {
  JobSlots slots;
  TimingWheel wheel{slots};
  wheel.start(kStart);
  Rng rng{1};
  Instant now = kStart;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    JobIndex const job = slots.take();
    slots[job].due = now + Duration{rng.below(3'600'000)};
    wheel.insert(job);
  }
  std::int64_t moved = 0;
  for (auto _ : state) {
    now += Duration{10};
    while (wheel.next() <= now) {
      wheel.turn(now, 1'000);
      for (JobIndex job = wheel.first_due(); job != kNone<JobIndex>; job = wheel.first_due()) {
        wheel.remove(job);
        slots[job].due = now + Duration{1 + rng.below(3'600'000)};
        wheel.insert(job);
        ++moved;
      }
    }
  }
  state.SetItemsProcessed(moved);
}
BENCHMARK(BM_WheelTurn)->Arg(10'000)->Arg(is_smoke() ? 20'000 : 1'000'000);

}  // namespace
}  // namespace workmill::engine
