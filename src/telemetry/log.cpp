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
#include <iterator>
#include <mutex>
#include <span>
#include <utility>

namespace workmill::telemetry {
namespace {

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

void append_json(Line& line, std::string_view time, LogLevel level, std::string_view message, LogFields fields) {
  append(line, R"({"timestamp":")");
  append(line, time);
  append(line, R"(","severity":")");
  append(line, severity_text(level));
  append(line, R"(","body":)");
  append_quoted(line, message);
  for (LogField const& field : bounded(fields)) {
    line.push_back(',');
    append_quoted(line, field.key());
    line.push_back(':');
    std::visit(ValueWriter{line, LogFormat::json}, field.value());
  }
  line.push_back('}');
}

void append_text(Line& line, std::string_view time, LogLevel level, std::string_view message, LogFields fields) {
  fmt::format_to(std::back_inserter(line), "{} {:<5} ", time, severity_text(level));
  append_safely(line, message, Quoting::none);
  for (LogField const& field : bounded(fields)) {
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

// spdlog wants its parts in shared_ptrs. Each has one owner here all the same, and dies with the Backend: the pool
// first, whose destructor writes what is queued and joins the thread; then nobody else is left who uses the logger.
struct Logger::Backend {
  std::shared_ptr<spdlog::logger> logger;
  std::shared_ptr<spdlog::details::thread_pool> pool;  // None where delivery is immediate.
};

std::optional<LogLevel> parse_log_level(std::string_view text) {
  if (text == "debug") return LogLevel::debug;
  if (text == "info") return LogLevel::info;
  if (text == "warn") return LogLevel::warn;
  if (text == "error") return LogLevel::error;
  if (text == "off") return LogLevel::off;
  return std::nullopt;
}

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
    : clock_(clock), format_(options.format), level_(options.level), backend_(std::make_unique<Backend>()) {
  auto spdlog_sink = std::make_shared<FunctionSink>(std::move(sink));
  if (options.delivery == LogDelivery::background) {
    backend_->pool = std::make_shared<spdlog::details::thread_pool>(options.queue_lines_max, 1);
    backend_->logger = std::make_shared<spdlog::async_logger>("workmill", std::move(spdlog_sink), backend_->pool,
                                                              spdlog::async_overflow_policy::overrun_oldest);
  } else {
    backend_->logger = std::make_shared<spdlog::logger>("workmill", std::move(spdlog_sink));
  }
  backend_->logger->set_level(spdlog::level::trace);  // Levels are ours to judge.
}

Logger::~Logger() = default;

std::uint64_t Logger::dropped() const { return backend_->pool ? backend_->pool->overrun_counter() : 0; }

void Logger::write(LogLevel level, std::string_view message, LogFields fields) {
  std::array<char, kRfc3339Bytes> time;
  format_rfc3339_to(clock_.now(), time.data());
  std::string_view const time_text{time.data(), time.size()};
  Line line;
  if (format_ == LogFormat::json) {
    append_json(line, time_text, level, message, fields);
  } else {
    append_text(line, time_text, level, message, fields);
  }
  backend_->logger->log(spdlog::level::info, spdlog::string_view_t{line.data(), line.size()});
}

}  // namespace workmill::telemetry
