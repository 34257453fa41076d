#pragma once
#include <cstdint>
#include <string>

#include "cache/cache.h"
#include "engine/engine.h"
#include "shard/shard_loop.h"
#include "sim/faulty_log.h"
#include "sim/workloads/batch_callers.h"
#include "sim/workloads/cache_callers.h"
#include "sim/workloads/clients.h"
#include "sim/workloads/flag_callers.h"
#include "sim/workloads/stream_workers.h"

namespace workmill::sim {

// What a run can leave out, so that a finding is seen with as little as it needs. Each draws its own chances.
enum class Without : std::uint32_t {
  deaths = 1,       // Of the process between turns.
  disk_faults = 2,  // Writes and syncs that fail.
  jumps = 4,        // Of the clock, either way.
  flips = 8,        // Of bits.
  writer = 16,      // Flushes on the writer thread.
  slow_flush = 32,
  streams = 64,   // Workers with streams.
  cache = 128,    // Those who use the cache.
  flags = 256,    // Those who use feature flags.
  batches = 512,  // Those who use batches.
};
inline constexpr std::size_t kWithouts = 10;
inline constexpr std::size_t kWithoutActionsFrom = 10;  // A bit for each Action.

// How one run is set up: drawn from the seed, so that rare paths are common in some runs (small segments, tiny
// channels, steps of one) and whole features are missing in others.
struct Setup {
  FaultyLogOptions log;
  engine::EngineOptions engine;
  shard::ShardOptions shard;
  WorkloadOptions workload;
  StreamWorkload streams;
  cache::CacheOptions cache;
  CacheWorkload cache_callers;
  FlagWorkload flag_callers;
  BatchWorkload batch_callers;
  std::uint64_t requests_per_turn_max = 8;
  // How often the process dies, and how often the disk is told to fail, which ends it too: once in so many requests, or
  // never (0). By requests, as a world with few in a turn would else do little but restart.
  std::uint64_t requests_per_death = 2'000;
  std::uint64_t requests_per_fault = 2'000;
  std::uint32_t recovery_fault_permille = 300;
  std::uint32_t jump_permille = 5;        // Turns before which hours go by.
  std::uint32_t clock_back_permille = 2;  // Turns before which the clock is set back.
  std::uint32_t tick_ms_max = 20;
  std::uint32_t flip_permille = 0;      // Turns before which a bit turns on the disk.
  std::uint32_t flights_permille = 50;  // Of these: under a value's computation, while it goes on.
  std::uint64_t disk_bytes = 0;         // Room on the disk; 0: enough.
  // Where the disk is slow (log.slow_permille): steps of the fetching thread at which it is done with one, so many that
  // may wait for it, and callers of the cache whose time is bounded.
  std::uint32_t fetched_permille = 1'000;
  std::size_t fetches_max = 1'024;
  std::uint32_t hurried_permille = 0;
};
// In millionths: the chance in each turn of what comes once in so many requests.
std::uint64_t chance_per_turn(Setup const& setup, std::uint64_t requests_per_event);
Setup draw_setup(std::uint64_t seed);
std::string describe(Setup const& setup);

}  // namespace workmill::sim
