#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "app/commands/commands.h"
#include "app/commands/context.h"
#include "app/commands/job_request.h"
#include "app/commands/show_job.h"
#include "app/commands/validators.h"
#include "app/http_client.h"
#include "app/terminal.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

constexpr std::string_view kEnqueueExamples =
    R"(
Examples:
  workmill enqueue thumbnail photo.jpg                  the payload is the text "photo.jpg"
  workmill enqueue invoice '{"number": 42}' --queue billing --priority 9
  workmill enqueue report --delay 30s --unique daily    later, and not twice
  id=$(workmill enqueue digest "$file")                 prints the job's id, nothing else
  workmill enqueue digest "$file" --wait 1m             prints its result
  find . -name '*.jpg' | workmill enqueue thumbnail --lines -
  workmill enqueue --lines jobs.ndjson                  each line a job as the API has it: {"type": ...}

When it returns, the jobs are on disk. A payload that is JSON is sent as JSON, anything else as a string; --text and
--bytes say that it is not to be looked at. A request is sent under a key of its own, so that trying again, which
--lines does while the server is away, cannot enqueue a job twice.
)";

constexpr char const* kJobGroup = "The job";
constexpr Duration kBackoffFirst{100};
constexpr Duration kBackoffMax = std::chrono::seconds{2};

struct EnqueueOptions {
  JobOptions job;
  std::optional<std::string> payload;
  std::optional<std::string> payload_file;
  bool as_text = false;
  bool as_bytes = false;
  std::string lines;
  std::string key;
  std::string wait;
  std::string patience = "30s";
  bool has_job_options = false;

  PayloadFrom payload_from() const {
    if (as_bytes) return PayloadFrom::bytes;
    return as_text ? PayloadFrom::text : PayloadFrom::guess;
  }
};

Result<std::string> read_all(std::istream& in) {
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  if (in.bad()) return fail(ErrorCode::io_failed, "standard input cannot be read");
  return text;
}

// ---- One job ----

int enqueue_one(EnqueueOptions const& options, Context const& context) {
  auto const payload = [&]() -> Result<std::optional<std::string>> {
    if (!options.payload) return std::optional<std::string>{};
    if (*options.payload != "-") return options.payload;
    WM_TRY(auto text, read_all(std::cin));
    return std::optional{std::move(text)};
  }();
  if (!payload) return fail_with(payload.error(), context);
  std::optional<std::string_view> const lent = *payload;
  auto job = job_json(options.job, lent, options.payload_from());
  if (!job) return fail_with(job.error(), context);
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);

  HttpClient client{std::move(*address)};
  auto const key = options.key.empty() ? make_idempotency_key() : options.key;
  auto const answer = client.call({.method = "POST",
                                   .path = "/v1/jobs",
                                   .body = std::move(*job),
                                   .idempotency_key = key,
                                   .traceparent = trace_variable("TRACEPARENT"),
                                   .tracestate = trace_variable("TRACESTATE")});
  if (!answer) return fail_with(answer.error(), context);
  auto const& root = answer->root();
  std::string const id{root.string_at("id")};
  if (!options.wait.empty()) {
    auto const wait = parse_duration(options.wait).value_or(Duration{0});
    return show_job(client, id, wait, ShowJob::result, context);
  }
  if (context.json) {
    print_line(root.raw);
    return kExitOk;
  }
  print_line(id);
  if (root.flag_at("duplicate")) fmt::print(stderr, "workmill: this job is there already; nothing was added\n");
  return kExitOk;
}

// ---- A line each ----

class LineSender {
 public:
  LineSender(EnqueueOptions const& options, ServerAddress address, Context const& context)
      : options_(options),
        context_(context),
        client_(std::move(address)),
        patience_(parse_duration(options.patience).value_or(Duration{0})),
        started_at_(context.clock.now()) {}

  void set_total(std::optional<std::uint64_t> total) { total_ = total; }

  Result<> add_line(std::string const& line) {
    ++line_;
    if (line.find_first_not_of(" \t\r") == std::string::npos) return {};
    auto job = job_of(line);
    if (!job) {
      WM_TRY_VOID(flush());  // What came before it is good, and the message says that it was sent.
      return std::unexpected(with_context(job.error(), fmt::format("reading line {}", line_)));
    }
    batch_.add(*job, line_);
    return batch_.is_full() ? flush() : Result<>{};
  }

  Result<> flush() {
    if (batch_.empty()) return {};
    auto const jobs = batch_.size();
    auto const answer = send(batch_.take_body());
    if (!answer) {
      auto const line = batch_.line_of_field(answer.error().field);
      auto const where = line ? fmt::format("sending line {}", *line)
                              : fmt::format("sending the {} lines from {} on", jobs, batch_.first_line());
      batch_.clear();
      return std::unexpected(with_context(answer.error(), where));
    }
    batch_.clear();
    sent_ += jobs;
    if (auto const* items = answer->root().find("jobs")) {
      duplicates_ += static_cast<std::uint64_t>(std::count_if(
          items->items.begin(), items->items.end(), [](auto const& job) { return job.flag_at("duplicate"); }));
    }
    show_progress();
    return {};
  }

  std::uint64_t sent() const { return sent_; }
  std::uint64_t duplicates() const { return duplicates_; }
  void clear_progress() { progress_.clear(); }

 private:
  Result<std::string> job_of(std::string const& line) const {
    std::string_view text{line};
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (!options_.job.type.empty()) return job_json(options_.job, text, options_.payload_from());
    WM_TRY(auto const document, parse_json(text));
    if (document.root().kind != JsonValue::Kind::object) {
      return fail(ErrorCode::malformed_json,
                  "a job is a JSON object: {\"type\": ...}; with a TYPE a line is a payload");
    }
    return std::string{document.root().raw};
  }

  // The same request under the same key until the server has taken it, or patience is over.
  Result<JsonDocument> send(std::string body) {
    HttpRequest const request{.method = "POST",
                              .path = "/v1/jobs",
                              .body = std::move(body),
                              .idempotency_key = make_idempotency_key(),
                              .traceparent = trace_variable("TRACEPARENT"),
                              .tracestate = trace_variable("TRACESTATE"),
                              .timeout = std::chrono::seconds{60}};
    auto const give_up_at = context_.clock.monotonic() + patience_;
    for (Duration backoff = kBackoffFirst;; backoff = std::min(backoff * 2, kBackoffMax)) {
      auto reply = client_.send(request);
      auto answer = reply ? read_reply(*reply) : Result<JsonDocument>{std::unexpected(reply.error())};
      if (answer) was_answered_ = true;
      bool const again = !answer && class_of(answer.error().code) == ErrorClass::retryable &&
                         (was_answered_ || reply.has_value()) && context_.clock.monotonic() < give_up_at;
      if (!again) return answer;
      auto const asked_for = reply ? reply->retry_after.value_or(backoff) : backoff;
      if (progress_.enabled()) progress_.show(describe(answer.error()) + "; trying again", context_.clock.now());
      std::this_thread::sleep_for(std::max(asked_for, backoff));
    }
  }

  void show_progress() {
    auto const now = context_.clock.now();
    if (!progress_.is_due(now)) return;
    progress_.show(progress_line("enqueue", sent_, total_, now - started_at_, terminal_width(stderr)), now);
  }

  EnqueueOptions const& options_;
  Context const& context_;
  HttpClient client_;
  Duration patience_;
  Instant started_at_;
  std::optional<std::uint64_t> total_;
  ProgressLine progress_;
  JobBatch batch_;
  std::uint64_t line_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t duplicates_ = 0;
  bool was_answered_ = false;
};

// So that the progress knows its end.
std::uint64_t count_lines(std::istream& in) {
  std::string line;
  std::uint64_t count = 0;
  while (std::getline(in, line)) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) ++count;
  }
  in.clear();
  in.seekg(0);
  return count;
}

int enqueue_lines(EnqueueOptions const& options, Context const& context) {
  auto address = context.address();
  if (!address) return fail_with(address.error(), context);
  LineSender sender{options, std::move(*address), context};
  std::ifstream file;
  if (options.lines != "-") {
    file.open(options.lines);
    if (!file) {
      return fail_with(
          {.code = ErrorCode::io_failed, .message = fmt::format("{}: {}", options.lines, std::strerror(errno))},
          context);
    }
    if (is_terminal(stderr)) sender.set_total(count_lines(file));
  }
  std::istream& in = options.lines == "-" ? std::cin : file;

  Result<> done;
  std::string line;
  while (done && std::getline(in, line)) done = sender.add_line(line);
  if (done && in.bad()) done = fail(ErrorCode::io_failed, fmt::format("{} cannot be read to its end", options.lines));
  if (done) done = sender.flush();
  sender.clear_progress();

  std::string summary;
  if (context.json) {
    JsonWriter{summary}
        .begin_object()
        .member("sent", sender.sent())
        .member("duplicates", sender.duplicates())
        .end_object();
  } else {
    summary = counted(sender.sent() - sender.duplicates(), "job") + " enqueued";
    if (sender.duplicates() > 0) summary += fmt::format(", {} there already", with_commas(sender.duplicates()));
  }
  if (done || sender.sent() > 0) print_line(summary);
  return done ? kExitOk : fail_with(done.error(), context);
}

int run(EnqueueOptions const& options, Context const& context) {
  if (!options.lines.empty()) {
    if (options.payload) return fail_usage("--lines takes its payloads from the lines: leave PAYLOAD out");
    if (options.job.type.empty() && options.has_job_options) {
      return fail_usage("--lines without a TYPE takes whole jobs: what is said of a job belongs into its line");
    }
    return enqueue_lines(options, context);
  }
  if (options.job.type.empty()) return fail_usage("TYPE is missing: workmill enqueue TYPE [PAYLOAD]");
  return enqueue_one(options, context);
}

}  // namespace

void add_enqueue(CLI::App& app, Context& context) {
  auto const options = std::make_shared<EnqueueOptions>();  // Shared by the callback, which outlives this function.
  auto* const command = app.add_subcommand("enqueue", "Hand in a job, or one for each line of a file");
  command->footer(std::string{kEnqueueExamples});
  auto& job = options->job;
  command->add_option("TYPE", job.type, "What kind of job it is; workers see it")
      ->type_name("NAME")
      ->check(is_a_name());
  command->add_option("PAYLOAD", options->payload,
                      "What the job is about; - reads standard input. Without it: nothing");
  auto* const lines = command->add_option("--lines", options->lines,
                                          "A job for each line of FILE (- is standard input): its payload, or without "
                                          "TYPE a whole job as JSON");
  lines->type_name("FILE");
  auto* const text = command->add_flag("--text", options->as_text, "The payload is text, even if it looks like JSON");
  command->add_flag("--bytes", options->as_bytes, "The payload is bytes, sent as payload_base64")->excludes(text);
  auto* const wait = command->add_option(
      "--wait", options->wait, "Wait so long for its end and print its result; exit 1 if it did not complete");
  wait->type_name("DURATION")->check(is_duration())->excludes(lines);
  command
      ->add_option("--patience", options->patience,
                   "With --lines: how long to go on trying while the server is away or full")
      ->type_name("DURATION")
      ->check(is_duration())
      ->capture_default_str();

  auto const in_job = [command](std::string name, auto& variable, std::string what) {
    return command->add_option(std::move(name), variable, std::move(what))->group(kJobGroup);
  };
  in_job("-q,--queue", job.queue, "The queue; `default` if not given")->type_name("NAME")->check(is_a_name());
  in_job("--id", job.id, "An id of your own; enqueueing it again does nothing")
      ->type_name("NAME")
      ->check(is_a_name())
      ->excludes(lines);
  in_job("--priority", job.priority, "0 to 9, 9 first; 5 if not given")
      ->type_name("N")
      ->check(CLI::Range(0, 9).description(""));
  auto* const delay = in_job("--delay", job.delay, "Not before this has passed: 30s, 5m, 1h30m, 7d")
                          ->type_name("DURATION")
                          ->check(is_duration());
  in_job("--run-at", job.run_at, "Not before this time: 2026-11-22T09:00:00Z")
      ->type_name("TIME")
      ->check(is_time())
      ->excludes(delay);
  in_job("--expires-in", job.expires_in, "Dead if nobody has taken it by then")
      ->type_name("DURATION")
      ->check(is_duration());
  in_job("--max-attempts", job.max_attempts, "Dead after so many failed attempts; 20 if not given");
  in_job("--backoff-first", job.backoff_first, "Pause after the first failure; 15s if not given")
      ->type_name("DURATION")
      ->check(is_duration());
  in_job("--backoff-factor", job.backoff_factor, "Each further pause is so many times longer; 2 if not given");
  in_job("--backoff-cap", job.backoff_cap, "But no longer than this; 1h if not given")
      ->type_name("DURATION")
      ->check(is_duration());
  in_job("--backoff-jitter", job.backoff_jitter, "And varied by up to this share; 0.2 if not given");
  in_job("--lease", job.lease, "How long a worker has it before it must say more; 60s if not given")
      ->type_name("DURATION")
      ->check(is_duration());
  auto* const unique = in_job("--unique", job.unique_key, "Not while there is another job of this key in the queue");
  in_job("--unique-while", job.unique_while, "scheduled, queued or unfinished: while the other one is this")
      ->check(CLI::IsMember({"scheduled", "queued", "unfinished"}))
      ->needs(unique);
  in_job("--unique-for", job.unique_for, "The key is free after this, whatever the other one does")
      ->type_name("DURATION")
      ->check(is_duration())
      ->needs(unique);
  in_job("--group", job.group, "Groups of a queue take turns: one cannot starve another")
      ->type_name("NAME")
      ->check(is_a_name());
  in_job("--tag", job.tags, "To find it by; may be given several times")
      ->type_name("NAME")
      ->check(is_a_name())
      ->allow_extra_args(false);
  in_job("--batch", job.batch, "The batch, not closed yet, that it belongs to")->type_name("ID")->check(is_a_name());
  in_job("--keep-result", job.keep_result, "How long it is kept when it has completed; 1h if not given")
      ->type_name("DURATION")
      ->check(is_duration());
  in_job("--meta", job.meta, "A JSON object that travels with it");
  in_job("--idempotency-key", options->key, "The same key within a day enqueues nothing new")->excludes(lines);

  command->callback([options, command, &context] {
    for (auto const* option : command->get_options()) {
      options->has_job_options |= option->get_group() == kJobGroup && option->count() > 0;
    }
    context.run = [options, &context] { return run(*options, context); };
  });
}

}  // namespace workmill::app
