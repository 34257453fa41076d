#include "service/admission.h"

#include <cmath>

namespace workmill::service {
namespace {

// Delays up to so many times the reference are no reason to let in fewer. As Netflix's GradientLimit has it.
constexpr double kTolerance = 2;
constexpr double kGradientMin = 0.5;  // One window at most halves the limit: the next may be another.
constexpr double kSmoothing = 0.5;    // Of a new limit. Windows are means of many turns, so less of it than there.
// Overload is what lasts: a burst that is worked off within two windows is nobody's fault.
constexpr std::uint32_t kSlowWindowsMin = 2;
constexpr double kBusy = 0.8;  // Of a window's time, in which requests were under way.
constexpr double kReferenceWeight = 0.3;
constexpr double kDoubtful = 0.5;  // Of the reference: with more in flight it does not take so much less.
// After so many windows in which it could not be measured while some were refused, or while it was in doubt, the limit
// goes down to its least for a moment, to measure it. GradientLimit does so, too. The first time soon: what little was
// asked before may have been of another kind, such as reads, which wait for no disk.
constexpr std::uint32_t kProbeAfter = 100;
constexpr std::uint32_t kProbeAfterAtFirst = 10;
constexpr std::uint32_t kProbeWindows = 2;  // The first still has what was let in before.
constexpr double kLittle = 1.25;            // Times in_flight_min: in flight, and it still says what little load takes.

// In units of the limit: up to where whom is let in.
constexpr double kOverMost = 0.5;
constexpr double kUnderEven = 1.25;
constexpr double kWork = 1.5;
// Clients together may have so much more than was served in the window before, or the limit could never be found.
constexpr double kShareGrowth = 1.1;
constexpr double kShareBurst = 0.1;  // Of a window's share, on top of its pace.

constexpr double kRefusalsPerServed = 1.0 / 64;  // Though one cost as much as serving, 1.5 % of the server's time.
constexpr double kRefusalsPerWindow = 10;        // Whatever is served.
constexpr double kRefusalCreditMax = 64;
constexpr double kRateWeight = 0.1;  // Of a window.

}  // namespace

Admission::Admission(AdmissionOptions const& options, Time now)
    : options_(options), window_end_(now + kWindow), refusal_credit_(kRefusalCreditMax) {
  set_limit(options_.in_flight_max);
}

void Admission::set_limit(double limit) {
  limit_ = std::clamp<double>(limit, options_.in_flight_min, options_.in_flight_max);
  if (is_full_) {
    open_below_ = 0;
  } else if (!options_.enabled) {
    open_below_ = UINT32_MAX;
  } else {
    open_below_ = static_cast<std::uint32_t>(shares_now_.most > 0 ? limit_ * kOverMost : limit_);
  }
}

void Admission::set_options(AdmissionOptions const& options) {
  options_ = options;
  set_limit(limit_);
}

Admission::Verdict Admission::check(ClientKey client, Priority priority, Time now) {
  if (now >= window_end_) end_window(now);
  if (in_flight_ < open_below_ || priority == Priority::relief) return Verdict::admitted;
  ClientShares::Use& use = clients_.of(client);
  Verdict const verdict = judge(use, priority, now);
  if (verdict != Verdict::admitted) use.asked += 1;
  return verdict;
}

// Only where open_below_ or more are in flight.
Admission::Verdict Admission::judge(ClientShares::Use const& use, Priority priority, Time now) {
  if (is_full_) {
    refused_ += 1;
    return Verdict::over_limit;
  }
  double const elapsed = 1 - std::chrono::duration<double>(window_end_ - now) / std::chrono::duration<double>(kWindow);
  auto const pace = [&](double share) { return share * (elapsed + kShareBurst) + 1; };
  double room = limit_;
  bool is_over = false;
  // Without shares, whoever has had nothing yet goes first all the same: a client that comes new.
  if (use.admitted < pace(shares_now_.even)) {
    room *= kUnderEven;
  } else if (shares_now_.most > 0 && use.admitted >= pace(shares_now_.most)) {
    room *= kOverMost;
    is_over = true;
  }
  if (priority == Priority::work) room *= kWork;
  if (in_flight_ < room) return Verdict::admitted;
  refused_ += 1;
  return is_over ? Verdict::over_share : Verdict::over_limit;
}

void Admission::end_bunch(Time delay, Time now) {
  served_ += left_;
  refusal_credit_ = std::min(refusal_credit_ + left_ * kRefusalsPerServed, kRefusalCreditMax);
  left_ = 0;
  if (delay > Time::zero()) {
    delay_sum_ += delay;
    bunches_ += 1;
  }
  if (now >= window_end_) end_window(now);
}

void Admission::end_window(Time now) {
  // A server that had nothing to do for long has no windows to make up for: they would all be empty.
  auto const windows = 1 + static_cast<double>((now - window_end_) / kWindow);
  double const weight = windows >= 10 ? 1 : kRateWeight * windows;
  double const per_second = 1 / (std::chrono::duration<double>(kWindow).count() * windows);
  served_per_second_ += weight * (served_ * per_second - served_per_second_);
  refused_per_second_ += weight * (refused_ * per_second - refused_per_second_);
  refusal_credit_ = std::min(refusal_credit_ + windows * kRefusalsPerWindow, kRefusalCreditMax);

  if (bunches_ > 0) {
    delay_ = delay_sum_ / bunches_;
    adapt(std::chrono::duration<double>(delay_sum_) / (now - window_end_ + kWindow));
  } else if (probe_windows_left_ > 0) {  // Nobody asks any more.
    probe_windows_left_ = 0;
    set_limit(limit_before_probe_);
  }
  auto const shares = clients_.end_window(admitted_ * kShareGrowth);
  shares_now_ = refused_ > 0 ? shares : ClientShares::Shares{};
  set_limit(limit_);

  in_flight_peak_ = in_flight_;
  admitted_ = refused_ = served_ = bunches_ = 0;
  delay_sum_ = {};
  window_end_ = now + kWindow;
}

// The original compares the present delay with its own long-term average. That follows a lasting overload upwards,
// until nothing is too slow any more. Here the reference is what the delay is while little is in flight, and is
// measured only then.
void Admission::adapt(double busy) {
  auto const delay = static_cast<double>(delay_.count());
  if (probe_windows_left_ > 0) {
    if (--probe_windows_left_ == 0) {
      reference_ns_ = delay;  // However many are in flight: what is never refused may be more than the least.
      set_limit(limit_before_probe_);
    }
    return;
  }
  if (in_flight_peak_ <= options_.in_flight_min * kLittle) {
    reference_ns_ = reference_ns_ == 0 ? delay : reference_ns_ + kReferenceWeight * (delay - reference_ns_);
    windows_unmeasured_ = 0;
    is_probed_ = false;
  } else if (refused_ > 0 || (busy > kBusy && delay < kDoubtful * reference_ns_)) {
    windows_unmeasured_ += 1;
  }
  // With so few in flight it cannot take less than in proportion; so nobody is refused before twice as many are.
  double const in_proportion = delay * options_.in_flight_min / std::max(in_flight_peak_, options_.in_flight_min);
  double const fine =
      std::max(static_cast<double>(options_.delay_fine.count()), kTolerance * std::max(reference_ns_, in_proportion));
  // While turns leave time between them there is no overload, however long some take: a machine that looked away for a
  // moment, or clients that all come at once and then wait.
  double const gradient = busy > kBusy ? std::clamp(fine / delay, kGradientMin, 1.0) : 1.0;
  slow_windows_ = gradient < 1 ? slow_windows_ + 1 : 0;
  if (slow_windows_ == 0) {
    // Also where the limit was not reached, unlike there: so it is out of the way when the overload is over.
    set_limit(limit_ + kSmoothing * std::sqrt(limit_));
  } else if (slow_windows_ >= kSlowWindowsMin) {
    // From what was in flight, where the limit is far above it and says nothing.
    double const base = std::min<double>(limit_, in_flight_peak_);
    set_limit(base + kSmoothing * (base * gradient + std::sqrt(base) - base));
  }
  if (windows_unmeasured_ >= (is_probed_ ? kProbeAfter : kProbeAfterAtFirst)) {
    windows_unmeasured_ = 0;
    is_probed_ = true;
    probe_windows_left_ = kProbeWindows;
    limit_before_probe_ = limit_;
    set_limit(options_.in_flight_min);
  }
}

std::uint32_t Admission::retry_after_seconds() const {
  double const waiting = in_flight_ + refused_per_second_;
  double const seconds = std::ceil(waiting / std::max(served_per_second_, 1.0));
  return static_cast<std::uint32_t>(std::clamp(seconds, 1.0, 60.0));
}

std::uint64_t Admission::share_per_second() const {
  return static_cast<std::uint64_t>(shares_now_.most / std::chrono::duration<double>(kWindow).count());
}

}  // namespace workmill::service
