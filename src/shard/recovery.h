#pragma once
#include <cstdint>
#include <functional>

#include "base/error.h"
#include "base/rng.h"
#include "base/time.h"
#include "engine/engine.h"
#include "log/log.h"
#include "shard/cache_replay.h"

// How a shard comes to life: the log is replayed into a fresh engine, and owned under a new epoch.
namespace workmill::shard {

struct RecoveryReport {
  log::ReplayReport replay;
  Epoch epoch{};
  bool created = false;  // The log was new.
  Duration down{};       // Between the last batch and now: what leases are lengthened by.
  Duration took{};
};

// What such a cache can hold at all, for the engine that decides what is stored in it.
void bound_cached_values(cache::CacheOptions const& cache, engine::EngineOptions& engine);

// Replays all of `log` into `engine`, which is fresh, takes ownership, and writes (durably) that a store was created
// or that the server has resumed. `chance` seeds what a new store keeps for good. Progress in bytes, may be empty.
// `cache`: where there is one, the index that is filled; its keys that `engine` has as volatile stay out.
// Errors: what the log's replay, own and flush say.
Result<RecoveryReport> recover(log::Log& log, engine::Engine& engine, Clock const& clock, Rng& chance,
                               std::function<void(std::uint64_t done, std::uint64_t total)> const& on_progress,
                               cache::Cache* cache = nullptr);

}  // namespace workmill::shard
