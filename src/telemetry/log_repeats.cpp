#include "telemetry/log_repeats.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/rng.h"

namespace workmill::telemetry {
namespace {

// Two messages of one hash would be counted together: of a few hundred fixed texts, none do.
std::uint64_t key_of(LogComponent component, LogLevel level, std::string_view message) {
  std::uint64_t const kind = static_cast<std::uint64_t>(component) << 8 | static_cast<std::uint64_t>(level);
  return std::max<std::uint64_t>(1, mix64(std::hash<std::string_view>{}(message) ^ mix64(kind)));
}

}  // namespace

LogRepeats::Verdict LogRepeats::judge(LogComponent component, LogLevel level, std::string_view message, Time now) {
  if (lines_max_ == 0) return {};
  std::uint64_t const key = key_of(component, level, message);
  return table_.with([&](Table& table) -> Verdict {
    Place* own = nullptr;
    Place* vacant = nullptr;
    for (std::size_t i = 0; i < kProbes && own == nullptr; ++i) {
      Place& place = table[(key + i) % kPlaces];
      if (place.key == key) own = &place;
      // One whose window is over and which holds nothing back has nothing left to tell.
      bool const is_vacant = place.key == 0 || (now - place.since >= window_ && place.held.lines == 0);
      if (vacant == nullptr && is_vacant) vacant = &place;
    }
    if (own == nullptr) {
      if (vacant != nullptr) *vacant = Place{.key = key, .since = now, .seen = 1, .held = {}};
      return {};
    }
    Verdict verdict;
    if (now - own->since >= window_) {
      verdict.ended = end_window(*own);
      own->since = now;
      own->seen = 0;
    }
    if (own->seen < lines_max_) {
      own->seen += 1;
      return verdict;
    }
    if (own->held.lines == 0) {
      own->held = {.component = component,
                   .level = level,
                   .lines = 0,
                   .message = std::string{message.substr(0, kMessageBytesMax)}};
      messages_held_.fetch_add(1, std::memory_order_relaxed);
    }
    own->held.lines += 1;
    held_lines_.fetch_add(1, std::memory_order_relaxed);
    verdict.is_held_back = true;
    return verdict;
  });
}

std::optional<LogRepeats::Held> LogRepeats::end_window(Place& place) {
  if (place.held.lines == 0) return std::nullopt;
  messages_held_.fetch_sub(1, std::memory_order_relaxed);
  return std::exchange(place.held, {});
}

std::vector<LogRepeats::Held> LogRepeats::take_ended(Time now) { return take(now); }
std::vector<LogRepeats::Held> LogRepeats::take_all() { return take(std::nullopt); }

std::vector<LogRepeats::Held> LogRepeats::take(std::optional<Time> ended_by) {
  if (!has_held()) return {};
  return table_.with([&](Table& table) {
    std::vector<Held> taken;
    for (Place& place : table) {
      if (ended_by && *ended_by - place.since < window_) continue;
      auto held = end_window(place);
      if (!held) continue;
      place.key = 0;
      taken.push_back(*std::move(held));
    }
    return taken;
  });
}

}  // namespace workmill::telemetry
