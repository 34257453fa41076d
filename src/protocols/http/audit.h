#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "model/command.h"
#include "protocols/http/gate.h"
#include "protocols/http/router.h"
#include "telemetry/log.h"

// What was done with the scope `admin`: one line in the log for each such request, with component "audit". Who, what,
// to what, what of it is changed, from where, and what came of it; no payloads, and nothing of a token but its name and
// id.
namespace workmill::http {

// Kept with a request until its answer.
struct AuditNote {
  std::string who;      // The token's name and id: "ops (3f9a1c2b4d5e)".
  std::string target;   // The job or queue that the path names; of a bulk action, what it was for and which jobs, or
                        // why nobody knows.
  std::string changes;  // What was asked for: names of fields, with values where those are short and nobody's secret.
  std::string from;     // The peer's address.
};

// Nothing for routes that are not for administrators, nor where the server has no tokens: then it could say nothing of
// who it was, and who deletes each job that he has seen to would fill the log.
std::unique_ptr<AuditNote> make_audit_note(Access access, std::string_view target, Caller const& caller);
// The parameter of the path. A bulk action has none: who is refused by the head of his request has not been asked which
// jobs he meant, and the note says so.
std::string_view target_of(Match const& found);
inline constexpr std::string_view kBodyRefused = "(not known: the body was refused)";
// "retry state=dead queue=mail".
std::string describe_bulk(BulkJobs const& bulk);
// "paused=true max_depth=null".
std::string describe_changes(PatchQueue const& patch);
// "priority=9 tags": whose tags they are is not the log's to tell.
std::string describe_changes(JobChanges const& changes);
// "enabled=false default=off variants=2 rules=0 gates=1".
std::string describe_changes(SetFlag const& set);

struct AuditResult {
  int status = 0;         // 0: the client went before there was an answer; the action may have been done.
  std::string_view code;  // Of an error.
  std::optional<std::uint64_t> count{};  // Of jobs, where that is the answer.
};
// `logger`: of the component `audit`.
void write_audit(telemetry::Logger& logger, AuditNote const& note, Route route, AuditResult const& result,
                 std::string_view trace_id);

}  // namespace workmill::http
