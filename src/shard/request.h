#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/time.h"
#include "model/allowed.h"
#include "model/command.h"
#include "model/reply.h"

// What goes into a shard and what comes out. Values.
namespace workmill::shard {

using Cookie = std::uint64_t;  // Chosen by whoever asks, given back with the answer.
inline constexpr Instant kNever = Instant::max();

using Port = std::uint32_t;  // Which asker: an I/O thread, by index.

struct Request {
  Port port = 0;
  Cookie cookie = 0;
  Command command;
  Instant give_up_at = kNever;           // Not decided from here on, but answered with deadline_exceeded.
  Allowed allowed{};                     // What it may touch. See access.h.
  std::chrono::nanoseconds parsed_at{};  // Of the monotonic clock. Zero: nobody measures.
  bool is_fetched = false;               // By the shard: what it reads was brought into memory, as far as that went.
};

struct Answer {
  Cookie cookie = 0;
  Reply reply;
  std::uint64_t turn = 0;               // The shard's turn that decided it, from 1.
  std::chrono::nanoseconds ready_at{};  // When it could leave. Zero: nobody measures.
  // Others of the port who are answered with the very same: ten thousand callers of one value are one answer, not as
  // many that are made and moved one by one.
  std::vector<Cookie> also{};
};

}  // namespace workmill::shard
