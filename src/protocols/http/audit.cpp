#include "protocols/http/audit.h"

#include <optional>
#include <string>
#include <utility>

#include "base/time.h"
#include "flags/flag.h"
#include "model/job.h"

namespace workmill::http {
namespace {

constexpr std::size_t kTargetBytesMax = 384;  // Three bytes for each that a name may have, as it stands in a path.

bool is_for_admins(Access access) { return access == Access::admin || access == Access::server_admin; }

std::string_view to_string(BulkAction action) {
  switch (action) {
    case BulkAction::retry: return "retry";
    case BulkAction::cancel: return "cancel";
    case BulkAction::remove: return "delete";
  }
  return "";
}

// "name=value name=value", and a name alone where there is no value to tell.
class ChangesText {
 public:
  void add(std::string_view name, std::optional<std::string_view> value = {}) {
    text_.append(text_.empty() ? "" : " ").append(name);
    if (value) text_.append("=").append(*value);
  }
  void add(std::string_view name, std::uint64_t value) { add(name, std::string_view{std::to_string(value)}); }
  void add(std::string_view name, bool value) { add(name, std::string_view{value ? "true" : "false"}); }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace

std::unique_ptr<AuditNote> make_audit_note(Access access, std::string_view target, Caller const& caller) {
  service::Token const* const token = caller.token();
  if (token == nullptr || !is_for_admins(access)) return nullptr;
  auto note = std::make_unique<AuditNote>();
  note->who = token->record.name;
  note->who.append(" (").append(token->record.id).append(")");
  note->target = target.substr(0, kTargetBytesMax);  // As it was sent, encoded: so it holds no line break.
  note->from = caller.from().to_string();
  return note;
}

std::string_view target_of(Match const& found) {
  return found.route == Route::bulk_jobs ? "(not known: refused before the body)" : found.parameter;
}

std::string describe_bulk(BulkJobs const& bulk) {
  std::string text{to_string(bulk.action)};
  auto const add = [&text](std::string_view name, std::string_view value) {
    if (!value.empty()) text.append(" ").append(name).append("=").append(value);
  };
  if (bulk.filter.state) add("state", workmill::to_string(*bulk.filter.state));
  add("queue", bulk.filter.queue);
  add("type", bulk.filter.type);
  add("tag", bulk.filter.tag);
  add("group", bulk.filter.group);
  add("batch", bulk.filter.batch);
  return text;
}

std::string describe_changes(PatchQueue const& patch) {
  ChangesText text;
  if (patch.paused) text.add("paused", *patch.paused);
  if (patch.max_depth && *patch.max_depth) text.add("max_depth", **patch.max_depth);
  if (patch.max_depth && !*patch.max_depth) text.add("max_depth", std::string_view{"null"});
  if (patch.when_full) text.add("when_full", workmill::to_string(*patch.when_full));
  return text.take();
}

std::string describe_changes(JobChanges const& changes) {
  ChangesText text;
  if (changes.priority) text.add("priority", std::uint64_t{*changes.priority});
  if (changes.run_at) text.add("run_at", std::string_view{format_rfc3339(*changes.run_at)});
  if (changes.queue) text.add("queue", std::string_view{*changes.queue});
  if (changes.tags) text.add("tags");
  if (changes.max_attempts) text.add("max_attempts", std::uint64_t{*changes.max_attempts});
  return text.take();
}

std::string describe_changes(SetFlag const& set) {
  ChangesText text;
  auto const flag = flags::decode_flag(set.definition);
  if (!flag) return {};
  text.add("enabled", flag->enabled);
  text.add("default", std::string_view{flag->variants[flag->default_variant].name});
  text.add("variants", std::uint64_t{flag->variants.size()});
  text.add("rules", std::uint64_t{flag->rules.size()});
  text.add("gates", std::uint64_t{flag->gates.size()});
  return text.take();
}

void write_audit(telemetry::Logger& logger, AuditNote const& note, Route route, AuditResult const& result,
                 std::string_view trace_id) {
  std::string_view const outcome = result.status == 0 ? "not known: the client has gone" : result.code;
  telemetry::LogField const came_of_it =
      result.count ? telemetry::LogField{"count", *result.count}
                   : telemetry::LogField{"result", outcome.empty() ? std::string_view{"done"} : outcome};
  auto const changes = note.changes.empty() ? std::nullopt : std::optional{std::string_view{note.changes}};
  logger.info("admin action", {{"who", note.who},
                               {"action", to_string(route)},
                               {"target", note.target},
                               {"changes", changes},
                               {"from", note.from},
                               {"status", result.status},
                               came_of_it,
                               {"trace_id", trace_id}});
}

}  // namespace workmill::http
