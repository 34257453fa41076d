#include "app/tracing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

namespace workmill::app {
namespace {

using Variables = std::map<std::string, std::string>;

struct Read {
  std::optional<TracingSettings> settings;
  std::vector<std::string> warnings;
};

Read settings(Variables variables, Config const& config = {}) {
  Read read;
  auto const environment = [&](char const* name) -> std::optional<std::string> {
    auto const found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional{found->second};
  };
  read.settings = tracing_settings(config, environment, read.warnings);
  return read;
}

// Without a warning.
TracingSettings some(Variables variables, Config const& config = {}) {
  Read const read = settings(std::move(variables), config);
  EXPECT_EQ(read.warnings, std::vector<std::string>{});
  EXPECT_TRUE(read.settings);
  return read.settings.value_or(TracingSettings{});
}

std::string attribute(TracingSettings const& settings, std::string_view key) {
  auto const& all = settings.otlp.resource.attributes;
  auto const found = std::ranges::find(all, key, &std::pair<std::string, std::string>::first);
  return found == all.end() ? "" : found->second;
}

TEST(TracingSettings, WithoutAnEndpointNothingIsTraced) {
  Read const none = settings({});

  EXPECT_FALSE(none.settings);
  EXPECT_TRUE(none.warnings.empty());
}

TEST(TracingSettings, OurSettingsGoOverTheEnvironment) {
  Config config;
  config.otlp_endpoint = "http://collector:4318/";
  config.otlp_headers = "authorization=Bearer%20abc";
  config.trace_sample = 0.25;

  auto const read = some({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere"},
                          {"OTEL_EXPORTER_OTLP_HEADERS", "x=y"},
                          {"OTEL_TRACES_SAMPLER", "always_on"}},
                         config);

  EXPECT_EQ(read.otlp.url, "http://collector:4318/v1/traces");
  EXPECT_EQ(read.otlp.headers, std::vector<std::string>{"authorization: Bearer abc"});
  EXPECT_EQ(read.ratio, 0.25);
}

TEST(TracingSettings, TheStandardVariablesAreFollowed) {
  auto const read = some({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"},
                          {"OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=two%2C"},
                          {"OTEL_EXPORTER_OTLP_TIMEOUT", "2500"},
                          {"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"},
                          {"OTEL_SERVICE_NAME", "mill"},
                          {"OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=test"},
                          {"OTEL_TRACES_SAMPLER", "parentbased_traceidratio"},
                          {"OTEL_TRACES_SAMPLER_ARG", "0.5"},
                          {"OTEL_BSP_SCHEDULE_DELAY", "100"},
                          {"OTEL_BSP_MAX_QUEUE_SIZE", "10"},
                          {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5"}});

  EXPECT_EQ(read.otlp.url, "http://localhost:4318/v1/traces");
  EXPECT_EQ(read.otlp.headers, (std::vector<std::string>{"a: 1", "b: two,"}));
  EXPECT_EQ(read.otlp.timeout, Duration{2'500});
  EXPECT_EQ(read.otlp.compression, telemetry::OtlpCompression::gzip);
  EXPECT_EQ(attribute(read, "service.name"), "mill");
  EXPECT_EQ(attribute(read, "deployment.environment"), "test");
  EXPECT_FALSE(attribute(read, "service.version").empty());
  EXPECT_EQ(read.ratio, 0.5);
  EXPECT_EQ(read.otlp.batch_after, Duration{100});
  EXPECT_EQ(read.queue_spans_max, 10u);
  EXPECT_EQ(read.otlp.batch_spans_max, 5u);
}

TEST(TracingSettings, TheEndpointOfTracesIsTakenAsItIs) {
  EXPECT_EQ(
      some({{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/otlp"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://d"}})
          .otlp.url,
      "https://c/otlp");
}

TEST(TracingSettings, EverySamplerHasItsRatio) {
  auto const ratio = [](std::string sampler) {
    return some({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"}, {"OTEL_TRACES_SAMPLER", std::move(sampler)}}).ratio;
  };
  EXPECT_EQ(ratio("always_on"), 1);
  EXPECT_EQ(ratio("parentbased_always_on"), 1);
  EXPECT_EQ(ratio("parentbased_always_off"), 0);
  EXPECT_EQ(ratio("traceidratio"), 1);
  EXPECT_EQ(some({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"}}).ratio, 0);
}

TEST(TracingSettings, TheEnvironmentCanTurnItOff) {
  for (Variables const& off : {Variables{{"OTEL_SDK_DISABLED", "True"}}, Variables{{"OTEL_TRACES_EXPORTER", "none"}}}) {
    Config config;
    config.otlp_endpoint = "http://c";
    EXPECT_FALSE(settings(off, config).settings);
  }
}

TEST(TracingSettings, WhatCannotBeFollowedIsSaid) {
  Read const read = settings({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"},
                              {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
                              {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"},
                              {"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"},
                              {"OTEL_TRACES_SAMPLER", "jaeger_remote"}});

  ASSERT_TRUE(read.settings);
  EXPECT_EQ(read.settings->otlp.compression, telemetry::OtlpCompression::none);
  EXPECT_EQ(read.warnings.size(), 3u);
}

TEST(TracingSettings, AVariableThatMakesNoSenseIsAsGoodAsNotSet) {
  Read const read = settings({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"},
                              {"OTEL_EXPORTER_OTLP_HEADERS", "hunter2"},
                              {"OTEL_EXPORTER_OTLP_TIMEOUT", "abc"},
                              {"OTEL_RESOURCE_ATTRIBUTES", "service.name=mill,hunter2"},
                              {"OTEL_TRACES_SAMPLER", "traceidratio"},
                              {"OTEL_TRACES_SAMPLER_ARG", "7"},
                              {"OTEL_BSP_SCHEDULE_DELAY", "1e3"},
                              {"OTEL_BSP_MAX_QUEUE_SIZE", "-1"},
                              {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"}});
  TracingSettings const defaults;

  ASSERT_TRUE(read.settings);
  EXPECT_TRUE(read.settings->otlp.headers.empty());
  EXPECT_EQ(read.settings->otlp.timeout, defaults.otlp.timeout);
  EXPECT_EQ(attribute(*read.settings, "service.name"), "workmill");
  EXPECT_EQ(read.settings->ratio, 1);
  EXPECT_EQ(read.settings->otlp.batch_after, defaults.otlp.batch_after);
  EXPECT_EQ(read.settings->queue_spans_max, defaults.queue_spans_max);
  EXPECT_EQ(read.settings->otlp.batch_spans_max, defaults.otlp.batch_spans_max);
  EXPECT_EQ(read.warnings.size(), 7u);
  for (std::string const& warning : read.warnings) {
    EXPECT_TRUE(warning.starts_with("OTEL_")) << warning;
    EXPECT_FALSE(warning.contains("hunter2")) << warning;
  }
}

TEST(TracingSettings, AnEndpointOfTheEnvironmentThatMakesNoSenseIsNone) {
  for (std::string const wrong :
       {"localhost:4318", "http://me:hunter2@c", "http://", "https:///v1/traces", "http://:4318"}) {
    for (char const* const name : {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}) {
      Read const read = settings({{name, wrong}});

      EXPECT_FALSE(read.settings) << wrong;
      ASSERT_EQ(read.warnings.size(), 1u) << wrong;
      EXPECT_FALSE(read.warnings[0].contains("hunter2")) << read.warnings[0];
    }
  }
}

TEST(CheckTracing, RefusesWhatMakesNoSenseWithoutItsSecrets) {
  EXPECT_TRUE(check_tracing(Config{}));
  auto const refused = [](std::string endpoint, std::string headers) {
    Config config;
    config.otlp_endpoint = std::move(endpoint);
    config.otlp_headers = std::move(headers);
    auto const checked = check_tracing(config);
    EXPECT_FALSE(!checked && checked.error().message.contains("hunter2")) << checked.error().message;
    return !checked && checked.error().code == ErrorCode::bad_configuration;
  };
  EXPECT_FALSE(refused("http://c:4318", "a=b"));
  EXPECT_TRUE(refused("http://", ""));
  EXPECT_TRUE(refused("http://me:hunter2@c", ""));
  EXPECT_TRUE(refused("http://c", "a=hunter2%0d%0aEvil"));
  EXPECT_TRUE(refused("", "hunter2"));
}

}  // namespace
}  // namespace workmill::app
