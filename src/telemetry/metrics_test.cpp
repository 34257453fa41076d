#include "telemetry/metrics.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

namespace workmill::telemetry {
namespace {

using namespace std::chrono_literals;

Buckets few_buckets() { return {.bounds = {500, 1'000, 2'000}, .unit = 1e-3}; }  // Shown as 0.5, 1 and 2.

void fill(Metrics& metrics) {
  metrics.counter("workmill_jobs_completed_total", "Jobs that ended.", {{"queue", "b"}, {"outcome", "dead"}}).add(3);
  metrics.counter("workmill_jobs_completed_total", "Jobs that ended.", {{"queue", "a"}, {"outcome", "completed"}})
      .add();
  metrics.gauge("workmill_store_bytes", "Bytes on disk.").set(4096);
  auto& waits =
      metrics.histogram("workmill_job_wait_seconds", "From ready to leased.", few_buckets(), {{"queue", "a"}});
  for (std::uint64_t const value : {0u, 500u, 501u, 2'000u, 2'001u}) waits.observe(value);
}

TEST(Metrics, PrometheusTextIsAsThePageSays) {
  Metrics metrics;
  fill(metrics);

  EXPECT_EQ(metrics.render(MetricsFormat::prometheus_text),
            "# HELP workmill_job_wait_seconds From ready to leased.\n"
            "# TYPE workmill_job_wait_seconds histogram\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"0.5\"} 2\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"1\"} 3\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"2\"} 4\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"+Inf\"} 5\n"
            "workmill_job_wait_seconds_sum{queue=\"a\"} 5.002\n"
            "workmill_job_wait_seconds_count{queue=\"a\"} 5\n"
            "# HELP workmill_jobs_completed_total Jobs that ended.\n"
            "# TYPE workmill_jobs_completed_total counter\n"
            "workmill_jobs_completed_total{queue=\"a\",outcome=\"completed\"} 1\n"
            "workmill_jobs_completed_total{queue=\"b\",outcome=\"dead\"} 3\n"
            "# HELP workmill_store_bytes Bytes on disk.\n"
            "# TYPE workmill_store_bytes gauge\n"
            "workmill_store_bytes 4096\n");
}

TEST(Metrics, OpenMetricsNamesTheFamilyWithoutTotalAndEndsInEof) {
  Metrics metrics;
  fill(metrics);

  EXPECT_EQ(metrics.render(MetricsFormat::openmetrics),
            "# HELP workmill_job_wait_seconds From ready to leased.\n"
            "# TYPE workmill_job_wait_seconds histogram\n"
            "# UNIT workmill_job_wait_seconds seconds\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"0.5\"} 2\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"1.0\"} 3\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"2.0\"} 4\n"
            "workmill_job_wait_seconds_bucket{queue=\"a\",le=\"+Inf\"} 5\n"
            "workmill_job_wait_seconds_sum{queue=\"a\"} 5.002\n"
            "workmill_job_wait_seconds_count{queue=\"a\"} 5\n"
            "# HELP workmill_jobs_completed Jobs that ended.\n"
            "# TYPE workmill_jobs_completed counter\n"
            "workmill_jobs_completed_total{queue=\"a\",outcome=\"completed\"} 1\n"
            "workmill_jobs_completed_total{queue=\"b\",outcome=\"dead\"} 3\n"
            "# HELP workmill_store_bytes Bytes on disk.\n"
            "# TYPE workmill_store_bytes gauge\n"
            "# UNIT workmill_store_bytes bytes\n"
            "workmill_store_bytes 4096\n"
            "# EOF\n");
}

TEST(Metrics, WhatSeveralHaveInCommonIsObservedOnce) {
  Metrics metrics;
  auto& sizes = metrics.histogram("workmill_x_seconds", "", few_buckets());
  sizes.observe(500, 3);
  sizes.observe_as_owner(501, 2);

  EXPECT_EQ(sizes.snapshot().counts[0], 3U);
  EXPECT_EQ(sizes.snapshot().counts[1], 2U);
  EXPECT_EQ(sizes.snapshot().sum, 2'502U);
}

TEST(Metrics, WhatOnlyTheCallerKnowsIsWrittenAlong) {
  Metrics metrics;
  metrics.gauge("workmill_x", "", {{"name", "a"}}).set(1);

  EXPECT_EQ(metrics.render(MetricsFormat::prometheus_text,
                           [](MetricsWriter& out) { out.gauge("workmill_x", "", {{"name", "b"}}, 2); }),
            "# HELP workmill_x \n"
            "# TYPE workmill_x gauge\n"
            "workmill_x{name=\"a\"} 1\n"
            "workmill_x{name=\"b\"} 2\n");
}

TEST(Metrics, NothingMeasuredIsStillADocument) {
  Metrics metrics;

  EXPECT_EQ(metrics.render(MetricsFormat::prometheus_text), "");
  EXPECT_EQ(metrics.render(MetricsFormat::openmetrics), "# EOF\n");
}

TEST(Metrics, HelpAndLabelsAreEscaped) {
  Metrics metrics;
  metrics.gauge("workmill_x", "A \\ and a \"line\"\nmore.", {{"name", "a\\b\"c\nd"}}).set(1);

  EXPECT_EQ(metrics.render(MetricsFormat::prometheus_text),
            "# HELP workmill_x A \\\\ and a \"line\"\\nmore.\n"
            "# TYPE workmill_x gauge\n"
            "workmill_x{name=\"a\\\\b\\\"c\\nd\"} 1\n");
  EXPECT_EQ(metrics.render(MetricsFormat::openmetrics),
            "# HELP workmill_x A \\\\ and a \\\"line\\\"\\nmore.\n"
            "# TYPE workmill_x gauge\n"
            "workmill_x{name=\"a\\\\b\\\"c\\nd\"} 1\n"
            "# EOF\n");
}

TEST(Metrics, NumbersKeepTheirValue) {
  Metrics metrics;
  metrics.gauge("workmill_a", "").set(0.1);
  metrics.gauge("workmill_b", "").set(-1.5e300);
  metrics.gauge("workmill_c", "").set(std::numeric_limits<double>::infinity());
  metrics.gauge("workmill_d", "").set(std::numeric_limits<double>::quiet_NaN());
  metrics.counter("workmill_e_total", "").add(1'795'338'000'123);

  std::string const text = metrics.render(MetricsFormat::prometheus_text);

  for (std::string_view const line : {"\nworkmill_a 0.1\n", "\nworkmill_b -1.5e+300\n", "\nworkmill_c +Inf\n",
                                      "\nworkmill_d NaN\n", "\nworkmill_e_total 1795338000123\n"}) {
    EXPECT_TRUE(text.contains(line)) << line << text;
  }
}

TEST(Metrics, TheSameNameAndLabelsAreTheSameInstrument) {
  Metrics metrics;
  auto& first = metrics.counter("workmill_x_total", "X.", {{"queue", "a"}});
  auto& second = metrics.counter("workmill_x_total", "X.", {{"queue", "a"}});
  auto& other = metrics.counter("workmill_x_total", "X.", {{"queue", "b"}});

  EXPECT_EQ(&first, &second);
  EXPECT_NE(&first, &other);
}

TEST(Metrics, ACollectorWritesAtEachRenderAndSharesAFamilyWithInstruments) {
  Metrics metrics;
  metrics.gauge("workmill_channel_fullness_ratio", "How full.", {{"channel", "a"}}).set(0.5);
  metrics.gauge("workmill_x", "").set(1);
  double depth = 0;
  metrics.add_collector([&depth](MetricsWriter& writer) {
    writer.gauge("workmill_channel_fullness_ratio", "How full.", {{"channel", "b"}}, depth += 0.25);
  });
  metrics.render(MetricsFormat::prometheus_text);

  EXPECT_EQ(metrics.render(MetricsFormat::prometheus_text),
            "# HELP workmill_channel_fullness_ratio How full.\n"
            "# TYPE workmill_channel_fullness_ratio gauge\n"
            "workmill_channel_fullness_ratio{channel=\"a\"} 0.5\n"
            "workmill_channel_fullness_ratio{channel=\"b\"} 0.5\n"
            "# HELP workmill_x \n"
            "# TYPE workmill_x gauge\n"
            "workmill_x 1\n");
}

TEST(Metrics, ThreadsMayCountMeasureAndRenderAtOnce) {
  Metrics metrics;
  {
    std::vector<std::jthread> threads;
    threads.reserve(3);
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&metrics] {
        auto& counter = metrics.counter("workmill_x_total", "X.");
        auto& histogram = metrics.histogram("workmill_x_seconds", "X.", latency_buckets());
        auto& gauge = metrics.gauge("workmill_x", "X.");
        for (int j = 0; j < 1'000; ++j) {
          counter.add();
          histogram.observe(50us);
          gauge.add(1);
          if (j % 100 == 0) metrics.render(MetricsFormat::openmetrics);
        }
      });
    }
  }

  EXPECT_EQ(metrics.counter("workmill_x_total", "X.").value(), 3'000u);
  EXPECT_EQ(metrics.histogram("workmill_x_seconds", "X.", {}).snapshot().count(), 3'000u);
  EXPECT_EQ(metrics.gauge("workmill_x", "X.").value(), 3'000);
}

TEST(MetricsDeathTest, ABadNameOrASecondTypeIsABugOfOurs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Metrics metrics;
  metrics.gauge("workmill_x", "");
  EXPECT_DEATH(metrics.gauge("workmill-x", ""), "assertion failed");
  EXPECT_DEATH(metrics.counter("workmill_jobs", ""), "assertion failed");
  EXPECT_DEATH(metrics.histogram("workmill_x", "", count_buckets()), "assertion failed");
  EXPECT_DEATH(metrics.gauge("workmill_y", "", {{"le", "1"}}), "assertion failed");
}

TEST(Counter, TheOwnersWayCountsTheSame) {
  Counter counter;
  counter.add(2);
  counter.add_as_owner(3);
  counter.add_as_owner();

  EXPECT_EQ(counter.value(), 6u);
}

TEST(Histogram, AClockThatWentBackCountsAsZero) {
  Histogram histogram{latency_buckets()};
  histogram.observe(-5ns);
  histogram.observe_as_owner(-5ns);

  EXPECT_EQ(histogram.snapshot().counts[0], 2u);
  EXPECT_EQ(histogram.snapshot().sum, 0u);
}

TEST(Histogram, LatenciesAreShownInSecondsWithRoundBounds) {
  MetricsWriter writer{MetricsFormat::prometheus_text};
  Histogram const histogram{latency_buckets()};
  writer.histogram("workmill_x_seconds", "X.", {}, histogram.snapshot());
  std::string const text = writer.finish();

  for (std::string_view const bound :
       {"1e-05", "2e-05", "5e-05", "0.0001", "0.0002", "0.05", "1", "50", "100", "+Inf"}) {
    EXPECT_TRUE(text.contains("{le=\"" + std::string{bound} + "\"} 0\n")) << bound << "\n" << text;
  }
}

TEST(Histogram, AQuantileIsReadOffABucketInAStraightLine) {
  Histogram histogram{{.bounds = {100, 200, 400}, .unit = 1}};
  EXPECT_EQ(histogram.snapshot().quantile(500), 0u);

  for (int i = 0; i < 50; ++i) histogram.observe(std::uint64_t{50});
  for (int i = 0; i < 50; ++i) histogram.observe(std::uint64_t{300});

  EXPECT_EQ(histogram.snapshot().quantile(250), 50u);
  EXPECT_EQ(histogram.snapshot().quantile(500), 100u);
  EXPECT_EQ(histogram.snapshot().quantile(750), 300u);
  EXPECT_EQ(histogram.snapshot().quantile(1'000), 400u);

  for (int i = 0; i < 1'000; ++i) histogram.observe(std::uint64_t{1'000'000});
  EXPECT_EQ(histogram.snapshot().quantile(500), 400u);  // All that is known is that it lies above.
}

// The model walks all bounds from the lowest.
RC_GTEST_PROP(Histogram, EveryValueFallsIntoTheFirstBucketThatHoldsIt, (std::vector<std::uint64_t> const& values)) {
  auto bounds = *rc::gen::unique<std::vector<std::uint64_t>>(
      rc::gen::apply([](std::uint64_t value, int shift) { return value >> shift; }, rc::gen::arbitrary<std::uint64_t>(),
                     rc::gen::inRange(0, 64)));
  RC_PRE(!bounds.empty() && bounds.size() <= 64);
  std::ranges::sort(bounds);
  Histogram histogram{{.bounds = bounds, .unit = 1}};
  std::vector<std::uint64_t> model(bounds.size() + 1, 0);
  auto const observe = [&](std::uint64_t value) {
    histogram.observe(value);
    std::size_t at = 0;
    while (at < bounds.size() && value > bounds[at]) ++at;
    ++model[at];
  };

  for (std::uint64_t const value : values) observe(value);
  for (std::uint64_t const bound : bounds) {
    observe(bound);
    observe(bound + 1);
    observe(bound - 1);
  }
  RC_ASSERT(histogram.snapshot().counts == model);
}

TEST(MetricsFormat, IsNegotiatedByTheAcceptHeader) {
  constexpr auto kPlain = MetricsFormat::prometheus_text;
  constexpr auto kOpen = MetricsFormat::openmetrics;
  EXPECT_EQ(choose_format(""), kPlain);
  EXPECT_EQ(choose_format("*/*"), kPlain);
  EXPECT_EQ(choose_format("text/html, application/xml;q=0.9"), kPlain);
  EXPECT_EQ(choose_format("application/openmetrics-text"), kOpen);
  EXPECT_EQ(choose_format("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"), kOpen);
  EXPECT_EQ(choose_format("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            kOpen);
  EXPECT_EQ(choose_format("application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5"), kPlain);
  EXPECT_EQ(choose_format("application/openmetrics-text;q=0.4,text/plain;q=0.5"), kPlain);
  EXPECT_EQ(choose_format("application/openmetrics-text;q=0"), kPlain);
  EXPECT_EQ(choose_format(",;=,;;q=,"), kPlain);
}

RC_GTEST_PROP(MetricsFormat, AnyAcceptHeaderIsSurvived, ()) {
  auto const parts = *rc::gen::container<std::vector<std::string>>(
      rc::gen::element<std::string>("application/openmetrics-text", "text/plain", ";", ",", "=", "q", "0.5", " ",
                                    "version", "1.0.0", "\xff", "q=1e999", "q=-1"));
  std::string header;
  for (auto const& part : parts) header += part;
  choose_format(header);
}

}  // namespace
}  // namespace workmill::telemetry
