#include "app/commands/show_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

#include "base/base64.h"
#include "base/json_writer.h"
#include "model/command.h"
#include "model/job.h"

namespace workmill::app {
namespace {

constexpr Duration kPause{200};  // Before asking a server again that was away.

bool is_finished_text(std::string_view state) {
  auto const parsed = parse_job_state(state);
  return parsed && is_finished(*parsed);
}

// The job when it has finished, or as it is after `wait`. Once the server has answered, it may go away and come back.
Result<JsonDocument> get_finished(HttpClient& client, std::string_view id, Duration wait, Clock const& clock) {
  auto const path = fmt::format("/v1/jobs/{}", url_encoded(id));
  auto const end = clock.monotonic() + wait;
  bool was_answered = false;
  while (true) {
    auto const left = std::max(std::chrono::ceil<Duration>(end - clock.monotonic()), Duration{0});
    auto const this_time = std::min(left, kWaitMax);
    auto job = client.call({.path = fmt::format("{}?wait={}", path, format_duration(this_time)),
                            .timeout = this_time + std::chrono::seconds{30}});
    if (job && (left <= Duration{0} || is_finished_text(job->root().string_at("state")))) return job;
    was_answered |= job.has_value();
    if (!job) {
      bool const is_away = class_of(job.error().code) == ErrorClass::retryable;
      if (!is_away || !was_answered || left <= Duration{0}) return job;
      std::this_thread::sleep_for(kPause);
    }
  }
}

std::string when(JsonValue const& job, std::string_view field, Instant now) {
  auto const text = job.string_at(field);
  auto const at = parse_rfc3339(text);
  if (!at) return std::string{text};
  if (*at > now) return fmt::format("{}  (in {})", text, age(now, *at));
  auto const ago = age(*at, now);
  return fmt::format("{}  ({})", text, ago == "now" ? ago : ago + " ago");
}

std::string error_text(JsonValue const& error) {
  auto text = fmt::format("{} ({}): {}", error.string_at("code"), error.string_at("class"), error.string_at("message"));
  if (auto const attempt = error.number_at("attempt"); attempt > 0) text = fmt::format("attempt {}: {}", attempt, text);
  return text;
}

// Progress, the error or the result, whichever tells most of how it goes.
std::string note_of(JsonValue const& job) {
  auto const state = job.string_at("state");
  if (state == "completed") {
    auto const* result = job.find_set("result");
    return result != nullptr ? std::string{result->shown()} : "";
  }
  if (auto const* progress = job.find_set("progress"); progress != nullptr && state == "leased") {
    return fmt::format("{} % {}", progress->number_at("percent"), progress->string_at("message"));
  }
  auto const* error = job.find_set("error");
  return error != nullptr ? fmt::format("{}: {}", error->string_at("code"), error->string_at("message")) : "";
}

std::string joined(JsonValue const& list) {
  std::string text;
  for (auto const& item : list.items) text.append(text.empty() ? "" : ", ").append(item.shown());
  return text;
}

void print_result(JsonValue const& job) {
  if (auto const* bytes = job.find_set("result_base64")) {
    std::string decoded;
    decode_base64(bytes->text, decoded);
    std::fwrite(decoded.data(), 1, decoded.size(), stdout);
  } else if (auto const* result = job.find("result")) {
    print_line(result->shown());
  }
}

int exit_code_of(JsonValue const& job, Duration waited) {
  auto const state = job.string_at("state");
  if (state == "completed") return kExitOk;
  auto const* error = job.find_set("error");
  if (!is_finished_text(state)) {
    fmt::print(stderr, "workmill: after {} the job is still {}\n", format_duration(waited), state);
  } else if (error != nullptr) {
    fmt::print(stderr, "workmill: the job is {}: {}\n", state, one_line(error_text(*error)));
  } else {
    fmt::print(stderr, "workmill: the job is {}\n", state);
  }
  return kExitFailed;
}

}  // namespace

int show_job(HttpClient& client, std::string_view id, std::optional<Duration> wait, ShowJob what,
             Context const& context) {
  auto const job = get_finished(client, id, wait.value_or(Duration{0}), context.clock);
  if (!job) return fail_with(job.error(), context);
  auto const& root = job->root();
  if (context.json) {
    print_line(root.raw);
  } else if (what == ShowJob::details) {
    auto const text = job_details(root, context.clock.now(), wants_colour(stdout));
    std::fwrite(text.data(), 1, text.size(), stdout);
  } else if (root.string_at("state") == "completed") {
    print_result(root);
  }
  bool const is_asked_for = wait.has_value() || what == ShowJob::result;
  return is_asked_for ? exit_code_of(root, wait.value_or(Duration{0})) : kExitOk;
}

Colour colour_of_state(std::string_view state) {
  if (state == "completed") return Colour::green;
  if (state == "dead") return Colour::red;
  if (state == "leased") return Colour::blue;
  if (state == "ready") return Colour::yellow;
  return state == "cancelled" ? Colour::dim : Colour::plain;
}

std::string job_details(JsonValue const& job, Instant now, bool colours) {
  std::string out;
  auto const add = [&](std::string_view name, std::string_view value, Colour colour = Colour::plain) {
    if (value.empty()) return;
    out.append(fmt::format("{:<16}{}\n", name, coloured(one_line(value), colour, colours)));
  };
  auto const add_time = [&](std::string_view name, std::string_view field) {
    if (job.find_set(field) != nullptr) add(name, when(job, field, now));
  };
  auto const add_raw = [&](std::string_view name, std::string_view field) {
    if (auto const* value = job.find_set(field)) add(name, value->shown());
  };
  auto const state = job.string_at("state");
  add("id", job.string_at("id"), Colour::bold);
  add("type", job.string_at("type"));
  add("queue", job.string_at("queue"));
  bool const is_asked_to_stop = state == "leased" && job.flag_at("cancel_requested");
  add("state", is_asked_to_stop ? fmt::format("{}, to be cancelled", state) : std::string{state},
      colour_of_state(state));
  add("attempt", fmt::format("{} of {}", job.number_at("attempt"), job.number_at("max_attempts")));
  add_raw("priority", "priority");
  add_raw("group", "group");
  if (auto const* tags = job.find_set("tags")) add("tags", joined(*tags));
  add_raw("batch", "batch");
  if (auto const* unique = job.find_set("unique")) add("unique", unique->string_at("key"));
  add_time("created", "created_at");
  add_time("ready", "ready_at");
  add_time("started", "started_at");
  add_time("lease until", "lease_expires_at");
  add_time("finished", "finished_at");
  add_raw("worker", "worker");
  if (auto const* progress = job.find_set("progress")) {
    add("progress", fmt::format("{} % {}", progress->number_at("percent"), progress->string_at("message")));
  }
  add_raw("payload", "payload");
  add_raw("payload_base64", "payload_base64");
  add_raw("meta", "meta");
  add_raw("result", "result");
  add_raw("result_base64", "result_base64");
  if (auto const* errors = job.find_set("errors")) {
    for (auto const& error : errors->items) add("error", error_text(error), Colour::red);
  }
  return out;
}

void job_columns(TextTable& table) {
  table.column("ID")
      .column("TYPE")
      .column("QUEUE")
      .column("STATE")
      .column("TRY", TextTable::Align::right)
      .column("AGE", TextTable::Align::right)
      .column("NOTE");
}

void add_job_row(TextTable& table, JsonValue const& job, Instant now) {
  auto const state = job.string_at("state");
  auto const created = parse_rfc3339(job.string_at("created_at"));
  table.row({{std::string{job.string_at("id")}},
             {std::string{job.string_at("type")}},
             {std::string{job.string_at("queue")}},
             {std::string{state}, colour_of_state(state)},
             {std::to_string(job.number_at("attempt"))},
             {created ? age(*created, now) : ""},
             {note_of(job), state == "dead" ? Colour::red : Colour::plain}});
}

}  // namespace workmill::app
