#include "sim/setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>

#include "base/rng.h"
#include "shard/recovery.h"

namespace workmill::sim {

std::uint64_t chance_per_turn(Setup const& setup, std::uint64_t requests_per_event) {
  // A turn sends 0 to requests_per_turn_max, each as likely as the others.
  return requests_per_event == 0 ? 0 : setup.requests_per_turn_max * 500'000 / requests_per_event;
}

namespace {

void draw_cache(Setup& setup, Rng& chance) {
  auto const one_of = [&](std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(chance.below(values.size())));
  };
  CacheWorkload& callers = setup.cache_callers;
  callers.keys = static_cast<std::uint32_t>(one_of({0, 0, 1, 3, 6, 12, 40}));
  callers.uses_per_turn = static_cast<std::uint32_t>(1 + chance.below(setup.requests_per_turn_max));
  callers.body_bytes_max = one_of({10, 60, 60, 300, 1'500});
  callers.window_ms_max = static_cast<std::uint32_t>(one_of({0, 200, 3'000, 3'000, 60'000}));
  if (chance.chance(200)) callers.with_sets = 0;
  if (chance.chance(300)) {
    callers.volatile_keys = 1 + callers.keys / 2;
    setup.engine.cache_volatile = {std::string{kVolatilePrefix}};
  }
  setup.engine.cache_jitter_permille = static_cast<std::uint32_t>(one_of({0, 100, 100, 500}));
  setup.cache.stripes = static_cast<std::uint32_t>(one_of({1, 4, 64}));
  setup.cache.hash_seed = chance.next();
  setup.cache.memory_bytes = one_of({600, 3'000, 1 << 20, 1 << 20, 1 << 20});
  setup.cache.disk_bytes = one_of({800, 3'000, 1 << 20, 1 << 20, 1 << 20});
}

// How much of the cache a turn walks, sweeps and writes down as gone.
void draw_cache_desk(shard::CacheDeskOptions& desk, Rng chance) {
  auto const one_of = [&](std::initializer_list<std::size_t> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(chance.below(values.size())));
  };
  desk.looks_per_part = one_of({1, 4, desk.looks_per_part, desk.looks_per_part});
  desk.found_per_part = one_of({1, 3, desk.found_per_part, desk.found_per_part});
  desk.swept_per_turn = one_of({1, 10, desk.swept_per_turn, desk.swept_per_turn});
  desk.gone_bytes_min = one_of({1, desk.gone_bytes_min, desk.gone_bytes_min});
}

// What is read back from the disk is not in the system's memory: in half of the worlds. In some of them most values are
// on the disk only, and over after about as long as it takes to read them.
void draw_slow_disk(Setup& setup, Rng chance) {
  auto const one_of = [&](std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(chance.below(values.size())));
  };
  setup.log.slow_permille = static_cast<std::uint32_t>(one_of({0, 0, 500, 1'000}));
  setup.fetched_permille = static_cast<std::uint32_t>(one_of({30, 200, 700}));
  setup.fetches_max = one_of({1, 3, 1'024, 1'024});
  setup.hurried_permille = static_cast<std::uint32_t>(one_of({0, 100, 400}));
  bool const is_ordinary = !setup.cache_callers.refreshes_fail && setup.flights_permille < 500;
  if (setup.log.slow_permille == 0 || setup.cache_callers.keys == 0 || !is_ordinary || !chance.chance(500)) return;
  setup.cache_callers.keys = 12;
  setup.cache_callers.volatile_keys = std::min<std::uint32_t>(setup.cache_callers.volatile_keys, 4);
  setup.cache_callers.window_ms_max = static_cast<std::uint32_t>(one_of({200, 200, 1'000}));
  setup.cache.memory_bytes = 3'000;
  setup.cache.disk_bytes = 1 << 20;
  setup.tick_ms_max = std::max<std::uint32_t>(setup.tick_ms_max, 20);
}

// A few worlds in which bits turn under stale values, beside which it is remembered that they could not be refreshed.
void draw_failing_refreshes(Setup& setup, Rng chance) {
  if (setup.cache_callers.keys == 0 || setup.disk_bytes > 0 || !chance.chance(120)) return;
  CacheWorkload& callers = setup.cache_callers;
  callers.refreshes_fail = true;
  callers.keys = 20;
  setup.cache.memory_bytes = 1 << 20;
  if (chance.chance(500)) {  // Most of them are on disk only, among more segments than the log has blocks in memory.
    callers.keys = 8;
    callers.body_bytes_max = 1'500;
    setup.cache.memory_bytes = 4'000;
    setup.workload.backlog = 200;
    setup.workload.payload_bytes_max = 1'000;
  }
  callers.volatile_keys = 0;
  callers.with_sets = 0;
  callers.weights[static_cast<std::size_t>(CacheUse::put)] = 30;
  callers.weights[static_cast<std::size_t>(CacheUse::forget)] = 10;
  callers.weights[static_cast<std::size_t>(CacheUse::forget_by)] = 5;
  setup.engine.cache_volatile.clear();
  setup.cache.disk_bytes = 1 << 20;
  setup.log.segments.segment_bytes = 4096;
  setup.log.segments.recent_bytes = 0;  // What turns on the disk is read.
  setup.shard.survivors.slack_bytes = 2 * std::uint64_t{4096};
  setup.flip_permille = 30;
  setup.requests_per_turn_max = std::min<std::uint64_t>(setup.requests_per_turn_max, 8);
}

// A few worlds in which workers sit on their jobs, and bits turn under values that are being computed.
void draw_damaged_flights(Setup& setup, Rng chance) {
  CacheWorkload& callers = setup.cache_callers;
  if (callers.keys == 0 || callers.refreshes_fail || setup.disk_bytes > 0 || !chance.chance(120)) return;
  callers.keys = 30;
  callers.volatile_keys = 0;
  callers.window_ms_max = 200;
  callers.uses_per_turn = 8;
  callers.weights[static_cast<std::size_t>(CacheUse::blind)] = 250;
  callers.lease_max = std::chrono::minutes{10};
  callers.weights[static_cast<std::size_t>(CacheUse::put)] = 10;  // It would overtake them.
  callers.weights[static_cast<std::size_t>(CacheUse::forget)] = 5;
  callers.weights[static_cast<std::size_t>(CacheUse::forget_by)] = 2;
  setup.engine.cache_volatile.clear();
  WorkloadOptions& work = setup.workload;
  work.weights[static_cast<std::size_t>(Action::report)] = 60;
  // Segments go one after the other, each soon, and are more than the log has blocks in memory.
  work.backlog = 60;
  work.payload_bytes_max = 1'000;
  setup.engine.finished_kept_per_queue = 5;
  setup.log.segments.segment_bytes = 4096;
  setup.log.segments.recent_bytes = 0;
  setup.log.segments.durability = log::Durability::sync;
  setup.shard.commands_per_turn = 8'192;
  setup.shard.survivors.slack_bytes = 2 * std::uint64_t{4096};
  setup.shard.survivors.scan_bytes_per_step = 4'000;
  setup.shard.survivors.copy_bytes_per_step = 2'000;
  setup.requests_per_turn_max = 8;
  setup.requests_per_death = 5'000;
  setup.requests_per_fault = 0;
  setup.tick_ms_max = 20;
  setup.flip_permille = 150;
  setup.flights_permille = 900;
}

// Who uses flags, and whether the jobs of a type come one after the other.
void draw_flags(Setup& setup, Rng chance) {
  auto const one_of = [&](std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(chance.below(values.size())));
  };
  FlagWorkload& callers = setup.flag_callers;
  callers.keys = static_cast<std::uint32_t>(one_of({0, 0, 1, 2, 5}));
  callers.turns_permille = static_cast<std::uint32_t>(one_of({20, 100, 300}));
  callers.gates = static_cast<std::uint32_t>(one_of({0, 500, 900}));
  callers.open = static_cast<std::uint32_t>(one_of({300, 600, 800}));
  callers.definition_bytes = one_of({0, 0, 0, 100, 1'000});
  setup.engine.flags_max = one_of({1, 3, 1'000, 1'000});
  if (setup.disk_bytes > 0) {  // All that is kept of a flag stays on the disk.
    callers.keys = std::min<std::uint32_t>(callers.keys, 1);
    callers.definition_bytes = 0;
  } else if (chance.chance(60)) {
    callers.keys = 1;
    callers.definition_bytes = 15'000;
  }
  callers.weights[static_cast<std::size_t>(FlagUse::remove)] = static_cast<std::uint32_t>(one_of({0, 10, 60}));
  if (callers.keys == 0 || !chance.chance(400)) return;
  WorkloadOptions& work = setup.workload;
  work.type_run = static_cast<std::uint32_t>(one_of({5, 100, 100, 150}));
  if (work.type_run == 5) return;
  // One long line in which very many of a closed type stand behind each other.
  callers.gates = 900;
  work.queues = setup.streams.queues = 1;
  work.groups = work.priority = 0;
  work.backlog = std::max<std::uint64_t>(work.backlog, 300);
}

// Who uses batches.
void draw_batches(Setup& setup, Rng chance) {
  auto const one_of = [&](std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(chance.below(values.size())));
  };
  BatchWorkload& callers = setup.batch_callers;
  callers.ids = static_cast<std::uint32_t>(one_of({0, 0, 2, 4, 8}));
  callers.turns_permille = static_cast<std::uint32_t>(one_of({50, 200, 500}));
  callers.unnamed = static_cast<std::uint32_t>(one_of({0, 250, 600}));
  callers.keep_result = static_cast<std::uint32_t>(one_of({0, 300, 800}));
  callers.queues = setup.workload.queues;
  callers.backlog = setup.workload.backlog;
  callers.weights[static_cast<std::size_t>(BatchUse::forget)] = static_cast<std::uint32_t>(one_of({0, 12, 60}));
  callers.weights[static_cast<std::size_t>(BatchUse::remove)] = static_cast<std::uint32_t>(one_of({0, 10, 40}));
  setup.engine.batches_max = static_cast<std::uint32_t>(one_of({1, 3, 10, 100'000, 100'000}));
  setup.engine.batch_kept = Duration{static_cast<Duration::rep>(one_of({0, 1, 1'000, 60'000, 86'400'000}))};
  if (setup.disk_bytes == 0) return;
  callers.ids = std::min<std::uint32_t>(callers.ids, 2);  // All that is kept of them stays on the disk.
  callers.batches = 3;
}

}  // namespace

Setup draw_setup(std::uint64_t seed) {
  Rng chance{mix64(seed ^ 0x5e70b)};
  auto const below = [&](std::uint64_t n) { return chance.below(n); };
  auto const one_of = [&](std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(chance.below(values.size())));
  };
  Setup setup;
  auto const segment = static_cast<std::uint32_t>(one_of({4096, 4096, 8192, 16384, 65536}));
  setup.log.segments.segment_bytes = segment;
  setup.log.segments.recent_bytes = static_cast<std::size_t>(one_of({0, 2'000, 20'000, 1 << 20}));
  setup.log.segments.log_id = chance.next();
  if (chance.chance(300)) setup.log.slow_flush_max = Duration{static_cast<Duration::rep>(1 + below(500))};

  setup.engine.finished_kept_per_queue = static_cast<std::uint32_t>(one_of({0, 1, 5, 30, 30, 100}));
  setup.engine.dead_kept = Duration{static_cast<Duration::rep>(one_of({1'000, 60'000, 3'600'000}))};
  setup.engine.idempotency_keys_max = static_cast<std::uint32_t>(one_of({1, 10, 50, 1'000'000}));
  setup.engine.steps_max = static_cast<std::uint32_t>(one_of({1, 2, 5, 50, 1'000, 1'000, 1'000}));

  using shard::FlushBy;
  setup.shard.flush_by = std::array{FlushBy::turn, FlushBy::turn, FlushBy::writer, FlushBy::adaptive}[below(4)];
  setup.shard.unflushed_bytes_max = one_of({500, 64 << 20, 64 << 20});
  setup.shard.inbox_max = one_of({4, 65'536});
  setup.shard.waiters_max = one_of({0, 2, 65'536, 65'536});
  setup.shard.commands_per_turn = one_of({1, 3, 8'192, 8'192});
  setup.shard.disk_reserve_bytes = 0;
  setup.shard.survivors.used_to_live_max = 2.5;
  setup.shard.survivors.slack_bytes = 2 * std::uint64_t{segment};
  setup.shard.survivors.scan_bytes_per_step = one_of({1, 500, 4'000, 1 << 20});
  setup.shard.survivors.copy_bytes_per_step = one_of({1, 200, 2'000, 256 << 10});

  WorkloadOptions& work = setup.workload;
  //               one  bulk rep lease report stale get log list canc retry rm patch bulk lq gq pq purge status
  work.weights = {240, 40, 25, 250, 260, 30, 20, 6, 6, 15, 12, 8, 20, 2, 3, 5, 6, 1, 2};
  for (std::uint32_t& weight : work.weights) {
    if (chance.chance(150)) weight = static_cast<std::uint32_t>(weight * below(4));
  }
  work.weights[static_cast<std::size_t>(Action::enqueue_one)] += 50;
  work.weights[static_cast<std::size_t>(Action::lease)] += 100;
  work.weights[static_cast<std::size_t>(Action::report)] += 100;
  work.queues = static_cast<std::uint32_t>(1 + below(5));
  work.groups = static_cast<std::uint32_t>(one_of({0, 1, 4, 12}));
  work.workers = static_cast<std::uint32_t>(1 + below(20));
  work.backlog = one_of({5, 20, 60, 60, 200});
  work.bulk_max = static_cast<std::uint32_t>(one_of({3, 10, 40}));
  work.payload_bytes_max = one_of({10, 60, 60, 300, 3'000});
  for (std::uint32_t* share : {&work.delay, &work.expiry, &work.id, &work.key, &work.group, &work.priority,
                               &work.retries, &work.keep, &work.idempotent, &work.vanish}) {
    if (chance.chance(250)) *share = 0;
  }
  setup.requests_per_turn_max = one_of({1, 4, 8, 16, 40});
  // A restart costs as much as hundreds of requests, the more the larger the segments: in most worlds it is rare, and
  // in a few there is little else.
  bool const is_small = segment <= 8192;
  setup.requests_per_death = is_small ? one_of({120, 1'500, 3'000, 5'000}) : one_of({1'500, 3'000, 5'000});
  setup.requests_per_fault = is_small ? one_of({0, 0, 500, 2'000, 5'000}) : one_of({0, 0, 2'000, 5'000});
  setup.recovery_fault_permille = static_cast<std::uint32_t>(one_of({0, 200, 500}));
  setup.clock_back_permille = static_cast<std::uint32_t>(one_of({0, 2, 2, 20}));
  setup.jump_permille = static_cast<std::uint32_t>(one_of({0, 2, 10}));
  setup.tick_ms_max = static_cast<std::uint32_t>(one_of({0, 1, 20, 20, 200}));
  setup.flip_permille = static_cast<std::uint32_t>(one_of({0, 0, 2, 10}));
  if (setup.flip_permille > 0)
    setup.log.segments.recent_bytes = one_of({0, 0, 2'000});  // What turns on the disk is read.
  if (chance.chance(150)) {  // A disk that gets full: more jobs, and larger, than it can hold.
    setup.log.segments.segment_bytes = 4096;
    setup.shard.survivors.slack_bytes = 2 * 4096;
    setup.disk_bytes = std::uint64_t{4096} * (12 + below(20));
    setup.shard.disk_reserve_bytes = std::uint64_t{4096} * one_of({0, 3, 6});
    work.backlog = 400;
    work.payload_bytes_max = one_of({300, 1'000});
  }
  if (chance.chance(200)) {
    setup.log.segments.durability = chance.chance(600) ? log::Durability::interval : log::Durability::os;
    setup.log.segments.sync_interval = Duration{static_cast<Duration::rep>(one_of({1, 10, 50, 500}))};
    setup.log.segments.synced_elsewhere = chance.chance(500);
  }
  setup.streams.workers = static_cast<std::uint32_t>(one_of({0, 0, 1, 3, 10}));
  setup.streams.queues = work.queues;
  setup.streams.credit_max = static_cast<std::uint32_t>(one_of({1, 3, 8, 8, 40}));
  shard::StreamOptions& streams = setup.shard.streams;
  streams.reconnect_within = Duration{static_cast<Duration::rep>(one_of({1, 20, 300, 300, 5'000}))};
  streams.streams_max = static_cast<std::uint32_t>(one_of({1, 4, 16'384, 16'384}));
  streams.window_bytes = one_of({500, 2'000, 1 << 20, 1 << 20});
  streams.window_bytes_all = one_of({1'000, 5'000, 256 << 20, 256 << 20});
  draw_cache(setup, chance);
  draw_cache_desk(setup.shard.cache_desk, Rng{mix64(seed ^ 0xde5c)});  // Apart, so that all else stays as it was.
  draw_flags(setup, Rng{mix64(seed ^ 0xf1a6)});
  draw_failing_refreshes(setup, Rng{mix64(seed ^ 0xfa11)});
  draw_batches(setup, Rng{mix64(seed ^ 0xba7c4)});
  draw_damaged_flights(setup, Rng{mix64(seed ^ 0xf117)});
  draw_slow_disk(setup, Rng{mix64(seed ^ 0x510f)});
  shard::bound_cached_values(setup.cache, setup.engine);  // Last: by now the budgets are what they will be.
  return setup;
}

std::string describe(Setup const& setup) {
  return fmt::format(
      "segments of {}, {} recent bytes, {} finished kept, {} answers kept, {} steps, {} commands a turn, {} waiters, "
      "scans {}, copies {}, {} queues, {} groups, {} workers, {} jobs, payloads of {}, {} requests a turn, a death in "
      "{}, "
      "a fault in {}, disk of {}, flushes by {}, durability {}, {} workers with streams, {} cached keys, {} of them "
      "volatile, "
      "in {} bytes of memory and {} on disk, of which a turn walks {}, finds {}, sweeps {} and writes {} bytes of what "
      "is "
      "gone, {} flags of {} in all, types in runs of {}, {} batches of {} in all, kept for {} ms, {} permille of the "
      "disk "
      "slow",
      setup.log.segments.segment_bytes, setup.log.segments.recent_bytes, setup.engine.finished_kept_per_queue,
      setup.engine.idempotency_keys_max, setup.engine.steps_max, setup.shard.commands_per_turn, setup.shard.waiters_max,
      setup.shard.survivors.scan_bytes_per_step, setup.shard.survivors.copy_bytes_per_step, setup.workload.queues,
      setup.workload.groups, setup.workload.workers, setup.workload.backlog, setup.workload.payload_bytes_max,
      setup.requests_per_turn_max, setup.requests_per_death, setup.requests_per_fault, setup.disk_bytes,
      static_cast<int>(setup.shard.flush_by), static_cast<int>(setup.log.segments.durability), setup.streams.workers,
      setup.cache_callers.keys, setup.cache_callers.volatile_keys, setup.cache.memory_bytes, setup.cache.disk_bytes,
      setup.shard.cache_desk.looks_per_part, setup.shard.cache_desk.found_per_part,
      setup.shard.cache_desk.swept_per_turn, setup.shard.cache_desk.gone_bytes_min, setup.flag_callers.keys,
      setup.engine.flags_max, setup.workload.type_run, setup.batch_callers.ids, setup.engine.batches_max,
      setup.engine.batch_kept.count(), setup.log.slow_permille);
}

}  // namespace workmill::sim
