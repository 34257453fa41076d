#pragma once
#include "work_link.h"

namespace workmill::client::detail {

// A worker's link by POST /v1/leases, on which reports ride, and POST /v1/reports for those that come while a lease
// call waits. Over any transport: a server's HTTP, or an engine in this process.
std::unique_ptr<WorkLink> make_lease_link(Loop& loop, std::unique_ptr<Transport> transport,
                                          ServerOptions const& options, Subscription subscription, LinkEvents& events);

}  // namespace workmill::client::detail
