#include "app/options.h"

#include <algorithm>

namespace workmill::app {

shard::ShardOptions shard_options(Config const& config, telemetry::Tracer* tracer) {
  shard::ShardOptions options;
  options.tracer = tracer;
  options.flush_by = config.flush_by;
  options.waiters_max = config.waiters_max;
  options.streams = {.streams_max = config.streams_max,
                     .reconnect_within = config.stream_reconnect_within,
                     .window_bytes = config.stream_window_bytes,
                     .window_bytes_all = config.stream_window_bytes_all};
  options.disk_reserve_bytes = config.disk_reserve_bytes;
  options.jobs_memory_bytes_max = config.jobs_memory_bytes_max;
  options.survivors.slack_bytes = 2 * config.segment_bytes;
  return options;
}

namespace {

// As the process may not open so many files as connections_max asks for, one address gets the same part of those that
// there are: else it would have them all.
std::uint32_t of_one_address(Config const& config, std::uint32_t connections) {
  std::uint64_t const part =
      std::uint64_t{config.connections_per_address_max} * connections / std::max(config.connections_max, 1U);
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(part, 1));
}

}  // namespace

http::HttpLimits http_limits(Config const& config, DescriptorRoom const& room) {
  http::HttpLimits limits;
  limits.connections_max = std::min(config.connections_max, room.connections_max);
  limits.connections_from = room.connections_from;
  limits.connections_per_address_max = of_one_address(config, limits.connections_max);
  limits.header_bytes_max = config.header_bytes_max;
  limits.body_bytes_max = config.body_bytes_max;
  limits.pipelined_max = config.pipelined_max;
  limits.buffered_bytes_max = config.buffered_bytes_max;
  limits.admission.enabled = config.admission;
  limits.admission.delay_fine = config.admission_delay;
  limits.admission.in_flight_min = config.in_flight_min;
  limits.admission.in_flight_max = config.in_flight_max;
  limits.header_timeout = config.header_timeout;
  limits.upload_rate_min = config.upload_rate_min;
  limits.download_rate_min = config.download_rate_min;
  limits.handshake_timeout = config.handshake_timeout;
  limits.handshakes_max = config.handshakes_max;
  limits.idle_timeout = config.idle_timeout;
  limits.request_timeout = config.request_timeout;
  limits.write_timeout = config.write_timeout;
  limits.stream_ping = config.stream_ping;
  limits.stream_idle_ping = config.stream_idle_ping;
  limits.stream_direct = config.stream_direct;
  return limits;
}

std::vector<std::string_view> http_settings() {
  return {"handshake_timeout", "connections_per_address_max",
          "header_timeout",    "upload_rate_min",
          "download_rate_min", "admission",
          "admission_delay",   "in_flight_min",
          "in_flight_max",     "connections_max",
          "body_size_max",     "header_size_max",
          "pipelined_max",     "buffered_size_max",
          "idle_timeout",      "request_timeout",
          "write_timeout",     "handshakes_max",
          "stream_ping",       "stream_idle_ping",
          "stream_direct"};
}

}  // namespace workmill::app
