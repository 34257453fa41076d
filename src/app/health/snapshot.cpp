#include "app/health/snapshot.h"

#include <charconv>
#include <chrono>

namespace workmill::app::health {
namespace {

JsonValue const& member(JsonValue const& value, std::string_view name) {
  static JsonValue const kNothing;
  auto const* const found = value.find_set(name);
  return found != nullptr ? *found : kNothing;
}

std::vector<Stage> read_stages(JsonValue const& stages) {
  std::vector<Stage> all;
  for (std::size_t i = 0; i < stages.names.size(); ++i) {
    JsonValue const& it = stages.items[i];
    all.push_back({.name = stages.names[i],
                   .count = it.number_at("count"),
                   .seconds_total = it.real_at("seconds_total"),
                   .p50_us = it.real_at("p50_us"),
                   .p99_us = it.real_at("p99_us")});
  }
  return all;
}

}  // namespace

Snapshot read_status(JsonValue const& status) {
  Snapshot out;
  out.version = status.string_at("version");
  out.readiness = status.string_at("readiness");
  if (auto const now = parse_rfc3339(status.string_at("now"))) out.now = *now;
  out.uptime_seconds = status.real_at("uptime_seconds");
  JsonValue const& jobs = member(status, "jobs");
  out.jobs = jobs.number_at("total");
  out.ready = jobs.number_at("ready");
  out.scheduled = jobs.number_at("scheduled");
  out.leased = jobs.number_at("leased");
  out.completed = jobs.number_at("completed");
  out.dead = jobs.number_at("dead");
  out.queue_count = status.number_at("queues");

  JsonValue const& time = member(status, "time");
  out.commands = time.number_at("commands");
  out.flushes = time.number_at("flushes");
  out.decide_seconds = time.real_at("decide_seconds");
  out.flush_seconds = time.real_at("flush_seconds");
  out.read_seconds = time.real_at("read_seconds");
  out.flush_ms_typical = time.real_at("flush_ms_typical");
  out.flush_on_writer_thread = time.flag_at("flush_on_writer_thread");

  JsonValue const& log = member(status, "log");
  out.log_bytes = log.number_at("bytes");
  out.live_bytes = log.number_at("live_bytes");
  out.disk_free_bytes = log.number_at("disk_free_bytes");

  for (JsonValue const& bound : member(status, "bounds").items) {
    out.bounds.push_back({.name = std::string{bound.string_at("name")},
                          .used = bound.number_at("used"),
                          .limit = bound.number_at("limit")});
  }
  out.stages = read_stages(member(status, "stages"));
  out.job_stages = read_stages(member(status, "job_stages"));
  for (JsonValue const& thread : member(status, "threads").items) {
    out.threads.push_back({.name = std::string{thread.string_at("name")},
                           .busy = thread.real_at("busy"),
                           .waiting = thread.real_at("waiting"),
                           .cpu_seconds_total = thread.real_at("cpu_seconds_total")});
  }
  for (JsonValue const& type : member(status, "types").items) {
    out.types.push_back({.type = std::string{type.string_at("type")},
                         .enqueued = type.number_at("enqueued_total"),
                         .completed = type.number_at("completed_total"),
                         .failed = type.number_at("failed_total")});
  }
  if (auto const* const http = status.find_set("http")) {
    out.http = HttpCounts{.connections = http->number_at("connections_total"),
                          .requests = http->number_at("requests_total"),
                          .refused = http->number_at("refused_total")};
  }
  if (auto const* const cache = status.find_set("cache")) {
    JsonValue const& calls = member(*cache, "calls_total");
    CacheState& state = out.cache.emplace();
    state.entries = cache->number_at("entries");
    state.flights = cache->number_at("flights");
    state.memory_bytes = cache->number_at("memory_bytes");
    state.fresh = calls.number_at("hit");
    state.stale = calls.number_at("stale");
    state.computed = calls.number_at("computed") + calls.number_at("coalesced");
    state.failed = calls.number_at("failed");
    state.asked = state.fresh + state.stale + state.computed + state.failed + calls.number_at("miss") +
                  calls.number_at("pending");
  }
  return out;
}

void read_queues(JsonValue const& page, Snapshot& snapshot) {
  for (JsonValue const& queue : member(page, "items").items) {
    JsonValue const& depth = member(queue, "depth");
    JsonValue const& rates = member(queue, "rates");
    JsonValue const& counters = member(queue, "counters");
    QueueState state{.name = std::string{queue.string_at("name")},
                     .paused = queue.flag_at("paused"),
                     .ready = depth.number_at("ready"),
                     .scheduled = depth.number_at("scheduled"),
                     .leased = depth.number_at("leased"),
                     .dead = depth.number_at("dead"),
                     .max_depth = {},
                     .oldest_ready_at = {},
                     .enqueued_per_s = rates.real_at("enqueued"),
                     .completed_per_s = rates.real_at("completed"),
                     .failed_per_s = rates.real_at("failed"),
                     .enqueued = counters.number_at("enqueued"),
                     .taken = counters.number_at("leased"),
                     .completed = counters.number_at("completed"),
                     .failed = counters.number_at("failed")};
    if (auto const oldest = parse_rfc3339(queue.string_at("oldest_ready_at"))) state.oldest_ready_at = *oldest;
    JsonValue const& settings = member(queue, "settings");
    if (settings.find_set("max_depth") != nullptr && settings.string_at("when_full") == "refuse") {
      state.max_depth = settings.number_at("max_depth");
    }
    snapshot.queues.push_back(std::move(state));
  }
}

void read_metrics(std::string_view text, Snapshot& snapshot) {
  auto const read = [text](std::string_view name, std::uint64_t& value) {
    std::string const start = fmt::format("\n{} ", name);
    auto const at = text.find(start);
    if (at == std::string_view::npos) return;
    std::string_view const rest = text.substr(at + start.size());
    std::from_chars(rest.data(), rest.data() + rest.size(), value);
  };
  read("workmill_verify_damaged_total", snapshot.damaged);
  read("workmill_gated_jobs", snapshot.gated);
  std::uint64_t certificate_end_seconds = 0;
  read("workmill_certificate_end_timestamp_seconds", certificate_end_seconds);
  if (certificate_end_seconds > 0) {
    snapshot.certificate_end = Instant{std::chrono::seconds{static_cast<std::int64_t>(certificate_end_seconds)}};
  }
  std::uint64_t refused = 0;
  read("workmill_reload_refused", refused);
  snapshot.reload_refused = refused == 1;
}

}  // namespace workmill::app::health
