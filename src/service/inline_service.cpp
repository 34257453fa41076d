#include "service/inline_service.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace workmill::service {

InlineService::InlineService(shard::ShardLoop& loop, Clock const& clock)
    : loop_(loop), clock_(clock), started_at_(clock.now()), now_(started_at_) {}

Result<> InlineService::submit(Cookie cookie, Command command, Instant give_up_at, Allowed allowed) {
  return loop_.submit({.port = 0,
                       .cookie = cookie,
                       .command = std::move(command),
                       .give_up_at = give_up_at,
                       .allowed = std::move(allowed),
                       .parsed_at = std::exchange(parsed_at_, {})});
}

void InlineService::abandon(Cookie cookie) { loop_.abandon(0, cookie); }

Hindrances InlineService::hindrances() const { return {.disk_full = loop_.disk_low(), .draining = draining_}; }

Duration InlineService::uptime() const { return now_ - started_at_; }

Result<Duration> InlineService::turn() {
  WM_TRY(newest_turn_, loop_.turn());
  now_ = clock_.now();
  answers_.clear();
  loop_.take_answers(0, answers_);
  if (!answers_.empty()) {
    WM_ASSERT(sink_ != nullptr);
    sink_->on_answers(answers_);
  }
  if (newest_turn_.more || loop_.has_requests()) return Duration{0};
  if (!newest_turn_.next) return kSleepMax;
  return std::clamp(*newest_turn_.next - now_, Duration{0}, kSleepMax);
}

void InlineService::drain() {
  draining_ = true;
  loop_.drain();
}

}  // namespace workmill::service
