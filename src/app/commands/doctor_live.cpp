#include "app/commands/doctor_live.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "app/health/diagnosis.h"
#include "app/health/fetch.h"
#include "app/http_client.h"
#include "app/terminal.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

struct Verdict {
  double seconds = 0;
  std::vector<health::Finding> findings;
  std::string figures;
};

void print(Verdict const& verdict, std::string_view server) {
  bool const colours = wants_colour(stdout);
  print_line(fmt::format("{}, watched for {:.1f} s", server, verdict.seconds));
  if (verdict.findings.empty()) {
    print_line(fmt::format("{} {}", coloured("Nothing limits it now:", Colour::green, colours), verdict.figures));
    return;
  }
  int number = 0;
  for (health::Finding const& finding : verdict.findings) {
    ++number;
    Colour const colour = number == 1 ? Colour::red : Colour::yellow;
    print_line(fmt::format("\n{}. {}", number, coloured(one_line(finding.what), colour, colours)));
    print_line("   " + finding.why);
    print_line("   " + finding.advice);
  }
  if (!verdict.figures.empty()) print_line("\nMeanwhile: " + verdict.figures);
}

void print_json(Verdict const& verdict, std::string_view server) {
  std::string text;
  JsonWriter json{text};
  json.begin_object().member("server", server).member("seconds", verdict.seconds);
  json.member("verdict", verdict.findings.empty() ? "nothing" : verdict.findings.front().code);
  json.key("findings").begin_array();
  for (health::Finding const& finding : verdict.findings) {
    json.begin_object().member("code", finding.code).member("what", finding.what).member("why", finding.why);
    json.member("advice", finding.advice).end_object();
  }
  json.end_array().member("figures", verdict.figures).end_object();
  print_line(text);
}

// A server that lets nobody in any more cannot be asked why, and has said it all the same.
Verdict turned_away(Error const& error) {
  Verdict verdict;
  verdict.findings.push_back({.code = "full_bound",
                              .what = fmt::format("The server turns this request away: {}.", error.message),
                              .why = "Whoever comes now is refused as well.",
                              .advice = "Raise the limit if so many are meant to be there (for connections "
                                        "connections_max, and LimitNOFILE where its log says so), else find who holds "
                                        "them; /metrics has the counts."});
  return verdict;
}

Result<Verdict> watch(HttpClient& client, Duration watched, Context const& context) {
  WM_TRY(auto const before, health::fetch(client));
  auto const began = context.clock.monotonic();
  ::poll(nullptr, 0, static_cast<int>(watched.count()));
  WM_TRY(auto const after, health::fetch(client));
  // The server's own clock knows best what lies between its figures; a restart in between makes it useless.
  double const by_server = after.uptime_seconds - before.uptime_seconds;
  double const by_us = std::chrono::duration<double>(context.clock.monotonic() - began).count();
  double const seconds = std::max(by_server > 0 ? by_server : by_us, 0.001);
  return Verdict{.seconds = seconds,
                 .findings = health::diagnose(before, after, seconds),
                 .figures = health::figures(before, after, seconds)};
}

}  // namespace

int run_live_doctor(Duration watched, Context const& context) {
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  std::string const server = address->url;
  HttpClient client{std::move(*address)};
  auto verdict = watch(client, watched, context);
  if (!verdict && verdict.error().code == ErrorCode::overloaded) verdict = turned_away(verdict.error());
  if (!verdict) return fail_with(verdict.error(), context);
  if (context.json) {
    print_json(*verdict, server);
  } else {
    print(*verdict, server);
  }
  return verdict->findings.empty() ? kExitOk : kExitFailed;
}

}  // namespace workmill::app
