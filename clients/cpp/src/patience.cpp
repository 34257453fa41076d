#include "patience.h"

#include <algorithm>
#include <utility>

namespace workmill::client::detail {
namespace {

Duration until(Loop::Clock::time_point time) {
  return std::max(Duration{0}, std::chrono::ceil<Duration>(time - Loop::Clock::now()));
}

// Somebody took the connection, and did not answer in time.
bool is_silence(Error const& error) { return error.code == "no_server" && error.may_have_happened; }

}  // namespace

Patience::Patience(Core& core, std::string what, Duration patience, std::optional<Loop::Clock::time_point> give_up_at)
    : core_(core),
      what_(std::move(what)),
      is_wait_(patience > Duration{0}),
      until_(time_after(patience)),
      give_up_at_(give_up_at),
      chance_(std::random_device{}()) {}

Duration Patience::left() const { return until(until_); }

Duration Patience::next_part() { return part_ = std::min(left(), kWaitPart); }

void Patience::ready(Call& call) {
  call.attempts = 1;
  call.pause = pause_;
  asked_ = Loop::Clock::now() + pause_;
}

Patience::Next Patience::after_answer() {
  failures_ = 0;
  Duration const left = this->left();
  if (left == Duration{0}) return Next::over;
  // A server that lets nobody wait any more, or stops, answers at once: it must not be asked again and again.
  early_ = Loop::Clock::now() - asked_ < part_ / 2 ? early_ + 1 : 0;
  pause_ = early_ > 0 ? std::min(backoff(core_.options().retry, early_, chance_), left) : Duration{0};
  return Next::ask;
}

Patience::Next Patience::after_error(Error& error, bool has_answer) {
  bool const was_silent = is_silence(error);  // In this part.
  may_have_happened_ |= error.may_have_happened;
  error.may_have_happened = may_have_happened_;
  if (!is_worth_another(error) || error.code == "timed_out") return Next::failed;
  ++failures_;
  Duration const left = this->left();
  pause_ = backoff(core_.options().retry, failures_, chance_);
  if (left > Duration{0}) pause_ = std::min(pause_, left);
  pause_ = std::max(pause_, error.retry_after.value_or(Duration{0}));
  if (give_up_at_) pause_ = std::min(pause_, until(*give_up_at_));  // Nobody sleeps through the end of the whole call.
  bool const is_over = left == Duration{0} || pause_ > left;
  // A server that is there and says nothing has taken more time than there was, and would take it again.
  bool const is_in_vain = is_wait_ && was_silent;
  // Nobody would sit through what the server asks for.
  bool const is_too_late = error.retry_after.value_or(Duration{0}) > kRetryAfterMax;
  bool const is_enough = has_answer || is_in_vain || is_too_late || failures_ >= core_.options().retry.attempts;
  if (is_over && is_enough) return Next::over;
  core_.log(LogLevel::info, what_ + " failed, again in " + std::to_string(pause_.count()) + " ms: " + describe(error));
  return Next::ask;
}

}  // namespace workmill::client::detail
