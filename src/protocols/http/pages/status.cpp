#include "protocols/http/pages/status.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "base/json_writer.h"
#include "model/job.h"
#include "protocols/http/pages/job_stages.h"

namespace workmill::http {
namespace {

constexpr std::array<JobState, kJobStates> kStatesInOrder{JobState::scheduled, JobState::ready, JobState::leased,
                                                          JobState::completed, JobState::dead,  JobState::cancelled};

double in_seconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; }

void append_bounds(std::span<Fullness const> bounds, JsonWriter& json) {
  for (Fullness const& bound : bounds) {
    json.begin_object();
    json.member("name", bound.name).member("used", bound.used).member("limit", bound.limit);
    json.end_object();
  }
}

void append_times(telemetry::HistogramSnapshot const& times, JsonWriter& json) {
  double const to_us = times.buckets.unit * 1e6;
  json.begin_object();
  json.member("count", times.count());
  json.member("seconds_total", static_cast<double>(times.sum) * times.buckets.unit);
  json.member("p50_us", static_cast<double>(times.quantile(500)) * to_us);
  json.member("p99_us", static_cast<double>(times.quantile(990)) * to_us);
  json.end_object();
}

void append_stages(telemetry::StageTimes const* stages, JsonWriter& json) {
  json.begin_object();
  for (std::size_t i = 0; stages != nullptr && i < telemetry::kStages; ++i) {
    auto const stage = static_cast<telemetry::Stage>(i);
    json.key(to_string(stage));
    append_times((*stages)[stage].snapshot(), json);
  }
  json.end_object();
}

void append_threads(telemetry::ThreadTimes const* threads, JsonWriter& json) {
  json.begin_array();
  if (threads != nullptr) {
    for (telemetry::ThreadTime const& thread : threads->read()) {
      json.begin_object().member("name", thread.name).member("busy", thread.busy);
      json.member("waiting", thread.waiting).member("cpu_seconds_total", thread.cpu_seconds).end_object();
    }
  }
  json.end_array();
}

// The busiest first, and last what all the others come to.
void append_types(std::vector<TypeFigures> const& types, JsonWriter& json) {
  constexpr std::size_t kShown = 20;
  TypeFigures others{.type = kOtherTypes};
  std::vector<TypeFigures const*> order;
  for (TypeFigures const& type : types) order.push_back(&type);
  std::ranges::sort(order, [&](TypeFigures const* a, TypeFigures const* b) {
    bool const a_is_rest = a == types.data();
    bool const b_is_rest = b == types.data();
    if (a_is_rest != b_is_rest) return b_is_rest;
    return a->enqueued != b->enqueued ? a->enqueued > b->enqueued : a->type < b->type;
  });
  auto const append = [&json](TypeFigures const& type) {
    json.begin_object().member("type", type.type).member("enqueued_total", type.enqueued);
    json.member("completed_total", type.completed).member("failed_total", type.failed).end_object();
  };
  json.begin_array();
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i < kShown && order[i] != types.data()) {
      append(*order[i]);
    } else {
      others.enqueued += order[i]->enqueued;
      others.completed += order[i]->completed;
      others.failed += order[i]->failed;
    }
  }
  if (others.sum() > 0) append(others);
  json.end_array();
}

void append_cache(CacheStatus const& cache, CacheCallFigures const& calls, JsonWriter& json) {
  json.key("cache").begin_object().member("entries", cache.entries).member("flights", cache.flights);
  json.member("memory_bytes", cache.memory_bytes).member("disk_bytes", cache.disk_bytes);
  json.member("evicted_from_memory_total", cache.evicted_from_memory);
  json.member("evicted_from_disk_total", cache.evicted_from_disk);
  json.key("calls_total").begin_object().member("hit", calls.hit).member("stale", calls.stale);
  json.member("miss", calls.miss).member("computed", calls.computed).member("coalesced", calls.coalesced);
  json.member("failed", calls.failed).member("pending", calls.pending).end_object();
  json.end_object();
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

void append_status(StatusReply const& status, FrontEndFigures const& front_end, service::Service const& service,
                   std::string& out) {
  JsonWriter json{out};
  json.begin_object();
  json.member("version", WM_VERSION);
  json.member("readiness", to_string(service.readiness()));
  json.member("now", service.now());
  json.key("uptime").plain(format_duration(service.uptime()));
  json.member("uptime_seconds", static_cast<double>(service.uptime().count()) / 1e3);
  json.key("jobs").begin_object().member("total", status.jobs);
  for (JobState const state : kStatesInOrder)
    json.member(to_string(state), status.depth[static_cast<std::size_t>(state)]);
  json.end_object();
  json.member("queues", status.queue_count);
  json.key("batches").begin_object().member("total", std::reduce(status.batches.begin(), status.batches.end()));
  for (BatchState const state : kAllBatchStates)
    json.member(to_string(state), status.batches[static_cast<std::size_t>(state)]);
  json.end_object();
  json.member("idempotency_keys", status.idempotency_keys);
  json.member("engine_memory_bytes", status.engine_memory_bytes);

  json.key("time").begin_object();
  json.member("turns", status.turns)
      .member("commands", status.commands)
      .member("given_up", status.given_up)
      .member("flushes", status.flushes);
  json.member("decide_seconds", in_seconds(status.decide_ns)).member("flush_seconds", in_seconds(status.flush_ns));
  json.member("read_seconds", in_seconds(status.read_ns));
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
  append_bounds(front_end.bounds, json);
  json.end_array();

  json.key("stages");
  append_stages(front_end.stages, json);
  json.key("job_stages").begin_object();
  for (std::size_t i = 0; i < status.job_stages.size(); ++i) {
    json.key(job_stage_name(i));
    append_times(snapshot_of(status.job_stages[i]), json);
  }
  json.end_object();
  json.key("threads");
  append_threads(front_end.threads, json);
  json.key("types");
  append_types(status.types, json);
  json.key("http").begin_object();
  json.member("connections_total", front_end.connections).member("requests_total", front_end.requests);
  json.member("refused_total", front_end.refused);
  json.end_object();
  for (CacheStatus const& cache : status.cache) append_cache(cache, front_end.cache, json);
  json.end_object();
}

}  // namespace workmill::http
