#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/doctor_live.h"
#include "app/commands/validators.h"
#include "app/terminal.h"
#include "base/json_writer.h"
#include "log/file/file_log.h"
#include "log/file/folder_repair.h"
#include "log/file/read_only_disk.h"
#include "log/segment_log.h"
#include "shard/examination.h"

// `doctor`: what a data folder holds, whether a server would take it, and what it would cost to mend it; or, of a
// server that runs, what limits it (doctor_live.h).
namespace workmill::app {
namespace {

constexpr std::string_view kDoctorExamples =
    R"(
Examples:
  workmill doctor /var/lib/workmill               what is in it, what is wrong with it, what a repair would cost
  workmill doctor /var/lib/workmill --repair      makes a new log of all that is left; the damaged one is kept beside it
  workmill doctor 127.0.0.1:7330                  what limits a server that runs, and what to do about it
  workmill doctor                                 the same of the server of --server or WORKMILL_URL

Nothing is changed without --repair. The folder must not be in use: a running server looks after its own.
Exit codes: 0 a server starts on it, or nothing limits it; 1 it is damaged or there is no log, or something limits it.
)";

constexpr std::size_t kIdsShown = 10;
constexpr std::array<JobState, kJobStates> kStates{JobState::scheduled, JobState::ready, JobState::leased,
                                                   JobState::completed, JobState::dead,  JobState::cancelled};

struct DoctorOptions {
  std::string target;  // A folder or a URL; empty: the server that all commands talk to.
  std::string folder;
  std::string watched = "3s";  // How long a server is.
  bool repair = false;
};

// What --repair has done.
struct Repaired {
  std::string aside;  // Where the damaged segments are now.
  shard::Examiner::Rebuilt rebuilt;
  shard::Examination after;
};

std::size_t place(JobState state) { return static_cast<std::size_t>(state); }
std::string file_name(std::string const& path) { return std::filesystem::path{path}.filename().string(); }
std::string percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "0 %" : fmt::format("{:.0f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}
std::string size_of(std::uint64_t bytes) {
  if (bytes < 10'240) return fmt::format("{} B", with_commas(bytes));
  if (bytes < (10u << 20)) return fmt::format("{:.0f} KiB", static_cast<double>(bytes) / 1024);
  return fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1 << 20));
}

// ---- For programs.

void write_depth(std::array<std::uint64_t, kJobStates> const& depth, JsonWriter& json) {
  json.begin_object();
  for (JobState const state : kStates) json.member(to_string(state), depth[place(state)]);
  json.end_object();
}

// Batches of jobs are `job_batches`: the log has batches of its own.
void write_taken(std::string const& one, std::string const& many, shard::Taken const& taken, JsonWriter& json) {
  json.member(many + "_lost", taken.lost).member(many + "_touched", taken.touched);
  json.key(one + "_ids").begin_array();
  for (std::string const& id : taken.ids) json.value(id);
  json.end_array();
}

void write_losses(shard::Examination const& seen, JsonWriter& json) {
  json.key("damage").begin_array();
  for (shard::Loss const& loss : seen.losses) {
    json.begin_object();
    json.member("kind", log::to_string(loss.damage.kind)).member("file", loss.file);
    json.member("offset", loss.damage.from);
    json.key("until");
    if (loss.damage.until > 0) {
      json.value(loss.damage.until);
    } else {
      json.null();
    }
    json.member("what", loss.damage.what).member("batches_lost", loss.damage.frames_lost);
    write_taken("job", "jobs", loss.jobs, json);
    write_taken("job_batch", "job_batches", loss.batches, json);
    json.end_object();
  }
  json.end_array();
}

std::string as_json(shard::Examination const& seen, DoctorOptions const& options, Repaired const* repaired) {
  std::string out;
  JsonWriter json{out};
  json.begin_object();
  json.member("folder", options.folder).member("health", to_string(seen.health));
  json.key("refusal");
  if (seen.refusal) {
    json.begin_object().member("code", to_string(seen.refusal->code)).member("message", describe(*seen.refusal));
    json.end_object();
  } else {
    json.null();
  }
  json.member("format_version", seen.format_version);
  json.key("log_id").plain(fmt::format("{:016x}", seen.log_id));
  json.member("epoch", std::to_underlying(seen.epoch)).member("batches", seen.batches).member("records", seen.records);
  json.key("last_batch_at");
  if (seen.batches > 0) {
    json.value(seen.last_batch_at);
  } else {
    json.null();
  }
  json.member("used_bytes", seen.used_bytes).member("live_bytes", seen.live_bytes);
  json.member("cached", seen.cached);
  json.key("torn");
  if (seen.health == shard::Health::torn) {
    auto const file = std::find_if(seen.segments.begin(), seen.segments.end(),
                                   [&](auto const& segment) { return segment.ordinal == seen.torn_at.segment; });
    json.begin_object().member("file", file != seen.segments.end() ? file->file : "");
    json.member("offset", seen.torn_at.offset).member("bytes", seen.torn_bytes).end_object();
  } else {
    json.null();
  }
  json.key("segments").begin_array();
  for (shard::SegmentFigures const& segment : seen.segments) {
    json.begin_object();
    json.member("ordinal", segment.ordinal).member("file", segment.file).member("file_bytes", segment.file_bytes);
    json.member("used_bytes", segment.used_bytes).member("batches", segment.batches).member("records", segment.records);
    json.member("live_records", segment.live_records).end_object();
  }
  json.end_array();
  write_losses(seen, json);
  json.member("batches_lost", seen.frames_lost).member("contradictions", seen.contradictions);
  json.key("jobs").begin_object().member("total", seen.jobs.jobs);
  for (JobState const state : kStates) json.member(to_string(state), seen.jobs.depth[place(state)]);
  json.end_object();
  json.member("job_batches", seen.jobs.batches);
  json.key("queues").begin_array();
  for (QueueView const& queue : seen.queues) {
    json.begin_object().member("name", queue.name).key("depth");
    write_depth(queue.depth, json);
    json.end_object();
  }
  json.end_array();
  json.key("repaired");
  if (repaired != nullptr) {
    json.begin_object().member("backup", repaired->aside).member("jobs", repaired->rebuilt.jobs);
    json.member("jobs_shortened", repaired->rebuilt.shortened).member("job_batches", repaired->after.jobs.batches);
    json.member("health", to_string(repaired->after.health)).end_object();
  } else {
    json.null();
  }
  json.end_object();
  return out;
}

// ---- For people.

std::string headline(shard::Examination const& seen, DoctorOptions const& options, bool colours) {
  switch (seen.health) {
    case shard::Health::none:
      return fmt::format("{}: there is no log here. A server would begin a new, empty one", options.folder);
    case shard::Health::healthy:
      return fmt::format("{}: {}", options.folder, coloured("healthy", Colour::green, colours));
    case shard::Health::torn:
      return fmt::format(
          "{}: {}. The last write was not finished, and nobody was told that it was: {} behind offset {} of segment "
          "{}, "
          "which the server will cut off",
          options.folder, coloured("healthy, with a torn tail", Colour::green, colours),
          counted(seen.torn_bytes, "byte"), seen.torn_at.offset, seen.torn_at.segment);
    case shard::Health::damaged:
      return fmt::format("{}: {}. A server refuses to start on it", options.folder,
                         coloured("damaged", Colour::red, colours));
  }
  return {};
}

std::string counted_batches(std::uint64_t number) {
  return number == 1 ? "1 batch of jobs" : with_commas(number) + " batches of jobs";
}

void print_taken(shard::Taken const& taken, std::string (*count)(std::uint64_t)) {
  auto const are = [&](std::uint64_t number) { return count(number) + (number == 1 ? " is" : " are"); };
  if (taken.lost > 0) {
    print_line(fmt::format("    {} lost, as far as it can be read:", are(taken.lost)));
    for (std::size_t i = 0; i < std::min(taken.ids.size(), kIdsShown); ++i) {
      print_line("      " + one_line(taken.ids[i]));
    }
    if (taken.lost > kIdsShown) print_line("      … (--json names up to 1,000)");
  }
  if (taken.touched > 0) {
    print_line(fmt::format("    {} still there, and what happened to {} at that point is not", are(taken.touched),
                           taken.touched == 1 ? "it" : "them"));
  }
}

void print_losses(shard::Examination const& seen) {
  print_line("\nDamage");
  for (shard::Loss const& loss : seen.losses) {
    std::string const range = loss.damage.until > loss.damage.from
                                  ? fmt::format("offset {} to {}", loss.damage.from, loss.damage.until)
                                  : fmt::format("offset {} on", loss.damage.from);
    print_line(fmt::format("  {}, {}: {}", loss.file, range, loss.damage.what));
    if (loss.damage.frames_lost > 0) {
      print_line(fmt::format("    {} lost", loss.damage.frames_lost == 1
                                                ? std::string{"1 batch is"}
                                                : with_commas(loss.damage.frames_lost) + " batches are"));
    }
    print_taken(loss.jobs, [](std::uint64_t number) { return counted(number, "job"); });
    print_taken(loss.batches, counted_batches);
    bool const is_any_known = loss.jobs.lost + loss.jobs.touched + loss.batches.lost + loss.batches.touched > 0;
    if (!is_any_known && loss.damage.kind != log::DamageKind::format_version) {
      print_line("    which jobs that takes cannot be read any more");
    }
  }
}

void print_jobs(shard::Examination const& seen, bool colours) {
  TextTable table;
  table.column("QUEUE");
  for (JobState const state : kStates) {
    std::string title{to_string(state)};
    std::transform(title.begin(), title.end(), title.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    table.column(std::move(title), TextTable::Align::right);
  }
  for (QueueView const& queue : seen.queues) {
    std::vector<TextTable::Cell> cells{{one_line(queue.name)}};
    for (JobState const state : kStates) cells.push_back({with_commas(queue.depth[place(state)])});
    table.row(std::move(cells));
  }
  if (table.empty()) return;
  std::fputs(table.render(colours, terminal_width(stdout)).c_str(), stdout);
}

void print_examination(shard::Examination const& seen, DoctorOptions const& options) {
  bool const colours = wants_colour(stdout);
  print_line(headline(seen, options, colours));
  if (seen.refusal) print_line("  " + describe(*seen.refusal));
  if (seen.health == shard::Health::none) return;
  print_line(fmt::format("\nformat version {} · log {:016x} · epoch {} · {} · {}", seen.format_version, seen.log_id,
                         std::to_underlying(seen.epoch),
                         seen.batches == 1 ? std::string{"1 batch"} : with_commas(seen.batches) + " batches",
                         seen.batches > 0 ? "last written " + format_rfc3339(seen.last_batch_at) : "nothing written"));
  print_line(fmt::format("{} used, {} of it by living jobs and cached values ({})\n", size_of(seen.used_bytes),
                         size_of(seen.live_bytes), percent(seen.live_bytes, seen.used_bytes)));
  TextTable table;
  table.column("SEGMENT");
  for (char const* title : {"FILE", "USED", "BATCHES", "RECORDS", "LIVE"}) {
    table.column(title, TextTable::Align::right);
  }
  for (shard::SegmentFigures const& segment : seen.segments) {
    table.row({{file_name(segment.file)},
               {size_of(segment.file_bytes)},
               {size_of(segment.used_bytes)},
               {with_commas(segment.batches)},
               {with_commas(segment.records)},
               {percent(segment.live_records, segment.records)}});
  }
  std::fputs(table.render(colours, terminal_width(stdout)).c_str(), stdout);
  if (!seen.losses.empty()) print_losses(seen);
  if (seen.contradictions > 0) {
    print_line(fmt::format("  {} of later batches do not fit what is left of their jobs; the later word counts",
                           counted(seen.contradictions, "record")));
  }
  print_line(fmt::format("\n{}{}{}", seen.health == shard::Health::damaged ? "What is left: " : "",
                         counted(seen.jobs.jobs, "job"),
                         seen.jobs.batches > 0 ? ", " + counted_batches(seen.jobs.batches) : std::string{}));
  print_jobs(seen, colours);
}

// ---- The work.

class Work {
 public:
  explicit Work(Clock const& clock) : clock_(clock), started_(clock.now()) {}
  shard::OnProgress shows(std::string_view what) {
    return [this, what](std::uint64_t done, std::uint64_t total) {
      Instant const now = clock_.now();
      if (line_.is_due(now)) line_.show(progress_line(what, done, total, now - started_, terminal_width(stderr)), now);
    };
  }
  void clear() { line_.clear(); }

 private:
  Clock const& clock_;
  Instant const started_;
  ProgressLine line_;
};

bool has_future_version(shard::Examination const& seen) {
  return std::any_of(seen.losses.begin(), seen.losses.end(),
                     [](auto const& loss) { return loss.damage.kind == log::DamageKind::format_version; });
}

Result<std::unique_ptr<log::Log>> open_fresh(std::string const& folder, std::uint64_t segment_bytes) {
  WM_TRY(auto fresh,
         log::open_file_log({.folder = folder, .segment_bytes = static_cast<std::uint32_t>(segment_bytes)}));
  auto const nothing = [](log::ReplayedBatch const&) -> Result<> { return {}; };
  WM_TRY([[maybe_unused]] auto const replayed, fresh->replay(nothing, {}));
  WM_TRY([[maybe_unused]] auto const epoch, fresh->own());
  return fresh;
}

Result<Repaired> repair(shard::Examiner& examiner, shard::Examination const& seen, log::FolderRepair& place, Work& work,
                        Clock const& clock) {
  Repaired repaired;
  WM_TRY(std::string const room, place.make_room());
  std::uint64_t largest = 0;
  for (shard::SegmentFigures const& segment : seen.segments) largest = std::max(largest, segment.file_bytes);
  {
    WM_TRY(auto fresh,
           open_fresh(room, std::clamp<std::uint64_t>(largest, std::uint64_t{1} << 20, log::kSegmentBytesMax)));
    WM_TRY(repaired.rebuilt, examiner.rebuild(*fresh, work.shows("rebuilding (bytes)")));
  }
  // The new log is read back before it takes anybody's place.
  {
    WM_TRY(auto const disk, log::ReadOnlyDisk::open(room, log::ReadOnlyDisk::Guard::none));
    shard::Examiner second{*disk};
    WM_TRY(repaired.after, second.examine(work.shows("checking (bytes)")));
  }
  if (repaired.after.health != shard::Health::healthy || repaired.after.jobs.depth != seen.jobs.depth ||
      repaired.after.jobs.batches != seen.jobs.batches) {
    return fail(ErrorCode::internal, "the rebuilt log does not hold what was read; nothing was changed");
  }
  std::string stamp = format_rfc3339(clock.now()).substr(0, 19);
  std::erase_if(stamp, [](char c) { return c == ':' || c == '-'; });
  WM_TRY(repaired.aside, place.finish("damaged-" + stamp + "Z"));
  return repaired;
}

void print_repaired(Repaired const& repaired, shard::Examination const& seen) {
  std::uint64_t const batches = repaired.after.jobs.batches;
  print_line(fmt::format("\nRepaired: a new log holds the {}{} that {} left, and a server starts on it",
                         counted(repaired.rebuilt.jobs, "job"),
                         batches > 0 ? " and " + counted_batches(batches) : std::string{},
                         repaired.rebuilt.jobs + batches == 1 ? "is" : "are"));
  std::uint64_t lost = 0;
  std::uint64_t batches_lost = 0;
  for (shard::Loss const& loss : seen.losses) {
    lost += loss.jobs.lost;
    batches_lost += loss.batches.lost;
  }
  print_line(fmt::format("  lost: {}{} known by name, in {} that {} gone", counted(lost, "job"),
                         batches_lost > 0 ? " and " + counted_batches(batches_lost) : std::string{},
                         seen.frames_lost == 1 ? std::string{"1 batch"} : with_commas(seen.frames_lost) + " batches",
                         seen.frames_lost == 1 ? "is" : "are"));
  if (repaired.rebuilt.shortened > 0) {
    print_line(fmt::format("  {} kept, without a part of their history", counted(repaired.rebuilt.shortened, "job")));
  }
  print_line(fmt::format("  the damaged segments, unchanged: {}", repaired.aside));
}

int run(DoctorOptions const& options, Context const& context) {
  Work work{context.clock};
  std::optional<log::FolderRepair> place;
  if (options.repair) {
    auto begun = log::FolderRepair::begin(options.folder);
    if (!begun) return fail_with(begun.error(), context);
    place.emplace(std::move(*begun));
    if (place->is_half_done()) {
      auto const finished = place->finish("damaged-before");
      if (!finished) return fail_with(finished.error(), context);
      fmt::print(stderr, "workmill: a repair that was cut short has been finished\n");
    }
  }
  using Guard = log::ReadOnlyDisk::Guard;
  auto const disk = log::ReadOnlyDisk::open(options.folder, options.repair ? Guard::none : Guard::keep_out);
  if (!disk) {
    int const code = fail_with(disk.error(), context);
    if (disk.error().code == ErrorCode::log_in_use) {
      fmt::print(stderr, "  of a server that runs:  workmill doctor URL says what limits it\n");
    }
    return code;
  }
  shard::Examiner examiner{**disk};
  auto const seen = examiner.examine(work.shows("reading (bytes)"));
  work.clear();
  if (!seen) return fail_with(seen.error(), context);
  if (!context.json) print_examination(*seen, options);

  bool const is_whole = seen->health == shard::Health::healthy || seen->health == shard::Health::torn;
  if (!options.repair || is_whole || seen->health == shard::Health::none) {
    if (context.json) print_line(as_json(*seen, options, nullptr));
    if (!context.json && options.repair && is_whole) print_line("\nThere is nothing to repair");
    if (!context.json && seen->health == shard::Health::damaged && !has_future_version(*seen)) {
      print_line(fmt::format("\nTo go on with what is left: workmill doctor {} --repair", options.folder));
    }
    return is_whole ? kExitOk : kExitFailed;
  }
  if (has_future_version(*seen)) {
    if (context.json) print_line(as_json(*seen, options, nullptr));
    return fail_with(Error{.code = ErrorCode::log_version,
                           .message = "the log was written by another version of Workmill: use that one"},
                     context);
  }
  auto const repaired = repair(examiner, *seen, *place, work, context.clock);
  work.clear();
  if (!repaired) {
    place->give_up();
    return fail_with(with_context(repaired.error(), "repairing"), context);
  }
  if (context.json) {
    print_line(as_json(*seen, options, &*repaired));
  } else {
    print_repaired(*repaired, *seen);
  }
  return kExitOk;
}

// A URL, or "host:port" as --server takes it, unless there is a folder of that name.
bool names_server(std::string const& target) {
  if (target.starts_with("http://") || target.starts_with("https://")) return true;
  std::error_code ignored;
  bool const has_port = target.find(':') != std::string::npos && target.find('/') == std::string::npos;
  return has_port && normal_url(target).has_value() && !std::filesystem::exists(target, ignored);
}

int run_on_either(DoctorOptions& options, Context& context) {
  bool const is_url = names_server(options.target);
  if (!is_url && !options.target.empty()) {
    options.folder = options.target;
    return run(options, context);
  }
  if (options.repair) return fail_usage("--repair is for a data folder; stop the server and name its folder");
  auto const watched = parse_duration(options.watched);
  if (!watched || *watched < Duration{100} || *watched > std::chrono::hours{1}) return fail_usage("--for: 100ms to 1h");
  if (is_url) context.server = options.target;
  return run_live_doctor(*watched, context);
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
  auto const options = std::make_shared<DoctorOptions>();  // Shared by the callback, which outlives this function.
  auto* const command = app.add_subcommand("doctor", "Say what limits a server, or examine a data folder");
  command->footer(std::string{kDoctorExamples});
  command->add_option("TARGET", options->target, "A data folder, or the URL of a server (default: see --server)")
      ->type_name("DIR|URL");
  command->add_option("--for", options->watched, "How long a server is watched (3s)")
      ->type_name("DURATION")
      ->check(is_duration());
  command->add_flag("--repair", options->repair, "Go on with what is left; the damaged segments are kept beside it");
  command->callback(
      [options, &context] { context.run = [options, &context] { return run_on_either(*options, context); }; });
}

}  // namespace workmill::app
