#include "app/options.h"

namespace workmill::app {

shard::ShardOptions shard_options(Config const& config) {
  shard::ShardOptions options;
  options.flush_by = config.flush_by;
  options.disk_reserve_bytes = config.disk_reserve_bytes;
  options.survivors.slack_bytes = 2 * config.segment_bytes;
  return options;
}

http::HttpLimits http_limits(Config const& config) {
  http::HttpLimits limits;
  limits.connections_max = config.connections_max;
  limits.header_bytes_max = config.header_bytes_max;
  limits.body_bytes_max = config.body_bytes_max;
  limits.pipelined_max = config.pipelined_max;
  limits.buffered_bytes_max = config.buffered_bytes_max;
  limits.idle_timeout = config.idle_timeout;
  limits.request_timeout = config.request_timeout;
  limits.write_timeout = config.write_timeout;
  return limits;
}

std::vector<std::string_view> http_settings() {
  return {"connections_max",   "body_size_max", "header_size_max", "pipelined_max",
          "buffered_size_max", "idle_timeout",  "request_timeout", "write_timeout"};
}

}  // namespace workmill::app
