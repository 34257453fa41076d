#include "protocols/http/pages/heap_page.h"

#include <cstdint>
#include <string_view>

#include "base/json_writer.h"
#include "model/cache_memory.h"
#include "telemetry/allocator_figures.h"

namespace workmill::http {
namespace {

constexpr std::uint64_t kSumEvery = 64 * 1024;  // Of the log: see log/block_sums.h.
constexpr std::uint64_t kSumBytes = 4;

std::uint64_t used(std::span<Fullness const> bounds, std::string_view name) {
  for (Fullness const& bound : bounds) {
    if (bound.name == name) return bound.used;
  }
  return 0;
}

}  // namespace

void append_heap(StatusReply const& status, std::span<Fullness const> front_end, std::string& out) {
  JsonWriter json{out};
  json.begin_object();
  json.key("allocator");
  if (auto const figures = telemetry::allocator_figures()) {
    json.begin_object().member("name", "mimalloc");
    json.member("resident_bytes", figures->resident_bytes);
    json.member("resident_bytes_peak", figures->resident_bytes_peak);
    json.member("committed_bytes", figures->committed_bytes);
    json.member("committed_bytes_peak", figures->committed_bytes_peak);
    json.member("page_faults", figures->page_faults).end_object();
  } else {
    json.null();
  }
  auto const part = [&json](std::string_view name, std::uint64_t bytes) {
    json.begin_object().member("name", name).member("bytes", bytes).end_object();
  };
  json.key("parts").begin_array();
  part("engine", status.engine_memory_bytes);
  part("http_buffers", used(front_end, "http_buffered_bytes"));
  part("log_unflushed", used(status.bounds, "unflushed_bytes"));
  part("log_checksums", status.log_bytes / kSumEvery * kSumBytes);
  CacheValueMemory const values = cache_value_memory();
  part("cache_values", values.held_bytes - values.lost_bytes);
  part("cache_values_lost", values.lost_bytes);
  json.end_array();
  json.end_object();
}

}  // namespace workmill::http
