#include "shard/recovery.h"

#include <algorithm>
#include <optional>

#include "log/record.h"
#include "shard/batch.h"

namespace workmill::shard {

void bound_cached_values(cache::CacheOptions const& cache, engine::EngineOptions& engine) {
  engine.cache_record_bytes_max = cache.disk_bytes;
  engine.cache_volatile_bytes_max = cache::value_bytes_max(cache.memory_bytes);
}

Result<RecoveryReport> recover(log::Log& log, engine::Engine& engine, Clock const& clock, Rng& chance,
                               std::function<void(std::uint64_t, std::uint64_t)> const& on_progress,
                               cache::Cache* cache) {
  auto const started = clock.monotonic();
  std::optional<CacheReplay> cached;
  if (cache != nullptr) cached.emplace(*cache, engine.options().cache_volatile, clock.now());
  RecoveryReport report;
  auto replayed = log.replay(
      [&engine, &cached](log::ReplayedBatch const& batch) {
        return log::for_each_record(batch.payload,
                                    [&](Effect const& effect, std::uint32_t offset, std::uint32_t bytes) -> Result<> {
                                      Position const at{batch.base.segment, batch.base.offset + offset};
                                      if (cached) cached->replay(effect, {.at = at, .bytes = bytes});
                                      return engine.replay(effect, {.at = at, .bytes = bytes}, batch.at);
                                    });
      },
      on_progress);
  if (!replayed) return std::unexpected(with_context(std::move(replayed).error(), "replaying the log"));
  report.replay = *replayed;
  if (cached) cached->finish();

  WM_TRY(report.epoch, log.own());
  // A clock that was set back must not take the engine back in time.
  Instant const now = std::max(clock.now(), report.replay.last_batch_at);
  engine.finish_replay(now);
  report.created = report.replay.batches == 0;
  report.down = report.created ? Duration{0} : now - report.replay.last_batch_at;

  Batch batch;
  batch.begin(log.next_base());
  if (report.created) {
    engine.create_store(chance.next(), batch);
  } else {
    engine.begin_batch(batch.base(), batch);
    engine.resume(report.down, {.now = now, .chance = chance.next()}, batch);
  }
  if (!batch.empty()) {
    log.stage(batch.payload(), now);
    WM_TRY_VOID(log.flush());
  }
  report.took = std::chrono::duration_cast<Duration>(clock.monotonic() - started);
  return report;
}

}  // namespace workmill::shard
