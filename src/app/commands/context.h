#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "app/http_client.h"
#include "base/error.h"
#include "base/time.h"

// What all commands share. Each command is declared in commands.h, adds itself to the command line, and when it is the
// one that was chosen leaves its work in Context::run.
namespace workmill::app {

// sysexits.h calls 69 EX_UNAVAILABLE.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNoServer = 69;

struct Context {
  explicit Context(Clock const& the_clock) : clock(the_clock) {}

  std::string server;      // --server, else WORKMILL_URL, else kServerDefault. As the user wrote it.
  std::string token;       // WORKMILL_TOKEN. Not an option: a command line can be read by everybody on the machine.
  std::string token_file;  // --token-file: goes over WORKMILL_TOKEN. Empty: none.
  std::string ca_file;     // --ca-file, else WORKMILL_CA_FILE. Empty: whom the system believes.
  bool json = false;       // For programs: JSON on standard output.
  Clock const& clock;
  std::function<int()> run;  // What the chosen command does; answers the exit code.

  // bad_configuration where the address or the token's file is none.
  Result<ServerAddress> address() const;
};

// Says what went wrong on standard error, and answers the exit code for it.
int fail_with(Error const& error, Context const& context);
// The same for what the user should have written differently.
int fail_usage(std::string_view message);

// TRACEPARENT or TRACESTATE of the environment: the trace that whoever called us is in, which a job that we send
// belongs to. Empty where there is none, or none that a header could carry.
std::string trace_variable(char const* name);

// Standard output, ended by a line break. False where nobody takes it any more.
bool print_line(std::string_view text);

}  // namespace workmill::app
