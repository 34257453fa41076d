#include "app/worker/report.h"

#include <fmt/format.h>
#include <sysexits.h>

#include <cstring>
#include <utility>

#include "base/base64.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

JsonWriter begin_report(std::string& out, LeaseName const& job, std::string_view outcome) {
  JsonWriter json{out};
  json.begin_object().member("id", job.id).member("lease", job.lease).member("outcome", outcome);
  return json;
}

void append_result(JsonWriter& json, std::string_view output) {
  if (output.empty()) return;
  if (auto const document = parse_json(output)) {
    json.key("result").raw(document->root().raw);
  } else if (is_utf8(output)) {
    if (output.ends_with('\n')) output.remove_suffix(1);
    json.member("result", output);
  } else {
    json.key("result_base64").plain_from([output](std::string& out) { append_base64(output, out); });
  }
}

Outcome failed(LeaseName const& job, std::string_view error_class, std::string_view code, std::string why) {
  auto report = failed_report(job, error_class, code, why);
  return {.completed = false, .report = std::move(report), .why = std::move(why)};
}

std::string with_last_line(std::string message, std::string_view last_line) {
  return last_line.empty() ? message : fmt::format("{}: {}", message, last_line);
}

}  // namespace

Result<LeasedJob> read_leased_job(JsonValue const& job, PayloadAs payload_as) {
  LeasedJob leased;
  leased.id = job.string_at("id");
  leased.lease = job.string_at("lease");
  leased.type = job.string_at("type");
  leased.queue = job.string_at("queue");
  leased.traceparent = job.string_at("traceparent");
  leased.tracestate = job.string_at("tracestate");
  if (auto const* checkpoint = job.find("checkpoint")) leased.checkpoint = checkpoint->raw;
  leased.attempt = job.number_at("attempt", 1);
  leased.max_attempts = job.number_at("max_attempts");
  if (leased.id.empty() || leased.lease.empty()) {
    return fail(ErrorCode::protocol_error, "a leased job came without its id or its lease");
  }
  WM_TRY(leased.lease_expires_at, parse_rfc3339(job.string_at("lease_expires_at")));
  if (auto const* payload = job.find_set("payload")) {
    leased.input = payload_as == PayloadAs::text ? payload->shown() : payload->raw;
  } else if (auto const* base64 = job.find_set("payload_base64")) {
    if (!decode_base64(base64->text, leased.input)) {
      return fail(ErrorCode::protocol_error, "a leased job's payload_base64 is no base64");
    }
  } else if (job.find("payload") != nullptr) {
    leased.input = "null";  // Sent as such: not the same as nothing.
  }
  return leased;
}

std::string completed_report(LeaseName const& job, std::string_view output) {
  std::string out;
  auto json = begin_report(out, job, "completed");
  append_result(json, output);
  json.end_object();
  return out;
}

std::string failed_report(LeaseName const& job, std::string_view error_class, std::string_view code,
                          std::string_view message) {
  std::string out;
  begin_report(out, job, "failed")
      .key("error")
      .begin_object()
      .member("class", error_class)
      .member("code", code)
      .member("message", message)
      .end_object()
      .end_object();
  return out;
}

std::string released_report(LeaseName const& job) {
  std::string out;
  begin_report(out, job, "released").end_object();
  return out;
}

std::string extend_report(LeaseName const& job, Duration by) {
  std::string out;
  begin_report(out, job, "extend").member("for", format_duration(by)).end_object();
  return out;
}

std::string checkpoint_report(LeaseName const& job, std::string_view data) {
  std::string out;
  auto json = begin_report(out, job, "checkpoint");
  json.key("data").raw(data);
  json.end_object();
  return out;
}

std::string log_report(LeaseName const& job, std::vector<std::string> const& lines) {
  std::string out;
  auto json = begin_report(out, job, "log");
  json.key("lines").begin_array();
  for (auto const& line : lines) json.value(line);
  json.end_array().end_object();
  return out;
}

Outcome outcome_of(LeaseName const& job, ChildProcess::End end, std::string_view output, bool output_is_cut,
                   std::string_view last_error_line) {
  if (end.signal != 0) {
    return failed(
        job, "retryable", fmt::format("signal_{}", end.signal),
        with_last_line(fmt::format("the command was ended by signal {} ({})", end.signal, strsignal(end.signal)),
                       last_error_line));
  }
  if (end.exit_code != 0) {
    bool const is_user = end.exit_code == EX_DATAERR;  // 65; 75, EX_TEMPFAIL, is retryable as are all others.
    return failed(job, is_user ? "user" : "retryable", fmt::format("exit_{}", end.exit_code),
                  with_last_line(fmt::format("the command ended with exit code {}", end.exit_code), last_error_line));
  }
  if (output_is_cut) {
    return failed(job, "user", "result_too_large",
                  fmt::format("standard output is over {} bytes, the most that a result may have", kOutputBytesMax));
  }
  return {.completed = true, .report = completed_report(job, output), .why = {}};
}

}  // namespace workmill::app
