#include "app/tracing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

namespace workmill::app {
namespace {

using Variables = std::map<std::string, std::string>;

Result<std::optional<TracingSettings>> settings(Variables variables, Config const& config = {}) {
  return tracing_settings(config, [&](char const* name) -> std::optional<std::string> {
    auto const found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional{found->second};
  });
}

TracingSettings some(Variables variables, Config const& config = {}) {
  auto read = settings(std::move(variables), config);
  EXPECT_TRUE(read) << describe(read.error());
  EXPECT_TRUE(read && *read);
  return read && *read ? **read : TracingSettings{};
}

std::string attribute(TracingSettings const& settings, std::string_view key) {
  auto const& all = settings.otlp.resource.attributes;
  auto const found = std::ranges::find(all, key, &std::pair<std::string, std::string>::first);
  return found == all.end() ? "" : found->second;
}

TEST(TracingSettings, WithoutAnEndpointNothingIsTraced) {
  auto const none = settings({});

  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
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
  EXPECT_EQ(attribute(read, "service.name"), "mill");
  EXPECT_EQ(attribute(read, "deployment.environment"), "test");
  EXPECT_FALSE(attribute(read, "service.version").empty());
  EXPECT_EQ(read.ratio, 0.5);
  EXPECT_EQ(read.otlp.batch_after, Duration{100});
  EXPECT_EQ(read.queue_spans_max, 10u);
  EXPECT_EQ(read.otlp.batch_spans_max, 5u);
  EXPECT_TRUE(read.warnings.empty());
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
    auto const read = settings(off, config);
    ASSERT_TRUE(read);
    EXPECT_FALSE(*read);
  }
}

TEST(TracingSettings, WhatCannotBeFollowedIsSaid) {
  auto const read = some({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"},
                          {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
                          {"OTEL_TRACES_SAMPLER", "jaeger_remote"}});

  EXPECT_EQ(read.warnings.size(), 2u);
}

TEST(TracingSettings, WhatMakesNoSenseIsRefusedWithoutItsSecrets) {
  for (Variables const& wrong :
       {Variables{{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"}},
        Variables{{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@c"}},
        Variables{{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"}, {"OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0d%0aEvil"}},
        Variables{{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"}, {"OTEL_EXPORTER_OTLP_HEADERS", "hunter2"}},
        Variables{{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"},
                  {"OTEL_TRACES_SAMPLER", "traceidratio"},
                  {"OTEL_TRACES_SAMPLER_ARG", "2"}},
        Variables{{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"}, {"OTEL_BSP_MAX_QUEUE_SIZE", "0"}}}) {
    auto const read = settings(wrong);

    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, ErrorCode::bad_configuration);
    EXPECT_EQ(read.error().message.find("hunter2"), std::string::npos) << read.error().message;
  }
}

}  // namespace
}  // namespace workmill::app
