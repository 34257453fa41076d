#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/job_filter.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/terminal.h"

// `retry` and `cancel`: a change of some jobs, named by their ids or by what they have in common.
namespace workmill::app {
namespace {

constexpr std::string_view kRetryExamples =
    R"(
Examples:
  workmill retry 01890a5d-ac96-774b-bcce-b302099a8057      now, its attempts counted anew
  workmill retry --queue billing --state dead              all of them

Dead, cancelled and scheduled jobs can be retried.
)";
constexpr std::string_view kCancelExamples =
    R"(
Examples:
  workmill cancel file-17
  workmill cancel --queue mail --state ready --tag nightly

A job that no worker has is cancelled at once. A worker that has it is told, and its report decides.
)";

enum class Action : std::uint8_t { retry, cancel };

struct RetryOptions {
  std::vector<std::string> ids;
  JobFilterOptions filter;
};

int run_on_ids(Action action, RetryOptions const& options, HttpClient& client, Context const& context) {
  int code = kExitOk;
  std::string items;
  for (auto const& id : options.ids) {
    auto const answer = client.call(
        {.method = "POST",
         .path = fmt::format("/v1/jobs/{}/{}", url_encoded(id), action == Action::retry ? "retry" : "cancel")});
    if (!answer) {  // The others are still meant.
      code = fail_with(with_context(answer.error(), action == Action::retry ? "retrying " + id : "cancelling " + id),
                       context);
      if (code == kExitNoServer) return code;
      continue;
    }
    auto const& job = answer->root();
    items.append(items.empty() ? "" : ",\n").append(job.raw);
    if (context.json) continue;
    bool const is_asked = action == Action::cancel && job.string_at("state") == "leased";
    print_line(is_asked ? fmt::format("{} is with a worker, which is told", id)
                        : fmt::format("{} is {}", id,
                                      job.string_at("state", action == Action::retry ? "ready" : "cancelled")));
  }
  if (context.json) print_line(fmt::format("{{\"items\":[{}]}}", items));
  return code;
}

int run_on_filter(Action action, RetryOptions const& options, HttpClient& client, Context const& context) {
  auto const* const name = action == Action::retry ? "retry" : "cancel";
  auto const answer = client.call({.method = "POST",
                                   .path = "/v1/jobs/bulk",
                                   .body = fmt::format(R"({{"action":"{}","where":{}}})", name, options.filter.json()),
                                   .timeout = std::chrono::minutes{10}});
  if (!answer) return fail_with(answer.error(), context);
  if (context.json) {
    print_line(answer->root().raw);
  } else {
    print_line(fmt::format("{} {}", counted(answer->root().number_at("count"), "job"),
                           action == Action::retry ? "ready again" : "cancelled, or left to the worker that has it"));
  }
  return kExitOk;
}

int run(Action action, RetryOptions const& options, Context const& context) {
  if (options.ids.empty() == options.filter.is_empty()) {
    return fail_usage("name the jobs: by their ids, or by --queue, --state, --type, --tag, --group or --batch");
  }
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  HttpClient client{std::move(*address)};
  return options.ids.empty() ? run_on_filter(action, options, client, context)
                             : run_on_ids(action, options, client, context);
}

void add_action(CLI::App& app, Context& context, Action action, char const* name, char const* what,
                std::string_view examples) {
  auto const options = std::make_shared<RetryOptions>();  // Shared by the callback, which outlives this function.
  auto* const command = app.add_subcommand(name, what);
  command->footer(std::string{examples});
  command->add_option("ID", options->ids, "Jobs by their ids")->type_name("NAME")->check(is_a_name());
  add_filter_options(*command, options->filter);
  command->callback([options, action, &context] {
    context.run = [options, action, &context] { return run(action, *options, context); };
  });
}

}  // namespace

void add_retry(CLI::App& app, Context& context) {
  add_action(app, context, Action::retry, "retry", "Run dead, cancelled or scheduled jobs now", kRetryExamples);
}

void add_cancel(CLI::App& app, Context& context) {
  add_action(app, context, Action::cancel, "cancel", "Cancel jobs", kCancelExamples);
}

}  // namespace workmill::app
