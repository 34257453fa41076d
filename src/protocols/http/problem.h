#pragma once
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json_writer.h"

// Errors as HTTP has them: RFC 9457 problem details. The one table from our codes to statuses and titles.
namespace workmill::http {

int status_of(ErrorCode code);
std::string_view title_of(ErrorCode code);  // The same for every occurrence of a code.
// After how many seconds a client does well to try again; 0 where trying again is no use.
int retry_after_seconds(ErrorCode code);

// {"type": "/errors/queue_full", "title", "status", "detail", "code", "class", "trace_id", "field"}. `trace_id` may be
// empty. Of `error` the message is shown, and the field where there is one; its context is for logs. `retry_after`, in
// seconds, is for answers that have no header to say so: 0 is left out.
void append_problem(Error const& error, std::string_view trace_id, JsonWriter& out, std::uint32_t retry_after = 0);

}  // namespace workmill::http
