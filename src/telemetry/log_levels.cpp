#include "telemetry/log_levels.h"

#include <fmt/format.h>

#include <algorithm>

namespace workmill::telemetry {
namespace {

constexpr std::array kLevels{LogLevel::debug, LogLevel::info, LogLevel::warn, LogLevel::error, LogLevel::off};

auto bad(std::string message) { return fail(ErrorCode::bad_configuration, std::move(message)); }

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

LogComponent component_at(std::size_t i) { return static_cast<LogComponent>(i); }

std::string component_names() {
  std::string names;
  for (std::size_t i = 0; i < kLogComponents; ++i) {
    if (i > 0) names.append(", ");
    names.append(to_string(component_at(i)));
  }
  return names;
}

Result<LogLevel> read_level(std::string_view text) {
  if (auto const level = parse_log_level(text)) return *level;
  return bad(fmt::format("'{}' is none of debug, info, warn, error, off", text));
}

}  // namespace

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warn: return "warn";
    case LogLevel::error: return "error";
    case LogLevel::off: return "off";
  }
  return "";
}

std::optional<LogLevel> parse_log_level(std::string_view text) {
  for (LogLevel const level : kLevels) {
    if (text == to_string(level)) return level;
  }
  return std::nullopt;
}

std::string_view to_string(LogComponent component) {
  switch (component) {
    case LogComponent::server: return "server";
    case LogComponent::shard: return "shard";
    case LogComponent::log: return "log";
    case LogComponent::http: return "http";
    case LogComponent::auth: return "auth";
    case LogComponent::audit: return "audit";
    case LogComponent::trace: return "trace";
  }
  return "";
}

std::optional<LogComponent> parse_log_component(std::string_view text) {
  for (std::size_t i = 0; i < kLogComponents; ++i) {
    if (text == to_string(component_at(i))) return component_at(i);
  }
  return std::nullopt;
}

Result<LogLevels> parse_log_levels(std::string_view text) {
  std::optional<LogLevel> all;
  std::array<std::optional<LogLevel>, kLogComponents> own;
  while (true) {
    std::size_t const comma = std::min(text.find(','), text.size());
    std::string_view const part = trimmed(text.substr(0, comma));
    std::size_t const equals = part.find('=');
    if (equals == std::string_view::npos) {
      if (all) return bad(fmt::format("'{}': a level for all is said already", part));
      WM_TRY(all, read_level(part));
    } else {
      std::string_view const name = trimmed(part.substr(0, equals));
      auto const component = parse_log_component(name);
      if (!component) return bad(fmt::format("'{}' is none of {}", name, component_names()));
      auto& level = own[static_cast<std::size_t>(*component)];
      if (level) return bad(fmt::format("the level of {} is said twice", name));
      WM_TRY(level, read_level(trimmed(part.substr(equals + 1))));
    }
    if (comma == text.size()) break;
    text.remove_prefix(comma + 1);
  }
  LogLevels levels{all.value_or(LogLevel::info)};
  for (std::size_t i = 0; i < kLogComponents; ++i) {
    if (own[i]) levels.set(component_at(i), *own[i]);
  }
  return levels;
}

std::string to_string(LogLevels const& levels) {
  // The level that most have is that of all; of several, the lowest.
  std::array<std::size_t, kLevels.size()> count{};
  for (std::size_t i = 0; i < kLogComponents; ++i) count[static_cast<std::size_t>(levels[component_at(i)])] += 1;
  auto const most = static_cast<std::size_t>(std::ranges::max_element(count) - count.begin());
  std::string text{to_string(kLevels[most])};
  for (std::size_t i = 0; i < kLogComponents; ++i) {
    LogLevel const level = levels[component_at(i)];
    if (level != kLevels[most]) text.append(fmt::format(",{}={}", to_string(component_at(i)), to_string(level)));
  }
  return text;
}

}  // namespace workmill::telemetry
