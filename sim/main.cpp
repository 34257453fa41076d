#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/simulator.h"

// wm_simulate: runs the simulation. Exit codes: 0 all is well, 1 a rule was broken (or a mutation was not caught).
namespace workmill::sim {
namespace {

struct Arguments {
  std::uint64_t seed = 0;
  std::uint64_t seeds = 0;
  std::uint64_t seconds = 0;
  std::uint64_t operations = 20'000;
  std::string seed_file;
  std::string mutation;
  bool mutations = false;
  bool trace = false;
};

constexpr std::string_view kUsage =
    R"(usage: wm_simulate [--seed N] [--seeds COUNT | --seconds S] [--operations N] [--seed-file FILE] [--trace]
       wm_simulate --mutations [--mutation NAME] [--seeds COUNT]
The server but its sockets in a made-up world, from a seed.
  --seed N          the first seed; without --seeds and --seconds the only one
  --seeds COUNT     so many seeds from there on
  --seconds S       fresh seeds for so long
  --operations N    requests in each run, 20000 by default
  --seed-file FILE  first the seeds in this file, one a line
  --mutation NAME   break the server in this way
  --mutations       prove the simulator: break the server in every way it knows
  --trace           say on standard error what happens
)";

std::optional<Arguments> parse(std::vector<std::string> const& words) {
  Arguments arguments;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string const& word = words[i];
    if (word == "--mutations") {
      arguments.mutations = true;
      continue;
    }
    if (word == "--trace") {
      arguments.trace = true;
      continue;
    }
    if (++i == words.size()) return std::nullopt;
    std::string const& value = words[i];
    if (word == "--mutation" || word == "--seed-file") {
      (word == "--mutation" ? arguments.mutation : arguments.seed_file) = value;
      continue;
    }
    std::uint64_t number = 0;
    auto const [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc{} || end != value.data() + value.size()) return std::nullopt;
    if (word == "--seed")
      arguments.seed = number;
    else if (word == "--seeds")
      arguments.seeds = number;
    else if (word == "--seconds")
      arguments.seconds = number;
    else if (word == "--operations")
      arguments.operations = number;
    else
      return std::nullopt;
  }
  return arguments;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// What an abort prints: an assertion of ours that failed knows no seed.
std::string& replay_line() {
  static std::string line;
  return line;
}

void on_abort(int) {
  std::string const& line = replay_line();
  (void)!write(STDERR_FILENO, line.data(), line.size());
}

std::string line_for(SimOptions const& options, std::string_view mutation) {
  std::string line = fmt::format("wm_simulate --seed {} --operations {}", options.seed, options.operations);
  if (!mutation.empty()) line += fmt::format(" --mutation {}", mutation);
  return line;
}

SimResult run_one(SimOptions const& options, std::string_view mutation) {
  replay_line() = fmt::format("replay: {} --trace\n", line_for(options, mutation));
  Simulator simulator{options};
  SimResult result = simulator.run();
  if (!result.ok) {
    fmt::print(stderr, "FAILED: {}\nreplay: {} --trace 2>&1 | tail -40\n", result.complaint,
               line_for(options, mutation));
  }
  return result;
}

void print_figures(Figures const& figures, double seconds, std::uint64_t seeds) {
  for (std::size_t i = 0; i < kFigures; ++i) fmt::print("{:>14}  {}\n", figures.counts[i], kFigureNames[i]);
  fmt::print("{} seeds, {} operations, {} restarts in {:.1f} s: {:.0f} operations/s\n", seeds,
             figures[Figure::operations], figures[Figure::restarts], seconds,
             static_cast<double>(figures[Figure::operations]) / seconds);
}

// Each in a process of its own, since some of them end in an assertion: that is to be caught, too.
int prove_mutations(Arguments const& arguments) {
  int missed = 0;
  for (MutationText const& mutation : kMutations) {
    if (!arguments.mutation.empty() && arguments.mutation != mutation.name) continue;
    double const began = seconds_now();
    std::uint64_t const seeds = arguments.seeds == 0 ? 300 : arguments.seeds;
    std::string how;
    std::uint64_t seed = 1;
    for (; seed <= seeds && how.empty(); ++seed) {
      int channel[2];
      if (pipe(channel) != 0) return 1;
      pid_t const child = fork();
      if (child == 0) {
        close(channel[0]);
        dup2(channel[1], STDERR_FILENO);
        Simulator simulator{{.seed = seed, .operations = arguments.operations, .mutation = mutation.mutation}};
        SimResult const result = simulator.run();
        if (!result.ok) (void)!write(channel[1], result.complaint.data(), result.complaint.size());
        _exit(result.ok ? 0 : 1);
      }
      close(channel[1]);
      char buffer[512];
      std::string said;
      for (ssize_t got = 0; (got = read(channel[0], buffer, sizeof buffer)) > 0;) {
        said.append(buffer, static_cast<std::size_t>(got));
      }
      close(channel[0]);
      int status = 0;
      waitpid(child, &status, 0);
      if (status != 0) how = said.substr(0, said.find('\n'));
    }
    missed += how.empty() ? 1 : 0;
    fmt::print("{:<30} {:>6.2f} s, {:>3} seeds  {}\n", mutation.name, seconds_now() - began, seed - 1,
               how.empty() ? "NOT CAUGHT" : how);
    std::fflush(stdout);
  }
  return missed == 0 ? 0 : 1;
}

int run(Arguments const& arguments) {
  if (arguments.mutations) return prove_mutations(arguments);
  SimOptions options{.operations = arguments.operations, .trace = arguments.trace};
  if (!arguments.mutation.empty()) {
    auto const mutation = parse_mutation(arguments.mutation);
    if (!mutation) {
      fmt::print(stderr, "there is no mutation {}\n", arguments.mutation);
      return 2;
    }
    options.mutation = *mutation;
  }
  double const began = seconds_now();
  Figures total;
  std::uint64_t done = 0;
  auto const go = [&](std::uint64_t seed) {
    options.seed = seed;
    SimResult const result = run_one(options, arguments.mutation);
    total.add(result.figures);
    ++done;
    return result.ok;
  };
  bool ok = true;
  if (!arguments.seed_file.empty()) {
    std::ifstream file{arguments.seed_file};
    if (!file) {
      fmt::print(stderr, "cannot read {}\n", arguments.seed_file);
      return 2;
    }
    for (std::string line; std::getline(file, line);) {
      if (!line.empty() && line[0] != '#') ok = go(std::strtoull(line.c_str(), nullptr, 10)) && ok;
    }
  }
  if (arguments.seed != 0 && arguments.seeds == 0 && arguments.seconds == 0) ok = go(arguments.seed) && ok;
  std::uint64_t seed = arguments.seed == 0 ? 1 : arguments.seed;
  for (std::uint64_t i = 0; ok && i < arguments.seeds; ++i) ok = go(seed++);
  while (ok && seconds_now() - began < static_cast<double>(arguments.seconds)) ok = go(seed++);
  print_figures(total, seconds_now() - began, done);
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace workmill::sim

int main(int argc, char** argv) {
  auto const arguments = workmill::sim::parse({argv + 1, argv + argc});
  if (!arguments) {
    fmt::print(stderr, "{}", workmill::sim::kUsage);
    return 2;
  }
  struct sigaction action{};
  action.sa_handler = workmill::sim::on_abort;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGABRT, &action, nullptr);
  return workmill::sim::run(*arguments);
}
