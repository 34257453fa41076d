#include "app/commands/context.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "log/file/small_file.h"
#include "service/tokens.h"

namespace workmill::app {
namespace {

constexpr std::size_t kTokenFileBytesMax = 4 * 1024;

}  // namespace

Result<ServerAddress> Context::address() const {
  WM_TRY(auto url, normal_url(server));
  if (token_file.empty()) return ServerAddress{.url = std::move(url), .token = token, .ca_file = ca_file};
  WM_TRY(auto file, log::read_small_file(token_file, kTokenFileBytesMax));
  if (!file) {
    return fail(ErrorCode::bad_configuration, fmt::format("--token-file: there is no file {}", token_file));
  }
  // The first line, without what an editor left behind it.
  std::string shown = file->bytes.substr(0, file->bytes.find_first_of("\r\n"));
  service::wipe(file->bytes);
  while (shown.ends_with(' ') || shown.ends_with('\t')) shown.pop_back();
  if (shown.empty()) return fail(ErrorCode::bad_configuration, fmt::format("--token-file: {} is empty", token_file));
  return ServerAddress{.url = std::move(url), .token = std::move(shown), .ca_file = ca_file};
}

int fail_with(Error const& error, Context const& context) {
  if (error.code == ErrorCode::no_server) {
    auto const url = normal_url(context.server);
    fmt::print(stderr,
               "workmill: no server answers at {}\n"
               "  tried:            {}\n"
               "  to start one:     workmill serve --data ./data      (it listens on 127.0.0.1:7330)\n"
               "  to name another:  --server URL, or WORKMILL_URL=URL in the environment\n",
               url ? *url : context.server, error.message);
    return kExitNoServer;
  }
  fmt::print(stderr, "workmill: {}\n", describe(error));
  if (error.code == ErrorCode::unauthorized) {  // The server speaks of headers, which nobody types here.
    fmt::print(stderr,
               "  to show a token:  WORKMILL_TOKEN in the environment, or --token-file FILE\n"
               "  which there are:  workmill token list, on the server's machine\n");
  }
  return error.code == ErrorCode::bad_configuration ? kExitUsage : kExitFailed;
}

int fail_usage(std::string_view message) {
  fmt::print(stderr, "workmill: {}\nRun with --help for more information.\n", message);
  return kExitUsage;
}

std::string trace_variable(char const* name) {
  constexpr std::size_t kBytesMax = 512;
  char const* const value = std::getenv(name);
  std::string_view const text = value == nullptr ? std::string_view{} : std::string_view{value};
  bool const is_header = std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
  return is_header && text.size() <= kBytesMax ? std::string{text} : std::string{};
}

bool print_line(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  return std::ferror(stdout) == 0;
}

}  // namespace workmill::app
