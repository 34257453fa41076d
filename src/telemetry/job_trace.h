#pragma once
#include "model/ids.h"
#include "telemetry/trace.h"

namespace workmill::telemetry {

// The span of one attempt at a job: what its worker's own spans have for a parent. `creation` is the context that is
// stored with the job. The id follows from the trace and the lease, so that the thread that hands the job out, the
// shard that sees the attempt end, and a server started anew all know it without being told.
TraceContext attempt_context(TraceContext const& creation, LeaseToken lease);
// The span of the report that ended it.
TraceContext report_context(TraceContext const& attempt);

}  // namespace workmill::telemetry
