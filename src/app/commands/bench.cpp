#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cstdio>
#include <initializer_list>
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

constexpr std::string_view kBenchExamples =
    R"(
Examples:
  workmill bench                                          all five, one after the other
  workmill bench enqueue --connections 64 --jobs 200000
  workmill bench end-to-end --producers 16 --workers 16   one job a call, over HTTP
  workmill bench end-to-end --transport stream --producers 2 --batch 500 --workers 1 --jobs 2000000
  workmill bench mixed --rate 5000 --seconds 30s
  workmill bench latency --transport stream               on a server that has nothing else to do

Loads:
  enqueue      producers alone; the times are those of a call
  drain        workers alone, until the queue is empty; enqueued before, which is not timed
  end-to-end   producers and workers; the times are from enqueue to handler start
  mixed        the same; one job in twenty fails once, one in ten is delayed or tells its progress, one is looked at
  latency      end-to-end with one producer, one worker and 1,000 jobs a second

Over HTTP a worker reports its jobs with its next lease call. A stream is a WebSocket: what one message brings is
reported in one. Jobs are sent over HTTP in any case. With --rate a job that finds no connection free counts from when
it was due.

Every load has a queue of its own (bench.enqueue and so on), which is emptied before and after it. CPU is that of the
server in all its threads: from /proc where it runs on this machine, else from its /metrics. Client and server share the
machine: pin them with taskset to compare runs.
)";

struct BenchOptions {
  std::vector<std::string> loads;
  LoadOptions load;
  std::optional<std::uint64_t> jobs;
  std::optional<double> rate;
  std::optional<std::size_t> connections, producers, workers;
  std::string transport = "http";
  std::string seconds;
};

struct Named {
  Load load;
  std::uint64_t jobs;  // Some seconds' worth.
  std::size_t producers, workers;
  double rate;
};
constexpr Named kLoads[] = {{Load::enqueue, 200'000, 64, 0, 0},
                            {Load::drain, 200'000, 0, 16, 0},
                            {Load::end_to_end, 100'000, 16, 16, 0},
                            {Load::mixed, 100'000, 16, 16, 0},
                            {Load::latency, 3'000, 1, 1, 1'000}};
// One stream is enough for all that a client of one thread can do.
constexpr std::size_t kStreams = 1;

std::string micros(LoadResult const& result, unsigned permille) {
  if (result.latency.count() == 0) return "-";
  auto const us = static_cast<double>(result.latency.permille(permille)) / 1e3;
  return us < 100 ? fmt::format("{:.1f}", us) : with_commas(static_cast<std::uint64_t>(us));
}

void append_json(Named const& named, LoadOptions const& options, LoadResult const& result, std::string& out) {
  JsonWriter json{out};
  json.begin_object()
      .member("load", to_string(named.load))
      .member("transport", to_string(options.transport))
      .member("connections", options.producers + options.workers)
      .member("producers", options.producers)
      .member("workers", options.workers)
      .member("batch", options.batch)
      .member("payload_bytes", options.payload_bytes)
      .member("jobs", result.jobs)
      .member("seconds", std::chrono::duration<double>(result.elapsed).count())
      .member("jobs_per_second", result.per_second());
  if (options.rate > 0) json.member("rate", options.rate);
  if (result.latency.count() > 0) {
    for (auto const& [name, permille] : std::initializer_list<std::pair<std::string_view, unsigned>>{
             {"p50_us", 500}, {"p90_us", 900}, {"p99_us", 990}, {"p999_us", 999}, {"max_us", 1'000}}) {
      json.member(name, static_cast<double>(result.latency.permille(permille)) / 1e3);
    }
  }
  if (result.server_cpu_us) {
    json.member("server_cpu_us_per_job", *result.server_cpu_us).member("cpu_from", result.cpu_source);
  }
  json.end_object();
}

void add_row(Named const& named, LoadOptions const& options, LoadResult const& result, TextTable& table) {
  bool const is_stream = options.transport == Transport::stream && options.workers > 0;
  table.row({{fmt::format("{}{}", to_string(named.load), is_stream ? " (stream)" : "")},
             {with_commas(options.producers)},
             {with_commas(options.workers)},
             {with_commas(options.batch)},
             {with_commas(result.jobs)},
             {with_commas(static_cast<std::uint64_t>(result.per_second())), Colour::bold},
             {micros(result, 500)},
             {micros(result, 990)},
             {micros(result, 999)},
             {micros(result, 1'000)},
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

// What is asked for, with what the load has by itself.
LoadOptions load_options(Named const& named, BenchOptions const& options, ServerAddress const& address) {
  auto load = options.load;
  load.server = address;
  load.transport = options.transport == "stream" ? Transport::stream : Transport::http;
  bool const has_streams = load.transport == Transport::stream;
  load.producers = named.producers;
  load.workers = has_streams ? std::min(named.workers, kStreams) : named.workers;
  if (options.connections && named.load != Load::latency) {
    bool const are_both = named.producers > 0 && named.workers > 0;
    auto const each = are_both ? std::max<std::size_t>(*options.connections / 2, 1) : *options.connections;
    if (named.producers > 0) load.producers = each;
    if (named.workers > 0) load.workers = each;
  }
  if (named.producers > 0) load.producers = options.producers.value_or(load.producers);
  if (named.workers > 0) load.workers = options.workers.value_or(load.workers);
  load.rate = options.rate.value_or(named.rate);
  if (!options.seconds.empty() && named.load != Load::drain) {
    load.run_for = parse_duration(options.seconds).value_or(Duration{0});
  }
  load.jobs = options.jobs.value_or(load.run_for.count() > 0 ? 0 : named.jobs);
  return load;
}

Result<LoadResult> run_one(Named const& named, LoadOptions& load, Context const& context) {
  BenchQueue queue{load.server, named.load};
  load.queue = queue.name();
  ProgressLine progress;
  auto const began_at = context.clock.now();
  return run_load(named.load, load, context.clock, [&](std::uint64_t done, std::optional<std::uint64_t> total) {
    auto const now = context.clock.now();
    if (!progress.is_due(now)) return;
    progress.show(progress_line(to_string(named.load), done, total, now - began_at, terminal_width(stderr)), now);
  });
}

int run(BenchOptions const& options, Context const& context) {
  auto const address = context.address();
  if (!address) return fail_with(address.error(), context);
  // Says what is wrong with the server before any load is made, and in the words that all commands have for it.
  HttpClient client{*address};
  if (auto const status = client.call({.path = "/v1/status"}); !status) return fail_with(status.error(), context);

  TextTable table;
  table.column("LOAD");
  for (auto const* title : {"PRODUCERS", "WORKERS", "BATCH", "JOBS", "JOBS/S", "P50 US", "P99 US", "P99.9 US", "MAX US",
                            "SERVER CPU US/JOB"}) {
    table.column(title, TextTable::Align::right);
  }
  std::string items;
  for (auto const& named : kLoads) {
    bool const is_meant =
        options.loads.empty() || std::ranges::find(options.loads, to_string(named.load)) != options.loads.end();
    if (!is_meant) continue;
    auto load = load_options(named, options, *address);
    auto const result = run_one(named, load, context);
    if (!result) return fail_with(with_context(result.error(), to_string(named.load)), context);
    add_row(named, load, *result, table);
    if (!items.empty()) items.append(",\n");
    append_json(named, load, *result, items);
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
  auto const options = std::make_shared<BenchOptions>();  // Shared by the callback, which outlives this function.
  auto* const command = app.add_subcommand("bench", "Measure a server under load");
  command->footer(std::string{kBenchExamples});
  auto const count = [command](std::string const& names, auto& target, std::string const& text, auto most) {
    return command->add_option(names, target, text)
        ->type_name("N")
        ->check(CLI::Range(decltype(most){1}, most).description(""));
  };
  command
      ->add_option("LOAD", options->loads, "enqueue, drain, end-to-end, mixed, latency; all of them if none is given")
      ->type_name("")
      ->check(CLI::IsMember({"enqueue", "drain", "end-to-end", "mixed", "latency"}).description(""));
  command->add_option("-t,--transport", options->transport, "How workers get their jobs: http or stream")
      ->type_name("")
      ->check(CLI::IsMember({"http", "stream"}).description(""))
      ->capture_default_str();
  count("-c,--connections", options->connections,
        "In all; half of them work where both kinds are needed. Else 64 for enqueue, 16 of each for the others",
        20'000);
  count("--producers", options->producers, "Connections that enqueue", 10'000);
  count("--workers", options->workers, "Connections that work; 1 over streams, if not given", 10'000);
  count("-n,--jobs", options->jobs, "How many jobs; a few seconds' worth if not given", std::uint64_t{1'000'000'000});
  command->add_option("--seconds", options->seconds, "Send jobs for so long instead; not for drain")
      ->type_name("DURATION")
      ->check(is_duration());
  command
      ->add_option("--rate", options->rate, "Jobs a second of all producers together; as fast as it goes, if not given")
      ->type_name("N")
      ->check(CLI::Range(0.1, 1e7).description(""));
  count("--payload", options->load.payload_bytes, "Bytes of a job's payload", std::size_t{1'000'000})
      ->capture_default_str();
  count("--batch", options->load.batch, "Jobs in one call that enqueues, and at most in one that leases",
        std::size_t{1'000})
      ->capture_default_str();
  count("--credit", options->load.credit, "Jobs that are out on a stream at a time", std::size_t{10'000})
      ->capture_default_str();
  command->callback([options, &context] { context.run = [options, &context] { return run(*options, context); }; });
}

}  // namespace workmill::app
