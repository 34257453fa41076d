#pragma once
#include <sys/resource.h>

#include <fmt/format.h>

#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "app/load/peer_loop.h"
#include "base/error.h"
#include "shard/system_clock.h"

// What the programs in this folder have in common: connections to one server on one thread, a load over them, and
// figures as JSON at the end.
namespace workmill::app {

// As far as it may be: a connection is a descriptor.
inline void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
}

// Of this process, user and system.
inline double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto const seconds = [](timeval const& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// So many more connections, each a P made with `more`.
template <class P, class... More>
Result<std::vector<P*>> connect_all(PeerLoop& loop, std::size_t count, More const&... more) {
  std::vector<P*> peers;
  for (std::size_t i = 0; i < count; ++i) {
    WM_TRY(P* const peer, (loop.connect<P>(more...)));
    peers.push_back(peer);
  }
  return peers;
}

// A Load is made from its options and the loop, run() once, and then has figures. `url`: "http://host:port", whatever
// is spoken there. Answers main()'s exit code.
template <class Load, class Options>
int run_load(std::string const& url, Options const& options) {
  raise_descriptor_limit();
  shard::SystemClock const clock;
  auto loop = PeerLoop::open(url, clock);
  Result<> ran = loop ? Result<>{} : Result<>{std::unexpected(loop.error())};
  if (ran) {
    Load load{options, **loop};
    ran = load.run();
    if (ran) fmt::print("{}\n", load.to_json());
  }
  if (ran) return 0;
  fmt::print(stderr, "{}\n", describe(ran.error()));
  return 1;
}

}  // namespace workmill::app
