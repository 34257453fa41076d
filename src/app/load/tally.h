#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "app/load/histogram.h"
#include "app/load/http_peer.h"
#include "app/load/peer_loop.h"
#include "base/error.h"

namespace workmill::app {

// What the parts of one load count together. One thread.
struct Tally {
  explicit Tally(PeerLoop& on_loop) : loop(on_loop) {}

  PeerLoop& loop;
  std::uint64_t jobs_max = 0;              // To send or, for drain, that are there.
  bool is_sending_over = false;            // No job will be sent any more,
  std::uint64_t offered = 0;               // and so many were. A call that is refused is sent again.
  std::uint64_t acknowledged = 0;          // Of these.
  std::uint64_t taken = 0;                 // By workers, each attempt.
  std::uint64_t retried = 0;               // Reported as failed: they come again.
  std::uint64_t done = 0;                  // Reported as completed, and that was accepted.
  Histogram latency;                       // ns.
  std::chrono::nanoseconds answered_at{};  // The newest answer.
  std::optional<Error> failed;             // The end.

  // Jobs that are sent, and that no worker has yet.
  std::uint64_t to_take() const { return offered + retried - taken; }

  void add_latency(std::chrono::nanoseconds since) {
    auto const took = (loop.now() - since).count();
    latency.add(took > 0 ? static_cast<std::uint64_t>(took) : 0);
  }
  void fail(Error error) {
    if (!failed) failed = std::move(error);
    loop.stop();
  }
  // A server with more to do than it can says so: then it is asked again, and the time of the call goes on. It holds
  // such answers back itself where there are many.
  bool was_refused(HttpPeer& peer, PeerAnswer const& answer);
  // Is this the answer that was expected? If not, it is the end.
  bool expect(int status, PeerAnswer const& answer);
};

}  // namespace workmill::app
