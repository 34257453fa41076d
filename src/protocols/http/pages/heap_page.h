#pragma once
#include <span>
#include <string>

#include "model/reply.h"

namespace workmill::http {

// GET /v1/debug/heap: what the allocator and the system say of the process's memory, and what of it we can account for.
void append_heap(StatusReply const& status, std::span<Fullness const> front_end, std::string& out);

}  // namespace workmill::http
