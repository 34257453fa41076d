#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "base/guarded.h"
#include "net/connection.h"

// Threads that help an I/O thread where very many connections are to be sent something at once: ten thousand callers of
// one value that has just been computed. A send costs 5 us and more in the kernel, whoever makes it, and all the others
// of the I/O thread's connections wait meanwhile; so cores that are idle take a part.
//
// The I/O thread stands still until all is sent, so its connections are its own all the same: no lock is theirs. It
// takes its part like the others, and where no other core is free, all of it. The threads start when they are needed
// first, and sleep in between. Several I/O threads may share a crew: whoever finds it busy sends by himself.
namespace workmill::net {

class SendCrew {
 public:
  // So many threads besides the caller's; none is legal.
  explicit SendCrew(std::size_t helpers) : helpers_(helpers) {}
  ~SendCrew();  // Nobody sends any more.
  SendCrew(SendCrew const&) = delete;
  SendCrew& operator=(SendCrew const&) = delete;

  // Calls send_ahead() of each, which stands in the list once. Any thread, for connections of its own.
  void send_ahead(std::span<Connection* const> connections);

 private:
  // As many as a thread takes at a time: a fraction of a millisecond, for which the last to end may be waited for.
  static constexpr std::size_t kShare = 16;

  void start();
  void run();
  void take_shares(std::span<Connection* const> connections);

  std::size_t const helpers_;
  std::atomic<bool> is_taken_{false};
  std::atomic<std::size_t> next_{0};  // Of the connections.

  Mutex mutex_;
  Condition asked_;
  Condition left_;
  std::span<Connection* const> connections_ WM_GUARDED_BY(mutex_);  // None: there is nothing to do.
  std::uint64_t round_ WM_GUARDED_BY(mutex_) = 0;
  std::size_t busy_ WM_GUARDED_BY(mutex_) = 0;
  bool stopping_ WM_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // Of whoever has taken the crew. Last: they use all the others.
};

}  // namespace workmill::net
