#pragma once
#include <optional>

#include "base/error.h"
#include "engine/engine.h"
#include "model/allowed.h"
#include "model/command.h"
#include "model/reply.h"

// What a caller who is limited to some queues, or keys of the cache, gets to see of a shard. On the shard's thread, at
// the moment when the command meets the jobs: so no change between a check and its use can slip in.
//
// Two rules. A queue that the command names is forbidden by the caller's own limits alone, whether it exists or not. A
// job of another queue is no job: each reference to one is replaced by one that names nothing, so the answer is the
// same, and comes from the same code, as for an id that never was.
namespace workmill::shard {

// Narrows `command` to `allowed`, which has a limit. An error is the whole answer, and nothing is to be done then.
// The one thing that shows: ids that clients bring are one name space, so an enqueue under an id that a job of another
// queue has is refused as forbidden. Its queue and state stay unknown.
std::optional<Error> narrow(Command& command, Allowed const& allowed, engine::Engine const& engine);

// ListQueues for such a caller: it walks his names and not the table of all, so its cost is bounded by them.
Reply list_allowed_queues(ListQueues const& list, QueueSet const& allowed, engine::Engine const& engine);

bool may_see(QueueSet const& allowed, JobNumber job, engine::Engine const& engine);

}  // namespace workmill::shard
