#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/scenarios/next_year.h"
#include "sim/simulator.h"

// wm_simulate: runs the simulation. Exit codes: 0 all is well; 1 a rule was broken, a mutation was not caught, or a
// long run never met one of the rare states; 2 it does not know what is wanted.
namespace workmill::sim {
namespace {

struct Arguments {
  std::uint64_t seed = 0;
  std::uint64_t seeds = 0;
  std::uint64_t seconds = 0;
  std::uint64_t operations = 20'000;
  std::uint64_t without = 0;
  std::string seed_file;
  std::string mutation;
  std::string scenario;
  bool mutations = false;
  bool trace = false;
  bool one_process = false;
};

constexpr std::string_view kUsage =
    R"(usage: wm_simulate [--seed N] [--seeds COUNT | --seconds S | --minutes M] [--operations N] [--seed-file FILE] [--trace]
       wm_simulate --mutations [--mutation NAME] [--seeds COUNT]
       wm_simulate --scenario next-year
The server but its sockets in a made-up world, from a seed.
  --seed N          the first seed; without --seeds, --seconds and --minutes the only one
  --seeds COUNT     so many seeds from there on
  --seconds S       fresh seeds for so long; --minutes M the same
  --operations N    requests in each run, 20000 by default
  --seed-file FILE  first the seeds in this file, one a line
  --mutation NAME   break the server in this way
  --mutations       prove the simulator: break the server in every way it knows
  --scenario NAME   next-year: what the log takes under many jobs for next year and a churn of short ones
  --trace           say on standard error what happens
  --without BITS    leave things out, as the line that replays a finding says
  --one-process     run all seeds in this process: an assertion that fails ends it
A run of more than two million operations fails, too, when one of the rare states was never met.
)";

constexpr std::uint64_t kLongRun = 2'000'000;
constexpr std::size_t kTraceLines = 25;

std::optional<Arguments> parse(std::vector<std::string> const& words) {
  Arguments arguments;
  std::uint64_t minutes = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string const& word = words[i];
    bool* const flag = word == "--mutations"     ? &arguments.mutations
                       : word == "--trace"       ? &arguments.trace
                       : word == "--one-process" ? &arguments.one_process
                                                 : nullptr;
    if (flag != nullptr) {
      *flag = true;
      continue;
    }
    if (++i == words.size()) return std::nullopt;
    std::string const& value = words[i];
    std::string* const text = word == "--mutation"    ? &arguments.mutation
                              : word == "--seed-file" ? &arguments.seed_file
                              : word == "--scenario"  ? &arguments.scenario
                                                      : nullptr;
    if (text != nullptr) {
      *text = value;
      continue;
    }
    std::uint64_t* const number = word == "--seed"         ? &arguments.seed
                                  : word == "--seeds"      ? &arguments.seeds
                                  : word == "--seconds"    ? &arguments.seconds
                                  : word == "--minutes"    ? &minutes
                                  : word == "--operations" ? &arguments.operations
                                  : word == "--without"    ? &arguments.without
                                                           : nullptr;
    if (number == nullptr) return std::nullopt;
    auto const [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number);
    if (error != std::errc{} || end != value.data() + value.size()) return std::nullopt;
  }
  arguments.seconds += 60 * minutes;
  return arguments;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A run in a process of its own, since a server that is broken enough ends in an assertion: that is a finding, too.
struct Outcome {
  bool ok = false;
  Figures figures;
  std::string said;  // On standard error; the complaint last.
};

Outcome run_apart(SimOptions const& options) {
  int channel[2];
  int result_channel[2];
  if (pipe(channel) != 0 || pipe(result_channel) != 0) std::abort();
  pid_t const child = fork();
  if (child == 0) {
    close(channel[0]);
    close(result_channel[0]);
    dup2(channel[1], STDERR_FILENO);
    SimResult const result = Simulator{options}.run();
    std::fflush(stderr);
    if (!result.ok) (void)!write(STDERR_FILENO, result.complaint.data(), result.complaint.size());
    (void)!write(result_channel[1], &result.figures, sizeof result.figures);  // Fits into the pipe.
    _exit(result.ok ? 0 : 1);
  }
  close(channel[1]);
  close(result_channel[1]);
  Outcome outcome;
  char buffer[4'096];
  for (ssize_t got = 0; (got = read(channel[0], buffer, sizeof buffer)) > 0;) {
    outcome.said.append(buffer, static_cast<std::size_t>(got));
    if (outcome.said.size() > (1 << 20)) outcome.said.erase(0, 1 << 19);
  }
  Figures figures;
  if (read(result_channel[0], &figures, sizeof figures) == static_cast<ssize_t>(sizeof figures)) {
    outcome.figures = figures;
  }
  close(channel[0]);
  close(result_channel[0]);
  int status = 0;
  waitpid(child, &status, 0);
  outcome.ok = status == 0;
  return outcome;
}

std::string line_for(SimOptions const& options, std::string_view mutation) {
  std::string line = fmt::format("wm_simulate --seed {} --operations {}", options.seed, options.operations);
  if (options.without != 0) line += fmt::format(" --without {}", options.without);
  if (!mutation.empty()) line += fmt::format(" --mutation {}", mutation);
  return line;
}

std::string_view last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text.substr(text.rfind('\n') + 1);
}

// Tries to see the finding again with less: no more operations than it took, and without each kind of fault and of
// request that it does not need. The trace of what is left is short.
void report_finding(SimOptions options, Outcome const& found, std::string_view mutation) {
  fmt::print(stderr, "FAILED: {}\nreplay: {} --trace\n", last_line(found.said), line_for(options, mutation));
  if (options.trace) return;
  Outcome least = found;
  auto const try_with = [&](SimOptions const& fewer) {
    Outcome again = run_apart(fewer);
    if (again.ok) return;
    options = fewer;
    least = std::move(again);
  };
  for (int round = 0; round < 2; ++round) {
    if (std::uint64_t const sent = least.figures[Figure::operations]; sent > 0 && sent < options.operations) {
      SimOptions fewer = options;
      fewer.operations = sent;
      try_with(fewer);
    }
    for (std::size_t bit = 0; bit < kWithoutActionsFrom + kActions; ++bit) {
      SimOptions fewer = options;
      fewer.without |= 1u << bit;
      bool const is_known = bit < kWithouts || bit >= kWithoutActionsFrom;
      if (is_known && fewer.without != options.without) try_with(fewer);
    }
  }
  options.trace = true;
  least = run_apart(options);
  std::string_view tail = least.said;
  std::size_t at = tail.size();
  for (std::size_t lines = 0; lines < kTraceLines && at != std::string_view::npos && at > 0; ++lines) {
    at = tail.rfind('\n', at - 1);
  }
  if (at != std::string_view::npos) tail.remove_prefix(at);
  fmt::print(stderr, "reduced: {} --trace, which ends so:{}{}\n", line_for(options, mutation), at == 0 ? "\n" : "",
             tail);
}

// Of this process and of those that it ran seeds in.
double cpu_seconds() {
  double sum = 0;
  for (auto const who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    if (getrusage(who, &usage) != 0) continue;
    for (timeval const& time : {usage.ru_utime, usage.ru_stime}) {
      sum += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    }
  }
  return sum;
}

void print_figures(Figures const& figures, double seconds, std::uint64_t seeds) {
  for (std::size_t i = 0; i < kFigures; ++i) {
    if (i > 0 && kFigureTexts[i].kind != kFigureTexts[i - 1].kind) fmt::print("\n");
    fmt::print("{:>14}  {:<36} {}\n", figures.counts[i], kFigureTexts[i].name, kFigureTexts[i].text);
  }
  fmt::print("\nunder durability interval, one power cut took {} ms of answered batches at most, within the interval\n",
             figures.interval_loss_ms_max);
  double const cpu = cpu_seconds();
  auto const operations = static_cast<double>(figures[Figure::operations]);
  fmt::print("{} seeds, {} operations, {} restarts in {:.1f} s: {:.0f} operations/s; {:.1f} s of CPU: {:.0f}/s\n",
             seeds, figures[Figure::operations], figures[Figure::restarts], seconds, operations / seconds, cpu,
             operations / cpu);
}

bool met_every_rare_state(Figures const& figures) {
  bool met_all = true;
  for (std::size_t i = 0; i < kFigures; ++i) {
    if (figures.counts[i] > 0 || kFigureTexts[i].kind == FigureKind::amount) continue;
    fmt::print(stderr, "never met: {} ({})\n", kFigureTexts[i].name, kFigureTexts[i].text);
    met_all = false;
  }
  return met_all;
}

int prove_mutations(Arguments const& arguments) {
  int missed = 0, absent = 0, count = 0;
  for (MutationText const& mutation : kMutations) {
    if (!arguments.mutation.empty() && arguments.mutation != mutation.name) continue;
    if (!turn_on(mutation.mutation)) {
      ++absent;
      continue;
    }
    (void)turn_on(Mutation::none);
    double const began = seconds_now();
    std::uint64_t const seeds = arguments.seeds == 0 ? 300 : arguments.seeds;
    std::string how;
    std::uint64_t seed = 1;
    for (; seed <= seeds && how.empty(); ++seed) {
      Outcome const outcome =
          run_apart({.seed = seed, .operations = arguments.operations, .mutation = mutation.mutation});
      if (!outcome.ok) how = last_line(outcome.said);
    }
    ++count;
    missed += how.empty() ? 1 : 0;
    fmt::print("{:<32} {:>6.2f} s {:>4} seeds  {}  ->  {}\n", mutation.name, seconds_now() - began, seed - 1,
               mutation.text, how.empty() ? "NOT CAUGHT" : how);
    std::fflush(stdout);
  }
  fmt::print("{} of {} caught\n", count - missed, count);
  if (absent > 0) fmt::print("{} mistakes in the code itself are not in this build: -DWM_MUTATIONS=ON\n", absent);
  return missed == 0 ? 0 : 1;
}

int run(Arguments const& arguments) {
  if (arguments.scenario == "next-year") return print_next_year() ? 0 : 1;
  if (!arguments.scenario.empty()) return 2;
  if (arguments.mutations) return prove_mutations(arguments);
  SimOptions options{.operations = arguments.operations,
                     .trace = arguments.trace,
                     .without = static_cast<std::uint32_t>(arguments.without)};
  if (!arguments.mutation.empty()) {
    auto const mutation = parse_mutation(arguments.mutation);
    if (!mutation || !turn_on(*mutation)) {
      fmt::print(stderr, "there is no mutation {} in this build\n", arguments.mutation);
      return 2;
    }
    options.mutation = *mutation;
  }
  double const began = seconds_now();
  Figures total;
  std::uint64_t done = 0;
  auto const go = [&](std::uint64_t seed) {
    options.seed = seed;
    Outcome outcome;
    if (arguments.one_process || arguments.trace) {
      SimResult const result = Simulator{options}.run();
      outcome = {.ok = result.ok, .figures = result.figures, .said = result.complaint};
    } else {
      outcome = run_apart(options);
    }
    if (!outcome.ok) report_finding(options, outcome, arguments.mutation);
    total.add(outcome.figures);
    ++done;
    return outcome.ok;
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
  bool const is_long =
      ok && options.mutation == Mutation::none && options.without == 0 && total[Figure::operations] >= kLongRun;
  if (is_long && !met_every_rare_state(total)) return 1;
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
  int const status = workmill::sim::run(*arguments);
  if (status == 2) fmt::print(stderr, "{}", workmill::sim::kUsage);
  return status;
}
