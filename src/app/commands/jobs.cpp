#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/job_filter.h"
#include "app/commands/show_job.h"
#include "app/commands/show_list.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/terminal.h"

namespace workmill::app {
namespace {

constexpr std::string_view kJobsExamples =
    R"(
Examples:
  workmill jobs                                  the newest 50
  workmill jobs --state dead --queue billing     what went wrong
  workmill jobs --find 'timeout' --all           in types, ids, payloads and errors
  workmill jobs --state dead --all --json | jq -r '.items[].id' | xargs workmill retry

--json prints {"items": [...], "next": cursor or null}, the jobs as the API has them.
)";

constexpr std::string_view kJobExamples =
    R"(
Examples:
  workmill job 01890a5d-ac96-774b-bcce-b302099a8057
  workmill job file-17 --wait 1m        when it has finished; exit 0 if it completed
  workmill job file-17 --result         the result and nothing else
  workmill job file-17 --log            what its workers said
)";

// ---- jobs ----

struct JobsOptions {
  JobFilterOptions filter;
  std::string find;
  unsigned limit = 50;
  std::string cursor;
  bool all = false;
};

int run_jobs(JobsOptions const& options, Context const& context) {
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  HttpClient client{std::move(*address)};

  std::string query = options.filter.query();
  if (!options.find.empty()) query += fmt::format("&q={}", url_encoded(options.find));
  TextTable table;
  job_columns(table);
  return show_list(
      client,
      {.path = query.empty() ? "/v1/jobs" : "/v1/jobs?" + query.substr(1),
       .one = "job",
       .many = "jobs",
       .none = "no such jobs",
       .all = options.all,
       .limit = options.limit,
       .cursor = options.cursor},
      std::move(table), [&](TextTable& rows, JsonValue const& job) { add_job_row(rows, job, context.clock.now()); },
      context);
}

// ---- job ----

struct OneJobOptions {
  std::string id;
  std::string wait;
  bool log = false;
  bool result = false;
};

int print_log(HttpClient& client, std::string const& id, Context const& context) {
  auto const log = client.call({.path = fmt::format("/v1/jobs/{}/log", url_encoded(id))});
  if (!log) return fail_with(log.error(), context);
  if (context.json) {
    print_line(log->root().raw);
    return kExitOk;
  }
  auto const* lines = log->root().find("lines");
  if (lines == nullptr) return kExitOk;
  bool const to_terminal = is_terminal(stdout);
  for (auto const& line : lines->items) print_line(to_terminal ? one_line(line.shown()) : std::string{line.shown()});
  return kExitOk;
}

int run_job(OneJobOptions const& options, Context const& context) {
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  HttpClient client{std::move(*address)};
  if (options.log && options.wait.empty()) return print_log(client, options.id, context);
  std::optional<Duration> wait;
  if (!options.wait.empty()) wait = parse_duration(options.wait).value_or(Duration{0});
  auto const code = show_job(client, options.id, wait, options.result ? ShowJob::result : ShowJob::details, context);
  if (!options.log || code == kExitNoServer) return code;
  auto const log_code = print_log(client, options.id, context);
  return code != kExitOk ? code : log_code;
}

}  // namespace

void add_jobs(CLI::App& app, Context& context) {
  auto const options = std::make_shared<JobsOptions>();  // Shared by the callback, which outlives this function.
  auto* const command = app.add_subcommand("jobs", "List jobs, newest first");
  command->footer(std::string{kJobsExamples});
  add_filter_options(*command, options->filter);
  command->add_option("--find", options->find, "Those with this text in their type, id, payload or error");
  command->add_option("--limit", options->limit, "At most so many")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000).description(""))
      ->capture_default_str();
  command->add_option("--cursor", options->cursor, "Go on where another list ended");
  command->add_flag("--all", options->all, "All of them, page by page");
  command->callback([options, &context] { context.run = [options, &context] { return run_jobs(*options, context); }; });
}

void add_job(CLI::App& app, Context& context) {
  auto const options = std::make_shared<OneJobOptions>();  // Shared by the callback, which outlives this function.
  auto* const command = app.add_subcommand("job", "Show a job, wait for it, print its result or its log");
  command->footer(std::string{kJobExamples});
  command->add_option("ID", options->id, "Its id")->required()->type_name("NAME")->check(is_a_name());
  command->add_option("--wait", options->wait, "Until it has finished, but no longer than this")
      ->type_name("DURATION")
      ->check(is_duration());
  auto* const log = command->add_flag("--log", options->log, "The lines that its workers logged");
  command->add_flag("--result", options->result, "Its result and nothing else; exit 1 if it has not completed")
      ->excludes(log);
  command->callback([options, &context] { context.run = [options, &context] { return run_job(*options, context); }; });
}

}  // namespace workmill::app
