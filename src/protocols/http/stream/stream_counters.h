#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "protocols/http/report_counters.h"
#include "telemetry/metrics.h"

// What is counted of worker streams, over all I/O threads.
namespace workmill::http {

// Why a stream ended.
enum class StreamEnd : std::uint8_t {
  done,      // Closed by its worker, with code 1000.
  closed,    // Closed by its worker otherwise.
  gone,      // The connection broke, or ended without a word.
  silent,    // It answered no ping.
  slow,      // It took too little of what it was sent, or a message took too long to come.
  refused,   // What it sent was no message that we know, or the shard would not have it.
  replaced,  // Its worker came back on another connection.
  denied,    // Its token does not hold any more.
  draining,  // The server is stopping.
};
inline constexpr std::size_t kStreamEnds = 9;
std::string_view to_string(StreamEnd end);

struct StreamCounters {
  explicit StreamCounters(telemetry::Metrics& metrics);

  telemetry::Gauge& open;
  telemetry::Gauge& direct;  // Of them: nobody is between, and nobody pings while they are idle.
  telemetry::Counter& opened;
  telemetry::Counter& resumed;
  telemetry::Counter& jobs;
  telemetry::Counter& reports;
  ReportCounters results;                // Of those that were answered,
  telemetry::Histogram& report_seconds;  // and how long their messages took.
  telemetry::Counter& cancels;
  telemetry::Counter& pings;
  std::array<telemetry::Counter*, kStreamEnds> ended{};

  void end(StreamEnd how) { ended[static_cast<std::size_t>(how)]->add(); }
};

}  // namespace workmill::http
