#pragma once
#include <cstdint>
#include <vector>

#include "shard/survivors.h"

// Many jobs scheduled for next year, under a churn of short ones: what lives is all of the first and next to none of
// the second, and every segment that goes has some of the first to copy. What the log takes must follow what lives, and
// not the history.
namespace workmill::sim {

struct NextYearOptions {
  std::uint64_t scheduled = 20'000;
  std::uint64_t rounds = 10;
  std::uint64_t short_jobs_per_round = 100'000;
  std::uint32_t segment_bytes = 64 * 1024;
  shard::SurvivorOptions survivors{};  // But for the slack, which is two segments.
};

struct NextYearRound {
  std::uint64_t short_jobs = 0;  // So far.
  std::uint64_t live_bytes = 0;
  std::uint64_t used_bytes_max = 0;  // The most in this round,
  std::uint64_t beyond_max = 0;      // and the most beyond 2.5 times what lived then.
  std::uint64_t copied_jobs = 0;     // So far.
};

// One entry a round; empty where the shard gave up.
std::vector<NextYearRound> run_next_year(NextYearOptions const& options);

// Runs it and prints a table. False: more was used than 2.5 times what lives, two segments, the one being written
// and one on its way out.
bool print_next_year();

}  // namespace workmill::sim
