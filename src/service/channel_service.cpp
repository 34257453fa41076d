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

Result<> ChannelService::submit(Cookie cookie, Command command, Instant give_up_at, Allowed allowed) {
  return shard_.submit({.port = port_,
                        .cookie = cookie,
                        .command = std::move(command),
                        .give_up_at = give_up_at,
                        .allowed = std::move(allowed),
                        .parsed_at = std::exchange(parsed_at_, {})});
}

// Nothing may get lost here: a stream that nobody abandons keeps its jobs until their leases run out. Later requests
// stand behind it in the channel as soon as it goes in; bounded by what this thread has under way.
void ChannelService::abandon(Cookie cookie) {
  if (!shard_.abandon(port_, cookie)) unsent_.push_back(cookie);
}

Hindrances ChannelService::hindrances() const {
  return {.disk_full = shard_.disk_low(), .draining = draining_.load(std::memory_order_relaxed)};
}

Duration ChannelService::uptime() const { return now_ - started_at_; }

void ChannelService::collect() {
  now_ = clock_.now();
  while (!unsent_.empty() && shard_.abandon(port_, unsent_.front())) unsent_.pop_front();
  answers_.clear();
  mailbox_.take(answers_);
  if (answers_.empty()) return;
  WM_ASSERT(sink_ != nullptr);
  sink_->on_answers(answers_);
}

}  // namespace workmill::service
