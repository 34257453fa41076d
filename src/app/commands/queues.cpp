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
#include "app/commands/show_list.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/terminal.h"

namespace workmill::app {
namespace {

constexpr std::string_view kQueuesExamples =
    R"(
Examples:
  workmill queues
  workmill queues --json | jq '.items[] | select(.depth.dead > 0) | .name'

WAITING is how long the first job in line has been ready.
)";
constexpr std::string_view kPauseExamples =
    R"(
Examples:
  workmill pause mail            nothing of it is given to workers; what runs goes on, and new jobs are taken
  workmill resume mail
)";

// ---- queues ----

void add_row(TextTable& table, JsonValue const& queue, Instant now) {
  auto const* depth = queue.find_set("depth");
  auto const count = [depth](std::string_view state) { return depth != nullptr ? depth->number_at(state) : 0; };
  auto const shown = [&count](std::string_view state, Colour colour = Colour::plain) {
    auto const number = count(state);
    return TextTable::Cell{with_commas(number), number > 0 ? colour : Colour::dim};
  };
  auto const oldest = parse_rfc3339(queue.string_at("oldest_ready_at"));
  bool const paused = queue.flag_at("paused");
  table.row({{std::string{queue.string_at("name")}},
             shown("ready"),
             shown("scheduled"),
             shown("leased", Colour::blue),
             shown("completed", Colour::green),
             shown("dead", Colour::red),
             shown("cancelled"),
             {oldest ? age(*oldest, now) : ""},
             {paused ? "paused" : "", Colour::yellow}});
}

int run_queues(Context const& context) {
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  HttpClient client{std::move(*address)};
  TextTable table;
  table.column("NAME");
  for (auto const* title : {"READY", "SCHEDULED", "LEASED", "COMPLETED", "DEAD", "CANCELLED", "WAITING"}) {
    table.column(title, TextTable::Align::right);
  }
  table.column("");
  return show_list(
      client,
      {.path = "/v1/queues",
       .one = "queue",
       .many = "queues",
       .none = "no queue yet: the first job makes one",
       .cuts_lines = false},
      std::move(table), [&](TextTable& rows, JsonValue const& queue) { add_row(rows, queue, context.clock.now()); },
      context);
}

// ---- pause, resume ----

enum class Flow : std::uint8_t { pause, resume };

int run_flow(Flow flow, std::vector<std::string> const& names, Context const& context) {
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  HttpClient client{std::move(*address)};
  std::string items;
  for (auto const& name : names) {
    auto const answer = client.call({.method = "PATCH",
                                     .path = fmt::format("/v1/queues/{}", url_encoded(name)),
                                     .body = flow == Flow::pause ? R"({"paused":true})" : R"({"paused":false})"});
    if (!answer) return fail_with(with_context(answer.error(), name), context);
    items.append(items.empty() ? "" : ",\n").append(answer->root().raw);
    if (!context.json) print_line(fmt::format("{} {}", name, flow == Flow::pause ? "is paused" : "goes on"));
  }
  if (context.json) print_line(fmt::format("{{\"items\":[{}]}}", items));
  return kExitOk;
}

void add_flow(CLI::App& app, Context& context, Flow flow, char const* name, char const* what) {
  auto const names = std::make_shared<std::vector<std::string>>();  // Shared by the callback, which outlives this.
  auto* const command = app.add_subcommand(name, what);
  command->footer(std::string{kPauseExamples});
  command->add_option("QUEUE", *names, "Its name; several may be given")
      ->required()
      ->type_name("NAME")
      ->check(is_a_name());
  command->callback(
      [names, flow, &context] { context.run = [names, flow, &context] { return run_flow(flow, *names, context); }; });
}

}  // namespace

void add_queues(CLI::App& app, Context& context) {
  auto* const command = app.add_subcommand("queues", "List the queues and how full they are");
  command->footer(std::string{kQueuesExamples});
  command->callback([&context] { context.run = [&context] { return run_queues(context); }; });
}

void add_pause(CLI::App& app, Context& context) {
  add_flow(app, context, Flow::pause, "pause", "Stop giving jobs of a queue to workers");
}

void add_resume(CLI::App& app, Context& context) {
  add_flow(app, context, Flow::resume, "resume", "Let a paused queue go on");
}

}  // namespace workmill::app
