#pragma once
#include <cstdint>

#include "model/command.h"
#include "model/reply.h"

// What goes into a shard and what comes out. Values.
namespace workmill::shard {

using Cookie = std::uint64_t;  // Chosen by whoever asks, given back with the answer.
using Port = std::uint32_t;    // Which asker: an I/O thread, by index.

struct Request {
  Port port = 0;
  Cookie cookie = 0;
  Command command;
};

struct Answer {
  Cookie cookie = 0;
  Reply reply;
  std::uint64_t turn = 0;  // The shard's turn that decided it, from 1.
};

}  // namespace workmill::shard
