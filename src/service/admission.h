#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>

#include "model/client.h"
#include "service/client_shares.h"

// Decides which requests are let in when more come than can be served in time.
//
// Three things together; the reasons are in docs/adr/0011-admission.md.
// - A limit on the requests in flight, by the gradient of the delay: after Gradient2Limit of Netflix's
//   concurrency-limits, with another reference (see end_window()).
// - Above it, whoever has had less than a fair share goes first (client_shares.h), and what frees resources is never
//   refused.
// - A refusal costs the server more than half of what serving costs. So refusals have a budget, a part of what is
//   served; those over it are to be held back for a while.
//
// Pure: the time is handed in, of the monotonic clock and never going back. One object for each I/O thread, and all
// calls on it.
namespace workmill::service {

enum class Priority : std::uint8_t {
  relief,  // Frees something or shows what is going on: reports, deletions, health, metrics. Never refused.
  work,    // Hands out jobs or shows one. Refused later than load.
  load,    // Adds jobs, searches, waits.
};

struct AdmissionOptions {
  bool enabled = true;
  // From a request's bytes to its answer. So much is always fine, whatever less the server can do.
  std::chrono::nanoseconds delay_fine = std::chrono::milliseconds{1};
  // Bounds of the limit. Twice the least are let in however slow the server is: fewer would not fill its turns.
  std::uint32_t in_flight_min = 64;
  std::uint32_t in_flight_max = 16'384;
};

class Admission {
 public:
  using Time = std::chrono::nanoseconds;

  enum class Verdict : std::uint8_t {
    admitted,
    over_limit,  // The server has enough to do.
    over_share,  // This client has had its share.
  };

  Admission(AdmissionOptions const& options, Time now);

  // Of a request whose head is there and whose body is not: what enter() would say. Nothing is in flight by it.
  Verdict check(ClientKey client, Priority priority, Time now);
  // Of a request that is whole. Where it is admitted, leave() is to follow once.
  Verdict enter(ClientKey client, Priority priority, Time now) {
    if (now >= window_end_) end_window(now);
    ClientShares::Use& use = clients_.of(client);
    use.asked += 1;
    if (in_flight_ >= open_below_ && priority != Priority::relief) {
      if (Verdict const verdict = judge(use, priority, now); verdict != Verdict::admitted) return verdict;
    }
    use.admitted += 1;
    admitted_ += 1;
    in_flight_ += 1;
    in_flight_peak_ = std::max(in_flight_peak_, in_flight_);
    return Verdict::admitted;
  }
  // Answered, given up, or found to be one that waits and is bounded elsewhere.
  void leave() {
    in_flight_ -= 1;
    left_ += 1;
  }

  // Other options, at once.
  void set_options(AdmissionOptions const& options);
  // Memory is at its bound: until it is not, nobody but relief is let in.
  void set_full(bool is_full) {
    if (is_full == is_full_) return;
    is_full_ = is_full;
    set_limit(limit_);
  }

  // A bunch of answers has gone out. `delay`: of that one which had waited longest; zero where none of them counts.
  void end_bunch(Time delay, Time now);

  // May a refusal leave at once? Takes it from the budget if so. Else hold it back: for kHoldMax at most.
  bool take_refusal() {
    if (refusal_credit_ < 1) return false;
    refusal_credit_ -= 1;
    return true;
  }
  static constexpr Time kHoldMax = std::chrono::seconds{1};

  // After how long a refused client does well to come back, in whole seconds: until those now in flight and those
  // refused in the last second are served at the present rate. 1 to 60; add a jitter.
  std::uint32_t retry_after_seconds() const;
  // A client's share now, in requests a second; 0 where shares are not in force.
  std::uint64_t share_per_second() const;

  std::uint32_t in_flight() const { return in_flight_; }
  std::uint32_t limit() const { return static_cast<std::uint32_t>(limit_); }
  // Typical of the last window that had any.
  Time delay() const { return delay_; }

 private:
  static constexpr Time kWindow = std::chrono::milliseconds{100};

  Verdict judge(ClientShares::Use const& use, Priority priority, Time now);
  void end_window(Time now);
  void adapt(double busy);
  void set_limit(double limit);

  AdmissionOptions options_;
  ClientShares clients_;
  std::uint32_t in_flight_ = 0;
  std::uint32_t open_below_ = 0;  // With fewer in flight nobody is judged.
  Time window_end_{};

  // Of this window.
  std::uint32_t in_flight_peak_ = 0;
  std::uint32_t admitted_ = 0;
  std::uint32_t refused_ = 0;
  std::uint32_t left_ = 0;  // Answered since the credit was last added to.
  std::uint32_t served_ = 0;
  Time delay_sum_{};
  std::uint32_t bunches_ = 0;

  bool is_full_ = false;
  double limit_ = 0;
  Time delay_{};
  double reference_ns_ = 0;         // The delay when little is in flight; 0 before it is known.
  std::uint32_t slow_windows_ = 0;  // So many in a row were over what is fine.
  std::uint32_t windows_unmeasured_ = 0;
  bool is_probed_ = false;  // The reference was measured by a probe, and not with little to do since.
  std::uint32_t probe_windows_left_ = 0;
  double limit_before_probe_ = 0;
  ClientShares::Shares shares_now_;  // Of a client, in this window; 0 where shares are not in force.
  double refusal_credit_ = 0;
  double served_per_second_ = 0;  // Moving averages over a second or so.
  double refused_per_second_ = 0;
};

}  // namespace workmill::service
