#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <array>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/show_list.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/terminal.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

constexpr std::string_view kFlagsExamples =
    R"(
Examples:
  workmill flags                                    all of them
  workmill flags off new-mailer                     at once, for everybody; `flags on` lets its rules decide again
  workmill flags set new-mailer mailer.json
  workmill flags get new-mailer --json | jq '.rules = []' | workmill flags set new-mailer -
  workmill flags eval new-mailer --context '{"targetingKey": "user-1", "plan": "pro"}'
  workmill flags history new-mailer
)";

constexpr std::size_t kDefinitionBytesMax = std::size_t{1} << 20;  // The server takes less.
constexpr int kAttemptsMax = 5;                                    // At a change that others come in between of.

struct FlagsOptions {
  std::string key, file, context = R"({"targetingKey": "workmill"})";
};

std::string path_of(std::string const& key) { return "/v1/flags/" + url_encoded(key); }

Result<std::string> read_definition(std::string const& file) {
  std::ifstream opened;
  if (file != "-") {
    opened.open(file, std::ios::binary);
    if (!opened) return fail(ErrorCode::io_failed, "cannot read " + file);
  }
  std::istream& in = file == "-" ? std::cin : opened;
  std::string text;
  std::array<char, 4'096> buffer;
  while (in.read(buffer.data(), buffer.size()), in.gcount() > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > kDefinitionBytesMax) return fail(ErrorCode::payload_too_large, "too long for a flag: " + file);
  }
  return text;
}

// ---- Shown.

std::string variants_of(JsonValue const& flag) {
  auto const* variants = flag.find_set("variants");
  return variants == nullptr ? std::string{} : fmt::format("{}", fmt::join(variants->names, ","));
}

void add_columns(TextTable& table, char const* first) {
  table.column(first);
  table.column("VERSION", TextTable::Align::right);
  for (auto const* title : {"", "VARIANTS", "DEFAULT"}) table.column(title);
  table.column("RULES", TextTable::Align::right);
  for (auto const* title : {"GATES", "CHANGED", "BY"}) table.column(title);
}

void add_row(TextTable& table, std::string first, JsonValue const& flag, Instant now) {
  bool const enabled = flag.flag_at("enabled");
  auto const* rules = flag.find_set("rules");
  auto const* gates = flag.find_set("gates");
  std::vector<std::string_view> types;
  for (std::size_t i = 0; gates != nullptr && i < gates->items.size(); ++i) types.push_back(gates->items[i].shown());
  auto const changed = parse_rfc3339(flag.string_at("updated_at"));
  table.row({{std::move(first)},
             {fmt::format("{}", flag.number_at("version"))},
             {enabled ? "on" : "off", enabled ? Colour::green : Colour::yellow},
             {variants_of(flag)},
             {std::string{flag.string_at("default")}},
             {fmt::format("{}", rules == nullptr ? 0 : rules->items.size())},
             {fmt::format("{}", fmt::join(types, ","))},
             {changed ? age(*changed, now) : ""},
             {std::string{flag.string_at("updated_by")}}});
}

int print_table(TextTable const& table) {
  auto const text = table.render(wants_colour(stdout), 0);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return kExitOk;
}

int run_list(HttpClient& client, Context const& context) {
  TextTable table;
  add_columns(table, "KEY");
  return show_list(
      client,
      {.path = "/v1/flags",
       .one = "flag",
       .many = "flags",
       .none = "no flag yet: `workmill flags set KEY FILE` makes one",
       .cuts_lines = false},
      std::move(table),
      [&](TextTable& rows, JsonValue const& flag) {
        add_row(rows, std::string{flag.string_at("key")}, flag, context.clock.now());
      },
      context);
}

// All that is kept: a hundred at most.
int run_history(HttpClient& client, FlagsOptions const& options, Context const& context) {
  auto const answer = client.call({.path = path_of(options.key) + "/history?limit=1000"});
  if (!answer) return fail_with(answer.error(), context);
  if (context.json) return print_line(answer->root().raw) ? kExitOk : kExitFailed;
  TextTable table;
  add_columns(table, "AT");
  auto const* changes = answer->root().find_set("items");
  for (std::size_t i = 0; changes != nullptr && i < changes->items.size(); ++i) {
    auto const& change = changes->items[i];
    add_row(table, std::string{change.string_at("updated_at")}, change, context.clock.now());
  }
  return print_table(table);
}

// JSON for people too: it is what `set` takes.
int run_get_flag(HttpClient& client, FlagsOptions const& options, Context const& context) {
  auto const answer = client.call({.path = path_of(options.key)});
  if (!answer) return fail_with(answer.error(), context);
  return print_line(answer->root().raw) ? kExitOk : kExitFailed;
}

// ---- Changed.

// Of the types that it gates: those whose jobs it lets through, and those whose jobs wait. Asked of the server, which
// alone knows how its rules come out. Nothing where that cannot be asked: the change is made all the same.
struct Gated {
  std::vector<std::string_view> open, shut;
};
std::optional<Gated> gated_by(HttpClient& client, JsonValue const& flag) {
  Gated gated;
  auto const* gates = flag.find_set("gates");
  for (std::size_t i = 0; gates != nullptr && i < gates->items.size(); ++i) {
    auto const type = gates->items[i].shown();
    std::string body;
    JsonWriter json{body};
    json.begin_object().key("context").begin_object().member("targetingKey", type).member("type", type);
    json.end_object().end_object();
    auto const path = "/ofrep/v1/evaluate/flags/" + url_encoded(std::string{flag.string_at("key")});
    auto const answer = client.call({.method = "POST", .path = path, .body = body});
    if (!answer) return std::nullopt;
    (answer->root().flag_at("value") ? gated.open : gated.shut).push_back(type);
  }
  return gated;
}

// Whether a flag is on says that its rules decide, and not what comes of them: of a gate that is said too.
int print_changed(HttpClient& client, JsonValue const& flag, Context const& context) {
  if (context.json) return print_line(flag.raw) ? kExitOk : kExitFailed;
  auto line = fmt::format("{}, version {}: ", flag.string_at("key"), flag.number_at("version"));
  line.append(flag.flag_at("enabled") ? "its rules decide" : "off, its default for everybody");
  if (auto const gated = gated_by(client, flag)) {
    if (!gated->shut.empty()) line.append(fmt::format("; jobs of type {} wait", fmt::join(gated->shut, ", ")));
    if (!gated->open.empty())
      line.append(fmt::format("; jobs of type {} are let through", fmt::join(gated->open, ", ")));
  }
  print_line(line);
  return kExitOk;
}

int run_set(HttpClient& client, FlagsOptions const& options, Context const& context) {
  auto definition = read_definition(options.file);
  if (!definition) return fail_with(definition.error(), context);
  auto const answer = client.call({.method = "PUT", .path = path_of(options.key), .body = *std::move(definition)});
  if (!answer) return fail_with(answer.error(), context);
  return print_changed(client, answer->root(), context);
}

// The flag as it was answered, switched. Its version says what it is a change of.
std::string switched(JsonValue const& flag, bool on) {
  std::string body;
  JsonWriter json{body};
  json.begin_object();
  for (std::size_t i = 0; i < flag.items.size(); ++i) {
    if (flag.names[i] != "enabled") json.key(flag.names[i]).raw(flag.items[i].raw);
  }
  json.member("enabled", on).end_object();
  return body;
}

int run_switch(HttpClient& client, FlagsOptions const& options, bool on, Context const& context) {
  for (int attempt = 1;; ++attempt) {
    auto const flag = client.call({.path = path_of(options.key)});
    if (!flag) return fail_with(flag.error(), context);
    auto const answer =
        client.call({.method = "PUT", .path = path_of(options.key), .body = switched(flag->root(), on)});
    if (answer) return print_changed(client, answer->root(), context);
    if (answer.error().code != ErrorCode::wrong_state || attempt == kAttemptsMax) {
      return fail_with(answer.error(), context);
    }
  }
}

int run_remove(HttpClient& client, FlagsOptions const& options, Context const& context) {
  auto const answer = client.call({.method = "DELETE", .path = path_of(options.key)});
  if (!answer) return fail_with(answer.error(), context);
  print_line(context.json ? std::string{answer->root().raw} : options.key + " is removed");
  return kExitOk;
}

// ---- Asked, as any OpenFeature client does.

int run_eval(HttpClient& client, FlagsOptions const& options, Context const& context) {
  auto const parsed = parse_json(options.context);
  if (!parsed) return fail_with(with_context(parsed.error(), "--context"), context);
  auto const reply = client.send({.method = "POST",
                                  .path = "/ofrep/v1/evaluate/flags/" + url_encoded(options.key),
                                  .body = fmt::format("{{\"context\":{}}}", parsed->root().raw)});
  if (!reply) return fail_with(reply.error(), context);
  if (reply->status == 400 || reply->status == 404) {  // What that protocol says is no problem of RFC 9457.
    if (auto const answer = parse_json(reply->body); answer && answer->root().find("errorCode") != nullptr) {
      auto const code = reply->status == 404 ? ErrorCode::not_found : ErrorCode::invalid_field;
      return fail_with({.code = code,
                        .message = fmt::format("{}: {}", answer->root().string_at("errorCode"),
                                               answer->root().string_at("errorDetails"))},
                       context);
    }
  }
  auto const answer = read_reply(*reply);
  if (!answer) return fail_with(answer.error(), context);
  if (context.json) return print_line(answer->root().raw) ? kExitOk : kExitFailed;
  auto const* value = answer->root().find("value");
  return print_line(value == nullptr ? std::string_view{} : value->shown()) ? kExitOk : kExitFailed;
}

template <class Run>
CLI::App* add(CLI::App& flags, char const* name, char const* what, std::shared_ptr<FlagsOptions> const& options,
              Context& context, Run run) {
  auto* const command = flags.add_subcommand(name, what);
  command->footer(std::string{kFlagsExamples});
  command->add_option("KEY", options->key, "The flag's")->required()->type_name("KEY")->check(is_a_name());
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

void add_flags(CLI::App& app, Context& context) {
  auto* const flags = app.add_subcommand("flags", "List, change and try feature flags");
  flags->footer(std::string{kFlagsExamples});
  flags->require_subcommand(0, 1);
  auto const options = std::make_shared<FlagsOptions>();  // Shared by the callbacks, which outlive this function.

  add(*flags, "get", "Show a flag, as `set` takes it", options, context, run_get_flag);
  add(*flags, "set", "Make a flag, or change it", options, context, run_set)
      ->add_option("FILE", options->file, "Its definition as JSON; - is standard input")
      ->required()
      ->type_name("FILE|-");
  add(*flags, "on", "Let a flag's rules decide", options, context,
      [](HttpClient& client, FlagsOptions const& chosen, Context const& in) {
        return run_switch(client, chosen, true, in);
      });
  add(*flags, "off", "Give everybody a flag's default", options, context,
      [](HttpClient& client, FlagsOptions const& chosen, Context const& in) {
        return run_switch(client, chosen, false, in);
      });
  add(*flags, "rm", "Remove a flag, and its history", options, context, run_remove);
  add(*flags, "history", "Show the last changes of a flag", options, context, run_history);
  add(*flags, "eval", "Show what a flag is for somebody", options, context, run_eval)
      ->add_option("--context", options->context, "Who asks, as JSON with a targetingKey")
      ->type_name("JSON")
      ->capture_default_str();

  flags->final_callback([flags, &context] {
    if (!flags->get_subcommands().empty()) return;
    context.run = [&context] {
      auto address = context.address();
      if (!address) return fail_with(address.error(), context);
      HttpClient client{std::move(*address)};
      return run_list(client, context);
    };
  });
}

}  // namespace workmill::app
