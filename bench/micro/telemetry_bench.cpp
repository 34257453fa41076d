#include <benchmark/benchmark.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/otlp_encoder.h"
#include "telemetry/trace.h"
#include "telemetry/tracer.h"

// What it costs to be observed.
namespace workmill::telemetry {
namespace {

class StoppedClock final : public Clock {
 public:
  Instant now() const override { return instant_from_ms(1'795'338'000'000); }
  std::chrono::nanoseconds monotonic() const override { return {}; }
};

void counter_add(benchmark::State& state) {
  Counter counter;
  for (auto _ : state) counter.add();
}
BENCHMARK(counter_add);

void histogram_observe(benchmark::State& state) {
  Histogram histogram{latency_buckets()};
  Rng rng{1};
  for (auto _ : state) histogram.observe(rng.next() >> 40);
}
BENCHMARK(histogram_observe);

void histogram_observe_as_owner(benchmark::State& state) {
  Histogram histogram{latency_buckets()};
  Rng rng{1};
  for (auto _ : state) histogram.observe_as_owner(rng.next() >> 40);
}
BENCHMARK(histogram_observe_as_owner);

// A scrape of so many queues, each with six depths.
void metrics_render(benchmark::State& state) {
  Metrics metrics;
  metrics.add_collector([queues = state.range(0)](MetricsWriter& writer) {
    for (std::int64_t i = 0; i < queues; ++i) {
      std::string const queue = "queue-" + std::to_string(i);
      for (auto const* name : {"scheduled", "ready", "leased", "completed", "dead", "cancelled"}) {
        writer.gauge("workmill_jobs", "Jobs by state.", {{"queue", queue}, {"state", name}}, static_cast<double>(i));
      }
    }
  });
  for (auto _ : state) benchmark::DoNotOptimize(metrics.render(MetricsFormat::openmetrics));
}
BENCHMARK(metrics_render)->Arg(10)->Arg(1'000);

void log_line(benchmark::State& state) {
  StoppedClock const clock;
  auto const format = state.range(0) == 0 ? LogFormat::text : LogFormat::json;
  Logger logger{clock,
                {.level = LogLevel::info, .format = format, .delivery = LogDelivery::immediate},
                [](std::string_view line) { benchmark::DoNotOptimize(line); }};
  for (auto _ : state) logger.info("listening", {{"address", "127.0.0.1"}, {"port", 7330}, {"tls", false}});
}
BENCHMARK(log_line)->ArgName("json")->Arg(0)->Arg(1);

void log_line_below_the_level(benchmark::State& state) {
  StoppedClock const clock;
  Logger logger{clock, {}, [](std::string_view) {}};
  for (auto _ : state) logger.debug("listening", {{"address", "127.0.0.1"}, {"port", 7330}, {"tls", false}});
}
BENCHMARK(log_line_below_the_level);

void traceparent_round_trip(benchmark::State& state) {
  Rng rng{1};
  auto const text = format_traceparent(start_trace(rng, Sampling::on));
  for (auto _ : state) {
    auto const context = parse_traceparent({text.data(), text.size()});
    benchmark::DoNotOptimize(format_traceparent(continue_trace(context.value_or(TraceContext{}), rng)));
  }
}
BENCHMARK(traceparent_round_trip);

// What every request pays where traces are on: without a trace of its own, at one in a hundred.
void trace_not_sampled(benchmark::State& state) {
  StoppedClock const clock;
  Rng rng{1};
  Tracer tracer{clock, 0.01};
  for (auto _ : state) benchmark::DoNotOptimize(tracer.begin(std::nullopt, rng));
}
BENCHMARK(trace_not_sampled);

Span ordinary_span() {
  Span span = messaging_span("process", "process", "emails", SpanKind::consumer);
  span.add(attribute::kMessageId, "0198c1a5-5c00-7abc-8def-0123456789ab");
  span.add(attribute::kClientId, "mailer-1");
  span.add_number(attribute::kJobAttempt, 1);
  return span;
}

// What a sampled span costs the thread that has it.
void span_emit(benchmark::State& state) {
  StoppedClock const clock;
  Tracer tracer{clock, 1, 1'024};
  std::vector<Span> taken;
  for (auto _ : state) {
    tracer.emit(ordinary_span());
    if (tracer.figures().queued < 1'000) continue;
    state.PauseTiming();
    taken.clear();
    tracer.spans().receive_batch(taken, 1'024);
    state.ResumeTiming();
  }
}
BENCHMARK(span_emit);

// A full batch into the body of an export, on the exporter's thread.
void otlp_encode(benchmark::State& state) {
  std::vector<Span> const spans(512, ordinary_span());
  std::string body;
  for (auto _ : state) {
    body.clear();
    append_otlp({.attributes = {{"service.name", "workmill"}}, .version = "0"}, spans, body);
    benchmark::DoNotOptimize(body.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(body.size()));
}
BENCHMARK(otlp_encode);

}  // namespace
}  // namespace workmill::telemetry
