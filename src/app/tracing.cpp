#include "app/tracing.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "protocols/http/codec.h"

namespace workmill::app {
namespace {

constexpr std::string_view kTracesPath = "/v1/traces";

using Pairs = std::vector<std::pair<std::string, std::string>>;

auto bad(std::string message) { return fail(ErrorCode::bad_configuration, std::move(message)); }

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

// "key=value,key2=value2", values percent-encoded, as W3C Baggage has it. Messages name the key alone.
Result<Pairs> parse_pairs(std::string_view name, std::string_view text) {
  Pairs pairs;
  while (!text.empty()) {
    std::size_t const comma = std::min(text.find(','), text.size());
    std::string_view const part = trimmed(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (part.empty()) continue;
    std::size_t const equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return bad(fmt::format("{}: write it as name=value,name2=value2", name));
    }
    std::string key{trimmed(part.substr(0, equals))};
    std::string value;
    auto const is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == '\x7f'; };
    if (!http::append_percent_decoded(trimmed(part.substr(equals + 1)), value) ||
        std::ranges::any_of(value, is_control) || std::ranges::any_of(key, is_control)) {
      return bad(fmt::format("{}: the value of '{}' cannot be read", name, key));
    }
    pairs.emplace_back(std::move(key), std::move(value));
  }
  return pairs;
}

template <class Number>
Result<Number> parse_number(char const* name, std::string_view text, Number low, Number high) {
  Number number{};
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !(number >= low && number <= high)) {
    return bad(fmt::format("{}: '{}' is no number from {} to {}", name, text, low, high));
  }
  return number;
}

bool is_true(std::optional<std::string> const& text) {
  if (!text) return false;
  std::string lower = *text;
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return lower == "true";
}

// The first of these variables that is set.
std::optional<std::string> first_of(Environment const& environment, std::initializer_list<char const*> names) {
  for (char const* const name : names) {
    if (auto value = environment(name)) return value;
  }
  return std::nullopt;
}

std::string with_traces_path(std::string endpoint) {
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint.append(kTracesPath);
}

// What is wrong with a URL to send spans to, in words that do not repeat it: it may hold a password.
std::optional<std::string_view> fault_of(std::string_view url) {
  if (url.contains('@')) return "a name or password in the URL would be logged: use headers";
  std::size_t const scheme = url.starts_with("http://") ? 7 : url.starts_with("https://") ? 8 : 0;
  if (scheme == 0) return "is no http:// or https:// URL";
  std::string_view const host = url.substr(scheme, url.find_first_of("/?#", scheme) - scheme);
  if (host.empty() || host.starts_with(':')) return "the URL names no host";
  return std::nullopt;
}

// Empty: there is none.
std::string traces_url(Config const& config, Environment const& environment, std::vector<std::string>& warnings) {
  if (!config.otlp_endpoint.empty()) return with_traces_path(config.otlp_endpoint);
  for (char const* const name : {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}) {
    auto url = environment(name);
    if (!url) continue;
    if (auto const fault = fault_of(*url)) {
      warnings.push_back(fmt::format("{}: {}; no spans are sent", name, *fault));
      return {};
    }
    bool const is_whole = std::string_view{name} == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    return is_whole ? *std::move(url) : with_traces_path(*std::move(url));
  }
  return {};
}

// A variable that is a number. One that makes no sense is as good as not set, as OpenTelemetry has it, and is told.
template <class Number>
std::optional<Number> number_of(char const* name, std::optional<std::string> const& text, Number low, Number high,
                                std::vector<std::string>& warnings) {
  if (!text) return std::nullopt;
  auto const number = parse_number(name, *text, low, high);
  if (number) return *number;
  warnings.push_back(number.error().message + "; it is left out of account");
  return std::nullopt;
}

// What the standard sampler variables come to. Whatever they say, a request that belongs to a trace does as that trace
// was decided.
double ratio_of(Config const& config, Environment const& environment, std::vector<std::string>& warnings) {
  if (config.trace_sample) return *config.trace_sample;
  auto const sampler = environment("OTEL_TRACES_SAMPLER");
  if (!sampler) return 0;
  std::string_view name = *sampler;
  constexpr std::string_view kParentBased = "parentbased_";
  if (name.starts_with(kParentBased)) name.remove_prefix(kParentBased.size());
  if (name == "always_on") return 1;
  if (name == "always_off") return 0;
  if (name == "traceidratio") {
    auto const argument = environment("OTEL_TRACES_SAMPLER_ARG");
    return number_of("OTEL_TRACES_SAMPLER_ARG", argument, 0.0, 1.0, warnings).value_or(1);
  }
  warnings.push_back(fmt::format("OTEL_TRACES_SAMPLER: '{}' is not known; no traces are begun", *sampler));
  return 0;
}

void read_limits(Environment const& environment, TracingSettings& settings, std::vector<std::string>& warnings) {
  constexpr std::int64_t kMsMax = 600'000;
  for (char const* const name : {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"}) {
    auto const ms = number_of<std::int64_t>(name, environment(name), 1, kMsMax, warnings);
    if (ms) settings.otlp.timeout = Duration{*ms};
  }
  auto const read = [&]<class Number>(char const* name, Number high) {
    return number_of<Number>(name, environment(name), 1, high, warnings);
  };
  if (auto const ms = read("OTEL_BSP_SCHEDULE_DELAY", kMsMax)) settings.otlp.batch_after = Duration{*ms};
  if (auto const spans = read("OTEL_BSP_MAX_QUEUE_SIZE", std::size_t{1'000'000})) settings.queue_spans_max = *spans;
  if (auto const spans = read("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", std::size_t{10'000})) {
    settings.otlp.batch_spans_max = *spans;
  }
}

// Headers of our own setting have been checked; those of the environment are left out where they make no sense.
std::vector<std::string> headers_of(Config const& config, Environment const& environment,
                                    std::vector<std::string>& warnings) {
  bool const is_ours = !config.otlp_headers.empty();
  auto const text = is_ours
                        ? std::optional{config.otlp_headers}
                        : first_of(environment, {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"});
  if (!text) return {};
  auto const pairs = parse_pairs(is_ours ? "otlp_headers" : "OTEL_EXPORTER_OTLP_HEADERS", *text);
  if (!pairs) {
    warnings.push_back(pairs.error().message + "; no such headers are sent");
    return {};
  }
  std::vector<std::string> lines;
  for (auto const& [name, value] : *pairs) lines.push_back(name + ": " + value);
  return lines;
}

telemetry::OtlpCompression compression_of(Environment const& environment, std::vector<std::string>& warnings) {
  auto const text = first_of(environment, {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"});
  if (text == "gzip") return telemetry::OtlpCompression::gzip;
  if (text && *text != "none") {
    warnings.push_back(
        fmt::format("OTEL_EXPORTER_OTLP_COMPRESSION: '{}' is not known here; spans are sent as they are", *text));
  }
  return telemetry::OtlpCompression::none;
}

telemetry::OtlpResource resource_of(Environment const& environment, std::vector<std::string>& warnings) {
  Pairs attributes{{"service.name", "workmill"}, {"service.version", WM_VERSION}};
  auto const set = [&](std::string key, std::string value) {
    auto const found = std::ranges::find(attributes, key, &Pairs::value_type::first);
    if (found != attributes.end()) {
      found->second = std::move(value);
    } else {
      attributes.emplace_back(std::move(key), std::move(value));
    }
  };
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) == 0) set("host.name", host.data());
  if (auto const text = environment("OTEL_RESOURCE_ATTRIBUTES")) {
    if (auto pairs = parse_pairs("OTEL_RESOURCE_ATTRIBUTES", *text)) {
      for (auto& [key, value] : *pairs) set(std::move(key), std::move(value));
    } else {
      warnings.push_back(pairs.error().message + "; it is left out of account");
    }
  }
  if (auto name = environment("OTEL_SERVICE_NAME")) set("service.name", *std::move(name));
  return telemetry::OtlpResource{.attributes = std::move(attributes), .version = WM_VERSION};
}

}  // namespace

Environment process_environment() {
  return [](char const* name) -> std::optional<std::string> {
    char const* const value = std::getenv(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string{value};
  };
}

Result<> check_tracing(Config const& config) {
  if (!config.otlp_endpoint.empty()) {
    if (auto const fault = fault_of(config.otlp_endpoint)) return bad(fmt::format("otlp_endpoint: {}", *fault));
  }
  if (auto const headers = parse_pairs("otlp_headers", config.otlp_headers); !headers) {
    return std::unexpected(headers.error());
  }
  return {};
}

std::optional<TracingSettings> tracing_settings(Config const& config, Environment const& environment,
                                                std::vector<std::string>& warnings) {
  if (is_true(environment("OTEL_SDK_DISABLED")) || environment("OTEL_TRACES_EXPORTER") == "none") return std::nullopt;
  std::string url = traces_url(config, environment, warnings);
  if (url.empty()) return std::nullopt;
  TracingSettings settings;
  settings.otlp.url = std::move(url);
  settings.otlp.headers = headers_of(config, environment, warnings);
  settings.otlp.compression = compression_of(environment, warnings);
  settings.ratio = ratio_of(config, environment, warnings);
  read_limits(environment, settings, warnings);
  settings.otlp.resource = resource_of(environment, warnings);
  auto const protocol = first_of(environment, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"});
  if (protocol && *protocol != "http/json") {
    warnings.push_back(
        fmt::format("OTEL_EXPORTER_OTLP_PROTOCOL: '{}' is not spoken here; spans are sent as http/json", *protocol));
  }
  return settings;
}

Tracing Tracing::start(Config const& config, Environment const& environment, Clock const& clock,
                       telemetry::Logger& logger, Rng chance) {
  Tracing tracing;
  tracing.environment_ = environment;
  std::vector<std::string> warnings;
  auto settings = tracing_settings(config, environment, warnings);
  for (std::string const& warning : warnings) logger.warn("a variable was not followed", {{"why", warning}});
  if (!settings) return tracing;
  // Its query may hold a key.
  std::string_view const url = std::string_view{settings->otlp.url}.substr(0, settings->otlp.url.find_first_of("?#"));
  logger.info("spans are exported", {{"url", url}, {"sample", settings->ratio}});
  tracing.tracer_ = std::make_unique<telemetry::Tracer>(clock, settings->ratio, settings->queue_spans_max);
  tracing.exporter_ =
      std::make_unique<telemetry::OtlpExporter>(std::move(settings->otlp), *tracing.tracer_, clock, logger, chance);
  return tracing;
}

void Tracing::set_sample(Config const& next) const {
  if (!tracer_) return;
  std::vector<std::string> warnings;  // Said at the start.
  tracer_->set_ratio(ratio_of(next, environment_, warnings));
}

void Tracing::add_metrics(telemetry::Metrics& metrics) const {
  if (exporter_) telemetry::add_trace_metrics(metrics, *tracer_, *exporter_);
}

void Tracing::flush() {
  if (exporter_) exporter_->stop();
}

}  // namespace workmill::app
