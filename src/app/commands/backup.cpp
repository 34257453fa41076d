#include "log/file/backup.h"

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <memory>
#include <string>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/terminal.h"
#include "base/json_writer.h"

// `backup` and `restore`: a data folder into one file, and back.
namespace workmill::app {
namespace {

constexpr std::string_view kBackupExamples =
    R"(
Examples:
  workmill backup /var/lib/workmill /backups/workmill.backup     also while the server runs
  workmill backup /var/lib/workmill /backups/workmill.backup     again: copies only what is new

All that was acknowledged before the command began is in it.
)";
constexpr std::string_view kRestoreExamples =
    R"(
Examples:
  workmill restore /backups/workmill.backup /var/lib/workmill    the folder must be empty, or not be there

Stop the server that the backup was taken of first: both would give the same jobs to workers.
)";

struct BackupOptions {
  std::string folder;
  std::string file;
};

// A line at the bottom while the work goes on.
class Progress {
 public:
  Progress(Clock const& clock, std::string_view what) : clock_(clock), what_(what), started_(clock.now()) {}
  void operator()(std::uint64_t done, std::uint64_t total) {
    Instant const now = clock_.now();
    if (line_.is_due(now)) line_.show(progress_line(what_, done, total, now - started_, terminal_width(stderr)), now);
  }
  void clear() { line_.clear(); }

 private:
  Clock const& clock_;
  std::string_view const what_;
  Instant const started_;
  ProgressLine line_;
};

std::string shown(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }
std::string shown_segments(std::uint32_t count) { return counted(count, "segment"); }

int run_backup(BackupOptions const& options, Context const& context) {
  Progress progress{context.clock, "backing up (bytes)"};
  auto const done = log::back_up(options.folder, options.file, std::ref(progress));
  progress.clear();
  if (!done) return fail_with(done.error(), context);
  if (!context.json) {
    print_line(fmt::format("{}: {} in {}, {} of it new; as of {}{}", options.file, shown(done->bytes),
                           shown_segments(done->segments), shown(done->copied_bytes), format_rfc3339(done->last_at),
                           done->rewritten ? "; written anew, as most of the file was no longer of use" : ""));
    return kExitOk;
  }
  std::string out;
  JsonWriter json{out};
  json.begin_object().member("file", options.file).member("segments", done->segments).member("bytes", done->bytes);
  json.member("copied_bytes", done->copied_bytes).member("frames", done->frames).member("last_at", done->last_at);
  json.member("rewritten", done->rewritten).end_object();
  print_line(out);
  return kExitOk;
}

int run_restore(BackupOptions const& options, Context const& context) {
  Progress progress{context.clock, "restoring (bytes)"};
  auto const done = log::restore(options.file, options.folder, std::ref(progress));
  progress.clear();
  if (!done) return fail_with(done.error(), context);
  if (!context.json) {
    print_line(fmt::format("{}: {} in {}, every checksum right; as of {}", options.folder, shown(done->bytes),
                           shown_segments(done->segments), format_rfc3339(done->last_at)));
    return kExitOk;
  }
  std::string out;
  JsonWriter json{out};
  json.begin_object().member("folder", options.folder).member("segments", done->segments).member("bytes", done->bytes);
  json.member("frames", done->frames).member("last_at", done->last_at).end_object();
  print_line(out);
  return kExitOk;
}

}  // namespace

void add_backup(CLI::App& app, Context& context) {
  auto const options = std::make_shared<BackupOptions>();  // Shared by the callback, which outlives this function.
  auto* const command =
      app.add_subcommand("backup", "Copy a data folder into one file, also while a server runs on it");
  command->footer(std::string{kBackupExamples});
  command->add_option("DIR", options->folder, "The data folder")->required();
  command->add_option("FILE", options->file, "The backup; made, or brought up to date")->required();
  command->callback(
      [options, &context] { context.run = [options, &context] { return run_backup(*options, context); }; });
}

void add_restore(CLI::App& app, Context& context) {
  auto const options = std::make_shared<BackupOptions>();
  auto* const command = app.add_subcommand("restore", "Make a data folder from a backup");
  command->footer(std::string{kRestoreExamples});
  command->add_option("FILE", options->file, "The backup")->required();
  command->add_option("DIR", options->folder, "An empty folder, or one that is made")->required();
  command->callback(
      [options, &context] { context.run = [options, &context] { return run_restore(*options, context); }; });
}

}  // namespace workmill::app
