#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/json.h"
#include "app/terminal.h"
#include "base/base64.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

constexpr std::string_view kCacheExamples =
    R"(
Examples:
  workmill cache put config:eu settings.json --fresh 5m --stale 1h --tag config
  workmill cache get config:eu                   the value, nothing else; exit 1 where there is none
  workmill cache get config:eu --json | jq .ttl  with what is known of it
  workmill cache rm config:eu
  workmill cache rm --prefix config:             all keys that begin so

A value is what a job computed (POST /v1/cache/KEY), what a worker's report brought, or what was put. It is fresh for a
time, then stale: still there, and computed anew as soon as somebody asks for it together with its job.
)";

struct CacheOptions {
  std::string key;
  std::vector<std::string> keys;
  std::string file;
  std::string fresh = "1m";
  std::string stale = "0s";
  std::vector<std::string> tags;
  std::string content_type;
  std::string tag;
  std::string prefix;
};

std::string path_of(std::string_view key) { return "/v1/cache/" + url_encoded(key); }

// ---- get ----

void append_json_value(HttpReply const& reply, JsonWriter& json) {
  auto const document = parse_json(reply.body);
  if (document && reply.content_type.starts_with("application/json")) {
    json.key("value").raw(document->root().raw);
  } else {
    json.key("value_base64").plain_from([&reply](std::string& out) { append_base64(reply.body, out); });
  }
}

// What is left of its fresh time, in seconds: the `ttl` of a Cache-Status.
std::int64_t ttl_of(std::string_view cache_status) {
  constexpr std::string_view kName = "ttl=";
  std::int64_t ttl = 0;
  if (auto const at = cache_status.find(kName); at != std::string_view::npos) {
    std::string_view const text = cache_status.substr(at + kName.size());
    std::from_chars(text.data(), text.data() + text.size(), ttl);
  }
  return ttl;
}

int run_get(CacheOptions const& options, Context const& context) {
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  HttpClient client{std::move(*address)};
  auto const reply = client.send({.path = path_of(options.key)});
  if (!reply) return fail_with(reply.error(), context);
  if (reply->status != 200) {
    auto const problem = read_reply(*reply);
    if (!problem) return fail_with(problem.error(), context);
  }
  if (context.json) {
    std::string out;
    JsonWriter json{out};
    auto const ttl = ttl_of(reply->cache_status);
    json.begin_object().member("key", options.key).member("content_type", reply->content_type);
    json.member("etag", reply->etag).member("age", std::strtoull(reply->age.c_str(), nullptr, 10));
    json.member("ttl", ttl).member("stale", ttl < 0);
    append_json_value(*reply, json);
    json.end_object();
    return print_line(out) ? kExitOk : kExitFailed;
  }
  std::fwrite(reply->body.data(), 1, reply->body.size(), stdout);
  if (is_terminal(stdout) && !reply->body.ends_with('\n')) std::fputc('\n', stdout);
  return std::fflush(stdout) == 0 ? kExitOk : kExitFailed;
}

// ---- put ----

Result<std::string> read_value(std::string const& file) {
  if (file == "-") {
    std::string text{std::istreambuf_iterator<char>{std::cin}, {}};
    if (std::cin.bad()) return fail(ErrorCode::io_failed, "standard input cannot be read");
    return text;
  }
  std::ifstream in{file, std::ios::binary};
  std::string text;
  if (in) text.assign(std::istreambuf_iterator<char>{in}, {});
  if (!in || in.bad()) return fail(ErrorCode::io_failed, fmt::format("{}: {}", file, std::strerror(errno)));
  return text;
}

int run_put(CacheOptions const& options, Context const& context) {
  auto value = read_value(options.file);
  if (!value) return fail_with(value.error(), context);
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  std::string type = options.content_type;
  if (type.empty()) type = parse_json(*value) ? "application/json" : "application/octet-stream";
  std::string query = fmt::format("?fresh={}&stale={}", options.fresh, options.stale);
  if (!options.tags.empty())
    query.append("&tags=").append(url_encoded(fmt::format("{}", fmt::join(options.tags, ","))));

  HttpClient client{std::move(*address)};
  std::size_t const bytes = value->size();
  auto const reply = client.send({.method = "PUT",
                                  .path = path_of(options.key) + query,
                                  .body = std::move(*value),
                                  .content_type = std::move(type)});
  if (!reply) return fail_with(reply.error(), context);
  if (auto const done = read_reply(*reply); !done) return fail_with(done.error(), context);
  if (!context.json) {
    return print_line(fmt::format("{} is kept: {}, fresh for {}", options.key, counted(bytes, "byte"), options.fresh))
               ? kExitOk
               : kExitFailed;
  }
  std::string out;
  JsonWriter{out}.begin_object().member("key", options.key).member("etag", reply->etag).end_object();
  return print_line(out) ? kExitOk : kExitFailed;
}

// ---- rm ----

Result<std::uint64_t> forget_keys(std::vector<std::string> const& keys, HttpClient& client) {
  std::uint64_t count = 0;
  for (auto const& key : keys) {
    auto const answer = client.call({.method = "DELETE", .path = path_of(key)});
    if (answer) {
      ++count;
    } else if (answer.error().code == ErrorCode::cache_miss) {
      fmt::print(stderr, "workmill: {} is not there\n", key);
    } else {
      return std::unexpected(with_context(answer.error(), key));
    }
  }
  return count;
}

int run_rm(CacheOptions const& options, Context const& context) {
  int const ways = (options.keys.empty() ? 0 : 1) + (options.tag.empty() ? 0 : 1) + (options.prefix.empty() ? 0 : 1);
  if (ways != 1) return fail_usage("say what to forget: by KEYs, or by --tag, or by --prefix");
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  HttpClient client{std::move(*address)};
  auto const count = [&]() -> Result<std::uint64_t> {
    if (!options.keys.empty()) return forget_keys(options.keys, client);
    std::string const query = options.tag.empty() ? "prefix=" + url_encoded(options.prefix) : "tag=" + options.tag;
    WM_TRY(auto const answer,
           client.call({.method = "DELETE", .path = "/v1/cache?" + query, .timeout = std::chrono::minutes{10}}));
    return answer->number_at("count");
  }();
  if (!count) return fail_with(count.error(), context);
  if (context.json) {
    std::string out;
    JsonWriter{out}.begin_object().member("count", *count).end_object();
    if (!print_line(out)) return kExitFailed;
  } else if (!print_line(fmt::format("{} forgotten", counted(*count, "value")))) {
    return kExitFailed;
  }
  return *count < options.keys.size() ? kExitFailed : kExitOk;
}

}  // namespace

void add_cache(CLI::App& app, Context& context) {
  auto* const command = app.add_subcommand("cache", "Get, put and forget values of the shared cache");
  command->footer(std::string{kCacheExamples});
  command->require_subcommand(1);
  auto const options = std::make_shared<CacheOptions>();  // Shared by the callbacks, which outlive this function.

  auto* const get = command->add_subcommand("get", "Print a value");
  get->footer(std::string{kCacheExamples});
  get->add_option("KEY", options->key, "What it is called")->required()->type_name("TEXT");
  get->callback([options, &context] { context.run = [options, &context] { return run_get(*options, context); }; });

  auto* const put = command->add_subcommand("put", "Keep the contents of a file as a value");
  put->footer(std::string{kCacheExamples});
  put->add_option("KEY", options->key, "What it is called")->required()->type_name("TEXT");
  put->add_option("FILE", options->file, "Its bytes; - reads standard input")->required()->type_name("FILE");
  put->add_option("--fresh", options->fresh, "How long it is good as it is")
      ->type_name("DURATION")
      ->check(is_duration())
      ->capture_default_str();
  put->add_option("--stale", options->stale, "How much longer it is better than none")
      ->type_name("DURATION")
      ->check(is_duration())
      ->capture_default_str();
  put->add_option("--tag", options->tags, "To forget it by; may be given several times")
      ->type_name("NAME")
      ->check(is_a_name())
      ->allow_extra_args(false);
  put->add_option("--content-type", options->content_type,
                  "What it is; if not given, application/json where it is JSON, else application/octet-stream")
      ->type_name("TYPE");
  put->callback([options, &context] { context.run = [options, &context] { return run_put(*options, context); }; });

  auto* const rm = command->add_subcommand("rm", "Forget values");
  rm->footer(std::string{kCacheExamples});
  rm->add_option("KEY", options->keys, "What they are called; exit 1 where one is not there")->type_name("TEXT");
  rm->add_option("--tag", options->tag, "All with this tag")->type_name("NAME")->check(is_a_name());
  rm->add_option("--prefix", options->prefix, "All whose keys begin so")->type_name("TEXT");
  rm->callback([options, &context] { context.run = [options, &context] { return run_rm(*options, context); }; });
}

}  // namespace workmill::app
