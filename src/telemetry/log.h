#pragma once
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <variant>

#include "base/time.h"

// Structured logging: `logger.info("listening", {{"address", address}, {"port", 7330}});`
//
// A Logger is made by the wiring and handed to the parts; it outlives them. Any thread may log. Logging never fails,
// never throws and is bounded: long texts are cut, and by default a line goes into a queue that a thread of the logger
// empties, so that a terminal or a pipe which nobody reads stops no shard. When that queue is full the oldest line
// gives way, and is counted. The destructor writes what is queued.
//
// Messages are fixed texts; what varies goes into fields. No payloads and no secrets in either.
namespace workmill::telemetry {

enum class LogLevel : std::uint8_t { debug, info, warn, error, off };
// "debug", "info", "warn", "error" or "off".
std::optional<LogLevel> parse_log_level(std::string_view text);

// A key and a value, lent for the call. Keys are snake_case with their unit last ("wait_ms"), and not one of
// "timestamp", "severity" and "body". "trace_id" and "span_id" join a line to a trace.
class LogField {
 public:
  using Value = std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool>;

  template <std::convertible_to<std::string_view> Text>
  LogField(std::string_view key, Text const& value) : key_(key), value_(std::string_view{value}) {}
  template <class Number>
    requires std::is_arithmetic_v<Number>
  LogField(std::string_view key, Number value) : key_(key), value_(kept(value)) {}

  std::string_view key() const { return key_; }
  Value const& value() const { return value_; }

 private:
  template <class Number>
  static Value kept(Number value) {
    if constexpr (std::same_as<Number, bool>) return value;
    if constexpr (std::floating_point<Number>) return double{value};
    if constexpr (std::signed_integral<Number>) return std::int64_t{value};
    if constexpr (std::unsigned_integral<Number> && !std::same_as<Number, bool>) return std::uint64_t{value};
  }

  std::string_view key_;
  Value value_;
};
using LogFields = std::initializer_list<LogField>;

enum class LogFormat : std::uint8_t {
  text,  // 2026-11-22T09:00:00.000Z INFO  listening address=127.0.0.1 port=7330
  json,  // {"timestamp":"2026-11-22T09:00:00.000Z","severity":"INFO","body":"listening","address":"127.0.0.1",…}
};
// Text where standard error is a terminal, JSON lines where a program reads it.
LogFormat format_for_stderr();

enum class LogDelivery : std::uint8_t { background, immediate };  // By a thread of the logger; before the call returns.

struct LogOptions {
  LogLevel level = LogLevel::info;  // Lines below it are not written.
  LogFormat format = LogFormat::text;
  LogDelivery delivery = LogDelivery::background;
  // A line takes about 300 bytes in the queue. A thousand lines outlast a hiccup of the reader, and no more is wanted.
  std::size_t queue_lines_max = 1'024;
};

// Takes one line, without its newline. Called by one thread at a time; must not log.
using LogSink = std::move_only_function<void(std::string_view line)>;
LogSink stderr_sink();

class Logger {
 public:
  static constexpr std::size_t kTextBytesMax = 1'024;  // Of a message, a key or a value; the rest is cut.
  static constexpr std::size_t kFieldsMax = 32;

  Logger(Clock const& clock, LogOptions options, LogSink sink);
  ~Logger();
  Logger(Logger const&) = delete;
  Logger& operator=(Logger const&) = delete;

  void debug(std::string_view message, LogFields fields = {}) { log(LogLevel::debug, message, fields); }
  void info(std::string_view message, LogFields fields = {}) { log(LogLevel::info, message, fields); }
  void warn(std::string_view message, LogFields fields = {}) { log(LogLevel::warn, message, fields); }
  void error(std::string_view message, LogFields fields = {}) { log(LogLevel::error, message, fields); }
  void log(LogLevel level, std::string_view message, LogFields fields = {}) {
    if (is_enabled(level)) write(level, message, fields);
  }

  bool is_enabled(LogLevel level) const {
    return level >= level_.load(std::memory_order_relaxed) && level != LogLevel::off;
  }
  void set_level(LogLevel level) { level_.store(level, std::memory_order_relaxed); }

  // Lines that gave way in a full queue.
  std::uint64_t dropped() const;

 private:
  struct Backend;  // spdlog, which only the .cpp knows.

  void write(LogLevel level, std::string_view message, LogFields fields);

  Clock const& clock_;
  LogFormat const format_;
  std::atomic<LogLevel> level_;
  std::unique_ptr<Backend> backend_;
};

}  // namespace workmill::telemetry
