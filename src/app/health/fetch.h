#pragma once
#include "app/health/snapshot.h"
#include "app/http_client.h"
#include "base/error.h"

namespace workmill::app::health {

// Queues beyond so many are not asked for: neither a person nor a rule gains by them.
inline constexpr int kQueuePagesMax = 5;
inline constexpr int kQueuesPerPage = 1'000;

// Asks a server for all that a Snapshot holds. Errors: what HttpClient::call says, of /v1/status or /v1/queues. What
// /metrics tells is left out where it is not to be had: a token may not reach it.
Result<Snapshot> fetch(HttpClient& client);

}  // namespace workmill::app::health
