#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/time.h"
#include "model/ids.h"

// Small codecs that every job passes through several times: ids, times, durations, numbers as bytes.
namespace workmill {
namespace {

constexpr std::uint64_t kNow = 1'795'338'000'000;

void job_id_encode(benchmark::State& state) {
  JobIdCodec const codec{42};
  std::uint64_t number = kNow << kCounterBits;
  for (auto _ : state) benchmark::DoNotOptimize(codec.encode(JobNumber{++number}));
}
BENCHMARK(job_id_encode);

void job_id_decode(benchmark::State& state) {
  JobIdCodec const codec{42};
  auto const text = codec.encode(JobNumber{kNow << kCounterBits});
  std::string_view const view{text.data(), text.size()};
  for (auto _ : state) benchmark::DoNotOptimize(codec.decode(view));
}
BENCHMARK(job_id_decode);

void name_check(benchmark::State& state) {
  std::string const name = "thumbnails.europe-west:high";
  for (auto _ : state) benchmark::DoNotOptimize(is_name(name));
}
BENCHMARK(name_check);

void rfc3339_format(benchmark::State& state) {
  char buffer[kRfc3339Bytes];
  std::int64_t ms = kNow;
  for (auto _ : state) {
    format_rfc3339_to(instant_from_ms(ms += 977), buffer);
    benchmark::DoNotOptimize(buffer);
  }
}
BENCHMARK(rfc3339_format);

void rfc3339_parse(benchmark::State& state) {
  std::string const text = "2026-11-22T09:00:00.123+02:00";
  for (auto _ : state) benchmark::DoNotOptimize(parse_rfc3339(text));
}
BENCHMARK(rfc3339_parse);

void duration_parse(benchmark::State& state) {
  std::string const text = "1h30m";
  for (auto _ : state) benchmark::DoNotOptimize(parse_duration(text));
}
BENCHMARK(duration_parse);

void varint_round_trip(benchmark::State& state) {
  auto const shift = static_cast<int>(64 - state.range(0));
  Rng rng{1};
  std::uint64_t const value = (rng.next() | std::uint64_t{1} << 63) >> shift;
  Bytes buffer;
  for (auto _ : state) {
    buffer.clear();
    ByteWriter writer{buffer};
    for (int i = 0; i < 16; ++i) writer.varint(value);
    ByteReader reader{buffer};
    std::uint64_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += reader.varint();
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * 16);
}
BENCHMARK(varint_round_trip)->Arg(7)->Arg(14)->Arg(44)->Arg(64);

void rng_below(benchmark::State& state) {
  Rng rng{1};
  for (auto _ : state) benchmark::DoNotOptimize(rng.below(1'000));
}
BENCHMARK(rng_below);

}  // namespace
}  // namespace workmill
