#pragma once
#include <cstdint>

#include "base/error.h"

// How many descriptors (open files and sockets) the process may have, and how many of them connections get.
//
// Connections take what others leave: the log must find one for its next segment however many strangers are connected,
// or the server ends. Two bounds see to that. Each I/O thread serves so many connections that all have room, and
// answers who comes beyond. And since the kernel hands out the lowest number that is free, a connection whose number is
// near the limit has come when nearly all were taken, whoever has them: it is closed at once.
namespace workmill::app {

// Kept for all but connections: by far more than the log, its verification, the export of traces, files that are read
// again and what is asked of /proc ever have open at once; and for each I/O thread's pollers and timers.
inline constexpr std::uint64_t kDescriptorsKept = 64;
inline constexpr std::uint64_t kDescriptorsKeptEachThread = 8;
// Fewer connections than that are no server.
inline constexpr std::uint32_t kConnectionsLeast = 16;

struct DescriptorRoom {
  std::uint64_t descriptors_max = 0;   // Of the process.
  std::uint32_t connections_max = 0;   // Of each I/O thread; besides those that are only told to go.
  std::uint64_t connections_from = 0;  // Where a connection gets this number or one above it, it is closed.
};

// What there is room for, where the process may have `max` and has `open` by now. bad_configuration where that is too
// little for a server.
Result<DescriptorRoom> share_descriptors(std::uint64_t max, std::uint64_t open, std::uint32_t io_threads);

// Lets the process have as many as the system allows it (the soft limit becomes the hard one), and shares them out.
Result<DescriptorRoom> take_descriptors(std::uint32_t io_threads);

}  // namespace workmill::app
