#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
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

// `token new`, `list`, `rotate`, `revoke`: on the tokens file itself, so that the first one can be made before there is
// a server, and nobody can be locked out by the server that he wants to mend.
namespace workmill::app {
namespace {

constexpr std::string_view kTokenExamples =
    R"(
Examples:
  workmill token new --name mailer --scope enqueue --queue mail --data /var/lib/workmill
  workmill token new --name reports --scope enqueue,read --queue reports --cache-prefix report:
  workmill token new --name ops --scope enqueue,work,read,admin --expires 90d
  workmill token list
  workmill token rotate mailer --grace 48h
  workmill token revoke mailer

The token is printed once, on standard output, and is kept nowhere: the file has a salted hash of it. A running server
reads the file again when it gets SIGHUP. Once there is a tokens file, every call needs a token, also from this machine.
To exchange a token without a pause: rotate it, reload the server, hand out what was printed; until its grace ends the
old one holds too, and `token list` shows whether somebody still uses it.
)";

struct TokenOptions {
  std::string config_file, data, tokens_file;
  std::string scope, name, expires, grace = "24h";
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

Result<Config> config_of(TokenOptions const& options) {
  Config config;
  if (!options.config_file.empty()) WM_TRY_VOID(read_config(options.config_file, config));
  if (!options.data.empty()) config.data = options.data;
  if (!options.tokens_file.empty()) config.tokens_file = options.tokens_file;
  return config;
}

Result<std::string> path_of(TokenOptions const& options) {
  WM_TRY(auto const config, config_of(options));
  return tokens_path(config);
}

JsonWriter& append_texts(std::span<std::string const> texts, JsonWriter& json) {
  json.begin_array();
  for (std::string const& text : texts) json.value(text);
  return json.end_array();
}

void append_time(std::optional<Instant> when, JsonWriter& json) { when ? json.value(*when) : json.null(); }

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
  append_time(record.expires_at, json);
}

// The token itself: it is shown this once, and wiped.
bool print_token(std::string& token, service::TokenRecord const& record, std::string const& path,
                 std::string const& words, Context const& context) {
  bool printed = false;
  if (context.json) {
    std::string out;
    out.reserve(4'096);
    JsonWriter json{out};
    json.begin_object().member("token", token);
    append_record(record, json);
    json.key("old_secret_until");
    append_time(record.old ? std::optional{record.old->until} : std::nullopt, json);
    json.member("file", path).end_object();
    printed = print_line(out);
    service::wipe(out);
  } else {
    printed = print_line(token);
    fmt::print(stderr, "{}\nA server that runs already learns of it by SIGHUP.\n", words);
  }
  service::wipe(token);
  return printed;
}

int run_new(TokenOptions const& options, Context const& context) {
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
  auto const kept =
      change_tokens_file(*path, context.clock.now(), [&](std::vector<service::TokenRecord>& records) -> Result<> {
        auto const is_same = [&](service::TokenRecord const& other) {
          return other.name == record.name || other.id == record.id;
        };
        if (std::ranges::any_of(records, is_same)) {
          return fail(ErrorCode::bad_configuration,
                      fmt::format("there is a token {} in {} already: revoke it first, or take another name",
                                  record.name, *path));
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
  auto const words =
      fmt::format("{} is in {}. The line above is the token itself: it is shown this once.", record.name, *path);
  return print_token(token, record, *path, words, context) ? kExitOk : kExitFailed;
}

// The token of that name gets another secret. Answers the token as its bearer gets it, to be wiped.
Result<std::string> rotate(service::TokenRecord& record, Duration grace, std::optional<Duration> expires, Instant now) {
  bool const is_over = record.expires_at && *record.expires_at <= now;
  if (is_over && !expires) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("the time of {} was over at {}: say with --expires for how long it shall hold from now on",
                            record.name, format_rfc3339(*record.expires_at)));
  }
  if (grace > Duration{0} && record.old && record.old->until > now) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("{} was rotated already, and the secret before holds until {}: wait for that, or end both "
                            "secrets that hold now at once, with --grace 0s",
                            record.name, format_rfc3339(record.old->until)));
  }
  std::optional<Instant> old_until;
  if (grace > Duration{0} && !is_over) old_until = now + grace;
  if (old_until && record.expires_at) old_until = std::min(*old_until, *record.expires_at);
  if (expires) record.expires_at = now + *expires;
  if (old_until && record.expires_at) old_until = std::min(*old_until, *record.expires_at);
  return service::rotate_token(record, old_until);
}

int run_rotate(TokenOptions const& options, Context const& context) {
  auto const path = path_of(options);
  if (!path) return fail_with(path.error(), context);
  auto const grace = parse_duration(options.grace);
  if (!grace) return fail_usage("--grace " + grace.error().message);
  std::optional<Duration> expires;
  if (!options.expires.empty()) {
    auto const after = parse_duration(options.expires);
    if (!after) return fail_usage("--expires " + after.error().message);
    expires = *after;
  }
  service::TokenRecord record;
  std::string token;
  auto const kept =
      change_tokens_file(*path, context.clock.now(), [&](std::vector<service::TokenRecord>& records) -> Result<> {
        auto const found = std::ranges::find(records, options.name, &service::TokenRecord::name);
        if (found == records.end()) {
          return fail(ErrorCode::not_found, fmt::format("there is no token {} in {}", options.name, *path));
        }
        WM_TRY(token, rotate(*found, *grace, expires, context.clock.now()));
        record = *found;
        return {};
      });
  if (!kept) {
    service::wipe(token);
    return fail_with(kept.error(), context);
  }
  auto const words = fmt::format(
      "{} has another secret in {}. The line above is the token from now on: it is shown this once.\n{}", record.name,
      *path,
      record.old ? fmt::format("As it was before it holds until {}, too.", format_rfc3339(record.old->until))
                 : std::string{"As it was before it holds no longer."});
  return print_token(token, record, *path, words, context) ? kExitOk : kExitFailed;
}

// Both of its secrets, as the server has last written it down.
struct Uses {
  std::optional<Instant> last, of_old;
};

Uses uses_of(service::TokenRecord const& record, std::span<service::TokenUse const> uses) {
  Uses found;
  for (service::TokenUse const& use : uses) {
    if (use.id != record.id) continue;
    found.last = std::max(found.last, std::optional{use.at});
    if (record.old && use.salt == record.old->kept.salt) found.of_old = use.at;
  }
  return found;
}

int run_list(TokenOptions const& options, Context const& context) {
  auto const config = config_of(options);
  if (!config) return fail_with(config.error(), context);
  auto const path = tokens_path(*config);
  auto const file = read_tokens_file(path);
  if (!file) return fail_with(file.error(), context);
  auto const& all = file->records;
  auto const written = read_token_uses(config->data);
  std::vector<service::TokenUse> const uses = written.value_or(std::vector<service::TokenUse>{});
  if (context.json) {
    std::string out;
    JsonWriter json{out};
    json.begin_object().member("file", path).key("items").begin_array();
    for (auto const& record : all) {
      auto const [last, of_old] = uses_of(record, uses);
      json.begin_object();
      append_record(record, json);
      json.key("last_used_at");
      append_time(last, json);
      json.key("old_secret");
      if (record.old) {
        json.begin_object().member("expires_at", record.old->until).key("last_used_at");
        append_time(of_old, json);
        json.end_object();
      } else {
        json.null();
      }
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
  Instant const now = context.clock.now();
  auto const has_old = [now](service::TokenRecord const& record) { return record.old && record.old->until > now; };
  bool const any_old = std::ranges::any_of(all, has_old);
  TextTable table;
  for (auto const* title : {"NAME", "ID", "SCOPES", "QUEUES", "KEYS", "MADE", "EXPIRES", "USED LAST"}) {
    table.column(title);
  }
  if (any_old) table.column("OLD SECRET UNTIL").column("USED LAST");
  auto const last_of = [&](std::optional<Instant> at) -> std::string {
    return at ? format_rfc3339(*at) : written ? "never" : "unknown";
  };
  for (auto const& record : all) {
    auto const& [queues, keys] = record.allowed;
    auto const [last, of_old] = uses_of(record, uses);
    bool const is_over = record.expires_at && *record.expires_at <= now;
    std::vector<TextTable::Cell> row{
        {record.name},
        {record.id, Colour::dim},
        {service::to_string(record.scopes)},
        {queues ? fmt::format("{}", fmt::join(queues->names(), ",")) : "all"},
        {keys     ? fmt::format("{}", fmt::join(keys->prefixes(), ","))
         : queues ? "computed"
                  : "all"},
        {format_rfc3339(record.created_at)},
        {record.expires_at ? format_rfc3339(*record.expires_at) : "never", is_over ? Colour::red : Colour::plain},
        {last_of(last)}};
    if (any_old) {
      row.push_back({record.old && has_old(record) ? format_rfc3339(record.old->until) : "-"});
      row.push_back({has_old(record) ? last_of(of_old) : "-"});
    }
    table.row(std::move(row));
  }
  auto const text = table.render(wants_colour(stdout), 0);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return kExitOk;
}

int run_revoke(TokenOptions const& options, Context const& context) {
  auto const path = path_of(options);
  if (!path) return fail_with(path.error(), context);
  auto const changed =
      change_tokens_file(*path, context.clock.now(), [&](std::vector<service::TokenRecord>& records) -> Result<> {
        auto const gone = std::erase_if(records, [&](auto const& record) { return record.name == options.name; });
        if (gone == 0)
          return fail(ErrorCode::not_found, fmt::format("there is no token {} in {}", options.name, *path));
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

void add_place(CLI::App& command, TokenOptions& options) {
  command.add_option("--data", options.data, "The data folder, in which the file `tokens` is (./workmill-data)");
  command.add_option("--tokens-file", options.tokens_file, "The tokens file, where it is elsewhere");
  command.add_option("--config", options.config_file, "The server's TOML file, which says where");
}

}  // namespace

void add_token(CLI::App& app, Context& context) {
  auto* const command = app.add_subcommand("token", "Make, list, rotate and revoke the tokens that let callers in");
  command->footer(std::string{kTokenExamples});
  command->require_subcommand(1);
  auto const options = std::make_shared<TokenOptions>();  // Shared by the callbacks, which outlive this function.

  auto* const make = command->add_subcommand("new", "Make a token, and print it once");
  make->footer(std::string{kTokenExamples});
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

  auto* const exchange = command->add_subcommand("rotate", "Give a token another secret, and print it once");
  exchange->footer(std::string{kTokenExamples});
  exchange->add_option("NAME", options->name, "What it is called")->required()->type_name("NAME")->check(is_a_name());
  exchange->add_option("--grace", options->grace, "For how long the secret before holds as well (24h); 0s: no longer")
      ->type_name("DURATION")
      ->check(is_duration());
  exchange
      ->add_option("--expires", options->expires,
                   "For how long the token holds from now on. Without it: as long as it would have")
      ->type_name("DURATION")
      ->check(is_duration());
  add_place(*exchange, *options);
  exchange->callback(
      [options, &context] { context.run = [options, &context] { return run_rotate(*options, context); }; });

  auto* const revoke = command->add_subcommand("revoke", "Let a token in no longer");
  revoke->add_option("NAME", options->name, "What it is called")->required()->type_name("NAME")->check(is_a_name());
  add_place(*revoke, *options);
  revoke->callback(
      [options, &context] { context.run = [options, &context] { return run_revoke(*options, context); }; });
}

}  // namespace workmill::app
