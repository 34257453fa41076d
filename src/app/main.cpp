#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/serve.h"
#include "app/http_client.h"
#include "app/screen.h"
#include "shard/system_clock.h"

namespace workmill::app {
namespace {

constexpr std::string_view kAbout =
    R"(Workmill runs background jobs: durable before it says yes, retried when they fail, their results kept.

In one terminal:   workmill serve --data ./data
In another:        workmill work --queue default -- wc -w
In a third:        workmill enqueue count "how many words are these" --wait 10s
)";

constexpr std::string_view kFooter =
    R"(
`workmill COMMAND --help` explains a command, with examples.

Environment: WORKMILL_URL, the server where --server is not given; WORKMILL_TOKEN, sent as a bearer token;
WORKMILL_CA_FILE, who may vouch for an https:// server; NO_COLOR.
Exit codes: 0 done, 1 failed, 2 wrong usage, 69 no server answers.
)";

std::string from_environment(char const* name, std::string_view fallback) {
  char const* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::string{value} : std::string{fallback};
}

// CLI11's words in the form of ours: who speaks, and which help says more.
std::string explain_usage(CLI::App const* app, CLI::Error const& error) {
  std::string command = "workmill";
  for (CLI::App const* chosen : app->get_subcommands()) command.append(" ").append(chosen->get_name());
  std::string what = error.what();
  constexpr std::string_view kNotAMember = " not in {";
  if (auto const at = what.find(kNotAMember); at != std::string::npos) {
    what.replace(at, kNotAMember.size(), " is none of {");
  }
  return fmt::format("workmill: {}\nRun `{} --help` for more information.\n", what, command);
}

constexpr int kLastWordsWaitMs = 2'000;

// What ends the program where it cannot go on: everything acknowledged is on disk, so an end that says why is better
// than an exception that unwinds half a turn.
[[noreturn]] void end_with(std::string_view first, std::string_view second) {
  give_back_screen();
  std::array<iovec, 3> words{{{const_cast<char*>(first.data()), first.size()},
                              {const_cast<char*>(second.data()), second.size()},
                              {const_cast<char*>("\n"), 1}}};
  pollfd reader{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&reader, 1, kLastWordsWaitMs) > 0) {  // Nobody may read it, and a full pipe would hold us back for ever.
    [[maybe_unused]] ssize_t const wrote = ::writev(STDERR_FILENO, words.data(), words.size());
  }
  std::_Exit(kExitFailed);
}

// There is no memory to be had, so this allocates nothing.
void end_without_memory() { end_with("workmill: out of memory", ""); }

// What a library threw and nobody caught, on whatever thread: no descriptor or thread is to be had, mostly.
void end_with_exception() {
  try {
    if (std::current_exception()) std::rethrow_exception(std::current_exception());
  } catch (std::bad_alloc const&) {  // Of memory that was asked for otherwise than by operator new.
    end_without_memory();
  } catch (std::exception const& error) {
    end_with("workmill: cannot go on: ", error.what());
  } catch (...) {
    end_with("workmill: cannot go on: an exception without a name", "");
  }
  end_with("workmill: cannot go on", "");
}

int run(int argc, char** argv) {
  std::set_new_handler(end_without_memory);
  std::set_terminate(end_with_exception);
  signal(SIGPIPE, SIG_IGN);  // A pipe or a socket that nobody reads any more is an error where it is written.
  prepare_http();
  shard::SystemClock const clock;
  Context context{clock};
  context.server = from_environment("WORKMILL_URL", kServerDefault);
  context.token = from_environment("WORKMILL_TOKEN", "");
  context.ca_file = from_environment("WORKMILL_CA_FILE", "");

  CLI::App app{std::string{kAbout}, "workmill"};
  app.footer(std::string{kFooter});
  app.set_version_flag("--version", "workmill " WM_VERSION, "Print the version and end");
  app.set_help_flag("-h,--help", "Print this help and end");
  app.failure_message(explain_usage);
  app.require_subcommand(0, 1);
  app.fallthrough();  // --server and --json may stand behind the command too.
  app.add_option("--server", context.server, "Where the server is")->type_name("URL")->capture_default_str();
  app.add_option("--token-file", context.token_file, "File with the token to show, where WORKMILL_TOKEN does not say")
      ->type_name("FILE");
  app.add_option("--ca-file", context.ca_file, "Who may vouch for an https:// server, as PEM (WORKMILL_CA_FILE)")
      ->type_name("FILE");
  app.add_flag("--json", context.json, "Answer as JSON, for programs");
  add_serve(app, context);
  add_enqueue(app, context);
  add_work(app, context);
  add_jobs(app, context);
  add_job(app, context);
  add_queues(app, context);
  add_batch(app, context);
  add_flags(app, context);
  add_retry(app, context);
  add_cancel(app, context);
  add_pause(app, context);
  add_resume(app, context);
  add_cache(app, context);
  add_ping(app, context);
  add_top(app, context);
  add_token(app, context);
  add_bench(app, context);
  add_backup(app, context);
  add_restore(app, context);
  add_doctor(app, context);

  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& error) {  // CLI11 tells of --help that way too.
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (!context.run) {
    fmt::print(stderr, "{}", app.help());
    return kExitUsage;
  }
  return context.run();
}

}  // namespace
}  // namespace workmill::app

int main(int argc, char** argv) { return workmill::app::run(argc, argv); }
