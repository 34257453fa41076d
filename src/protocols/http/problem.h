#pragma once
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json_writer.h"
#include "model/cache.h"

// Errors as HTTP has them: RFC 9457 problem details. The one table from our codes to statuses and titles.
namespace workmill::http {

int status_of(ErrorCode code);
std::string_view title_of(ErrorCode code);  // The same for every occurrence of a code.
// After how many seconds a client does well to try again; 0 where trying again is no use.
int retry_after_seconds(ErrorCode code);

// {"type": "/errors/queue_full", "title", "status", "detail", "code", "class", "trace_id", "field"}. `trace_id` may be
// empty. Of `error` the message is shown, and the field where there is one; its context is for logs.
struct ProblemExtra {
  std::uint32_t retry_after = 0;  // In seconds, for answers that have no header to say so. 0: left out.
  // Of compute_failed: what the job's error was, {"class", "code", "message"}; the problem's class is that of this one.
  CacheFailure const* cause = nullptr;
};
void append_problem(Error const& error, std::string_view trace_id, JsonWriter& out, ProblemExtra const& extra = {});

}  // namespace workmill::http
