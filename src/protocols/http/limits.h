#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/time.h"
#include "protocols/http/report_counters.h"
#include "protocols/http/router.h"
#include "service/admission.h"
#include "telemetry/metrics.h"
#include "telemetry/recent_peak.h"

// What bounds the HTTP front end, and what counts how often each bound was met.
namespace workmill::http {

// Connections over a limit that still get to hear so, on each I/O thread; beyond them the socket is closed at once.
inline constexpr std::uint32_t kTurnedAwayMax = 64;

// Of one I/O thread, but for those of one request or one connection.
struct HttpLimits {
  std::uint32_t connections_max = 20'000;
  // A connection whose descriptor has this number or one above it is closed at once: what is left of the process's is
  // for the log and the like.
  std::uint64_t connections_from = std::numeric_limits<std::uint64_t>::max();
  std::uint32_t header_bytes_max = 16 * 1024;
  std::uint64_t body_bytes_max = std::uint64_t{12} << 20;
  std::uint32_t pipelined_max = 64;                    // Requests of one connection under way.
  std::uint32_t connections_per_address_max = 16'000;  // IPv6: of one /64.
  // Held for input and output by all connections, and by their requests in the shard.
  std::uint64_t buffered_bytes_max = std::uint64_t{512} << 20;
  service::AdmissionOptions admission{};
  std::uint32_t handshakes_max = 1'000;                   // TLS handshakes under way.
  Duration handshake_timeout = std::chrono::seconds{10};  // For a TLS handshake.
  Duration idle_timeout = std::chrono::minutes{5};        // Between two requests.
  Duration header_timeout = std::chrono::seconds{10};     // For the head of a request, from its first byte.
  Duration request_timeout = std::chrono::seconds{30};    // For the whole of a request to come in.
  Duration write_timeout = std::chrono::seconds{30};      // For a client to take something of its answer.
  // Bytes a second, on average since it began and after some grace; 0: any.
  std::uint64_t upload_rate_min = 240;    // At which a body comes in.
  std::uint64_t download_rate_min = 240;  // At which an answer is taken that waits for its client.
  // A worker stream that was quiet for so long is pinged, and one that is silent for twice that is dropped: while jobs
  // are out on it, which others could have, and while none are. The latter 0: the kernel alone finds out that a peer
  // has gone (net::Connection::keep_alive). So it is, too, where the worker shows that nobody is between, and
  // `stream_direct` says that this is to be believed.
  Duration stream_ping = std::chrono::seconds{5};
  Duration stream_idle_ping = std::chrono::seconds{50};
  bool stream_direct = true;
};

// Of one connection: what it has not taken of its answers, above which its next requests wait. No setting: it is enough
// to keep a fast reader busy, and what all may hold is bounded by buffered_bytes_max.
inline constexpr std::size_t kOutputBytesMax = 256 * 1024;

// The largest of late of what is bounded for each request or connection, on one I/O thread.
struct HttpPeaks {
  telemetry::RecentPeak header_bytes;
  telemetry::RecentPeak body_bytes;    // And of messages on worker streams.
  telemetry::RecentPeak pipelined;     // Requests of one connection, or messages of one stream.
  telemetry::RecentPeak output_bytes;  // That one connection has not taken.
};

struct HttpCounters {
  explicit HttpCounters(telemetry::Metrics& metrics);

  telemetry::Counter& accepted;
  telemetry::Counter& accept_pauses;    // For want of descriptors or memory.
  telemetry::Counter& turned_away;      // Over connections_max or connections_from.
  telemetry::Counter& refused_headers;  // Over header_bytes_max.
  telemetry::Counter& refused_bodies;   // Over body_bytes_max.
  telemetry::Counter& refused_memory;   // Over buffered_bytes_max.
  telemetry::Counter& refused_limit;    // By the admission: the server has enough to do,
  telemetry::Counter& refused_share;    // or the client has had its share.
  telemetry::Counter& refusals_held;
  telemetry::Counter& pauses;               // At pipelined_max, or with too much output: read no further for now.
  telemetry::Counter& turned_away_address;  // Over connections_per_address_max.
  telemetry::Counter& refused_handshakes;   // Over handshakes_max: the connection is closed at once.
  telemetry::Counter& failed_handshakes;    // No TLS, none that we speak, or given up.
  telemetry::Counter& handshake_timeouts;
  telemetry::Counter& idle_timeouts;
  telemetry::Counter& header_timeouts;
  telemetry::Counter& upload_timeouts;    // Below upload_rate_min,
  telemetry::Counter& download_timeouts;  // or download_rate_min.
  telemetry::Counter& request_timeouts;
  telemetry::Counter& write_timeouts;
  telemetry::Counter& abandoned;  // Requests whose client went before the answer.
  telemetry::Counter& released;   // Jobs that were leased for a client that had gone, and given back.
  telemetry::Counter& refused;    // Requests answered with 413, 429, 431 or 503: too large, or too many.
  telemetry::Counter& upgraded;   // Requests answered with 101.
  ReportCounters reports;         // Those that came in requests.
  // By route (the last: no route), and by status / 100.
  std::array<std::array<telemetry::Counter*, 6>, kRoutes + 1> requests{};
  // From the bytes to the answer; without those that may wait.
  std::array<telemetry::Histogram*, kRoutes + 1> seconds{};

  void count(bool is_routed, Route route, int status) {
    requests[row_of(is_routed, route)][static_cast<std::size_t>(status) / 100]->add();
  }
  void took(bool is_routed, Route route, std::chrono::nanoseconds time) {
    seconds[row_of(is_routed, route)]->observe(time);
  }
  std::uint64_t answered() const;  // Requests, of any kind.

 private:
  static std::size_t row_of(bool is_routed, Route route) {
    return is_routed ? static_cast<std::size_t>(route) : kRoutes;
  }
};

}  // namespace workmill::http
