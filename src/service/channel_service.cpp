#include "service/channel_service.h"

#include <utility>

#include "base/assert.h"

namespace workmill::service {

ChannelService::ChannelService(shard::ShardThread& shard, shard::Port port, shard::Mailbox& mailbox, Clock const& clock,
                               std::atomic<bool> const& draining)
    : shard_(shard),
      port_(port),
      mailbox_(mailbox),
      clock_(clock),
      draining_(draining),
      started_at_(clock.now()),
      now_(started_at_) {}

Result<> ChannelService::submit(Cookie cookie, Command command, Instant give_up_at, AllowedQueues allowed) {
  return shard_.submit({.port = port_,
                        .cookie = cookie,
                        .command = std::move(command),
                        .give_up_at = give_up_at,
                        .allowed = std::move(allowed),
                        .parsed_at = std::exchange(parsed_at_, {})});
}

void ChannelService::abandon(Cookie cookie) { shard_.abandon(port_, cookie); }

Readiness ChannelService::readiness() const {
  if (draining_.load(std::memory_order_relaxed)) return Readiness::draining;
  return shard_.disk_low() ? Readiness::disk_full : Readiness::ready;
}

Duration ChannelService::uptime() const { return now_ - started_at_; }

void ChannelService::collect() {
  now_ = clock_.now();
  answers_.clear();
  mailbox_.take(answers_);
  if (answers_.empty()) return;
  WM_ASSERT(sink_ != nullptr);
  sink_->on_answers(answers_);
}

}  // namespace workmill::service
