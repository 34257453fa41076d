#pragma once
#include <string_view>
#include <vector>

#include "app/config.h"
#include "app/descriptors.h"
#include "protocols/http/limits.h"
#include "shard/shard_loop.h"
#include "telemetry/tracer.h"

// What the parts of a server are told of its configuration: at the start, and again when it is reloaded.
namespace workmill::app {

// `tracer` null: nothing is traced.
shard::ShardOptions shard_options(Config const& config, telemetry::Tracer* tracer);
// No more connections than there is room for.
http::HttpLimits http_limits(Config const& config, DescriptorRoom const& room);
// The settings that http_limits() uses, all of which an http::HttpServer takes while it serves.
std::vector<std::string_view> http_settings();

}  // namespace workmill::app
