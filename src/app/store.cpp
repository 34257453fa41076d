#include "app/store.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>

#include "app/terminal.h"
#include "log/file/file_log.h"

namespace workmill::app {
namespace {

constexpr std::chrono::seconds kNotifyEvery{1};
// What the service manager is asked for, each time that the recovery has come further: it is given up only when it
// stands still for so long.
constexpr std::chrono::seconds kPatience{60};

// Says how far the recovery has come: a line in the log each second, or one on a terminal that is written over.
class RecoveryProgress {
 public:
  RecoveryProgress(Clock const& clock, telemetry::Logger& logger, ServiceManager const& manager)
      : clock_(clock), logger_(logger), manager_(manager), started_(clock.now()), next_(started_ + kNotifyEvery) {}

  void operator()(std::uint64_t done, std::uint64_t total) {
    Instant const now = clock_.now();
    if (line_.is_due(now)) {
      line_.show(progress_line("recovering (bytes)", done, total, now - started_, terminal_width(stderr)), now);
    }
    if (now < next_) return;
    next_ = now + kNotifyEvery;
    manager_.extend(kPatience, fmt::format("recovering: {} of {} MiB of the log read", done >> 20, total >> 20));
    if (!line_.enabled()) logger_.info("recovering", {{"done_bytes", done}, {"total_bytes", total}});
  }

 private:
  Clock const& clock_;
  telemetry::Logger& logger_;
  ServiceManager const& manager_;
  Instant const started_;
  Instant next_;
  ProgressLine line_;
};

}  // namespace

Result<Store> open_store(Config const& config, Clock const& clock, Rng& chance, telemetry::Logger& root,
                         ServiceManager const& manager) {
  telemetry::Logger& logger = root.of(telemetry::LogComponent::shard);
  Store store;
  log::FileLogOptions options;
  options.folder = config.data;
  options.segment_bytes = static_cast<std::uint32_t>(config.segment_bytes);
  options.durability = config.durability;
  options.sync_interval = config.sync_interval;
  WM_TRY(store.log, log::open_file_log(options));

  engine::EngineOptions engine_options;
  engine_options.finished_kept_per_queue = config.finished_kept;
  engine_options.idempotency_keys_max = config.idempotency_keys_max;
  engine_options.batches_max = config.batches_max;
  engine_options.batches_memory_max = config.batches_memory_max;
  engine_options.batch_kept = config.batch_keep;
  engine_options.measures_jobs = config.telemetry;
  engine_options.cache_jitter_permille = static_cast<std::uint32_t>(std::lround(config.cache_jitter * 1'000));
  engine_options.cache_volatile = config.cache_volatile;
  cache::CacheOptions const cache_options{
      .memory_bytes = config.cache_memory_bytes, .disk_bytes = config.cache_disk_bytes, .hash_seed = chance.next()};
  shard::bound_cached_values(cache_options, engine_options);
  store.engine = std::make_unique<engine::Engine>(engine_options);
  store.cache = std::make_unique<cache::Cache>(cache_options);
  RecoveryProgress progress{clock, logger, manager};
  WM_TRY(store.recovery,
         shard::recover(*store.log, *store.engine, clock, chance, std::ref(progress), store.cache.get()));

  auto const& replay = store.recovery.replay;
  if (replay.cut_at) {
    root.of(telemetry::LogComponent::log)
        .warn(
            "a torn tail was cut off: the last write before the end was not finished, and nobody was told that it was",
            {{"file", replay.cut_file},
             {"segment", replay.cut_at.segment},
             {"offset", replay.cut_at.offset},
             {"cut_bytes", replay.cut_bytes}});
  }
  logger.info(store.recovery.created ? "created" : "recovered", {{"data", config.data},
                                                                 {"jobs", store.engine->status().jobs},
                                                                 {"cached", store.cache->figures().entries},
                                                                 {"batches", replay.batches},
                                                                 {"log_bytes", replay.bytes},
                                                                 {"down_ms", store.recovery.down.count()},
                                                                 {"took_ms", store.recovery.took.count()},
                                                                 {"epoch", std::to_underlying(store.recovery.epoch)}});
  return store;
}

}  // namespace workmill::app
