#include "app/config.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <concepts>
#include <exception>
#include <functional>
#include <map>
#include <toml.hpp>
#include <utility>

#include "net/listener.h"

namespace workmill::app {
namespace {

auto bad(std::string message) { return fail(ErrorCode::bad_configuration, std::move(message)); }

template <std::unsigned_integral T>
Result<> read_number(toml::value const& value, T& out) {
  if (!value.is_integer()) return bad("is not a whole number");
  auto const number = value.as_integer();
  if (number < 0 || !std::in_range<T>(number)) return bad("is out of range");
  out = static_cast<T>(number);
  return {};
}

Result<> read_text(toml::value const& value, std::string& out) {
  if (!value.is_string()) return bad("is not a string");
  out = value.as_string().str;
  return {};
}

Result<> read_flag(toml::value const& value, bool& out) {
  if (!value.is_boolean()) return bad("is neither true nor false");
  out = value.as_boolean();
  return {};
}

template <class T>
Result<> read_parsed(toml::value const& value, Result<T> (*parse)(std::string_view), T& out) {
  std::string text;
  WM_TRY_VOID(read_text(value, text));
  auto parsed = parse(text);
  if (!parsed) return bad(parsed.error().message);
  out = *parsed;
  return {};
}

Result<> read_bytes(toml::value const& value, std::uint64_t& out) {
  if (value.is_integer()) return read_number(value, out);
  return read_parsed(value, parse_bytes, out);
}

using Reader = std::function<Result<>(toml::value const&, Config&)>;

std::map<std::string, Reader, std::less<>> const& readers() {
  static std::map<std::string, Reader, std::less<>> const kAll{
      {"data", [](auto const& v, Config& c) { return read_text(v, c.data); }},
      {"listen", [](auto const& v, Config& c) { return read_text(v, c.listen); }},
      {"insecure", [](auto const& v, Config& c) { return read_flag(v, c.insecure); }},
      {"io_threads", [](auto const& v, Config& c) { return read_number(v, c.io_threads); }},
      {"durability", [](auto const& v, Config& c) { return read_parsed(v, parse_durability, c.durability); }},
      {"sync_interval", [](auto const& v, Config& c) { return read_parsed(v, parse_duration, c.sync_interval); }},
      {"segment_size", [](auto const& v, Config& c) { return read_bytes(v, c.segment_bytes); }},
      {"disk_reserve", [](auto const& v, Config& c) { return read_bytes(v, c.disk_reserve_bytes); }},
      {"verify_rate", [](auto const& v, Config& c) { return read_bytes(v, c.verify_bytes_per_second); }},
      {"verify_every", [](auto const& v, Config& c) { return read_parsed(v, parse_duration, c.verify_every); }},
      {"flush_by", [](auto const& v, Config& c) { return read_parsed(v, parse_flush_by, c.flush_by); }},
      {"connections_max", [](auto const& v, Config& c) { return read_number(v, c.connections_max); }},
      {"body_size_max", [](auto const& v, Config& c) { return read_bytes(v, c.body_bytes_max); }},
      {"header_size_max",
       [](auto const& v, Config& c) -> Result<> {
         std::uint64_t bytes = 0;
         WM_TRY_VOID(read_bytes(v, bytes));
         if (bytes > std::uint64_t{1} << 20) return bad("is out of range");
         c.header_bytes_max = static_cast<std::uint32_t>(bytes);
         return {};
       }},
      {"pipelined_max", [](auto const& v, Config& c) { return read_number(v, c.pipelined_max); }},
      {"buffered_size_max", [](auto const& v, Config& c) { return read_bytes(v, c.buffered_bytes_max); }},
      {"idle_timeout", [](auto const& v, Config& c) { return read_parsed(v, parse_duration, c.idle_timeout); }},
      {"request_timeout", [](auto const& v, Config& c) { return read_parsed(v, parse_duration, c.request_timeout); }},
      {"write_timeout", [](auto const& v, Config& c) { return read_parsed(v, parse_duration, c.write_timeout); }},
      {"drain_timeout", [](auto const& v, Config& c) { return read_parsed(v, parse_duration, c.drain_timeout); }},
      {"finished_kept", [](auto const& v, Config& c) { return read_number(v, c.finished_kept); }},
      {"log_level", [](auto const& v, Config& c) { return read_parsed(v, parse_log_level_setting, c.log_level); }},
      {"log_format", [](auto const& v, Config& c) { return read_text(v, c.log_format); }},
  };
  return kAll;
}

bool in_range(std::uint64_t value, std::uint64_t low, std::uint64_t high) { return value >= low && value <= high; }

}  // namespace

Result<> read_config(std::string const& path, Config& config) {
  toml::value file;
  try {
    file = toml::parse(path);
  } catch (std::exception const& error) {  // toml11 throws: it stops here.
    return bad(fmt::format("the configuration file {} cannot be read: {}", path, error.what()));
  }
  for (auto const& [key, value] : file.as_table()) {
    auto const reader = readers().find(key);
    if (reader == readers().end()) {
      return bad(fmt::format("{}:{}: there is no setting '{}'", path, value.location().line(), key));
    }
    if (auto read = reader->second(value, config); !read) {
      return bad(fmt::format("{}:{}: {}: {}", path, value.location().line(), key, read.error().message));
    }
  }
  return {};
}

Result<> check_config(Config const& config) {
  WM_TRY(auto const address, net::parse_address(config.listen));
  if (!address.host.is_loopback() && !config.insecure) {
    return bad(fmt::format(
        "{} is not a loopback address, and no tokens are configured: anyone who reaches it could read and change every "
        "job. Listen on 127.0.0.1, or say --insecure if something in front of the server keeps strangers out",
        config.listen));
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
  if (!in_range(config.body_bytes_max, 1'024, std::uint64_t{15} << 20)) return bad("body_size_max: 1KiB to 15MiB");
  if (!in_range(config.header_bytes_max, 1'024, std::uint64_t{1} << 20)) return bad("header_size_max: 1KiB to 1MiB");
  if (!in_range(config.pipelined_max, 1, 10'000)) return bad("pipelined_max: 1 to 10,000");
  // Less would refuse a request that the other limits let in.
  if (config.buffered_bytes_max < std::uint64_t{16} << 20) return bad("buffered_size_max: 16MiB or more");
  for (auto const& [name, timeout] :
       {std::pair{"idle_timeout", config.idle_timeout}, std::pair{"request_timeout", config.request_timeout},
        std::pair{"write_timeout", config.write_timeout}, std::pair{"drain_timeout", config.drain_timeout}}) {
    if (timeout < std::chrono::seconds{1} || timeout > std::chrono::hours{24}) {
      return bad(fmt::format("{}: 1s to 1d", name));
    }
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

Result<telemetry::LogLevel> parse_log_level_setting(std::string_view text) {
  if (auto const level = telemetry::parse_log_level(text)) return *level;
  return bad(fmt::format("'{}' is none of debug, info, warn, error, off", text));
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
