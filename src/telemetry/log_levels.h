#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

// Which lines of the log are written: levels, the parts of the program that have one each, and the text form in which
// people say so. Values; any thread.
namespace workmill::telemetry {

enum class LogLevel : std::uint8_t { debug, info, warn, error, off };
// "debug", "info", "warn", "error" or "off".
std::optional<LogLevel> parse_log_level(std::string_view text);
std::string_view to_string(LogLevel level);

// Who speaks. A small fixed set, so that a reader of the log can filter by it and an operator can know it by heart:
// docs/reference/logs.md says what each one tells.
enum class LogComponent : std::uint8_t {
  server,  // Start, stop, configuration. Never held back: it says little, and each line of a kind something else.
  shard,   // Recovery, turns.
  log,     // The durable log on the disk. Never held back either: each line names a place of its own.
  http,    // Requests and connections.
  auth,    // Tokens, and who was refused.
  audit,   // What administrators did. Never held back either.
  trace,   // The export of traces.
};
inline constexpr std::size_t kLogComponents = 7;
std::string_view to_string(LogComponent component);
// Whether lines of it that repeat may be held back.
constexpr bool may_hold_back(LogComponent component) {
  return component != LogComponent::server && component != LogComponent::log && component != LogComponent::audit;
}
std::optional<LogComponent> parse_log_component(std::string_view text);

// A level for every component.
class LogLevels {
 public:
  LogLevels(LogLevel all = LogLevel::info) { of_.fill(all); }  // NOLINT(google-explicit-constructor): one level is all.

  LogLevel operator[](LogComponent component) const { return of_[static_cast<std::size_t>(component)]; }
  void set(LogComponent component, LogLevel level) { of_[static_cast<std::size_t>(component)] = level; }

  bool operator==(LogLevels const&) const = default;

 private:
  std::array<LogLevel, kLogComponents> of_{};
};

// "info", "warn,http=debug", "http=debug,shard=debug": a level for all (info where none is said) and, after it or
// alone, levels of single components; spaces around commas do not matter. bad_configuration where a word is unknown or
// something is said twice.
Result<LogLevels> parse_log_levels(std::string_view text);
// The shortest text that parses to the same: "info,http=debug".
std::string to_string(LogLevels const& levels);

}  // namespace workmill::telemetry
