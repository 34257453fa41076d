#include "app/reload.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace workmill::app {
namespace {

constexpr std::string_view kWho = "SIGHUP";  // In the audit log: whoever may send it to the process.

}  // namespace

Reload::Reload(Config running, Read read, telemetry::Logger& logger)
    : running_(std::move(running)), read_(std::move(read)), logger_(logger) {}

void Reload::on_change(std::vector<std::string_view> settings, Apply apply) {
  for (std::string_view const setting : settings) {
    WM_ASSERT(is_setting(setting));
    live_.insert(setting);
  }
  watchers_.push_back({.settings = std::move(settings), .apply = std::move(apply)});
}

void Reload::on_reload(std::string_view part, std::vector<std::string_view> settings, Prepare prepare, Waits waits) {
  for (std::string_view const setting : settings) {
    WM_ASSERT(is_setting(setting));
    live_.insert(setting);
  }
  parts_.push_back(
      {.name = part, .settings = std::move(settings), .prepare = std::move(prepare), .waits = std::move(waits)});
}

bool Reload::run() {
  auto planned = plan();
  was_refused_.store(!planned, std::memory_order_relaxed);
  if (!planned) {
    logger_.error("the configuration is not reloaded, and nothing has changed",
                  {{"code", to_string(planned.error().code)}, {"error", describe(planned.error())}});
    logger_.of(telemetry::LogComponent::audit)
        .info("admin action", {{"who", kWho}, {"action", "reload"}, {"result", to_string(planned.error().code)}});
    return false;
  }
  // Said before it changes the log's own level, or after it, whichever lets it through.
  bool const is_heard = logger_.is_enabled(telemetry::LogLevel::info);
  if (is_heard) tell(*planned);
  running_ = planned->next;
  for (auto& [name, part] : planned->parts) part.commit();
  for (Watcher& watcher : watchers_) {
    bool const concerns = std::ranges::any_of(planned->changes, [&](Change const& change) {
      return changes_now(*planned, change.setting) &&
             std::ranges::find(watcher.settings, change.setting) != watcher.settings.end();
    });
    if (concerns) watcher.apply(running_);
  }
  if (!is_heard) tell(*planned);
  return true;
}

Result<Reload::Plan> Reload::plan() {
  WM_TRY(auto const read, read_());
  Plan plan{.next = running_, .changes = changes(running_, read), .waiting = {}, .parts = {}};
  for (Part const& part : parts_) {
    if (part.waits && part.waits(running_, read)) plan.waiting.insert(part.settings.begin(), part.settings.end());
  }
  for (Change const& change : plan.changes) {
    if (changes_now(plan, change.setting)) copy_setting(change.setting, read, plan.next);
  }
  // What is right as a whole may be wrong while a part of it waits for a restart.
  if (auto checked = check_config(plan.next); !checked) {
    return std::unexpected(with_context(std::move(checked).error(), "until the settings that need a restart change"));
  }
  for (Part& part : parts_) {
    if (part.waits && part.waits(running_, read)) continue;
    auto prepared = part.prepare(plan.next);
    if (!prepared) return std::unexpected(with_context(std::move(prepared).error(), std::string{part.name}));
    plan.parts.emplace_back(part.name, std::move(*prepared));
  }
  return plan;
}

void Reload::tell(Plan& plan) {
  std::string changed;
  std::string waiting;
  std::string audited;
  for (Change const& change : plan.changes) {
    bool const live = changes_now(plan, change.setting);
    logger_.info(live ? "a setting has changed" : "a setting will change with the next restart",
                 {{"setting", change.setting}, {"before", change.before}, {"after", change.after}});
    std::string& names = live ? changed : waiting;
    names.append(names.empty() ? "" : ",").append(change.setting);
    if (live) audited.append(audited.empty() ? "" : " ").append(change.setting).append("=").append(change.after);
  }
  for (auto& [name, part] : plan.parts) {
    if (part.changes.empty()) continue;
    if (part.tell) part.tell(logger_);
    changed.append(changed.empty() ? "" : ",").append(name);
    audited.append(audited.empty() ? "" : " ").append(name).append("(").append(part.changes).append(")");
  }
  logger_.info("reloaded", {{"changed", changed}, {"needs_restart", waiting}});
  logger_.of(telemetry::LogComponent::audit)
      .info("admin action", {{"who", kWho}, {"action", "reload"}, {"changes", audited}, {"result", "done"}});
}

}  // namespace workmill::app
