#include <utility>

#include "shard/shard_loop.h"

// What a shard says of itself.
namespace workmill::shard {

StatusReply ShardLoop::status(bool with_queues) {
  auto const engine = engine_.status();
  auto const log = log_.status();
  StatusReply reply;
  reply.jobs = engine.jobs;
  reply.depth = engine.depth;
  reply.queue_count = engine.queues;
  reply.idempotency_keys = engine.idempotency_keys;
  reply.engine_memory_bytes = engine.memory_bytes;
  reply.turns = turns_;
  reply.commands = commands_;
  reply.given_up = given_up_;
  reply.decide_ns = decide_ns_;
  reply.flush_ns = flush_ns_;
  reply.flushes = flushes_;
  reply.read_ns = read_ns_;
  reply.flush_ms_typical = flush_ns_average_ / 1e6;
  reply.flush_on_writer_thread = on_writer_;
  reply.epoch = std::to_underlying(log.epoch);
  reply.segments = log.segments.size();
  for (auto const& segment : log.segments) reply.log_bytes += segment.bytes;
  reply.live_bytes = engine_.live_bytes() + (desk_ ? desk_->live_bytes() : 0);
  reply.disk_free_bytes = log.free_bytes;
  reply.copied_ahead_jobs = survivors_.figures().copied_jobs;
  reply.trimmed_segments = survivors_.figures().trimmed_segments;
  reply.recovered_batches = recovery_.replay.batches;
  reply.recovery_ms = static_cast<std::uint64_t>(recovery_.took.count());
  reply.recovery_cut_bytes = recovery_.replay.cut_bytes;
  reply.batches = engine.batches_in;
  reply.flags = engine.flags;
  reply.gated_jobs = engine.held_back;
  reply.bounds = {
      {.name = "idempotency_keys", .used = engine.idempotency_keys, .limit = engine_.options().idempotency_keys_max},
      {.name = "flags", .used = engine.flags, .limit = engine_.options().flags_max},
      // Those that are over give way: they keep nobody out.
      {.name = "batches",
       .used = engine.batches - engine.batches_in[static_cast<std::size_t>(BatchState::over)],
       .limit = engine_.options().batches_max},
      {.name = "batch_bytes", .used = engine.batch_bytes, .limit = engine_.options().batches_memory_max},
      {.name = "inbox", .used = inbox_.size() - inbox_done_, .limit = options_.inbox_max},
      {.name = "waiters", .used = waiters_.size(), .limit = options_.waiters_max},
      {.name = "streams", .used = streams_.attached(), .limit = options_.streams.streams_max},
      {.name = "stream_bytes", .used = streams_.window_used(), .limit = options_.streams.window_bytes_all},
      {.name = "unflushed_bytes", .used = unflushed_bytes_, .limit = options_.unflushed_bytes_max},
  };
  if (auto const most = jobs_memory_max_.load(std::memory_order_relaxed); most != 0) {
    reply.bounds.push_back({.name = "jobs_memory", .used = engine.jobs_bytes(), .limit = most});
  }
  if (desk_) fill_status_of_cache(reply);
  reply.streams_away = streams_.away();
  reply.stream_jobs_out = streams_.jobs_out();
  reply.job_stages.assign(engine_.job_stages().begin(), engine_.job_stages().end());
  reply.types = engine_.types();
  if (with_queues) {
    engine_.queue_views(reply.queues);
    sample_rates();
    for (QueueView& queue : reply.queues) rates_.fill(queue);
  }
  return reply;
}

}  // namespace workmill::shard
