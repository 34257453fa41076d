#pragma once
#include "work_link.h"

namespace workmill::client::detail {

// A worker's link over GET /v1/worker (docs/reference/stream.md). Reconnects with its resume token for as long as it
// lives; reports that were not answered are sent again then.
std::unique_ptr<WorkLink> make_stream_link(Loop& loop, Address const& address, ServerOptions const& options,
                                           Subscription subscription, LinkEvents& events);

}  // namespace workmill::client::detail
