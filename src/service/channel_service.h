#pragma once
#include <atomic>
#include <deque>
#include <vector>

#include "service/service.h"
#include "shard/shard_thread.h"

namespace workmill::service {

// The service of one of several I/O threads: the shard has a thread of its own, and requests and answers cross over by
// channel and mailbox. All calls on the I/O thread; the mailbox's wake-up makes that thread call collect().
class ChannelService final : public Service {
 public:
  // `port` is this thread's index, and `mailbox` the one that the shard's thread has for it. What is lent outlives the
  // service. `draining` is shared by all services of a server.
  ChannelService(shard::ShardThread& shard, shard::Port port, shard::Mailbox& mailbox, Clock const& clock,
                 std::atomic<bool> const& draining);

  void set_sink(AnswerSink* sink) override { sink_ = sink; }
  void set_parsed_at(std::chrono::nanoseconds at) override { parsed_at_ = at; }
  Result<> submit(Cookie cookie, Command command, Instant give_up_at, Allowed allowed = {}) override;
  void abandon(Cookie cookie) override;
  JobIdCodec const& ids() const override { return shard_.ids(); }
  Instant now() const override { return now_; }
  Hindrances hindrances() const override;
  bool streams_full() const override { return shard_.streams_full(); }
  Duration uptime() const override;
  cache::Cache* cache() override { return shard_.cache(); }
  flags::FlagSet const& flags() const override { return flags_.newest(shard_.flags()); }

  // Hands the answers that have come to the sink. Between two polls of the loop.
  void collect();

 private:
  shard::ShardThread& shard_;
  shard::Port const port_;
  shard::Mailbox& mailbox_;
  Clock const& clock_;
  std::atomic<bool> const& draining_;
  Instant started_at_;
  Instant now_;
  std::chrono::nanoseconds parsed_at_{};
  mutable shard::FlagReader flags_;
  AnswerSink* sink_ = nullptr;
  std::vector<Answer> answers_;
  std::deque<Cookie> unsent_;  // Abandoned, while the channel was full.
};

}  // namespace workmill::service
