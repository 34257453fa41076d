#include "app/reload.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace workmill::app {

Reload::Reload(Config running, Read read, telemetry::Logger& logger)
    : running_(std::move(running)), read_(std::move(read)), logger_(logger) {}

void Reload::on_change(std::vector<std::string_view> settings, Apply apply) {
  for (std::string_view const setting : settings) {
    WM_ASSERT(is_setting(setting));
    live_.insert(setting);
  }
  watchers_.push_back({.settings = std::move(settings), .apply = std::move(apply)});
}

void Reload::on_reload(std::string_view part, std::vector<std::string_view> settings, Prepare prepare) {
  for (std::string_view const setting : settings) {
    WM_ASSERT(is_setting(setting));
    live_.insert(setting);
  }
  parts_.push_back({.name = part, .prepare = std::move(prepare)});
}

bool Reload::run() {
  auto planned = plan();
  if (!planned) {
    logger_.error("the configuration is not reloaded, and nothing has changed",
                  {{"code", to_string(planned.error().code)}, {"error", describe(planned.error())}});
    return false;
  }
  // Said before it changes the log's own level, or after it, whichever lets it through.
  bool const is_heard = logger_.is_enabled(telemetry::LogLevel::info);
  if (is_heard) tell(*planned);
  running_ = planned->next;
  for (Commit& commit : planned->commits) commit();
  for (Watcher& watcher : watchers_) {
    bool const concerns = std::ranges::any_of(planned->changes, [&](Change const& change) {
      return std::ranges::find(watcher.settings, change.setting) != watcher.settings.end();
    });
    if (concerns) watcher.apply(running_);
  }
  if (!is_heard) tell(*planned);
  return true;
}

Result<Reload::Plan> Reload::plan() {
  WM_TRY(auto const read, read_());
  Plan plan{.next = running_, .changes = changes(running_, read), .commits = {}};
  for (Change const& change : plan.changes) {
    if (is_live(change.setting)) copy_setting(change.setting, read, plan.next);
  }
  // What is right as a whole may be wrong while a part of it waits for a restart.
  if (auto checked = check_config(plan.next); !checked) {
    return std::unexpected(with_context(std::move(checked).error(), "until the settings that need a restart change"));
  }
  for (Part& part : parts_) {
    auto commit = part.prepare(plan.next);
    if (!commit) return std::unexpected(with_context(std::move(commit).error(), std::string{part.name}));
    plan.commits.push_back(std::move(*commit));
  }
  return plan;
}

void Reload::tell(Plan const& plan) {
  std::string changed;
  std::string waiting;
  for (Change const& change : plan.changes) {
    bool const live = is_live(change.setting);
    logger_.info(live ? "a setting has changed" : "a setting will change with the next restart",
                 {{"setting", change.setting}, {"before", change.before}, {"after", change.after}});
    std::string& names = live ? changed : waiting;
    names.append(names.empty() ? "" : ",").append(change.setting);
  }
  logger_.info("reloaded", {{"changed", changed}, {"needs_restart", waiting}});
}

}  // namespace workmill::app
