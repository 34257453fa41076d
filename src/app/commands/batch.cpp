#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/show_list.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/terminal.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

constexpr std::string_view kBatchExamples =
    R"(
Examples:
  workmill batch new --id import-7 --on-success '{"type": "publish"}' --on-finish '{"type": "report"}'
  workmill enqueue row --batch import-7 --lines rows.txt
  workmill batch close import-7                     there will be no more
  workmill batch get import-7                       how far it is
  workmill retry --batch import-7 --state dead
  workmill batch list --state open                  those that nobody has closed, the newest first
  workmill batch rm import-7                        its jobs stay, and nothing is called back

When a batch is closed and all of its jobs are completed, --on-success is enqueued; when all have ended, --on-finish.
)";

struct BatchOptions {
  std::string id, on_success, on_finish, meta;
  std::string state, cursor;
  unsigned limit = 50;
  bool all = false;
};

std::string path_of_batch(std::string const& id) { return "/v1/batches/" + url_encoded(id); }

int print_batch(JsonValue const& batch, Context const& context) {
  if (context.json) return print_line(batch.raw) ? kExitOk : kExitFailed;
  std::string out;
  auto const add = [&out](std::string_view name, std::string_view value) {
    if (!value.empty()) out.append(fmt::format("{:<12}{}\n", name, one_line(value)));
  };
  auto const add_time = [&](std::string_view name, std::string_view field) {
    std::string_view const text = batch.string_at(field);
    auto const at = parse_rfc3339(text);
    if (!at) return add(name, text);
    auto const ago = age(*at, context.clock.now());
    add(name, ago == "now" ? fmt::format("{} (now)", text) : fmt::format("{} ({} ago)", text, ago));
  };
  add("id", batch.string_at("id"));
  add_time("created", "created_at");
  add_time("closed", "closed_at");
  for (auto const* const name : {"total", "pending", "completed", "dead", "cancelled", "deleted"}) {
    add(name, with_commas(batch.number_at(name)));
  }
  for (auto const* const name : {"on_success", "on_finish"}) {
    auto const* const callback = batch.find_set(name);
    if (callback == nullptr) continue;
    add(name, fmt::format("{} {}", callback->string_at("state"), callback->string_at("job")));
  }
  if (auto const* const meta = batch.find_set("meta")) add("meta", meta->shown());
  std::fwrite(out.data(), 1, out.size(), stdout);
  return kExitOk;
}

// The request's body. malformed_json where what was given for one of its parts is none.
Result<std::string> batch_json(BatchOptions const& options) {
  std::string body;
  JsonWriter json{body};
  json.begin_object();
  if (!options.id.empty()) json.member("id", options.id);
  struct Part {
    std::string_view name;
    std::string const& text;
  };
  for (auto const& [name, text] :
       {Part{"on_success", options.on_success}, Part{"on_finish", options.on_finish}, Part{"meta", options.meta}}) {
    if (text.empty()) continue;
    auto const parsed = parse_json(text);
    if (!parsed || parsed->root().kind != JsonValue::Kind::object) {
      return fail_field(ErrorCode::malformed_json, std::string{name}, "this is no JSON object");
    }
    json.key(name).raw(parsed->root().raw);
  }
  json.end_object();
  return body;
}

int run_new_batch(HttpClient& client, BatchOptions const& options, Context const& context) {
  auto body = batch_json(options);
  if (!body) return fail_with(body.error(), context);
  auto const answer = client.call({.method = "POST",
                                   .path = "/v1/batches",
                                   .body = *std::move(body),
                                   .idempotency_key = make_idempotency_key(),
                                   .traceparent = trace_variable("TRACEPARENT"),
                                   .tracestate = trace_variable("TRACESTATE")});
  if (!answer) return fail_with(answer.error(), context);
  return print_line(context.json ? answer->root().raw : answer->root().string_at("id")) ? kExitOk : kExitFailed;
}

int run_get_batch(HttpClient& client, BatchOptions const& options, Context const& context) {
  auto const answer = client.call({.path = path_of_batch(options.id)});
  if (!answer) return fail_with(answer.error(), context);
  return print_batch(answer->root(), context);
}

void add_batch_row(TextTable& table, JsonValue const& batch, Instant now) {
  auto const since = [&](std::string_view field) {
    auto const at = parse_rfc3339(batch.string_at(field));
    return at ? age(*at, now) : std::string{};
  };
  auto const callback = [&](std::string_view name) {
    auto const* const found = batch.find_set(name);
    return found == nullptr ? std::string{"-"} : std::string{found->string_at("state")};
  };
  table.row({{std::string{batch.string_at("id")}},
             {since("created_at")},
             {batch.find_set("closed_at") == nullptr ? "open" : since("closed_at")},
             {with_commas(batch.number_at("total"))},
             {with_commas(batch.number_at("pending"))},
             {with_commas(batch.number_at("dead")), batch.number_at("dead") > 0 ? Colour::red : Colour::plain},
             {callback("on_success")},
             {callback("on_finish")}});
}

int run_list_batches(HttpClient& client, BatchOptions const& options, Context const& context) {
  TextTable table;
  table.column("ID").column("AGE", TextTable::Align::right).column("CLOSED", TextTable::Align::right);
  for (auto const* const title : {"JOBS", "PENDING", "DEAD"}) table.column(title, TextTable::Align::right);
  table.column("ON SUCCESS").column("ON FINISH");
  return show_list(
      client,
      {.path = options.state.empty() ? "/v1/batches" : "/v1/batches?state=" + options.state,
       .one = "batch",
       .many = "batches",
       .none = "no such batches",
       .all = options.all,
       .limit = options.limit,
       .cursor = options.cursor},
      std::move(table),
      [&](TextTable& rows, JsonValue const& batch) { add_batch_row(rows, batch, context.clock.now()); }, context);
}

int run_close_batch(HttpClient& client, BatchOptions const& options, Context const& context) {
  auto const answer = client.call({.method = "POST", .path = path_of_batch(options.id) + "/close"});
  if (!answer) return fail_with(answer.error(), context);
  return print_batch(answer->root(), context);
}

int run_forget_batch(HttpClient& client, BatchOptions const& options, Context const& context) {
  auto const answer = client.call({.method = "DELETE", .path = path_of_batch(options.id)});
  if (!answer) return fail_with(answer.error(), context);
  print_line(context.json ? std::string{answer->root().raw} : options.id + " is forgotten");
  return kExitOk;
}

using RunBatch = int (*)(HttpClient&, BatchOptions const&, Context const&);

CLI::App* add_batch_command(CLI::App& batch, char const* name, char const* what,
                            std::shared_ptr<BatchOptions> const& options, Context& context, RunBatch run) {
  auto* const command = batch.add_subcommand(name, what);
  command->footer(std::string{kBatchExamples});
  command->callback([options, run, &context] {
    context.run = [options, run, &context] {
      auto address = context.address();
      if (!address) return fail_with(address.error(), context);
      HttpClient client{std::move(*address)};
      return run(client, *options, context);
    };
  });
  return command;
}

}  // namespace

void add_batch(CLI::App& app, Context& context) {
  auto* const batch = app.add_subcommand("batch", "Make, watch, close and forget batches of jobs");
  batch->footer(std::string{kBatchExamples});
  batch->require_subcommand(1);
  auto const options = std::make_shared<BatchOptions>();  // Shared by the callbacks, which outlive this function.

  auto* const make =
      add_batch_command(*batch, "new", "Make a batch, and print its id", options, context, run_new_batch);
  make->add_option("--id", options->id, "An id of your own; the same again answers the batch that is there")
      ->type_name("ID")
      ->check(is_a_name());
  make->add_option("--on-success", options->on_success, "The job that is enqueued when all are completed")
      ->type_name("JSON");
  make->add_option("--on-finish", options->on_finish, "The job that is enqueued when all have ended")
      ->type_name("JSON");
  make->add_option("--meta", options->meta, "A JSON object that the batch shows")->type_name("JSON");

  auto* const list =
      add_batch_command(*batch, "list", "List batches, newest first", options, context, run_list_batches);
  list->add_option("--state", options->state, "Only those that take jobs still, that wait, or that are over")
      ->type_name("STATE")
      ->check(CLI::IsMember({"open", "closed", "over"}));
  list->add_option("--limit", options->limit, "At most so many")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000).description(""))
      ->capture_default_str();
  list->add_option("--cursor", options->cursor, "Go on where another list ended");
  list->add_flag("--all", options->all, "All of them, page by page");

  struct OfOne {
    char const* name;
    char const* what;
    RunBatch run;
  };
  constexpr std::array<OfOne, 3> kOfOne{{{"get", "Show how far a batch is", run_get_batch},
                                         {"close", "Say that all of a batch's jobs have been sent", run_close_batch},
                                         {"rm", "Forget a batch: its jobs stay", run_forget_batch}}};
  for (auto const& [name, what, run] : kOfOne) {
    add_batch_command(*batch, name, what, options, context, run)
        ->add_option("ID", options->id, "The batch's")
        ->required()
        ->type_name("ID")
        ->check(is_a_name());
  }
}

}  // namespace workmill::app
