#include "protocols/http/audit.h"

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
  return text;
}

void write_audit(telemetry::Logger& logger, AuditNote const& note, Route route, AuditResult const& result,
                 std::string_view trace_id) {
  std::string_view const outcome = result.status == 0 ? "not known: the client has gone" : result.code;
  if (result.count) {
    logger.info("admin action", {{"who", note.who},
                                 {"action", to_string(route)},
                                 {"target", note.target},
                                 {"from", note.from},
                                 {"status", result.status},
                                 {"count", *result.count},
                                 {"trace_id", trace_id}});
    return;
  }
  logger.info("admin action", {{"who", note.who},
                               {"action", to_string(route)},
                               {"target", note.target},
                               {"from", note.from},
                               {"status", result.status},
                               {"result", outcome.empty() ? std::string_view{"done"} : outcome},
                               {"trace_id", trace_id}});
}

}  // namespace workmill::http
