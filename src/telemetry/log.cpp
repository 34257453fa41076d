#include "telemetry/log.h"

#include <fmt/format.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <future>
#include <iterator>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread_name.h"
#include "base/variant.h"
#include "telemetry/log_repeats.h"

namespace workmill::telemetry {
namespace {

using Pool = std::shared_ptr<spdlog::details::thread_pool>;

// Ends the pool, which writes what is queued, and then the logger that it writes with. Where a write hangs, which
// nothing but its reader can end, it hangs in a thread of its own, which the end of the process takes with it: it
// touches nothing but what belongs to these two.
bool end_within(std::chrono::milliseconds time, Pool pool, std::shared_ptr<spdlog::logger> logger) {
  struct Both {
    std::shared_ptr<spdlog::logger> last;
    Pool first;
  };
  auto both = std::make_unique<Both>(std::move(logger), std::move(pool));
  std::promise<void> written;
  auto const is_written = written.get_future();
  try {
    std::thread{[of_thread = both.get(), done = std::move(written)]() mutable {
      std::unique_ptr<Both> const own{of_thread};
      name_this_thread("wm-log-end");
      own->first.reset();
      own->last.reset();
      done.set_value();
    }}.detach();
  } catch (std::system_error const&) {
    // The system has no thread for that. To end the pool here could hang: the end of the process takes it along.
    static_cast<void>(both.release());
    return false;
  }
  static_cast<void>(both.release());
  return is_written.wait_for(time) == std::future_status::ready;
}

// Holds a usual line without allocating.
using Line = fmt::basic_memory_buffer<char, 1'024>;

void append(Line& line, std::string_view text) { line.append(text.data(), text.data() + text.size()); }

struct Character {
  std::size_t bytes = 1;
  char32_t code = 0;
  bool is_valid = false;
};

// The UTF-8 character at the front of `text`, which is not empty. Over-long forms, surrogates and what is beyond
// U+10FFFF are not valid.
Character front_character(std::string_view text) {
  auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char const first = byte(0);
  if (first < 0x80) return {.bytes = 1, .code = first, .is_valid = true};
  std::size_t const bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  constexpr std::array<char32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  if (first < 0xc2 || first > 0xf4 || text.size() < bytes) return {};
  char32_t code = first & (0x7fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3fu);
  }
  if (code < kSmallest[bytes] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return {};
  return {.bytes = bytes, .code = code, .is_valid = true};
}

bool is_control(char32_t code) { return code < 0x20 || (code >= 0x7f && code <= 0x9f); }

enum class Quoting : std::uint8_t { none, quoted };

// Cuts what is too long, replaces what is not UTF-8, and writes control characters as JSON does: a value from outside
// can neither begin a new line nor steer a terminal.
void append_safely(Line& line, std::string_view text, Quoting quoting) {
  bool const is_cut = text.size() > Logger::kTextBytesMax;
  if (is_cut) {
    std::size_t end = Logger::kTextBytesMax;
    for (int i = 0; i < 3 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80; ++i) --end;
    text = text.substr(0, end);
  }
  while (!text.empty()) {
    Character const character = front_character(text);
    if (!character.is_valid) {
      append(line, "\xef\xbf\xbd");  // U+FFFD.
    } else if (character.code == '\n') {
      append(line, "\\n");
    } else if (is_control(character.code)) {
      fmt::format_to(std::back_inserter(line), "\\u{:04x}", static_cast<std::uint32_t>(character.code));
    } else {
      if (quoting == Quoting::quoted && (character.code == '"' || character.code == '\\')) line.push_back('\\');
      append(line, text.substr(0, character.bytes));
    }
    text.remove_prefix(character.bytes);
  }
  if (is_cut) append(line, "\xe2\x80\xa6");  // An ellipsis.
}

void append_quoted(Line& line, std::string_view text) {
  line.push_back('"');
  append_safely(line, text, Quoting::quoted);
  line.push_back('"');
}

// In text, a value of plain characters needs no quotes.
void append_word(Line& line, std::string_view text) {
  auto const is_plain = [](char c) {
    return static_cast<unsigned char>(c) > ' ' && c != '"' && c != '=' && c != '\\' && c != '\x7f';
  };
  if (!text.empty() && std::ranges::all_of(text, is_plain)) {
    append_safely(line, text, Quoting::none);
  } else {
    append_quoted(line, text);
  }
}

class ValueWriter {
 public:
  ValueWriter(Line& line, LogFormat format) : line_(line), format_(format) {}

  void operator()(std::monostate) const {}  // Left out before it comes here.
  void operator()(std::string_view value) const {
    if (format_ == LogFormat::json) {
      append_quoted(line_, value);
    } else {
      append_word(line_, value);
    }
  }
  void operator()(double value) const {
    if (format_ == LogFormat::json && !std::isfinite(value)) {
      append(line_, "null");  // JSON has no infinities.
    } else {
      fmt::format_to(std::back_inserter(line_), "{}", value);
    }
  }
  void operator()(auto value) const { fmt::format_to(std::back_inserter(line_), "{}", value); }

 private:
  Line& line_;
  LogFormat format_;
};

std::string_view severity_text(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "DEBUG";
    case LogLevel::info: return "INFO";
    case LogLevel::warn: return "WARN";
    case LogLevel::error:
    case LogLevel::off: return "ERROR";
  }
  return "ERROR";
}

std::span<LogField const> bounded(LogFields fields) {
  return {fields.begin(), std::min(fields.size(), Logger::kFieldsMax)};
}

bool is_left_out(LogField const& field) { return holds<std::monostate>(field.value()); }

// What comes before the fields.
struct Head {
  std::string_view time;
  LogLevel level{};
  LogComponent component{};
  std::string_view message;
};

void append_json(Line& line, Head const& head, LogFields fields) {
  append(line, R"({"timestamp":")");
  append(line, head.time);
  append(line, R"(","severity":")");
  append(line, severity_text(head.level));
  append(line, R"(","component":")");
  append(line, to_string(head.component));
  append(line, R"(","body":)");
  append_quoted(line, head.message);
  for (LogField const& field : bounded(fields)) {
    if (is_left_out(field)) continue;
    line.push_back(',');
    append_quoted(line, field.key());
    line.push_back(':');
    std::visit(ValueWriter{line, LogFormat::json}, field.value());
  }
  line.push_back('}');
}

void append_text(Line& line, Head const& head, LogFields fields) {
  fmt::format_to(std::back_inserter(line), "{} {:<5} {}: ", head.time, severity_text(head.level),
                 to_string(head.component));
  append_safely(line, head.message, Quoting::none);
  for (LogField const& field : bounded(fields)) {
    if (is_left_out(field)) continue;
    line.push_back(' ');
    append_word(line, field.key());
    line.push_back('=');
    std::visit(ValueWriter{line, LogFormat::text}, field.value());
  }
}

// Lines come here whole: of spdlog we use the queue, its thread and the lock, not the patterns.
class FunctionSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FunctionSink(LogSink take_line) : take_line_(std::move(take_line)) {}

 private:
  void sink_it_(spdlog::details::log_msg const& message) override {
    take_line_(std::string_view{message.payload.data(), message.payload.size()});
  }
  void flush_() override {}

  LogSink take_line_;
};

}  // namespace

// spdlog wants its parts in shared_ptrs. Each has one owner here all the same, and ends in Logger::close(): the pool
// writes what is queued and joins its thread; then nobody else is left who uses the logger.
struct Logger::Core {
  Core(Clock const& its_clock, LogOptions const& options)
      : clock(its_clock),
        format(options.format),
        queue_lines_max(options.queue_lines_max),
        close_within(options.close_within),
        repeats(options.repeats_max, options.repeats_window) {}

  void put(Head head, LogFields fields) {
    if (!logger) return;  // Closed.
    std::array<char, kRfc3339Bytes> time;
    format_rfc3339_to(clock.now(), time.data());
    head.time = {time.data(), time.size()};
    Line line;
    if (format == LogFormat::json) {
      append_json(line, head, fields);
    } else {
      append_text(line, head, fields);
    }
    written.fetch_add(1, std::memory_order_relaxed);
    logger->log(spdlog::level::info, spdlog::string_view_t{line.data(), line.size()});
  }

  void put(LogRepeats::Held const& held) {
    auto const window = std::chrono::floor<std::chrono::milliseconds>(repeats.window()).count();
    put({.time = {},
         .level = held.level,
         .component = held.component,
         .message = "a message that repeats was held back"},
        {{"message", held.message}, {"lines", held.lines}, {"window_ms", window}});
  }

  Clock const& clock;
  LogFormat const format;
  std::size_t const queue_lines_max;
  std::chrono::milliseconds const close_within;
  LogRepeats repeats;
  std::atomic<std::uint64_t> written{0};
  std::shared_ptr<spdlog::logger> logger;
  Pool pool;                                                   // None where delivery is immediate.
  std::array<std::unique_ptr<Logger>, kLogComponents> others;  // Not the first one, which owns this.
  Logger* first = nullptr;
};

LogFormat format_for_stderr() { return ::isatty(STDERR_FILENO) == 1 ? LogFormat::text : LogFormat::json; }

LogSink stderr_sink() {
  return [](std::string_view line) {
    // One call for the line and its end, so that lines of several processes do not mix; more only where the system
    // takes less. What cannot be written is lost: there is nowhere left to say so.
    char newline = '\n';
    std::array<iovec, 2> parts{{{const_cast<char*>(line.data()), line.size()}, {&newline, 1}}};
    while (parts[0].iov_len + parts[1].iov_len > 0) {
      ssize_t const wrote = ::writev(STDERR_FILENO, parts.data(), 2);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return;
      auto done = static_cast<std::size_t>(wrote);
      for (iovec& part : parts) {
        std::size_t const of_part = std::min(done, part.iov_len);
        part.iov_base = static_cast<char*>(part.iov_base) + of_part;
        part.iov_len -= of_part;
        done -= of_part;
      }
    }
  };
}

Logger::Logger(Clock const& clock, LogOptions options, LogSink sink)
    : owned_(std::make_unique<Core>(clock, options)),
      core_(*owned_),
      component_(LogComponent::server),
      level_(options.level[LogComponent::server]) {
  auto spdlog_sink = std::make_shared<FunctionSink>(std::move(sink));
  if (options.delivery == LogDelivery::background) {
    core_.pool =
        std::make_shared<spdlog::details::thread_pool>(options.queue_lines_max, 1, [] { name_this_thread("wm-log"); });
    core_.logger = std::make_shared<spdlog::async_logger>("workmill", std::move(spdlog_sink), core_.pool,
                                                          spdlog::async_overflow_policy::overrun_oldest);
  } else {
    core_.logger = std::make_shared<spdlog::logger>("workmill", std::move(spdlog_sink));
  }
  core_.logger->set_level(spdlog::level::trace);  // Levels are ours to judge.
  core_.first = this;
  for (std::size_t i = 0; i < kLogComponents; ++i) {
    auto const component = static_cast<LogComponent>(i);
    if (component == component_) continue;
    core_.others[i].reset(new Logger(core_, component, options.level[component]));  // make_unique has no access.
  }
}

Logger::Logger(Core& core, LogComponent component, LogLevel level)
    : core_(core), component_(component), level_(level) {}

Logger::~Logger() {
  if (owned_) close();
}

bool Logger::close() {
  if (!core_.logger) return true;
  for (LogRepeats::Held const& held : core_.repeats.take_all()) core_.put(held);
  auto logger = std::exchange(core_.logger, nullptr);
  return !core_.pool || end_within(core_.close_within, std::exchange(core_.pool, nullptr), std::move(logger));
}

Logger& Logger::of(LogComponent component) {
  if (component == core_.first->component_) return *core_.first;
  return *core_.others[static_cast<std::size_t>(component)];
}

void Logger::set_levels(LogLevels const& levels) {
  for (std::size_t i = 0; i < kLogComponents; ++i) {
    auto const component = static_cast<LogComponent>(i);
    of(component).level_.store(levels[component], std::memory_order_relaxed);
  }
}

LogLevels Logger::levels() const {
  LogLevels levels;
  levels.set(core_.first->component_, core_.first->level_.load(std::memory_order_relaxed));
  for (auto const& other : core_.others) {
    if (other) levels.set(other->component_, other->level_.load(std::memory_order_relaxed));
  }
  return levels;
}

LogFigures Logger::figures() const {
  return {.written = core_.written.load(std::memory_order_relaxed),
          .dropped = core_.pool ? core_.pool->overrun_counter() : 0,
          .held_back = core_.repeats.held_lines(),
          .queued = core_.pool ? core_.pool->queue_size() : 0,
          .queue_lines_max = core_.queue_lines_max};
}

bool Logger::has_repeats() const { return core_.repeats.has_held(); }

void Logger::write_repeats() {
  for (LogRepeats::Held const& held : core_.repeats.take_ended(core_.clock.monotonic())) core_.put(held);
}

void Logger::write(LogLevel level, std::string_view message, LogFields fields) {
  if (may_hold_back(component_)) {
    auto const verdict = core_.repeats.judge(component_, level, message, core_.clock.monotonic());
    if (verdict.ended) core_.put(*verdict.ended);
    if (verdict.is_held_back) return;
  }
  core_.put({.time = {}, .level = level, .component = component_, .message = message}, fields);
}

}  // namespace workmill::telemetry
