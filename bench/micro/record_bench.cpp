// Effects into bytes and back: what every job pays several times over its life. Numbers to beat: 20 ns to append, 40 ns
// to parse.
#include <benchmark/benchmark.h>

#include <string>

#include "log/record.h"
#include "model/job.h"
#include "model/retry_policy.h"

namespace workmill {
namespace {

constexpr JobNumber kNumber{1'700'000'000'000ULL << kCounterBits};
constexpr std::size_t kBatchBytes = 64 * 1024;

Bytes hundred_byte_spec() {
  Bytes spec;
  std::string const payload(100, '7');
  encode_spec({.type = "thumbnail", .payload_kind = PayloadKind::json, .payload = payload}, spec);
  return spec;
}

// As the shard does: behind each other into a batch, which is used again.
void append(benchmark::State& state, Effect const& effect) {
  Bytes batch;
  for (auto _ : state) {
    if (batch.size() > kBatchBytes) batch.clear();
    benchmark::DoNotOptimize(log::append_record(effect, batch));
  }
}
void parse(benchmark::State& state, Effect const& effect) {
  Bytes record;
  log::append_record(effect, record);
  for (auto _ : state) {
    auto parsed = log::parse_record(record);
    benchmark::DoNotOptimize(parsed);
  }
}

Bytes const& spec() {
  static Bytes const kBytes = hundred_byte_spec();
  return kBytes;
}
Effect enqueued() {
  return effect::JobEnqueued{
      .number = kNumber, .order = std::to_underlying(kNumber), .ready_at = created_at(kNumber), .spec = spec()};
}
Effect leased() {
  return effect::JobLeased{.number = kNumber,
                           .token = LeaseToken{std::to_underlying(kNumber)},
                           .at = created_at(kNumber),
                           .deadline = created_at(kNumber) + kLeaseDefault,
                           .worker = "host-1"};
}
Effect completed() {
  return effect::JobCompleted{
      .number = kNumber, .at = created_at(kNumber), .previous = {.segment = 1, .offset = 1'000}};
}

void append_enqueued(benchmark::State& state) { append(state, enqueued()); }
void append_leased(benchmark::State& state) { append(state, leased()); }
void append_completed(benchmark::State& state) { append(state, completed()); }
void parse_enqueued(benchmark::State& state) { parse(state, enqueued()); }
void parse_leased(benchmark::State& state) { parse(state, leased()); }
void parse_completed(benchmark::State& state) { parse(state, completed()); }
BENCHMARK(append_enqueued);
BENCHMARK(append_leased);
BENCHMARK(append_completed);
BENCHMARK(parse_enqueued);
BENCHMARK(parse_leased);
BENCHMARK(parse_completed);

void encode_ordinary_spec(benchmark::State& state) {
  std::string const payload(100, '7');
  JobSpecView const view{.type = "thumbnail", .payload_kind = PayloadKind::json, .payload = payload};
  Bytes out;
  for (auto _ : state) {
    out.clear();
    encode_spec(view, out);
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(encode_ordinary_spec);

void decode_ordinary_spec(benchmark::State& state) {
  JobSpecView view;
  for (auto _ : state) {
    auto decoded = decode_spec(spec(), view);
    benchmark::DoNotOptimize(decoded);
    benchmark::DoNotOptimize(view);
  }
}
BENCHMARK(decode_ordinary_spec);

void backoff(benchmark::State& state) {
  Backoff const policy{};
  auto const attempt = static_cast<std::uint32_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(backoff_after(policy, attempt, 12'345));
}
BENCHMARK(backoff)->Arg(1)->Arg(5)->Arg(10'000);

}  // namespace
}  // namespace workmill
