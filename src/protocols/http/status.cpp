#include "protocols/http/status.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "base/json_writer.h"
#include "model/job.h"

namespace workmill::http {
namespace {

constexpr std::array<JobState, kJobStates> kStates{JobState::scheduled, JobState::ready, JobState::leased,
                                                   JobState::completed, JobState::dead,  JobState::cancelled};

double seconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; }

void append_bounds(std::span<Fullness const> bounds, JsonWriter& json) {
  for (Fullness const& bound : bounds) {
    json.begin_object();
    json.member("name", bound.name).member("used", bound.used).member("limit", bound.limit);
    json.end_object();
  }
}

void write_queue(QueueView const& queue, Instant now, telemetry::MetricsWriter& out) {
  for (JobState const state : kStates) {
    out.gauge("workmill_jobs", "Jobs by queue and state.", {{"queue", queue.name}, {"state", to_string(state)}},
              static_cast<double>(queue.depth[static_cast<std::size_t>(state)]));
  }
  auto const age = queue.oldest_ready_at ? std::max(now - *queue.oldest_ready_at, Duration::zero()) : Duration::zero();
  out.gauge("workmill_queue_oldest_ready_age_seconds", "How long the first job in line has been ready.",
            {{"queue", queue.name}}, std::chrono::duration<double>(age).count());
  out.gauge("workmill_queue_paused", "1 where nothing is leased from the queue.", {{"queue", queue.name}},
            queue.settings.paused ? 1 : 0);

  auto const count = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out.counter(name, help, {{"queue", queue.name}}, static_cast<double>(value));
  };
  auto const finish = [&](std::string_view outcome, std::uint64_t value) {
    out.counter("workmill_attempts_ended_total", "Attempts at jobs, by how they ended.",
                {{"queue", queue.name}, {"outcome", outcome}}, static_cast<double>(value));
  };
  QueueCounters const& counters = queue.counters;
  count("workmill_jobs_enqueued_total", "Jobs taken in.", counters.enqueued);
  count("workmill_jobs_duplicate_total", "Enqueues answered with the job that was there already.", counters.duplicates);
  count("workmill_jobs_leased_total", "Jobs handed to a worker.", counters.leased);
  count("workmill_jobs_died_total", "Jobs that will not be tried again.", counters.died);
  count("workmill_jobs_cancelled_total", "Jobs cancelled.", counters.cancelled);
  finish("completed", counters.completed);
  finish("failed", counters.failed);
  finish("released", counters.released);
  finish("lease_expired", counters.lease_expired);
}

void write_shard(StatusReply const& status, telemetry::MetricsWriter& out) {
  auto const count = [&](std::string_view name, std::string_view help, double value) {
    out.counter(name, help, {}, value);
  };
  auto const measure = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out.gauge(name, help, {}, static_cast<double>(value));
  };
  count("workmill_turns_total", "Turns of the shard.", static_cast<double>(status.turns));
  count("workmill_commands_total", "Commands decided.", static_cast<double>(status.commands));
  count("workmill_commands_given_up_total",
        "Requests that were not decided, as their clients had gone or their time was over.",
        static_cast<double>(status.given_up));
  count("workmill_decide_seconds_total", "Time spent deciding.", seconds(status.decide_ns));
  count("workmill_log_flushes_total", "Flushes of the log to disk.", static_cast<double>(status.flushes));
  count("workmill_log_flush_seconds_total", "Time spent flushing.", seconds(status.flush_ns));
  count("workmill_log_read_seconds_total", "Time spent reading payloads back.", seconds(status.read_ns));
  count("workmill_log_copied_jobs_total", "Jobs copied ahead so that an old segment could go.",
        static_cast<double>(status.copied_ahead_jobs));
  count("workmill_log_trimmed_segments_total", "Segments dropped.", static_cast<double>(status.trimmed_segments));
  out.gauge("workmill_log_flush_seconds", "A typical flush, as a moving average.", {}, status.flush_ms_typical / 1e3);
  measure("workmill_log_flush_on_writer_thread", "1 where flushes have a thread of their own.",
          status.flush_on_writer_thread ? 1 : 0);
  measure("workmill_log_segments", "Segments of the log.", status.segments);
  measure("workmill_log_bytes", "Disk used by segments.", status.log_bytes);
  measure("workmill_log_live_bytes", "What of it is still needed.", status.live_bytes);
  measure("workmill_disk_free_bytes", "Free on the log's disk.", status.disk_free_bytes);
  measure("workmill_queues", "Queues.", status.queue_count);
  measure("workmill_idempotency_keys", "Idempotency keys remembered.", status.idempotency_keys);
  measure("workmill_engine_memory_bytes", "Memory held by the engine.", status.engine_memory_bytes);
  for (Fullness const& bound : status.bounds) {
    out.gauge("workmill_bound_used", "How full what is bounded is.", {{"bound", bound.name}},
              static_cast<double>(bound.used));
    out.gauge("workmill_bound_limit", "The bounds.", {{"bound", bound.name}}, static_cast<double>(bound.limit));
  }
}

}  // namespace

std::string_view to_string(service::Readiness readiness) {
  switch (readiness) {
    case service::Readiness::ready: return "ready";
    case service::Readiness::recovering: return "recovering";
    case service::Readiness::disk_full: return "disk_full";
    case service::Readiness::draining: return "draining";
  }
  return "";
}

void append_status(StatusReply const& status, std::span<Fullness const> front_end, service::Service const& service,
                   std::string& out) {
  JsonWriter json{out};
  json.begin_object();
  json.member("version", WM_VERSION);
  json.member("readiness", to_string(service.readiness()));
  json.member("now", service.now());
  json.key("uptime").plain(format_duration(service.uptime()));
  json.member("uptime_seconds", static_cast<double>(service.uptime().count()) / 1e3);
  json.key("jobs").begin_object().member("total", status.jobs);
  for (JobState const state : kStates) json.member(to_string(state), status.depth[static_cast<std::size_t>(state)]);
  json.end_object();
  json.member("queues", status.queue_count);
  json.member("idempotency_keys", status.idempotency_keys);
  json.member("engine_memory_bytes", status.engine_memory_bytes);

  json.key("time").begin_object();
  json.member("turns", status.turns)
      .member("commands", status.commands)
      .member("given_up", status.given_up)
      .member("flushes", status.flushes);
  json.member("decide_seconds", seconds(status.decide_ns)).member("flush_seconds", seconds(status.flush_ns));
  json.member("read_seconds", seconds(status.read_ns));
  json.member("flush_ms_typical", status.flush_ms_typical);
  json.member("flush_on_writer_thread", status.flush_on_writer_thread);
  json.end_object();

  json.key("log").begin_object();
  json.member("epoch", status.epoch).member("segments", status.segments).member("bytes", status.log_bytes);
  json.member("live_bytes", status.live_bytes).member("disk_free_bytes", status.disk_free_bytes);
  json.member("copied_ahead_jobs", status.copied_ahead_jobs).member("trimmed_segments", status.trimmed_segments);
  json.end_object();

  json.key("recovery").begin_object();
  json.member("batches", status.recovered_batches).member("ms", status.recovery_ms);
  json.member("cut_bytes", status.recovery_cut_bytes);
  json.end_object();

  json.key("bounds").begin_array();
  append_bounds(status.bounds, json);
  append_bounds(front_end, json);
  json.end_array();
  json.end_object();
}

void append_metrics(StatusReply const& status, Instant now, telemetry::Metrics& metrics,
                    telemetry::MetricsFormat format, std::string& out) {
  constexpr std::string_view kEnd = "# EOF\n";  // OpenMetrics has it, once.
  std::string own = metrics.render(format);
  if (own.ends_with(kEnd)) own.resize(own.size() - kEnd.size());
  out.append(own);

  telemetry::MetricsWriter writer{format};
  writer.gauge("workmill_build_info", "Always 1; the version is in the label.", {{"version", WM_VERSION}}, 1);
  write_shard(status, writer);
  for (QueueView const& queue : status.queues) write_queue(queue, now, writer);
  out.append(writer.finish());
}

}  // namespace workmill::http
