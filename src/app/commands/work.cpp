#include <fmt/format.h>
#include <unistd.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/validators.h"
#include "app/terminal.h"
#include "app/worker/work_loop.h"
#include "base/json_writer.h"
#include "model/ids.h"

namespace workmill::app {
namespace {

constexpr std::size_t kConcurrencyMax = 1'000;  // A job takes a process and four descriptors.

constexpr std::string_view kWorkExamples =
    R"help(
Examples:
  workmill work --queue thumbnails -- ./thumbnail.sh
  workmill work --queue urgent,default --concurrency 8 -- python3 handler.py
  workmill work --queue digest --text -- sh -c 'sha256sum "$(cat)"'
  workmill work --queue nightly --until-empty -- ./batch      ends when there is nothing left

The command is started once for each job, without a shell:
  standard input    the payload, as JSON; with --text a string without its quotes; bytes as they were sent
  standard output   the result, 1 MiB at most: JSON if it is JSON, else a string
  standard error    lines for the job's log: workmill job ID --log
  environment       WORKMILL_JOB_ID, WORKMILL_TYPE, WORKMILL_QUEUE, WORKMILL_ATTEMPT, WORKMILL_MAX_ATTEMPTS,
                    WORKMILL_URL, and TRACEPARENT and TRACESTATE where the job has them; WORKMILL_CHECKPOINT, a
                    file: what an earlier attempt left is in it, and what is written to it the next one gets (JSON)
  exit code         0 completed; 65 failed for good, the input is wrong; 75 and all others failed, to be tried again

While a command runs its lease is extended. SIGTERM or Ctrl-C: takes no more jobs, waits for those that run, reports
them, ends. A second one ends the commands and gives their jobs back. When the server goes away the commands go on, and
are reported when it is back.
)help";

struct Options {
  WorkOptions work;
  std::string lease;
  bool text = false;
};

std::string default_worker() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  auto const process = std::to_string(getpid());
  std::string name{host.data()};
  for (char& c : name) {
    if (!is_name(std::string_view{&c, 1})) c = '-';
  }
  if (name.empty()) name = "worker";
  name.resize(std::min(name.size(), kNameBytesMax - process.size() - 1));
  return fmt::format("{}-{}", name, process);
}

void print_summary(WorkSummary const& summary, Context const& context) {
  if (context.json) {
    std::string out;
    JsonWriter{out}
        .begin_object()
        .member("completed", summary.completed)
        .member("failed", summary.failed)
        .member("released", summary.released)
        .member("lost", summary.lost)
        .member("unreported", summary.unreported)
        .end_object();
    print_line(out);
    return;
  }
  auto line = fmt::format("{} completed, {} failed", with_commas(summary.completed), with_commas(summary.failed));
  if (summary.released > 0) line += fmt::format(", {} given back", with_commas(summary.released));
  if (summary.lost > 0) line += fmt::format(", {} lost", with_commas(summary.lost));
  if (summary.unreported > 0) line += fmt::format(", {} not delivered", counted(summary.unreported, "report"));
  fmt::print(stderr, "workmill work: {}\n", line);
}

int run(Options& options, Context const& context) {
  auto& work = options.work;
  if (work.worker.empty()) work.worker = default_worker();
  if (!options.lease.empty()) work.lease = parse_duration(options.lease).value_or(Duration{0});
  work.payload_as = options.text ? PayloadAs::text : PayloadAs::json;
  if (!is_runnable(work.command.front())) {
    return fail_with({.code = ErrorCode::bad_configuration,
                      .message = fmt::format("'{}' is no program that can be run", work.command.front())},
                     context);
  }
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);

  WorkLoop loop{work, std::move(*address), context.clock};
  auto const summary = loop.run();
  bool const was_connected = !(summary.error && summary.error->code == ErrorCode::no_server);
  if (was_connected) print_summary(summary, context);
  if (summary.error) return fail_with(*summary.error, context);
  bool const all_done = summary.released == 0 && summary.unreported == 0;
  return all_done ? kExitOk : kExitFailed;
}

}  // namespace

void add_work(CLI::App& app, Context& context) {
  auto const options = std::make_shared<Options>();  // Shared by the callback, which outlives this function.
  auto& work = options->work;
  auto* const command = app.add_subcommand("work", "Take jobs and run a command for each");
  command->footer(std::string{kWorkExamples});
  command
      ->add_option("-q,--queue", work.queues, "Queues to take from, in this order of preference; several times, or a,b")
      ->required()
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME")
      ->check(is_a_name());
  command->add_option("-c,--concurrency", work.concurrency, "Commands at the same time")
      ->type_name("N")
      ->check(CLI::Range(std::size_t{1}, kConcurrencyMax).description(""))
      ->capture_default_str();
  command
      ->add_option("--lease", options->lease,
                   "How long a job is ours before it must be extended; as the job has it, if not given")
      ->type_name("DURATION")
      ->check(is_duration());
  command->add_option("--worker", work.worker, "What the server calls us; host and process, if not given")
      ->type_name("NAME")
      ->check(is_a_name());
  command->add_flag("--text", options->text, "A payload that is a JSON string comes without its quotes and escapes");
  command->add_flag("--until-empty", work.until_empty, "End when there is no job to take and none runs");
  command->add_flag("-v,--verbose", work.verbose, "Say how each job ended");
  command->add_option("COMMAND", work.command, "The program and its arguments, after --")->required();
  command->callback([options, &context] { context.run = [options, &context] { return run(*options, context); }; });
}

}  // namespace workmill::app
