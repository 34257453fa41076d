#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/validators.h"
#include "app/health/dashboard.h"
#include "app/health/snapshot.h"
#include "app/http_client.h"
#include "app/screen.h"
#include "app/terminal.h"
#include "base/json_writer.h"

// `top`: how a server is doing, again and again.
namespace workmill::app {
namespace {

constexpr std::string_view kTopExamples =
    R"(
Examples:
  workmill top                       of the server on this machine; q or Ctrl-C ends it
  workmill top --once                one picture, for a script or a report
  workmill top --json | jq .rates    the same as JSON

What limits the server, and what to do about it, is what `workmill doctor URL` says.
)";

struct TopOptions {
  bool once = false;
  std::string every = "1s";
};

// What was asked at one moment, and when.
struct Sample {
  health::Snapshot snapshot;
  JsonDocument status, queues;
  std::chrono::nanoseconds at{};
};

// Two requests under way at once, and what they came to.
class Asker {
 public:
  Asker(ServerAddress address, Clock const& clock) : multi_(std::move(address)), clock_(clock) {}

  bool is_asking() const { return status_ticket_ != Ticket::none || queues_ticket_ != Ticket::none; }
  void ask() {
    status_.reset();
    queues_.reset();
    constexpr Duration kPatience = std::chrono::seconds{10};
    status_ticket_ = multi_.start({.path = "/v1/status", .timeout = kPatience});
    queues_ticket_ = multi_.start({.path = "/v1/queues?limit=1000", .timeout = kPatience});
  }
  // Waits for answers, for `others` or for `timeout`. Something once both answers, or an error of either, are there.
  std::optional<Result<Sample>> wait(std::span<pollfd> others, Duration timeout) {
    for (auto& finished : multi_.wait(others, timeout)) {
      auto& place = finished.ticket == status_ticket_ ? status_ : queues_;
      (finished.ticket == status_ticket_ ? status_ticket_ : queues_ticket_) = Ticket::none;
      place = finished.reply ? read_reply(*finished.reply) : std::unexpected(std::move(finished.reply).error());
    }
    if (is_asking() || !status_ || !queues_) return std::nullopt;
    auto status = *std::move(status_);
    auto queues = *std::move(queues_);
    status_.reset();
    queues_.reset();
    return take(std::move(status), std::move(queues));
  }

 private:
  using Ticket = HttpMulti::Ticket;

  Result<Sample> take(Result<JsonDocument> status, Result<JsonDocument> queues) {
    if (!status) return std::unexpected(std::move(status).error());
    if (!queues) return std::unexpected(std::move(queues).error());
    Sample sample{.snapshot = health::read_status(status->root()),
                  .status = std::move(*status),
                  .queues = std::move(*queues),
                  .at = clock_.monotonic()};
    health::read_queues(sample.queues.root(), sample.snapshot);
    return sample;
  }

  HttpMulti multi_;
  Clock const& clock_;
  Ticket status_ticket_{}, queues_ticket_{};
  std::optional<Result<JsonDocument>> status_, queues_;
};

double seconds_between(Sample const& before, Sample const& after) {
  double const by_server = after.snapshot.uptime_seconds - before.snapshot.uptime_seconds;
  return by_server > 0 ? by_server : std::chrono::duration<double>(after.at - before.at).count();
}

Result<Sample> ask_now(Asker& asker) {
  asker.ask();
  for (;;) {
    if (auto sample = asker.wait({}, std::chrono::seconds{1})) return std::move(*sample);
  }
}

void print_json(Sample const& before, Sample const& after) {
  double const seconds = std::max(seconds_between(before, after), 0.001);
  std::string text;
  JsonWriter json{text};
  auto const rate = [&](std::string_view name, std::uint64_t was, std::uint64_t is) {
    json.member(name, is > was ? static_cast<double>(is - was) / seconds : 0.0);
  };
  auto const& old = before.snapshot;
  auto const& now = after.snapshot;
  json.begin_object().member("seconds", seconds).key("rates").begin_object();
  rate("commands", old.commands, now.commands);
  rate("flushes", old.flushes, now.flushes);
  if (old.http && now.http) {
    rate("requests", old.http->requests, now.http->requests);
    rate("connections", old.http->connections, now.http->connections);
    rate("refused", old.http->refused, now.http->refused);
  }
  json.end_object().key("status").raw(after.status->raw).key("queues").raw(after.queues->raw).end_object();
  print_line(text);
}

int run_once(Asker& asker, std::string_view server, Duration every, Context const& context) {
  auto const before = ask_now(asker);
  if (!before) return fail_with(before.error(), context);
  ::poll(nullptr, 0, static_cast<int>(every.count()));
  auto const after = ask_now(asker);
  if (!after) return fail_with(after.error(), context);
  if (context.json) {
    print_json(*before, *after);
    return kExitOk;
  }
  health::View const view{
      .server = server, .columns = terminal_width(stdout), .rows = 0, .colours = wants_colour(stdout)};
  for (auto const& line : health::render(before->snapshot, after->snapshot, seconds_between(*before, *after), view)) {
    print_line(line);
  }
  return kExitOk;
}

// The live view. What it shows is the last pair of samples; an error is told in its first line until it has passed.
class Live {
 public:
  Live(Asker& asker, Screen& screen, std::string_view server, Duration every, Clock const& clock)
      : asker_(asker), screen_(screen), server_(server), every_(every), clock_(clock) {}

  // Answers the signal that ended it; 0: the user had seen enough.
  int run() {
    for (;;) {
      auto const now = clock_.monotonic();
      if (!asker_.is_asking() && now >= next_) {
        next_ = now + every_;
        asker_.ask();
      }
      std::array<pollfd, 2> others{{{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                                    {.fd = screen_.signals(), .events = POLLIN, .revents = 0}}};
      auto const rest = std::chrono::ceil<Duration>(next_ - clock_.monotonic());
      auto const sample = asker_.wait(others, std::clamp(rest, Duration{1}, kWaitMax));
      if (others[0].revents != 0 && wants_to_quit()) return 0;
      if (others[1].revents != 0) {
        while (int const signal = screen_.take_signal()) {
          if (signal != SIGWINCH) return signal;
        }
        show();
      }
      if (sample) {
        take(*sample);
        show();
      }
    }
  }

 private:
  static constexpr Duration kWaitMax{250};

  static bool wants_to_quit() {
    char keys[64];
    ssize_t const count = ::read(STDIN_FILENO, keys, sizeof keys);
    if (count <= 0) return true;  // The terminal has gone.
    std::string_view const typed{keys, static_cast<std::size_t>(count)};
    return typed.find_first_of("qQ\x03") != std::string_view::npos;
  }

  void take(Result<Sample> const& sample) {
    if (!sample) {
      trouble_ = describe(sample.error());
      return;
    }
    trouble_.clear();
    before_ = std::exchange(after_, sample->snapshot);
    double const uptime = sample->snapshot.uptime_seconds;
    seconds_ = last_ && before_ ? std::max(before_->uptime_seconds < uptime
                                               ? uptime - before_->uptime_seconds
                                               : std::chrono::duration<double>(sample->at - *last_).count(),
                                           0.001)
                                : 0;
    last_ = sample->at;
  }

  void show() {
    bool const colours = wants_colour(stdout);
    health::View const view{
        .server = server_, .columns = screen_.columns(), .rows = screen_.rows(), .colours = colours};
    std::vector<std::string> lines;
    if (after_) lines = health::render(before_ ? *before_ : *after_, *after_, seconds_, view);
    if (!trouble_.empty()) {
      if (lines.empty()) lines.emplace_back();
      lines[0] = coloured(cut_to("no answer, trying again: " + trouble_, view.columns), Colour::red, colours);
    }
    screen_.show(lines);
  }

  Asker& asker_;
  Screen& screen_;
  std::string_view server_;
  Duration every_;
  Clock const& clock_;
  std::chrono::nanoseconds next_{};
  std::optional<std::chrono::nanoseconds> last_;
  std::optional<health::Snapshot> before_, after_;
  double seconds_ = 0;
  std::string trouble_;
};

int run(TopOptions const& options, Context const& context) {
  auto const every = parse_duration(options.every);
  if (!every || *every < Duration{100} || *every > std::chrono::hours{1}) return fail_usage("--every: 100ms to 1h");
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  std::string const server = address->url;
  Asker asker{std::move(*address), context.clock};
  if (options.once || context.json) return run_once(asker, server, *every, context);
  if (!is_terminal(stdout) || ::isatty(STDIN_FILENO) != 1) {
    return fail_usage("top is for a terminal; elsewhere say --once or --json");
  }
  // A server that is not there is told before the screen is taken.
  if (auto const first = ask_now(asker); !first) return fail_with(first.error(), context);
  int signal = 0;
  {
    auto const screen = Screen::take_over();
    if (!screen) return fail_with(screen.error(), context);
    signal = Live{asker, **screen, server, *every, context.clock}.run();
  }
  return signal == 0 || signal == SIGINT ? kExitOk : 128 + signal;
}

}  // namespace

void add_top(CLI::App& app, Context& context) {
  auto const options = std::make_shared<TopOptions>();  // Shared by the callback, which outlives this function.
  auto* const command = app.add_subcommand("top", "Watch a server: rates, where time goes, bounds, queues, types");
  command->footer(std::string{kTopExamples});
  command->add_flag("--once", options->once, "One picture, and end");
  command->add_option("--every", options->every, "How often it looks (1s)")
      ->type_name("DURATION")
      ->check(is_duration());
  command->callback([options, &context] { context.run = [options, &context] { return run(*options, context); }; });
}

}  // namespace workmill::app
