#include "app/commands/serve.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "app/access.h"
#include "app/commands/context.h"
#include "app/config.h"
#include "app/tracing.h"
#include "app/wiring.h"
#include "telemetry/log.h"

namespace workmill::app {
namespace {

// As the command line has them: text, checked when the command runs. What was not said is empty, and leaves what the
// file or the default says.
struct ServeOptions {
  std::string config_file;
  std::optional<std::string> data, listen, tokens_file, tls_certificate, tls_key, durability, segment_size,
      disk_reserve, verify_rate, buffered_size_max, log_level, log_format, otlp_endpoint;
  std::optional<double> trace_sample;
  std::optional<std::uint32_t> io_threads, connections_max, pipelined_max;
  bool insecure = false;
};

template <class T>
Result<> set(std::optional<std::string> const& text, Result<T> (*parse)(std::string_view), T& out) {
  if (!text) return {};
  WM_TRY(out, parse(*text));
  return {};
}

Result<Config> configure(ServeOptions const& options) {
  Config config;
  SettingLines lines;
  if (!options.config_file.empty()) WM_TRY_VOID(read_config(options.config_file, config, &lines));
  Config const of_file = config;
  if (options.data) config.data = *options.data;
  if (options.listen) config.listen = *options.listen;
  if (options.tls_certificate) config.tls_certificate = *options.tls_certificate;
  if (options.tls_key) config.tls_key = *options.tls_key;
  if (options.tokens_file) config.tokens_file = *options.tokens_file;
  if (options.io_threads) config.io_threads = *options.io_threads;
  if (options.connections_max) config.connections_max = *options.connections_max;
  if (options.pipelined_max) config.pipelined_max = *options.pipelined_max;
  if (options.insecure) config.insecure = true;
  if (options.log_format) config.log_format = *options.log_format;
  if (options.otlp_endpoint) config.otlp_endpoint = *options.otlp_endpoint;
  if (options.trace_sample) config.trace_sample = options.trace_sample;
  WM_TRY_VOID(set(options.durability, parse_durability, config.durability));
  WM_TRY_VOID(set(options.segment_size, parse_bytes, config.segment_bytes));
  WM_TRY_VOID(set(options.disk_reserve, parse_bytes, config.disk_reserve_bytes));
  WM_TRY_VOID(set(options.buffered_size_max, parse_bytes, config.buffered_bytes_max));
  WM_TRY_VOID(set(options.verify_rate, parse_bytes, config.verify_bytes_per_second));
  WM_TRY_VOID(set(options.log_level, telemetry::parse_log_levels, config.log_level));
  // What the command line has said over the file is not the file's fault.
  for (Change const& change : changes(of_file, config)) lines.erase(std::string{change.setting});
  if (auto checked = check_config(config); !checked) {
    return std::unexpected(with_place(std::move(checked).error(), options.config_file, lines));
  }
  if (auto checked = check_tracing(config); !checked) {
    return std::unexpected(with_place(std::move(checked).error(), options.config_file, lines));
  }
  return config;
}

// For a reload. At start a pipe is read like any file, and once; later nobody may write to it, and the loop that reads
// would wait for him.
Result<Config> configure_again(ServeOptions const& options) {
  struct stat about{};
  if (::stat(options.config_file.c_str(), &about) == 0 && S_ISFIFO(about.st_mode)) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("the configuration file {} is a pipe, which is not read again", options.config_file));
  }
  return configure(options);
}

int serve(ServeOptions const& options, Context const& context) {
  auto const config = configure(options);
  if (!config) return fail_with(config.error(), context);
  Access access;
  if (auto const opened = open_access(*config, access); !opened) return fail_with(opened.error(), context);
  keep_out_of_core_dumps(access);
  telemetry::LogFormat format = telemetry::format_for_stderr();
  if (config->log_format == "text") format = telemetry::LogFormat::text;
  if (config->log_format == "json") format = telemetry::LogFormat::json;
  Result<> ran;
  bool has_reader = true;
  {
    telemetry::LogOptions const log_options{
        .level = config->log_level, .format = format, .repeats_max = config->log_repeats_max};
    telemetry::Logger logger{context.clock, log_options, telemetry::stderr_sink()};
    ran = run_server(*config, [&options] { return configure_again(options); }, access, context.clock, logger);
    has_reader = logger.close();
  }  // What is logged is out before the last words.
  if (ran) return kExitOk;
  if (!has_reader) return kExitFailed;  // The last words would wait for him.
  fail_with(ran.error(), context);
  if (ran.error().code == ErrorCode::log_corrupt) {
    fmt::print(stderr, "  what is damaged, and what can be saved:  workmill doctor {}\n", config->data);
  }
  return kExitFailed;  // Not kExitUsage: an address that is taken is no wrong usage.
}

}  // namespace

void add_serve(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("serve", "Run the server, in the foreground, until SIGTERM or Ctrl-C");
  auto options =
      std::make_shared<ServeOptions>();  // Shared by the option bindings and the callback below, as CLI11 has it.
  command->add_option("--data", options->data, "Folder of the log, made where it is missing (./workmill-data)");
  command->add_option("--listen", options->listen, "ADDRESS:PORT to listen on (127.0.0.1:7330)");
  command->add_option("--tls-certificate", options->tls_certificate, "PEM file: connections speak TLS");
  command->add_option("--tls-key", options->tls_key, "PEM file with the certificate's key");
  command->add_option("--tokens-file", options->tokens_file, "Who may do what: see `workmill token` (DIR/tokens)");
  command->add_option("--config", options->config_file, "TOML file of settings; the command line goes over it");
  command->add_option("--durability", options->durability,
                      "sync: a yes is on disk (default); interval: within 50 ms; os: when the system likes");
  command->add_option("--io-threads", options->io_threads, "Threads that serve connections (1)");
  command->add_option("--connections-max", options->connections_max, "Connections for each of them (20000)");
  command->add_option("--pipelined-max", options->pipelined_max, "Requests of one connection under way at once (64)");
  command->add_option("--buffered-size-max", options->buffered_size_max,
                      "Memory for requests and answers, each thread, such as 512MiB");
  command->add_option("--segment-size", options->segment_size, "Size of a log file, such as 64MiB");
  command->add_option("--disk-reserve", options->disk_reserve,
                      "Free space below which new jobs are refused, such as 256MiB");
  command->add_option("--verify-rate", options->verify_rate,
                      "The log is read again and checked, at so much a second (8MiB); 0: not");
  command->add_option("--log-level", options->log_level,
                      "debug, info (default), warn, error or off; for parts, too: warn,http=debug");
  command->add_option("--log-format", options->log_format, "text, json, or auto (default): text on a terminal");
  command->add_option("--otlp-endpoint", options->otlp_endpoint,
                      "Where traces go: an OpenTelemetry receiver, such as http://localhost:4318");
  command->add_option("--trace-sample", options->trace_sample,
                      "Of the requests that come without a trace, so many begin one: 0 (default) to 1");
  command->add_flag("--insecure", options->insecure, "Allow an address that others can reach, without tokens");
  command->footer(
      "Examples:\n"
      "  workmill serve                              on 127.0.0.1:7330, data in ./workmill-data\n"
      "  workmill serve --data /var/lib/workmill --listen 127.0.0.1:8000\n"
      "All settings: docs/reference/configuration.md");
  command->callback([options, &context] { context.run = [options, &context] { return serve(*options, context); }; });
}

}  // namespace workmill::app
