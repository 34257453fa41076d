#include "protocols/http/pages/metrics_page.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include "model/job.h"
#include "protocols/http/pages/job_stages.h"

namespace workmill::http {
namespace {

constexpr std::array<JobState, kJobStates> kStatesShown{JobState::scheduled, JobState::ready, JobState::leased,
                                                        JobState::completed, JobState::dead,  JobState::cancelled};
constexpr std::string_view kOtherQueues = "(other)";

double as_seconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; }

void write_queue(QueueView const& queue, Instant now, telemetry::MetricsWriter& out) {
  for (JobState const state : kStatesShown) {
    out.gauge("workmill_jobs", "Jobs by queue and state.", {{"queue", queue.name}, {"state", to_string(state)}},
              static_cast<double>(queue.depth[static_cast<std::size_t>(state)]));
  }
  auto const age = queue.oldest_ready_at ? std::max(now - *queue.oldest_ready_at, Duration::zero()) : Duration::zero();
  out.gauge("workmill_queue_oldest_ready_age_seconds", "How long the first job in line has been ready.",
            {{"queue", queue.name}}, std::chrono::duration<double>(age).count());
  out.gauge("workmill_queue_paused", "1 where nothing is leased from the queue.", {{"queue", queue.name}},
            queue.settings.paused ? 1 : 0);
  if (queue.settings.max_depth) {
    out.gauge("workmill_queue_max_depth", "How many unfinished jobs a queue may have.", {{"queue", queue.name}},
              static_cast<double>(*queue.settings.max_depth));
  }

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
  count("workmill_decide_seconds_total", "Time spent deciding.", as_seconds(status.decide_ns));
  count("workmill_log_flushes_total", "Flushes of the log to disk.", static_cast<double>(status.flushes));
  count("workmill_log_flushing_seconds_total", "Time spent flushing.", as_seconds(status.flush_ns));
  count("workmill_log_read_seconds_total", "Time spent reading payloads back.", as_seconds(status.read_ns));
  count("workmill_log_copied_jobs_total", "Jobs copied ahead so that an old segment could go.",
        static_cast<double>(status.copied_ahead_jobs));
  count("workmill_log_trimmed_segments_total", "Segments dropped.", static_cast<double>(status.trimmed_segments));
  out.gauge("workmill_log_flush_typical_seconds", "A typical flush, as a moving average.", {},
            status.flush_ms_typical / 1e3);
  measure("workmill_log_flush_on_writer_thread", "1 where flushes have a thread of their own.",
          status.flush_on_writer_thread ? 1 : 0);
  measure("workmill_log_segments", "Segments of the log.", status.segments);
  measure("workmill_log_bytes", "Disk used by segments.", status.log_bytes);
  measure("workmill_log_live_bytes", "What of it is still needed.", status.live_bytes);
  measure("workmill_disk_free_bytes", "Free on the log's disk.", status.disk_free_bytes);
  measure("workmill_queues", "Queues.", status.queue_count);
  measure("workmill_idempotency_keys", "Idempotency keys remembered.", status.idempotency_keys);
  measure("workmill_engine_memory_bytes", "Memory held by the engine.", status.engine_memory_bytes);
  measure("workmill_streams_away", "Worker streams that have gone and whose workers may come back.",
          status.streams_away);
  measure("workmill_stream_jobs_out", "Jobs that are out on worker streams.", status.stream_jobs_out);
  for (BatchState const state : kAllBatchStates) {
    out.gauge("workmill_batches", "Batches.", {{"state", to_string(state)}},
              static_cast<double>(status.batches[static_cast<std::size_t>(state)]));
  }
  measure("workmill_flags", "Feature flags.", status.flags);
  measure("workmill_gated_jobs", "Ready jobs passed over, as a flag that gates their type is off.", status.gated_jobs);
  for (Fullness const& bound : status.bounds) {
    out.gauge("workmill_bound_used", telemetry::kBoundUsedHelp, {{"bound", bound.name}},
              static_cast<double>(bound.used));
    out.gauge("workmill_bound_limit", telemetry::kBoundLimitHelp, {{"bound", bound.name}},
              static_cast<double>(bound.limit));
  }
}

void write_cache(CacheStatus const& cache, telemetry::MetricsWriter& out) {
  auto const count = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out.counter(name, help, {}, static_cast<double>(value));
  };
  auto const measure = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out.gauge(name, help, {}, static_cast<double>(value));
  };
  measure("workmill_cache_flights", "Jobs that compute a cached value now.", cache.flights);
  measure("workmill_cache_entries", "Keys with a value, or a failure that is remembered.", cache.entries);
  count("workmill_cache_expired_total", "Keys dropped as their time was over.", cache.expired);
  count("workmill_cache_cold_reads_total", "Values read back from the disk.", cache.cold_reads);
  count("workmill_cache_fetches_total", "Keys whose value had to come from the disk, on a thread of its own.",
        cache.fetches);
  count("workmill_cache_damaged_total", "Values forgotten, as the disk has lost them.", cache.damaged);
  struct Place {
    std::string_view name;
    std::uint64_t bytes, budget, evicted;
  };
  for (Place const& place : {Place{"memory", cache.memory_bytes, cache.memory_bytes_max, cache.evicted_from_memory},
                             Place{"disk", cache.disk_bytes, cache.disk_bytes_max, cache.evicted_from_disk}}) {
    out.gauge("workmill_cache_bytes", "Used by what is cached.", {{"place", place.name}},
              static_cast<double>(place.bytes));
    out.gauge("workmill_cache_budget_bytes", "What it may use.", {{"place", place.name}},
              static_cast<double>(place.budget));
    out.counter("workmill_cache_evictions_total", "Values that gave way to others.", {{"place", place.name}},
                static_cast<double>(place.evicted));
  }
}

void write_jobs(StatusReply const& status, telemetry::MetricsWriter& out) {
  for (std::size_t i = 0; i < status.job_stages.size(); ++i) {
    out.histogram("workmill_job_stage_seconds",
                  "How long jobs took from one state to the next, by their stamps of 1 ms.",
                  {{"stage", job_stage_name(i)}}, snapshot_of(status.job_stages[i]));
  }
  for (TypeFigures const& type : status.types) {
    auto const count = [&](std::string_view event, std::uint64_t value) {
      out.counter("workmill_job_type_events_total", "What happened to jobs, by type; attempts, where they failed.",
                  {{"type", type.type}, {"event", event}}, static_cast<double>(value));
    };
    count("enqueued", type.enqueued);
    count("completed", type.completed);
    count("failed", type.failed);
  }
}

// Adds what `queue` has to what stands for several.
void fold(QueueView const& queue, QueueView& into) {
  for (std::size_t i = 0; i < kJobStates; ++i) into.depth[i] += queue.depth[i];
  if (queue.oldest_ready_at && (!into.oldest_ready_at || *queue.oldest_ready_at < *into.oldest_ready_at)) {
    into.oldest_ready_at = queue.oldest_ready_at;
  }
  into.settings.paused = into.settings.paused || queue.settings.paused;
  into.counters.enqueued += queue.counters.enqueued;
  into.counters.duplicates += queue.counters.duplicates;
  into.counters.leased += queue.counters.leased;
  into.counters.completed += queue.counters.completed;
  into.counters.failed += queue.counters.failed;
  into.counters.died += queue.counters.died;
  into.counters.released += queue.counters.released;
  into.counters.lease_expired += queue.counters.lease_expired;
  into.counters.cancelled += queue.counters.cancelled;
}

void write_queues(std::vector<QueueView> const& queues, Instant now, telemetry::MetricsWriter& out) {
  QueueView others;
  others.name = kOtherQueues;
  for (std::size_t i = 0; i < queues.size(); ++i) {
    if (i < kQueuesShownMax) {
      write_queue(queues[i], now, out);
    } else {
      fold(queues[i], others);
    }
  }
  std::size_t const folded = queues.size() - std::min(queues.size(), kQueuesShownMax);
  if (folded > 0) write_queue(others, now, out);
  out.gauge("workmill_queues_folded", "Queues that are shown as one, named (other), because there are too many.", {},
            static_cast<double>(folded));
}

}  // namespace

void append_metrics(StatusReply const& status, Instant now, telemetry::Metrics& metrics,
                    telemetry::MetricsFormat format, std::string& out) {
  out.append(metrics.render(format, [&](telemetry::MetricsWriter& writer) {
    write_shard(status, writer);
    write_jobs(status, writer);
    for (CacheStatus const& cache : status.cache) write_cache(cache, writer);
    write_queues(status.queues, now, writer);
  }));
}

}  // namespace workmill::http
