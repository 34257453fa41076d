#pragma once
#include "work_link.h"

namespace workmill::client::detail {

// For so long a server may be silent before it is given up. At half of it a ping is sent, which one that is there
// answers.
struct StreamPatience {
  // While jobs are held, or reports unanswered. Then the server pings by itself, after 5 s of silence by default.
  Duration busy = std::chrono::seconds{20};
  // While not: after 50 s. A stream that is direct waits for ever then, pings nothing, and leaves the server to the
  // kernel.
  Duration idle = std::chrono::minutes{2};
};

// A worker's link over GET /v1/worker (docs/reference/stream.md). Reconnects with its resume token for as long as it
// lives; reports that were not answered are sent again then.
std::unique_ptr<WorkLink> make_stream_link(Loop& loop, Address const& address, ServerOptions const& options,
                                           Subscription subscription, LinkEvents& events, StreamPatience patience = {});

}  // namespace workmill::client::detail
