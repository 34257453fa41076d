#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/load/load.h"
#include "app/terminal.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

constexpr std::string_view kExamples =
    R"(
Examples:
  workmill bench                                          all four, one after the other
  workmill bench enqueue --connections 64 --jobs 200000
  workmill bench drain --batch 16 --connections 16
  workmill bench latency --jobs 5000 --gap 1ms            on a server that has nothing else to do

Loads:
  enqueue      one job a call, each answered before the next one on its connection
  drain        lease, and report with the next lease, until the queue is empty; enqueued before, which is not timed
  end-to-end   half of the connections enqueue, half work, one job at a time; the times are from enqueue to handler
  latency      one producer at a steady pace, one worker that waits; the times are from enqueue to handler

Every load has a queue of its own (bench.enqueue and so on), which is emptied before and after it. CPU is that of the
server in all its threads, where it runs on this machine. Client and server share the machine: pin them with taskset to compare runs.
)";

struct Options {
  std::vector<std::string> loads;
  LoadOptions load;
  std::string gap = "1ms";
  std::optional<std::uint64_t> jobs;
};

struct Named {
  Load load;
  std::uint64_t jobs;  // Some seconds' worth.
  std::size_t connections;
};
constexpr Named kLoads[] = {{Load::enqueue, 200'000, 64},
                            {Load::drain, 200'000, 16},
                            {Load::end_to_end, 100'000, 32},
                            {Load::latency, 3'000, 2}};

std::string micros(std::uint64_t nanoseconds) {
  auto const us = static_cast<double>(nanoseconds) / 1e3;
  return us < 100 ? fmt::format("{:.1f}", us) : with_commas(static_cast<std::uint64_t>(us));
}

void append_json(LoadResult const& result, std::string& out) {
  JsonWriter json{out};
  auto const time_us = [&result](unsigned permille) {
    return static_cast<double>(result.latency.permille(permille)) / 1e3;
  };
  json.begin_object()
      .member("load", to_string(result.load))
      .member("connections", result.connections)
      .member("jobs", result.jobs)
      .member("seconds", std::chrono::duration<double>(result.elapsed).count())
      .member("jobs_per_second", result.per_second())
      .member("p50_us", time_us(500))
      .member("p99_us", time_us(990))
      .member("p999_us", time_us(999))
      .member("max_us", static_cast<double>(result.latency.max()) / 1e3);
  if (result.server_cpu_us) json.member("server_cpu_us_per_job", *result.server_cpu_us);
  json.end_object();
}

void add_row(LoadResult const& result, TextTable& table) {
  table.row({{std::string{to_string(result.load)}},
             {with_commas(result.connections)},
             {with_commas(result.jobs)},
             {with_commas(static_cast<std::uint64_t>(result.per_second())), Colour::bold},
             {micros(result.latency.permille(500))},
             {micros(result.latency.permille(990))},
             {micros(result.latency.max())},
             {result.server_cpu_us ? fmt::format("{:.2f}", *result.server_cpu_us) : "-"}});
}

// The queue of a load, empty before and after it. Its name is always the same: queues stay in the list.
class BenchQueue {
 public:
  BenchQueue(ServerAddress address, Load load)
      : client_(std::move(address)), name_(fmt::format("bench.{}", to_string(load))) {
    empty_it();
  }
  ~BenchQueue() { empty_it(); }
  BenchQueue(BenchQueue const&) = delete;
  BenchQueue& operator=(BenchQueue const&) = delete;
  std::string const& name() const { return name_; }

 private:
  void empty_it() {
    // There may be no such queue yet; and whatever else goes wrong will be said by the next call.
    static_cast<void>(client_.send(
        {.method = "DELETE", .path = "/v1/queues/" + name_ + "/jobs", .timeout = std::chrono::minutes{5}}));
  }

  HttpClient client_;
  std::string name_;
};

Result<LoadResult> run_one(Named const& named, Options const& options, ServerAddress const& address,
                           Context const& context) {
  BenchQueue queue{address, named.load};
  auto load = options.load;
  load.server = address;
  load.queue = queue.name();
  load.jobs = options.jobs.value_or(named.jobs);
  if (load.connections == 0) load.connections = named.connections;
  load.gap = parse_duration(options.gap).value_or(Duration{1});
  ProgressLine progress;
  auto const began_at = context.clock.now();
  return run_load(named.load, load, context.clock, [&](std::uint64_t done, std::uint64_t total) {
    auto const now = context.clock.now();
    if (!progress.is_due(now)) return;
    progress.show(progress_line(to_string(named.load), done, total, now - began_at, terminal_width(stderr)), now);
  });
}

int run(Options const& options, Context const& context) {
  auto const address = context.address();
  if (!address) return fail_with(address.error(), context);
  // Says what is wrong with the server before any load is made, and in the words that all commands have for it.
  HttpClient client{*address};
  if (auto const status = client.call({.path = "/v1/status"}); !status) return fail_with(status.error(), context);

  TextTable table;
  table.column("LOAD");
  for (auto const* title : {"CONNECTIONS", "JOBS", "JOBS/S", "P50 US", "P99 US", "MAX US", "SERVER CPU US/JOB"}) {
    table.column(title, TextTable::Align::right);
  }
  std::string items;
  for (auto const& named : kLoads) {
    bool const is_meant =
        options.loads.empty() || std::ranges::find(options.loads, to_string(named.load)) != options.loads.end();
    if (!is_meant) continue;
    auto const result = run_one(named, options, *address, context);
    if (!result) return fail_with(with_context(result.error(), to_string(named.load)), context);
    add_row(*result, table);
    if (!items.empty()) items.append(",\n");
    append_json(*result, items);
  }
  if (context.json) {
    print_line(fmt::format("{{\"items\":[{}]}}", items));
  } else {
    auto const text = table.render(wants_colour(stdout), 0);
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return kExitOk;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  auto const options = std::make_shared<Options>();  // Shared by the callback, which outlives this function.
  options->load.connections = 0;                     // As each load has it.
  auto* const command = app.add_subcommand("bench", "Measure a server under load");
  command->footer(std::string{kExamples});
  command->add_option("LOAD", options->loads, "enqueue, drain, end-to-end, latency; all of them if none is given")
      ->type_name("")
      ->check(CLI::IsMember({"enqueue", "drain", "end-to-end", "latency"}).description(""));
  command
      ->add_option("-c,--connections", options->load.connections,
                   "At the same time; 64 for enqueue, 16 for drain, 32 for end-to-end")
      ->type_name("N")
      ->check(CLI::Range(1, 10'000).description(""));
  command->add_option("-n,--jobs", options->jobs, "How many jobs; a few seconds' worth if not given")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000'000).description(""));
  command->add_option("--payload", options->load.payload_bytes, "Bytes of a job's payload")
      ->type_name("BYTES")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->capture_default_str();
  command->add_option("--batch", options->load.batch, "Jobs in one lease call, for drain")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000).description(""))
      ->capture_default_str();
  command->add_option("--gap", options->gap, "Between two jobs, for latency")
      ->type_name("DURATION")
      ->check(is_duration())
      ->capture_default_str();
  command->callback([options, &context] { context.run = [options, &context] { return run(*options, context); }; });
}

}  // namespace workmill::app
