#pragma once
#include <chrono>
#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "app/load/http_peer.h"
#include "app/load/job_text.h"
#include "app/load/load.h"
#include "app/load/tally.h"

namespace workmill::app {

// Those who send jobs, over HTTP, until the tally has as many as it may. One call at a time on each connection: as soon
// as the one before is answered, or at a steady pace of all together.
class Producers {
 public:
  enum class Times : std::uint8_t { calls, nothing };  // What of them goes into the tally's latency.

  // Connects them. `is_mixed`: some jobs are put off a little, and priorities differ.
  static Result<std::unique_ptr<Producers>> connect(LoadOptions const& options, bool is_mixed, Times times,
                                                    Tally& tally);

  void start();
  // What is due at a pace; nothing where there is none. To be called again at next_due().
  void offer();
  std::chrono::nanoseconds next_due() const { return next_; }
  // No more jobs. Calls under way are still answered.
  void stop() { tally_.is_sending_over = true; }

 private:
  Producers(LoadOptions const& options, Times times, Tally& tally);
  void on_answer(HttpPeer& peer, PeerAnswer const& answer);
  bool may_send() const { return !tally_.is_sending_over; }
  void send(HttpPeer& peer, std::chrono::nanoseconds due);
  bool is_paced() const { return gap_.count() > 0; }

  Tally& tally_;
  Times times_;
  std::size_t batch_;
  std::vector<JobTemplate> jobs_;  // In turn.
  std::size_t turn_ = 0;
  std::unique_ptr<JobTemplate> rest_;  // Where fewer than a batch are left, one by one.
  std::vector<HttpPeer*> peers_;
  std::vector<std::size_t> under_way_;  // By peer of this class: jobs in its call.
  std::size_t first_index_ = 0;
  std::deque<HttpPeer*> idle_;  // At a pace: who has nothing to do, the longest idle first.
  std::chrono::nanoseconds gap_{};
  std::chrono::nanoseconds next_ = std::chrono::nanoseconds::max();
};

}  // namespace workmill::app
