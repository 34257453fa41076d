#pragma once
#include <atomic>
#include <chrono>
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
#include "telemetry/log_levels.h"

// Structured logging: `logger.info("listening", {{"address", address}, {"port", 7330}});`
//
// The wiring makes one Logger, whose lines are of the component `server`, and hands the parts theirs: of(http). They
// share everything but their level; the first one outlives all parts. Any thread may log. Logging never fails,
// never throws and is bounded: long texts are cut, and by default a line goes into a queue that a thread of the logger
// empties, so that a terminal or a pipe which nobody reads stops no shard. When that queue is full the oldest line
// gives way, and is counted. A message that repeats is held back, and counted (log_repeats.h). The destructor writes
// what is queued, for as long as somebody takes it: close().
//
// A call below its component's level costs a load and a branch. One that is written costs its caller the text, on the
// stack, and a push onto the queue.
//
// Messages are fixed texts; what varies goes into fields. No payloads and no secrets in either.
namespace workmill::telemetry {

// A key and a value, lent for the call. Keys are snake_case with their unit last ("wait_ms"), and not one of
// "timestamp", "severity", "component" and "body". "trace_id" and "span_id" join a line to a trace: every line that
// belongs to a request has the first, and the second where the request has a span.
class LogField {
 public:
  // A field of the first kind is left out.
  using Value = std::variant<std::monostate, std::string_view, std::int64_t, std::uint64_t, double, bool>;

  template <std::convertible_to<std::string_view> Text>
  LogField(std::string_view key, Text const& value) : key_(key), value_(std::string_view{value}) {}
  LogField(std::string_view key, std::optional<std::string_view> value) : key_(key) {
    if (value) value_ = *value;
  }
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
  text,  // 2026-11-22T09:00:00.000Z INFO  server: listening address=127.0.0.1 port=7330
  json,  // {"timestamp":"2026-11-22T09:00:00.000Z","severity":"INFO","component":"server","body":"listening",…}
};
// Text where standard error is a terminal, JSON lines where a program reads it.
LogFormat format_for_stderr();

enum class LogDelivery : std::uint8_t { background, immediate };  // By a thread of the logger; before the call returns.

struct LogOptions {
  LogLevels level = LogLevel::info;  // Lines below it are not written.
  LogFormat format = LogFormat::text;
  LogDelivery delivery = LogDelivery::background;
  // A line takes about 300 bytes in the queue. A thousand lines outlast a hiccup of the reader, and no more is wanted.
  std::size_t queue_lines_max = 1'024;
  // So many lines with one message, of one component and level, are written in a window; the rest are held back, and a
  // line says how many they were. 0: all are written. Some components are exempt: may_hold_back().
  std::uint32_t repeats_max = 20;
  std::chrono::seconds repeats_window{10};
  // So long the end waits for whoever reads the lines that are queued: time enough for one who does.
  std::chrono::milliseconds close_within{2'000};
};

// Takes one line, without its newline. Called by one thread at a time; must not log. One that hangs at the end is left
// behind with its thread, and may outlive the logger.
using LogSink = std::move_only_function<void(std::string_view line)>;
LogSink stderr_sink();

// What has become of all lines so far.
struct LogFigures {
  std::uint64_t written = 0;    // Put into the queue.
  std::uint64_t dropped = 0;    // Of these, gave way in a full queue.
  std::uint64_t held_back = 0;  // Repeats that were never put there.
  std::size_t queued = 0;       // In the queue now.
  std::size_t queue_lines_max = 0;
};

class Logger {
 public:
  static constexpr std::size_t kTextBytesMax = 1'024;  // Of a message, a key or a value; the rest is cut.
  static constexpr std::size_t kFieldsMax = 32;

  // Lines of the component `server`.
  Logger(Clock const& clock, LogOptions options, LogSink sink);
  ~Logger();
  Logger(Logger const&) = delete;
  Logger& operator=(Logger const&) = delete;

  // The logger of another component, at any of them. It lives as long as the first one.
  Logger& of(LogComponent component);

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

  // Of all components. Any thread, at any time; lines that are being written at that moment may still be by the old.
  void set_levels(LogLevels const& levels);
  LogLevels levels() const;

  // Says how many repeats were held back, where their window is over. Somebody calls it once a second or more often:
  // where nothing is held back it costs one load.
  void tell_repeats() {
    if (has_repeats()) write_repeats();
  }

  LogFigures figures() const;

  // The end, once no part logs any more: writes what is queued. False where that was not taken in time; then the rest
  // of it is lost, and whoever would write elsewhere on standard error would hang there too. Of the first logger.
  bool close();

 private:
  struct Core;  // What all components share: spdlog, which only the .cpp knows, and the table of repeats.

  Logger(Core& core, LogComponent component, LogLevel level);

  bool has_repeats() const;
  void write_repeats();
  void write(LogLevel level, std::string_view message, LogFields fields);

  std::unique_ptr<Core> owned_;  // By the first one, which was made from outside.
  Core& core_;
  LogComponent const component_;
  std::atomic<LogLevel> level_;
};

}  // namespace workmill::telemetry
