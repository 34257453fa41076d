#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "app/http_client.h"

// What a server uses of its machine's processors, seen from a client.
namespace workmill::app {

// The process that listens on this port of this machine, and the CPU time of a process in all its threads (proc(5), in
// ticks of 10 ms); nothing where that is not known.
std::optional<int> find_listener(std::uint16_t port);
std::optional<std::chrono::nanoseconds> cpu_time_of(int process);

// The CPU time of a server: from /proc where it runs on this machine and we may look, else from its own /metrics.
// One thread.
class ServerCpu {
 public:
  explicit ServerCpu(ServerAddress const& server);
  // Since its start. Nothing where neither tells.
  std::optional<std::chrono::nanoseconds> now();
  // "/proc" or "/metrics"; empty where nothing has told yet.
  std::string_view source() const { return source_; }

 private:
  HttpClient client_;
  std::optional<int> process_;
  std::string_view source_;
};

}  // namespace workmill::app
