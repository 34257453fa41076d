#include "sim/simulator.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <span>
#include <string>

#include "sim/scenarios/next_year.h"

// Long runs are for wm_simulate. Here: every seed that once found something, and a fixed few more.
namespace workmill::sim {
namespace {

// A few seconds' worth, however the test is built.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WM_SIM_SANITIZED 1
#endif
#endif
#if defined(WM_SIM_SANITIZED)
constexpr std::uint64_t kSeeds = 15;
#elif defined(__OPTIMIZE__)
constexpr std::uint64_t kSeeds = 150;
#else
constexpr std::uint64_t kSeeds = 30;
#endif
constexpr std::uint64_t kOperations = 5'000;

void expect_right(std::uint64_t seed) {
  SimResult const result = Simulator{{.seed = seed, .operations = kOperations}}.run();
  EXPECT_TRUE(result.ok) << result.complaint << "\nreplay: wm_simulate --seed " << seed << " --operations "
                         << kOperations << " --trace";
}

TEST(Simulation, SeedsThatFoundSomethingFindNothingMore) {
  std::ifstream file{std::string(WM_SOURCE_DIR) + "/sim/seeds.txt"};
  ASSERT_TRUE(file);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') expect_right(std::strtoull(line.c_str(), nullptr, 10));
  }
}

TEST(Simulation, OtherSeedsFindNothing) {
  for (std::uint64_t seed = 1'000; seed < 1'000 + kSeeds; ++seed) expect_right(seed);
}

TEST(Simulation, TheSameSeedGoesTheSameWay) {
  auto const first = Simulator{{.seed = 5, .operations = kOperations}}.run();
  auto const again = Simulator{{.seed = 5, .operations = kOperations}}.run();

  EXPECT_EQ(first.figures.counts, again.figures.counts);
}

TEST(Simulation, JobsForNextYearUnderAChurnOfShortOnesTakeWhatTheyTakeWhateverTheHistory) {
  // A turn may write more than a step scans: were steps no larger then, the log would stay beyond its bound.
  NextYearOptions const options{
      .scheduled = 2'000,
      .rounds = 6,
      .short_jobs_per_round = 10'000,
      .survivors = {.scan_bytes_per_step = 2'000, .copy_bytes_per_step = 500},
  };

  auto const rounds = run_next_year(options);

  ASSERT_EQ(rounds.size(), options.rounds);
  EXPECT_GT(rounds.back().copied_jobs, 2 * options.scheduled) << "else this tests nothing";
  for (NextYearRound const& round : std::span{rounds}.subspan(1)) {  // The first begins with no garbage to drop.
    EXPECT_LE(round.beyond_max, 4 * std::uint64_t{options.segment_bytes})
        << "after " << round.short_jobs << " short jobs";
  }
}

// Those that end in an assertion are proven by `wm_simulate --mutations`, each in a process of its own.
TEST(Simulation, ABrokenServerIsCaught) {
  for (Mutation const mutation : {Mutation::acknowledges_before_flush, Mutation::replay_skips_extensions,
                                  Mutation::forgets_fencing, Mutation::answers_twice, Mutation::ignores_pause}) {
    bool is_caught = false;
    for (std::uint64_t seed = 1; seed < 60 && !is_caught; ++seed) {
      is_caught = !Simulator{{.seed = seed, .operations = kOperations, .mutation = mutation}}.run().ok;
    }
    EXPECT_TRUE(is_caught) << static_cast<int>(mutation);
  }
}

}  // namespace
}  // namespace workmill::sim
