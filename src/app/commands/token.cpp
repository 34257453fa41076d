#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/validators.h"
#include "app/config.h"
#include "app/terminal.h"
#include "app/tokens_file.h"
#include "base/json_writer.h"

// `token new`, `token list`, `token revoke`: on the tokens file itself, so that the first one can be made before there
// is a server, and nobody can be locked out by the server that he wants to mend.
namespace workmill::app {
namespace {

constexpr std::string_view kExamples =
    R"(
Examples:
  workmill token new --name mailer --scope enqueue --queue mail --data /var/lib/workmill
  workmill token new --name reports --scope enqueue,read --queue reports --cache-prefix report:
  workmill token new --name ops --scope enqueue,work,read,admin --expires 90d
  workmill token list
  workmill token revoke mailer

The token is printed once, on standard output, and is kept nowhere: the file has a salted hash of it. A running server
reads the file again when it gets SIGHUP. Once there is a tokens file, every call needs a token, also from this machine.
To exchange a token without a pause: make a new one under another name, hand it out, then revoke the old one.
)";

struct Options {
  std::string config_file, data, tokens_file;
  std::string scope, name, expires;
  std::vector<std::string> queues, cache_prefixes;
};

CLI::Validator is_key_prefix() {
  return {[](std::string& text) {
            return is_cache_key(text)
                       ? std::string{}
                       : "'" + text + "' begins no key: 1 to 512 bytes of UTF-8 without control characters";
          },
          ""};
}

Result<std::string> path_of(Options const& options) {
  Config config;
  if (!options.config_file.empty()) WM_TRY_VOID(read_config(options.config_file, config));
  if (!options.data.empty()) config.data = options.data;
  if (!options.tokens_file.empty()) config.tokens_file = options.tokens_file;
  return tokens_path(config);
}

JsonWriter& append_texts(std::span<std::string const> texts, JsonWriter& json) {
  json.begin_array();
  for (std::string const& text : texts) json.value(text);
  return json.end_array();
}

void append_record(service::TokenRecord const& record, JsonWriter& json) {
  json.member("name", record.name).member("id", record.id).key("scopes").begin_array();
  for (auto const scope :
       {service::Scope::enqueue, service::Scope::work, service::Scope::read, service::Scope::admin}) {
    if (record.scopes.has(scope)) json.value(service::to_string(scope));
  }
  auto const& [queues, keys] = record.allowed;
  json.end_array().key("queues");
  queues ? append_texts(queues->names(), json) : json.null();
  json.key("cache_prefixes");
  keys ? append_texts(keys->prefixes(), json) : json.null();
  json.member("created_at", record.created_at).key("expires_at");
  if (record.expires_at) {
    json.value(*record.expires_at);
  } else {
    json.null();
  }
}

int run_new(Options const& options, Context const& context) {
  auto const path = path_of(options);
  if (!path) return fail_with(path.error(), context);
  service::TokenRecord record;
  auto const scopes = service::parse_scopes(options.scope);
  if (!scopes) return fail_usage("--scope " + scopes.error().message + ", with commas between");
  if (options.queues.size() > kQueueSetMax) return fail_usage(fmt::format("--queue: at most {}", kQueueSetMax));
  if (options.cache_prefixes.size() > kCachePrefixesMax) {
    return fail_usage(fmt::format("--cache-prefix: at most {}", kCachePrefixesMax));
  }
  record.scopes = *scopes;
  if (!options.queues.empty()) record.allowed.queues = std::make_shared<QueueSet const>(options.queues);
  if (!options.cache_prefixes.empty()) {
    record.allowed.keys = std::make_shared<CacheKeySet const>(options.cache_prefixes);
  }
  record.created_at = context.clock.now();
  if (!options.expires.empty()) {
    auto const after = parse_duration(options.expires);
    if (!after) return fail_usage("--expires " + after.error().message);
    record.expires_at = record.created_at + *after;
  }
  std::string token = service::make_token(record);
  record.name = options.name.empty() ? "token-" + record.id : options.name;
  auto const kept = change_tokens_file(*path, [&](std::vector<service::TokenRecord>& records) -> Result<> {
    auto const is_same = [&](service::TokenRecord const& other) {
      return other.name == record.name || other.id == record.id;
    };
    if (std::ranges::any_of(records, is_same)) {
      return fail(
          ErrorCode::bad_configuration,
          fmt::format("there is a token {} in {} already: revoke it first, or take another name", record.name, *path));
    }
    if (records.size() == service::kTokensMax) {
      return fail(ErrorCode::bad_configuration, fmt::format("{} has as many tokens as it may", *path));
    }
    records.push_back(record);
    return {};
  });
  if (!kept) {
    service::wipe(token);
    return fail_with(kept.error(), context);
  }
  bool printed = false;
  if (context.json) {
    std::string out;
    out.reserve(4'096);
    JsonWriter json{out};
    json.begin_object().member("token", token);
    append_record(record, json);
    json.member("file", *path).end_object();
    printed = print_line(out);
    service::wipe(out);
  } else {
    printed = print_line(token);
    fmt::print(stderr,
               "{} is in {}. The line above is the token itself: it is shown this once.\n"
               "A server that runs already learns of it by SIGHUP.\n",
               record.name, *path);
  }
  service::wipe(token);
  return printed ? kExitOk : kExitFailed;
}

int run_list(Options const& options, Context const& context) {
  auto const path = path_of(options);
  if (!path) return fail_with(path.error(), context);
  auto const file = read_tokens_file(*path);
  if (!file) return fail_with(file.error(), context);
  auto const& all = file->records;
  if (context.json) {
    std::string out;
    JsonWriter json{out};
    json.begin_object().member("file", *path).key("items").begin_array();
    for (auto const& record : all) {
      json.begin_object();
      append_record(record, json);
      json.end_object();
    }
    json.end_array().end_object();
    return print_line(out) ? kExitOk : kExitFailed;
  }
  if (all.empty()) {
    fmt::print(stderr, "{}\n",
               file->is_there ? "no token: nobody is let in" : "no tokens file: nobody is asked for a token");
    return kExitOk;
  }
  TextTable table;
  for (auto const* title : {"NAME", "ID", "SCOPES", "QUEUES", "KEYS", "MADE", "EXPIRES"}) table.column(title);
  Instant const now = context.clock.now();
  for (auto const& record : all) {
    auto const& [queues, keys] = record.allowed;
    bool const is_over = record.expires_at && *record.expires_at <= now;
    table.row(
        {{record.name},
         {record.id, Colour::dim},
         {service::to_string(record.scopes)},
         {queues ? fmt::format("{}", fmt::join(queues->names(), ",")) : "all"},
         {keys     ? fmt::format("{}", fmt::join(keys->prefixes(), ","))
          : queues ? "computed"
                   : "all"},
         {format_rfc3339(record.created_at)},
         {record.expires_at ? format_rfc3339(*record.expires_at) : "never", is_over ? Colour::red : Colour::plain}});
  }
  auto const text = table.render(wants_colour(stdout), 0);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return kExitOk;
}

int run_revoke(Options const& options, Context const& context) {
  auto const path = path_of(options);
  if (!path) return fail_with(path.error(), context);
  auto const changed = change_tokens_file(*path, [&](std::vector<service::TokenRecord>& records) -> Result<> {
    auto const gone = std::erase_if(records, [&](auto const& record) { return record.name == options.name; });
    if (gone == 0) return fail(ErrorCode::not_found, fmt::format("there is no token {} in {}", options.name, *path));
    return {};
  });
  if (!changed) return fail_with(changed.error(), context);
  if (!context.json) {
    print_line(fmt::format("{} is revoked; a server that runs already learns of it by SIGHUP", options.name));
    return kExitOk;
  }
  std::string out;
  JsonWriter json{out};
  json.begin_object().member("name", options.name).member("file", *path).end_object();
  return print_line(out) ? kExitOk : kExitFailed;
}

void add_place(CLI::App& command, Options& options) {
  command.add_option("--data", options.data, "The data folder, in which the file `tokens` is (./workmill-data)");
  command.add_option("--tokens-file", options.tokens_file, "The tokens file, where it is elsewhere");
  command.add_option("--config", options.config_file, "The server's TOML file, which says where");
}

}  // namespace

void add_token(CLI::App& app, Context& context) {
  auto* const command = app.add_subcommand("token", "Make, list and revoke the tokens that let callers in");
  command->footer(std::string{kExamples});
  command->require_subcommand(1);
  auto const options = std::make_shared<Options>();  // Shared by the callbacks, which outlive this function.

  auto* const make = command->add_subcommand("new", "Make a token, and print it once");
  make->footer(std::string{kExamples});
  make->add_option("--scope", options->scope, "What it is for: enqueue, work, read, admin, with commas between")
      ->required()
      ->type_name("SCOPES");
  make->add_option("--queue", options->queues, "Only for this queue; may be given again. Without it: for all")
      ->type_name("QUEUE")
      ->check(is_a_name());
  make->add_option("--cache-prefix", options->cache_prefixes,
                   "Only for keys of the cache that begin so; may be given again. Without it: for all, or, where\n"
                   "there is a --queue, for none but those that its jobs compute")
      ->type_name("PREFIX")
      ->check(is_key_prefix());
  make->add_option("--name", options->name, "What it is called in lists and logs")
      ->type_name("NAME")
      ->check(is_a_name());
  make->add_option("--expires", options->expires, "For how long it holds, such as 90d. Without it: until it is revoked")
      ->type_name("DURATION")
      ->check(is_duration());
  add_place(*make, *options);
  make->callback([options, &context] { context.run = [options, &context] { return run_new(*options, context); }; });

  auto* const list = command->add_subcommand("list", "List the tokens; of none the secret");
  add_place(*list, *options);
  list->callback([options, &context] { context.run = [options, &context] { return run_list(*options, context); }; });

  auto* const revoke = command->add_subcommand("revoke", "Let a token in no longer");
  revoke->add_option("NAME", options->name, "What it is called")->required()->type_name("NAME")->check(is_a_name());
  add_place(*revoke, *options);
  revoke->callback(
      [options, &context] { context.run = [options, &context] { return run_revoke(*options, context); }; });
}

}  // namespace workmill::app
