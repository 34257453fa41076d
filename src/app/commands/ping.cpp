#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "base/json_writer.h"

// `ping`: is the server ready? For health checks, which hold no token and know no certificate.
namespace workmill::app {
namespace {

constexpr std::string_view kPingExamples =
    R"(
Examples:
  workmill ping                                   of the server of --server or WORKMILL_URL
  workmill ping --server 127.0.0.1:7330           with TLS or without, whichever it speaks
  workmill ping --server https://jobs.example:7330

No token is needed, and none is sent. Of a server on this machine any certificate is taken, unless --ca-file says who must
vouch for it: its name is that by which others know it.
Exit codes: 0 ready, 1 there and not ready (it recovers, its disk is full, it stops), 69 no server answers.
)";

constexpr int kReady = 200;
constexpr int kNotReady = 503;
constexpr int kBadRequest = 400;  // To plain HTTP, of a server that speaks TLS.

struct PingOptions {
  std::string timeout = "4s";
};

Result<HttpReply> ask(std::string url, Duration timeout, Context const& context) {
  ServerAddress address{.url = std::move(url), .token = {}, .ca_file = context.ca_file};
  if (address.ca_file.empty() && is_loopback(address.url)) address.believe = Believe::anybody;
  HttpClient client{std::move(address)};
  return client.send({.path = "/readyz?verbose", .timeout = timeout});
}

// Where the address does not say how to speak, both ways are tried.
Result<HttpReply> ask_either_way(std::string& url, Duration timeout, Context const& context) {
  WM_TRY(auto reply, ask(url, timeout, context));
  if (context.server.contains("://") || reply.status != kBadRequest) return reply;
  url.replace(0, url.find("://"), "https");
  return ask(url, timeout, context);
}

// "disk, serving": the checks that the page calls failed.
std::string failed_checks(std::string_view page) {
  std::string names;
  while (!page.empty()) {
    std::string_view const line = page.substr(0, page.find('\n'));
    page.remove_prefix(std::min(line.size() + 1, page.size()));
    if (!line.starts_with("[-]")) continue;
    std::string_view const rest = line.substr(3);
    names.append(names.empty() ? "" : ", ").append(rest.substr(0, rest.find(' ')));
  }
  return names;
}

int run_ping(PingOptions const& options, Context const& context) {
  auto url = normal_url(context.server);
  if (!url) return fail_with(url.error(), context);
  auto const timeout = parse_duration(options.timeout);
  if (!timeout) return fail_usage("--timeout " + timeout.error().message);
  auto const reply = ask_either_way(*url, std::max(*timeout, Duration{1}), context);
  if (!reply) return fail_with(reply.error(), context);
  if (reply->status != kReady && reply->status != kNotReady) {
    return fail_with({.code = ErrorCode::protocol_error,
                      .message = fmt::format("{} answers {}: is it a Workmill server?", *url, reply->status)},
                     context);
  }
  bool const is_ready = reply->status == kReady;
  if (context.json) {
    std::string out;
    JsonWriter json{out};
    json.begin_object().member("url", *url).member("ready", is_ready).end_object();
    print_line(out);
  } else if (is_ready) {
    print_line("ready");
  } else {
    fmt::print(stderr, "workmill: {} is not ready: {}\n", *url, failed_checks(reply->body));
  }
  return is_ready ? kExitOk : kExitFailed;
}

}  // namespace

void add_ping(CLI::App& app, Context& context) {
  auto* const command = app.add_subcommand("ping", "Ask whether a server is ready: for health checks");
  command->footer(std::string{kPingExamples});
  auto const options = std::make_shared<PingOptions>();  // Shared by the callback, which outlives this function.
  command->add_option("--timeout", options->timeout, "For how long to wait for it (4s)")
      ->type_name("DURATION")
      ->check(is_duration());
  command->callback([options, &context] { context.run = [options, &context] { return run_ping(*options, context); }; });
}

}  // namespace workmill::app
