#pragma once
#include <vector>

#include "service/service.h"
#include "shard/shard_loop.h"

namespace workmill::service {

// The service of a single I/O thread that turns the shard itself: nothing changes threads between a request's bytes
// and its answer. All calls on that thread.
class InlineService final : public Service {
 public:
  // `loop` has one port. What is lent outlives the service.
  InlineService(shard::ShardLoop& loop, Clock const& clock);

  void set_sink(AnswerSink* sink) override { sink_ = sink; }
  void set_parsed_at(std::chrono::nanoseconds at) override { parsed_at_ = at; }
  Result<> submit(Cookie cookie, Command command, Instant give_up_at, Allowed allowed = {}) override;
  void abandon(Cookie cookie) override;
  JobIdCodec const& ids() const override { return loop_.ids(); }
  Instant now() const override { return now_; }
  Hindrances hindrances() const override;
  bool streams_full() const override { return loop_.streams_full(); }
  Duration uptime() const override;
  cache::Cache* cache() override { return loop_.cache(); }
  flags::FlagSet const& flags() const override { return flags_.newest(loop_.flags()); }

  // A turn of the shard, between two polls of the loop. Answers how long the loop may sleep. An error is final: the
  // process must end (see ShardLoop::turn).
  Result<Duration> turn();
  // What the newest turn said of itself: for whoever turns it and wants to know more than how long to sleep.
  shard::Turn const& newest_turn() const { return newest_turn_; }
  void drain();
  bool idle() const { return loop_.idle(); }

 private:
  static constexpr Duration kSleepMax = std::chrono::seconds{1};

  shard::ShardLoop& loop_;
  Clock const& clock_;
  Instant started_at_;
  Instant now_;
  std::chrono::nanoseconds parsed_at_{};
  mutable shard::FlagReader flags_;
  AnswerSink* sink_ = nullptr;
  std::vector<Answer> answers_;
  shard::Turn newest_turn_;
  bool draining_ = false;
};

}  // namespace workmill::service
