#include "protocols/http/json/json_out.h"

#include <array>
#include <cmath>
#include <optional>

#include "base/base64.h"
#include "base/digits.h"
#include "base/json_writer.h"
#include "model/job.h"
#include "protocols/http/problem.h"
#include "telemetry/job_trace.h"

namespace workmill::http {
namespace {

using service::Service;

constexpr std::array<std::string_view, kJobStates> kDepthNames{"scheduled", "ready", "leased",
                                                               "completed", "dead",  "cancelled"};

void write_id(JobNumber number, BytesView client_id, Service const& service, JsonWriter& json) {
  json.key("id").plain_from([&](std::string& out) { service.append_id(number, client_id, out); });
}

void write_token(LeaseToken token, JsonWriter& json) {
  std::array<char, 16> text;
  std::uint64_t const value = std::to_underlying(token);
  for (std::size_t i = 0; i < 8; ++i) put_hex_byte(&text[2 * i], static_cast<std::uint8_t>(value >> (56 - 8 * i)));
  json.key("lease").plain({text.data(), text.size()});
}

// As `name`, or as `name`_base64 where the bytes are no JSON; not at all where there are none.
void write_bytes(PayloadKind kind, BytesView bytes, std::string_view name, std::string_view base64_name,
                 JsonWriter& json) {
  switch (kind) {
    case PayloadKind::none:
    case PayloadKind::lost: return;
    case PayloadKind::json: json.key(name).raw(bytes); return;
    case PayloadKind::raw:
      json.key(base64_name).plain_from([&](std::string& out) { append_base64(bytes, out); });
      return;
  }
}

void write_text_if_any(std::string_view name, std::string_view text, JsonWriter& json) {
  if (!text.empty()) json.member(name, text);
}
void write_time_if_any(std::string_view name, std::optional<Instant> const& at, JsonWriter& json) {
  if (at) json.member(name, *at);
}
void write_duration(std::string_view name, Duration duration, JsonWriter& json) {
  json.key(name).plain(format_duration(duration));
}
void write_duration_if_any(std::string_view name, std::optional<Duration> const& duration, JsonWriter& json) {
  if (duration) write_duration(name, *duration, json);
}
JsonWriter& write_texts(std::span<std::string const> texts, JsonWriter& json) {
  json.begin_array();
  for (std::string const& text : texts) json.value(text);
  return json.end_array();
}

void write_tags_if_any(std::vector<std::string_view> const& tags, JsonWriter& json) {
  if (tags.empty()) return;
  json.key("tags").begin_array();
  for (std::string_view const tag : tags) json.plain(tag);
  json.end_array();
}

void write_enqueued(EnqueuedJob const& job, Service const& service, JsonWriter& json) {
  json.begin_object();
  write_id(job.number, job.client_id, service, json);
  json.key("state").plain(to_string(job.state)).member("duplicate", job.duplicate).end_object();
}

void write_attempt_context(JobSpecView const& spec, LeaseToken lease, JsonWriter& json) {
  auto const creation = telemetry::parse_traceparent(spec.traceparent);
  if (!creation || !creation->is_sampled()) return write_text_if_any("traceparent", spec.traceparent, json);
  auto const text = telemetry::format_traceparent(telemetry::attempt_context(*creation, lease));
  json.key("traceparent").plain({text.data(), text.size()});
}

void write_leased(LeasedJob const& job, Service const& service, AttemptContext attempts, JobSpecView& spec,
                  JsonWriter& json) {
  if (!decode_spec(job.spec, spec)) spec = JobSpecView{};
  json.begin_object();
  write_id(job.number, spec.id, service, json);
  json.key("type").plain(spec.type).key("queue").plain(spec.queue);
  write_bytes(spec.payload_kind, spec.payload, "payload", "payload_base64", json);
  json.member("attempt", job.attempt).member("max_attempts", job.max_attempts);
  write_token(job.token, json);
  json.member("lease_expires_at", job.lease_expires_at);
  json.member("priority", spec.priority).member("created_at", created_at(job.number));
  if (attempts == AttemptContext::own_span && !spec.traceparent.empty()) {
    write_attempt_context(spec, job.token, json);
  } else {
    write_text_if_any("traceparent", spec.traceparent, json);
  }
  write_text_if_any("tracestate", spec.tracestate, json);
  if (!spec.meta.empty()) json.key("meta").raw(spec.meta);
  write_text_if_any("group", spec.group, json);
  write_tags_if_any(spec.tags, json);
  write_text_if_any("batch", spec.batch, json);
  if (!job.checkpoint.empty()) json.key("checkpoint").raw(job.checkpoint);
  json.end_object();
}

Error forbidden_cache() {
  return {
      .code = ErrorCode::forbidden, .message = "the token is not for all of these keys of the cache", .field = "cache"};
}

void write_reports(std::span<ReportResult const> results, std::span<ReportedJob const> reported, Service const& service,
                   std::string_view trace_id, JsonWriter& json) {
  json.key("reports").begin_array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    bool const is_forbidden = i < reported.size() && reported[i].is_forbidden;
    std::optional<Error> const error = is_forbidden ? forbidden_cache() : results[i].error;
    json.begin_object();
    if (i < reported.size()) {
      write_id(reported[i].job.number.value_or(JobNumber{}), reported[i].job.text, service, json);
    }
    json.member("ok", !error.has_value());
    if (results[i].cancel_requested) json.member("cancel_requested", true);
    if (!results[i].not_stored.empty()) {
      json.key("not_stored").begin_array();
      for (std::string const& key : results[i].not_stored) json.value(key);
      json.end_array();
    }
    if (error) {
      json.key("error");
      append_problem(*error, trace_id, json);
    }
    json.end_object();
  }
  json.end_array();
}

void write_unique(JobSpecView const& spec, JsonWriter& json) {
  if (spec.unique_key.empty()) return;
  json.key("unique").begin_object().member("key", spec.unique_key);
  json.key("while").plain(to_string(spec.unique_while));
  write_duration_if_any("for", spec.unique_for, json);
  json.end_object();
}

// Thousandths, as the number that they are: 1500 as 1.5.
double from_permille(std::uint32_t permille) { return static_cast<double>(permille) / 1'000; }

void write_backoff(Backoff const& backoff, JsonWriter& json) {
  json.key("backoff").begin_object();
  write_duration("first", backoff.first, json);
  json.member("factor", from_permille(backoff.factor_permille));
  write_duration("cap", backoff.cap, json);
  json.member("jitter", from_permille(backoff.jitter_permille)).end_object();
}

// What was sent, and what holds where nothing was.
void write_spec(JobSpecView const& spec, JsonWriter& json) {
  json.key("type").plain(spec.type).key("queue").plain(spec.queue);
  write_bytes(spec.payload_kind, spec.payload, "payload", "payload_base64", json);
  json.member("priority", spec.priority);
  write_duration_if_any("delay", spec.delay, json);
  write_time_if_any("run_at", spec.run_at, json);
  write_duration_if_any("expires_in", spec.expires_in, json);
  write_backoff(spec.backoff.value_or(Backoff{}), json);
  write_duration("lease", spec.lease.value_or(kLeaseDefault), json);
  write_duration("keep_result", spec.keep_result.value_or(kKeepResultDefault), json);
  write_unique(spec, json);
  write_text_if_any("group", spec.group, json);
  write_tags_if_any(spec.tags, json);
  write_text_if_any("batch", spec.batch, json);
  if (!spec.meta.empty()) json.key("meta").raw(spec.meta);
  write_text_if_any("traceparent", spec.traceparent, json);
  write_text_if_any("tracestate", spec.tracestate, json);
}

void write_error(JobError const& error, JsonWriter& json) {
  json.begin_object();
  json.key("class").plain(to_string(error.error_class)).member("code", error.code).member("message", error.message);
  if (!error.detail.empty()) json.key("detail").raw(error.detail);
  json.member("attempt", error.attempt).member("at", error.at).end_object();
}

void write_history(JobHistory const& history, JsonWriter& json) {
  write_time_if_any("started_at", history.started_at, json);
  write_time_if_any("finished_at", history.finished_at, json);
  write_text_if_any("worker", history.worker, json);
  write_bytes(history.result_kind, history.result, "result", "result_base64", json);
  if (history.errors.empty()) return;
  json.key("error");
  write_error(history.errors.front(), json);
  json.key("errors").begin_array();
  for (JobError const& error : history.errors) write_error(error, json);
  json.end_array();
}

void write_job(JobView const& job, Service const& service, JobSpecView& spec, JsonWriter& json) {
  if (!decode_spec(job.spec, spec)) spec = JobSpecView{};
  json.begin_object();
  write_id(job.number, job.client_id.empty() ? spec.id : BytesView{job.client_id}, service, json);
  json.key("state").plain(to_string(job.state));
  if (job.cancel_requested) json.member("cancel_requested", true);
  write_spec(spec, json);
  json.member("attempt", job.attempt).member("max_attempts", job.max_attempts);
  json.member("created_at", created_at(job.number));
  write_time_if_any("ready_at", job.ready_at, json);
  write_time_if_any("lease_expires_at", job.lease_expires_at, json);
  if (auto const& progress = job.progress ? job.progress : job.history.progress) {
    json.key("progress").begin_object().member("percent", progress->percent);
    write_text_if_any("message", progress->message, json);
    json.end_object();
  }
  if (!job.checkpoint.data.empty()) json.key("checkpoint").raw(job.checkpoint.data);
  write_history(job.history, json);
  json.end_object();
}

// Two decimals are all that a rate over ten seconds has.
double rounded(double rate) { return std::round(rate * 100) / 100; }

void write_queue(QueueView const& queue, JsonWriter& json) {
  json.begin_object().key("name").plain(queue.name).member("paused", queue.settings.paused);
  json.key("depth").begin_object();
  for (std::size_t i = 0; i < queue.depth.size(); ++i) json.member(kDepthNames[i], queue.depth[i]);
  json.end_object();
  json.key("oldest_ready_at");
  queue.oldest_ready_at ? json.value(*queue.oldest_ready_at) : json.null();
  json.key("rates").begin_object();
  json.member("enqueued", rounded(queue.enqueued_per_second)).member("completed", rounded(queue.completed_per_second));
  json.member("failed", rounded(queue.failed_per_second)).end_object();
  QueueCounters const& counters = queue.counters;
  json.key("counters").begin_object();
  json.member("enqueued", counters.enqueued).member("duplicates", counters.duplicates);
  json.member("leased", counters.leased).member("completed", counters.completed).member("failed", counters.failed);
  json.member("died", counters.died).member("released", counters.released);
  json.member("lease_expired", counters.lease_expired).member("cancelled", counters.cancelled).end_object();
  json.key("settings").begin_object().member("paused", queue.settings.paused).key("max_depth");
  queue.settings.max_depth ? json.value(*queue.settings.max_depth) : json.null();
  json.key("when_full").plain(to_string(queue.settings.when_full)).end_object();
  json.end_object();
}

void write_batch(BatchView const& batch, Service const& service, JsonWriter& json) {
  json.begin_object().key("id").plain(batch.id).member("created_at", batch.created_at);
  write_time_if_any("closed_at", batch.closed_at, json);
  BatchCounts const& jobs = batch.jobs;
  json.member("total", jobs.total).member("pending", jobs.pending).member("completed", jobs.completed);
  json.member("dead", jobs.dead).member("cancelled", jobs.cancelled).member("deleted", jobs.deleted);
  for (CallbackKind const kind : kAllCallbackKinds) {
    CallbackView const& callback = batch.callback(kind);
    if (callback.state == CallbackState::none) continue;
    json.key(to_string(kind)).begin_object().key("state").plain(to_string(callback.state));
    if (callback.state == CallbackState::enqueued) {
      json.key("job").plain_from([&](std::string& text) { service.append_id(callback.job, {}, text); });
    }
    json.end_object();
  }
  if (!batch.meta.empty()) json.key("meta").raw(batch.meta);
  json.end_object();
}

// Of a page, newest first: where the next one begins.
void write_cursor(std::optional<std::uint64_t> before, JsonWriter& json) {
  if (!before) {
    json.null();
    return;
  }
  Bytes cursor;
  ByteWriter{cursor}.u64(*before);
  json.plain(base64url(cursor));
}

auto bad_cursor() {
  return fail_field(ErrorCode::invalid_field, "cursor", "is none that this server gave: start from the first page");
}

}  // namespace

void append_enqueue_reply(EnqueueReply const& reply, bool bulk, Service const& service, std::string& out) {
  JsonWriter json{out};
  if (!bulk && reply.jobs.size() == 1) return write_enqueued(reply.jobs.front(), service, json);
  json.begin_object().key("jobs").begin_array();
  for (EnqueuedJob const& job : reply.jobs) write_enqueued(job, service, json);
  json.end_array().end_object();
}

std::vector<ReportedJob> reported_jobs(std::span<Report> reports, Allowed const& allowed) {
  std::vector<ReportedJob> jobs;
  jobs.reserve(reports.size());
  for (Report& report : reports) {
    auto const* const completed = std::get_if<Completed>(&report.outcome);
    bool const is_forbidden = completed != nullptr && !allowed.has_keys(completed->cache);
    jobs.push_back({.job = report.job, .is_forbidden = is_forbidden});
    if (is_forbidden) report = Report{.outcome = LogLines{}};
  }
  return jobs;
}

void append_lease_reply(LeaseReply const& reply, std::span<ReportedJob const> reported, bool has_reports,
                        Service const& service, std::string_view trace_id, AttemptContext attempts, std::string& out) {
  JsonWriter json{out};
  JobSpecView spec;
  json.begin_object().key("jobs").begin_array();
  for (LeasedJob const& job : reply.jobs) write_leased(job, service, attempts, spec, json);
  json.end_array();
  if (has_reports) write_reports(reply.reports, reported, service, trace_id, json);
  json.end_object();
}

void append_reports_reply(ReportsReply const& reply, std::span<ReportedJob const> reported, Service const& service,
                          std::string_view trace_id, std::string& out) {
  JsonWriter json{out};
  json.begin_object();
  write_reports(reply.reports, reported, service, trace_id, json);
  json.end_object();
}

void append_stream_opened(StreamOpened const& opened, bool is_direct, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("subscribed").begin_object().key("resume").plain(format_resume_token(opened.token));
  write_duration("reconnect_within", opened.reconnect_within, json);
  json.member("resumed", opened.resumed);
  write_duration("lease", opened.lease, json);
  if (is_direct) json.member("direct", true);
  json.end_object().end_object();
}

void append_stream_jobs(StreamJobs const& jobs, Service const& service, AttemptContext attempts, std::string& out) {
  JsonWriter json{out};
  JobSpecView spec;
  json.begin_object().key("jobs").begin_array();
  for (LeasedJob const& job : jobs.jobs) write_leased(job, service, attempts, spec, json);
  json.end_array().end_object();
}

void append_stream_cancel(StreamCancel const& cancel, Service const& service, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("cancel").begin_array();
  for (StreamCancel::Job const& job : cancel.jobs) {
    json.plain_from([&](std::string& text) { service.append_id(job.number, job.client_id, text); });
  }
  json.end_array().end_object();
}

void append_stream_drained(std::string& out) { out.append(R"({"drained":true})"); }

void append_stream_error(Error const& error, std::string_view trace_id, std::uint32_t retry_after, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("error");
  append_problem(error, trace_id, json, {.retry_after = retry_after});
  json.end_object();
}

void append_job(JobView const& job, Service const& service, std::string& out) {
  JsonWriter json{out};
  JobSpecView spec;
  write_job(job, service, spec, json);
}

void append_jobs_page(JobsReply const& reply, Service const& service, std::string& out) {
  JsonWriter json{out};
  JobSpecView spec;
  json.begin_object().key("items").begin_array();
  for (JobView const& job : reply.jobs) write_job(job, service, spec, json);
  json.end_array().key("next");
  write_cursor(reply.next ? std::optional{std::to_underlying(*reply.next)} : std::nullopt, json);
  json.end_object();
}

void append_job_log(JobLogReply const& reply, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("lines").begin_array();
  for (Bytes const& line : reply.lines) json.value(std::string_view{line});
  json.end_array().end_object();
}

void append_count(CountReply const& reply, std::string& out) {
  JsonWriter{out}.begin_object().member("count", reply.count).end_object();
}

void append_queue(QueueView const& queue, std::string& out) {
  JsonWriter json{out};
  write_queue(queue, json);
}

void append_batch(BatchView const& batch, Service const& service, std::string& out) {
  JsonWriter json{out};
  write_batch(batch, service, json);
}

void append_batches_page(BatchesReply const& reply, Service const& service, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("items").begin_array();
  for (BatchView const& batch : reply.batches) write_batch(batch, service, json);
  json.end_array().key("next");
  write_cursor(reply.next ? std::optional{std::to_underlying(*reply.next)} : std::nullopt, json);
  json.end_object();
}

void append_queues_page(QueuesReply const& reply, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("items").begin_array();
  for (QueueView const& queue : reply.queues) write_queue(queue, json);
  json.end_array().key("next");
  reply.next ? json.plain(base64url(*reply.next)) : json.null();
  json.end_object();
}

void append_tokens_page(std::span<service::TokenPtr const> by_name, std::string_view after, std::size_t limit,
                        std::string& out) {
  using service::Scope;
  auto const at = [](std::optional<Instant> when, JsonWriter& json) { when ? json.value(*when) : json.null(); };
  JsonWriter json{out};
  json.begin_object().key("items").begin_array();
  std::size_t count = 0;
  std::string_view last, next;
  for (service::TokenPtr const& token : by_name) {
    service::TokenRecord const& record = token->record;
    if (record.name <= after) continue;
    if (count == limit) {
      next = last;
      break;
    }
    count += 1;
    last = record.name;
    json.begin_object().member("name", record.name).member("id", record.id).key("scopes").begin_array();
    for (Scope const scope : {Scope::enqueue, Scope::work, Scope::read, Scope::admin}) {
      if (record.scopes.has(scope)) json.value(to_string(scope));
    }
    auto const& [queues, keys] = record.allowed;
    json.end_array().key("queues");
    queues ? write_texts(queues->names(), json) : json.null();
    json.key("cache_prefixes");
    keys ? write_texts(keys->prefixes(), json) : json.null();
    json.member("created_at", record.created_at).key("expires_at");
    at(record.expires_at, json);
    json.key("last_used_at");
    at(token->last_used(), json);
    json.key("old_secret");
    if (token->old) {
      json.begin_object().key("expires_at");
      at(token->old->record.expires_at, json);
      json.key("last_used_at");
      at(token->old->last_used(), json);
      json.end_object();
    } else {
      json.null();
    }
    json.end_object();
  }
  json.end_array().key("next");
  next.empty() ? json.null() : json.plain(base64url(next));
  json.end_object();
}

void append_done(std::string& out) { out.append("{}"); }

Result<JobNumber> parse_jobs_cursor(std::string_view cursor) {
  auto const bytes = decode_base64url(cursor);
  if (!bytes || bytes->size() != sizeof(std::uint64_t)) return bad_cursor();
  return JobNumber{ByteReader{*bytes}.u64()};
}

Result<BatchNumber> parse_batches_cursor(std::string_view cursor) {
  WM_TRY(JobNumber const before, parse_jobs_cursor(cursor));  // Of the same make: both count on in one row.
  return BatchNumber{std::to_underlying(before)};
}

Result<std::string> parse_queues_cursor(std::string_view cursor) {
  auto name = decode_base64url(cursor);
  if (!name || !is_name(*name)) return bad_cursor();
  return *std::move(name);
}

}  // namespace workmill::http
