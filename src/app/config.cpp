#include "app/config.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <concepts>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <toml.hpp>
#include <utility>

#include "app/json.h"
#include "base/assert.h"
#include "model/cache_set.h"
#include "net/listener.h"

namespace workmill::app {
namespace {

auto bad(std::string message) { return fail(ErrorCode::bad_configuration, std::move(message)); }

// ---- One overload for each type that a setting can have: from the file, and as a text.

template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>)
Result<> read_value(toml::value const& value, T& out) {
  if (!value.is_integer()) return bad("is not a whole number");
  auto const number = value.as_integer();
  if (number < 0 || !std::in_range<T>(number)) return bad("is out of range");
  out = static_cast<T>(number);
  return {};
}

Result<> read_value(toml::value const& value, std::string& out) {
  if (!value.is_string()) return bad("is not a string");
  out = value.as_string().str;
  return {};
}

Result<> read_value(toml::value const& value, bool& out) {
  if (!value.is_boolean()) return bad("is neither true nor false");
  out = value.as_boolean();
  return {};
}

Result<> read_value(toml::value const& value, std::vector<std::string>& out) {
  if (!value.is_array()) return bad("is not a list");
  out.clear();
  for (auto const& item : value.as_array()) {
    std::string text;
    if (auto read = read_value(item, text); !read) return bad("is not a list of strings");
    out.push_back(std::move(text));
  }
  return {};
}

template <class T>
Result<> read_parsed(toml::value const& value, Result<T> (*parse)(std::string_view), T& out) {
  std::string text;
  WM_TRY_VOID(read_value(value, text));
  auto parsed = parse(text);
  if (!parsed) return bad(parsed.error().message);
  out = *parsed;
  return {};
}

Result<> read_value(toml::value const& value, Duration& out) { return read_parsed(value, parse_duration, out); }
Result<> read_value(toml::value const& value, log::Durability& out) {
  return read_parsed(value, parse_durability, out);
}
Result<> read_value(toml::value const& value, shard::FlushBy& out) { return read_parsed(value, parse_flush_by, out); }
Result<> read_value(toml::value const& value, telemetry::LogLevels& out) {
  return read_parsed(value, telemetry::parse_log_levels, out);
}

Result<> read_value(toml::value const& value, double& out) {
  if (!value.is_floating() && !value.is_integer()) return bad("is not a number");
  out = value.is_integer() ? static_cast<double>(value.as_integer()) : value.as_floating();
  return {};
}

Result<> read_value(toml::value const& value, std::optional<double>& out) {
  double number = 0;
  WM_TRY_VOID(read_value(value, number));
  out = number;
  return {};
}

std::string text_of(std::string const& value) { return value; }
std::string text_of(std::vector<std::string> const& value) { return fmt::format("{}", fmt::join(value, ", ")); }
std::string text_of(bool value) { return value ? "true" : "false"; }
template <std::unsigned_integral T>
std::string text_of(T value) {
  return std::to_string(value);
}
std::string text_of(double value) { return fmt::format("{}", value); }
std::string text_of(std::optional<double> value) { return value ? fmt::format("{}", *value) : ""; }
std::string text_of(Duration value) { return format_duration(value); }
std::string text_of(log::Durability value) {
  switch (value) {
    case log::Durability::sync: return "sync";
    case log::Durability::interval: return "interval";
    case log::Durability::os: return "os";
  }
  return "";
}
std::string text_of(shard::FlushBy value) {
  switch (value) {
    case shard::FlushBy::adaptive: return "adaptive";
    case shard::FlushBy::turn: return "turn";
    case shard::FlushBy::writer: return "writer";
  }
  return "";
}
std::string text_of(telemetry::LogLevels const& value) { return to_string(value); }

// One setting of the file and the field that it fills.
struct Setting {
  std::function<Result<>(toml::value const&, Config&)> read;
  std::function<std::string(Config const&)> text;  // Two configurations differ in a setting where its texts do.
  std::function<void(Config const& from, Config& to)> copy;
  bool is_secret = false;  // Its text is for comparing alone.
};

template <class T>
Setting setting(T Config::* field) {
  return {.read = [field](toml::value const& value, Config& out) { return read_value(value, out.*field); },
          .text = [field](Config const& config) { return text_of(config.*field); },
          .copy = [field](Config const& from, Config& to) { to.*field = from.*field; }};
}

// The same for a number of bytes, which may be written with a unit.
template <std::unsigned_integral T>
Setting size(T Config::* field) {
  auto made = setting(field);
  made.read = [field](toml::value const& value, Config& out) -> Result<> {
    std::uint64_t bytes = 0;
    if (value.is_integer()) {
      WM_TRY_VOID(read_value(value, bytes));
    } else {
      WM_TRY_VOID(read_parsed(value, parse_bytes, bytes));
    }
    if (!std::in_range<T>(bytes)) return bad("is out of range");
    out.*field = static_cast<T>(bytes);
    return {};
  };
  return made;
}

// For what nobody may read in the log: whether it is set is all that is told. A hash would let others try out guesses.
Setting secret(std::string Config::* field) {
  auto made = setting(field);
  made.is_secret = true;
  return made;
}

// A new setting: a field in config.h, a line here, what holds of it in check_config, a row in
// docs/reference/configuration.md; and a line in options.cpp and reload wiring where it can change while the server
// runs.
std::map<std::string_view, Setting> const& settings() {
  static std::map<std::string_view, Setting> const kAll{
      {"data", setting(&Config::data)},
      {"listen", setting(&Config::listen)},
      {"insecure", setting(&Config::insecure)},
      {"cors_origins", setting(&Config::cors_origins)},
      {"tls_certificate", setting(&Config::tls_certificate)},
      {"tls_key", setting(&Config::tls_key)},
      {"handshake_timeout", setting(&Config::handshake_timeout)},
      {"handshakes_max", setting(&Config::handshakes_max)},
      {"tokens_file", setting(&Config::tokens_file)},
      {"io_threads", setting(&Config::io_threads)},
      {"durability", setting(&Config::durability)},
      {"sync_interval", setting(&Config::sync_interval)},
      {"segment_size", size(&Config::segment_bytes)},
      {"disk_reserve", size(&Config::disk_reserve_bytes)},
      {"jobs_memory_max", size(&Config::jobs_memory_bytes_max)},
      {"verify_rate", size(&Config::verify_bytes_per_second)},
      {"verify_every", setting(&Config::verify_every)},
      {"flush_by", setting(&Config::flush_by)},
      {"connections_max", setting(&Config::connections_max)},
      {"connections_per_address_max", setting(&Config::connections_per_address_max)},
      {"waiters_max", setting(&Config::waiters_max)},
      {"streams_max", setting(&Config::streams_max)},
      {"stream_window", size(&Config::stream_window_bytes)},
      {"stream_window_all", size(&Config::stream_window_bytes_all)},
      {"stream_ping", setting(&Config::stream_ping)},
      {"stream_idle_ping", setting(&Config::stream_idle_ping)},
      {"stream_direct", setting(&Config::stream_direct)},
      {"stream_reconnect_within", setting(&Config::stream_reconnect_within)},
      {"body_size_max", size(&Config::body_bytes_max)},
      {"header_size_max", size(&Config::header_bytes_max)},
      {"pipelined_max", setting(&Config::pipelined_max)},
      {"buffered_size_max", size(&Config::buffered_bytes_max)},
      {"admission", setting(&Config::admission)},
      {"admission_delay", setting(&Config::admission_delay)},
      {"in_flight_min", setting(&Config::in_flight_min)},
      {"in_flight_max", setting(&Config::in_flight_max)},
      {"idle_timeout", setting(&Config::idle_timeout)},
      {"header_timeout", setting(&Config::header_timeout)},
      {"upload_rate_min", size(&Config::upload_rate_min)},
      {"download_rate_min", size(&Config::download_rate_min)},
      {"request_timeout", setting(&Config::request_timeout)},
      {"write_timeout", setting(&Config::write_timeout)},
      {"drain_timeout", setting(&Config::drain_timeout)},
      {"cache_memory", size(&Config::cache_memory_bytes)},
      {"cache_disk", size(&Config::cache_disk_bytes)},
      {"cache_volatile", setting(&Config::cache_volatile)},
      {"cache_jitter", setting(&Config::cache_jitter)},
      {"finished_kept", setting(&Config::finished_kept)},
      {"idempotency_keys_max", setting(&Config::idempotency_keys_max)},
      {"batches_max", setting(&Config::batches_max)},
      {"batches_memory_max", size(&Config::batches_memory_max)},
      {"batch_keep", setting(&Config::batch_keep)},
      {"telemetry", setting(&Config::telemetry)},
      {"otlp_endpoint", setting(&Config::otlp_endpoint)},
      {"otlp_headers", secret(&Config::otlp_headers)},
      {"trace_sample", setting(&Config::trace_sample)},
      {"log_level", setting(&Config::log_level)},
      {"log_format", setting(&Config::log_format)},
      {"log_repeats_max", setting(&Config::log_repeats_max)},
  };
  return kAll;
}

// As a browser writes it in Origin: a scheme, a host, perhaps a port, and nothing behind.
bool is_origin(std::string_view text) {
  std::size_t const scheme = text.find("://");
  if (scheme == std::string_view::npos || (text.substr(0, scheme) != "http" && text.substr(0, scheme) != "https"))
    return false;
  std::string_view const host = text.substr(scheme + 3);
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789.-:[]";
  return !host.empty() && host.size() <= 255 && host.find_first_not_of(kAllowed) == std::string_view::npos;
}

bool in_range(std::uint64_t value, std::uint64_t low, std::uint64_t high) { return value >= low && value <= high; }

}  // namespace

Result<> read_config(std::string const& path, Config& config, SettingLines* lines) {
  toml::value file;
  try {
    std::ifstream stream{path, std::ios::binary};
    if (!stream) return bad(fmt::format("the configuration file {} cannot be read: it cannot be opened", path));
    std::string const text{std::istreambuf_iterator<char>{stream}, {}};
    // toml11 would look where the file is not, to say where in a string it is wrong.
    if (repair_utf8(text) != text) {
      return bad(fmt::format("the configuration file {} cannot be read: it is no text in UTF-8", path));
    }
    std::istringstream content{text};
    file = toml::parse(content, path);
  } catch (toml::exception const& error) {  // toml11 throws: it stops here.
    // Its first line says what is wrong; those behind it show the line of the file, which may hold a secret.
    std::string_view const what{error.what()};
    return bad(fmt::format("the configuration file {} cannot be read: line {}: {}", path, error.location().line(),
                           what.substr(0, what.find('\n'))));
  } catch (std::exception const& error) {
    return bad(fmt::format("the configuration file {} cannot be read: {}", path, error.what()));
  }
  for (auto const& [key, value] : file.as_table()) {
    auto const found = settings().find(key);
    if (found == settings().end()) {
      return bad(fmt::format("{}:{}: there is no setting '{}'", path, value.location().line(), key));
    }
    if (auto read = found->second.read(value, config); !read) {
      return bad(fmt::format("{}:{}: {}: {}", path, value.location().line(), key, read.error().message));
    }
    if (lines != nullptr) lines->insert_or_assign(key, value.location().line());
  }
  return {};
}

Error with_place(Error error, std::string_view path, SettingLines const& lines) {
  std::string_view const message = error.message;
  std::string_view const name = message.substr(0, message.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"));
  if (auto const found = lines.find(name); found != lines.end()) {
    error.message = fmt::format("{}:{}: {}", path, found->second, message);
  }
  return error;
}

std::vector<Change> changes(Config const& before, Config const& after) {
  std::vector<Change> all;
  for (auto const& [name, setting] : settings()) {
    Change change{.setting = name, .before = setting.text(before), .after = setting.text(after)};
    if (change.before == change.after) continue;
    if (setting.is_secret) {
      for (std::string* const text : {&change.before, &change.after}) {
        if (!text->empty()) *text = "(secret)";
      }
    }
    all.push_back(std::move(change));
  }
  return all;
}

bool is_setting(std::string_view name) { return settings().contains(name); }

void copy_setting(std::string_view name, Config const& from, Config& to) {
  auto const found = settings().find(name);
  WM_ASSERT(found != settings().end());
  found->second.copy(from, to);
}

Result<> check_exposure(Config const& config, CallersAre callers) {
  WM_TRY(auto const address, net::parse_address(config.listen));
  if (!address.host.is_loopback() && !config.insecure && callers == CallersAre::unknown) {
    return bad(fmt::format(
        "{} is not a loopback address, and no tokens are configured: anyone who reaches it could read and change every "
        "job. Make tokens with `workmill token new`, or listen on 127.0.0.1, or say --insecure if something in front "
        "of "
        "the server keeps strangers out",
        config.listen));
  }
  return {};
}

Result<> check_config(Config const& config) {
  if (auto const address = net::parse_address(config.listen); !address) {
    return bad("listen: " + address.error().message);
  }
  if (config.tls_certificate.empty() != config.tls_key.empty()) {
    return bad("tls_certificate and tls_key go together");
  }
  if (config.cors_origins.size() > 100) return bad("cors_origins: 100 at most");
  for (std::string const& origin : config.cors_origins) {
    if (!is_origin(origin)) {
      return bad(fmt::format(
          "cors_origins: '{}' is no origin; write it as https://example.org or http://localhost:3000", origin));
    }
  }
  if (config.data.empty()) return bad("data: the name of the data folder is empty");
  if (!in_range(config.io_threads, 1, 256)) return bad("io_threads: 1 to 256");
  if (!in_range(config.segment_bytes, std::uint64_t{64} << 10, std::uint64_t{1} << 30)) {
    return bad("segment_size: 64KiB to 1GiB");
  }
  if (config.sync_interval < Duration{1} || config.sync_interval > std::chrono::minutes{1}) {
    return bad("sync_interval: 1ms to 1m");
  }
  if (config.verify_bytes_per_second != 0 &&
      !in_range(config.verify_bytes_per_second, std::uint64_t{64} << 10, std::uint64_t{10} << 30)) {
    return bad("verify_rate: 64KiB to 10GiB a second, or 0 for none");
  }
  if (config.verify_every < std::chrono::seconds{1} || config.verify_every > std::chrono::days{30}) {
    return bad("verify_every: 1s to 30d");
  }
  if (!in_range(config.connections_max, 1, 1'000'000)) return bad("connections_max: 1 to 1,000,000");
  if (!in_range(config.connections_per_address_max, 1, 1'000'000)) {
    return bad("connections_per_address_max: 1 to 1,000,000");
  }
  if (!in_range(config.handshakes_max, 1, 1'000'000)) return bad("handshakes_max: 1 to 1,000,000");
  if (!in_range(config.waiters_max, 1, 1'000'000)) return bad("waiters_max: 1 to 1,000,000");
  if (!in_range(config.streams_max, 1, 1'000'000)) return bad("streams_max: 1 to 1,000,000");
  if (!in_range(config.stream_window_bytes, 65'536, std::uint64_t{1} << 30)) return bad("stream_window: 64KiB to 1GiB");
  if (!in_range(config.stream_window_bytes_all, config.stream_window_bytes, std::uint64_t{1} << 40)) {
    return bad("stream_window_all: from stream_window to 1TiB");
  }
  auto const is_ping = [](Duration every) {
    return every >= std::chrono::seconds{1} && every <= std::chrono::hours{1};
  };
  if (!is_ping(config.stream_ping)) return bad("stream_ping: 1s to 1h");
  if (config.stream_idle_ping != Duration{0} && !is_ping(config.stream_idle_ping)) {
    return bad("stream_idle_ping: 1s to 1h, or 0s");
  }
  if (config.stream_reconnect_within < Duration{0} || config.stream_reconnect_within > std::chrono::hours{1}) {
    return bad("stream_reconnect_within: 0s to 1h");
  }
  if (!in_range(config.upload_rate_min, 0, 1'000'000) || !in_range(config.download_rate_min, 0, 1'000'000)) {
    return bad("upload_rate_min, download_rate_min: 0 to 1MB a second");
  }
  if (config.admission_delay < Duration{1} || config.admission_delay > std::chrono::minutes{1}) {
    return bad("admission_delay: 1ms to 1m");
  }
  if (!in_range(config.in_flight_min, 1, 100'000) || !in_range(config.in_flight_max, config.in_flight_min, 100'000)) {
    return bad("in_flight_min, in_flight_max: 1 to 100,000, and the one no more than the other");
  }
  if (!in_range(config.body_bytes_max, 1'024, std::uint64_t{15} << 20)) return bad("body_size_max: 1KiB to 15MiB");
  if (!in_range(config.header_bytes_max, 1'024, std::uint64_t{1} << 20)) return bad("header_size_max: 1KiB to 1MiB");
  if (!in_range(config.pipelined_max, 1, 10'000)) return bad("pipelined_max: 1 to 10,000");
  // Less would refuse a request that the other limits let in.
  if (config.buffered_bytes_max < std::uint64_t{16} << 20) return bad("buffered_size_max: 16MiB or more");
  for (auto const& [name, timeout] :
       {std::pair{"handshake_timeout", config.handshake_timeout}, std::pair{"idle_timeout", config.idle_timeout},
        std::pair{"header_timeout", config.header_timeout}, std::pair{"request_timeout", config.request_timeout},
        std::pair{"write_timeout", config.write_timeout}, std::pair{"drain_timeout", config.drain_timeout}}) {
    if (timeout < std::chrono::seconds{1} || timeout > std::chrono::hours{24}) {
      return bad(fmt::format("{}: 1s to 1d", name));
    }
  }
  if (config.jobs_memory_bytes_max != 0 &&
      !in_range(config.jobs_memory_bytes_max, std::uint64_t{1} << 20, std::uint64_t{1} << 40)) {
    return bad("jobs_memory_max: 1MiB to 1TiB, or 0 for none");
  }
  if (!in_range(config.idempotency_keys_max, 1, 100'000'000)) return bad("idempotency_keys_max: 1 to 100,000,000");
  if (!in_range(config.batches_max, 1, 10'000'000)) return bad("batches_max: 1 to 10,000,000");
  if (!in_range(config.batches_memory_max, std::uint64_t{1} << 20, std::uint64_t{1} << 40)) {
    return bad("batches_memory_max: 1MiB to 1TiB");
  }
  if (config.batch_keep < Duration{0} || config.batch_keep > std::chrono::days{365}) {
    return bad("batch_keep: 0s to 365d");
  }
  if (!in_range(config.cache_memory_bytes, std::uint64_t{1} << 20, std::uint64_t{1} << 40)) {
    return bad("cache_memory: 1MiB to 1TiB");
  }
  if (!in_range(config.cache_disk_bytes, std::uint64_t{1} << 20, std::uint64_t{1} << 44)) {
    return bad("cache_disk: 1MiB to 16TiB");
  }
  if (config.cache_volatile.size() > 100) return bad("cache_volatile: 100 at most");
  for (std::string const& prefix : config.cache_volatile) {
    if (!prefix.empty() && !is_cache_key(prefix)) return bad("cache_volatile: a prefix that no key can have");
  }
  if (!(config.cache_jitter >= 0 && config.cache_jitter <= 0.5)) return bad("cache_jitter: 0 to 0.5");
  if (config.trace_sample && !(*config.trace_sample >= 0 && *config.trace_sample <= 1)) {
    return bad("trace_sample: 0 to 1");
  }
  if (!config.otlp_endpoint.empty() && !config.otlp_endpoint.starts_with("http://") &&
      !config.otlp_endpoint.starts_with("https://")) {
    return bad("otlp_endpoint: an http:// or https:// URL, such as http://localhost:4318");
  }
  // Here too, and not at the start alone: a reload would log them.
  if (config.otlp_endpoint.find_first_of("?#") != std::string::npos) {
    return bad(
        "otlp_endpoint: the URL without a query, as /v1/traces comes behind it; what is secret goes into otlp_headers");
  }
  if (config.otlp_endpoint.contains('@')) {
    return bad("otlp_endpoint: a name or password in the URL would be logged: use otlp_headers");
  }
  if (config.log_format != "auto" && config.log_format != "text" && config.log_format != "json") {
    return bad("log_format: auto, text or json");
  }
  return {};
}

Result<std::uint64_t> parse_bytes(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, std::uint64_t>, 8> kUnits{{{"", 1},
                                                                                     {"B", 1},
                                                                                     {"KB", 1'000},
                                                                                     {"MB", 1'000'000},
                                                                                     {"GB", 1'000'000'000},
                                                                                     {"KiB", std::uint64_t{1} << 10},
                                                                                     {"MiB", std::uint64_t{1} << 20},
                                                                                     {"GiB", std::uint64_t{1} << 30}}};
  std::uint64_t number = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{}) {
    std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    for (auto const& [name, factor] : kUnits) {
      if (unit == name && number <= std::numeric_limits<std::uint64_t>::max() / factor) return number * factor;
    }
  }
  return bad(fmt::format("'{}' is no size: it takes a whole number and B, KB, MB, GB, KiB, MiB or GiB", text));
}

Result<log::Durability> parse_durability(std::string_view text) {
  if (text == "sync") return log::Durability::sync;
  if (text == "interval") return log::Durability::interval;
  if (text == "os") return log::Durability::os;
  return bad(fmt::format("'{}' is none of sync, interval, os", text));
}

Result<shard::FlushBy> parse_flush_by(std::string_view text) {
  if (text == "adaptive") return shard::FlushBy::adaptive;
  if (text == "turn") return shard::FlushBy::turn;
  if (text == "writer") return shard::FlushBy::writer;
  return bad(fmt::format("'{}' is none of adaptive, turn, writer", text));
}

}  // namespace workmill::app
