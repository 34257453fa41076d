#include "protocols/http/limits.h"

#include <string>

namespace workmill::http {

HttpCounters::HttpCounters(telemetry::Metrics& metrics)
    : accepted(metrics.counter("workmill_http_connections_accepted_total", "Connections that came in.")),
      accept_pauses(metrics.counter("workmill_http_accept_pauses_total",
                                    "How often accepting paused for want of descriptors or memory.")),
      turned_away(metrics.counter("workmill_http_connections_turned_away_total",
                                  "Connections refused because there were too many.")),
      refused_headers(metrics.counter("workmill_http_refused_total", "Requests over a limit of size.",
                                      {{"limit", "header_bytes"}})),
      refused_bodies(
          metrics.counter("workmill_http_refused_total", "Requests over a limit of size.", {{"limit", "body_bytes"}})),
      refused_memory(metrics.counter("workmill_http_refused_total", "Requests over a limit of size.",
                                     {{"limit", "buffered_bytes"}})),
      refused_limit(metrics.counter("workmill_http_requests_refused_total",
                                    "Requests refused because the server had more to do than it could.",
                                    {{"reason", "limit"}})),
      refused_share(metrics.counter("workmill_http_requests_refused_total",
                                    "Requests refused because the server had more to do than it could.",
                                    {{"reason", "share"}})),
      refusals_held(metrics.counter("workmill_http_refusals_held_back_total",
                                    "Refusals that were held back for a while, so as not to cost more than serving.")),
      pauses(metrics.counter("workmill_http_pauses_total",
                             "How often a connection's next requests had to wait for the answers before them.")),
      turned_away_address(metrics.counter("workmill_http_connections_turned_away_address_total",
                                          "Connections refused because there were too many from one address.")),
      refused_handshakes(metrics.counter("workmill_http_handshakes_refused_total",
                                         "Connections closed because too many TLS handshakes were under way.")),
      failed_handshakes(
          metrics.counter("workmill_http_handshakes_failed_total", "TLS handshakes that did not come about.")),
      handshake_timeouts(
          metrics.counter("workmill_http_timeouts_total", "Connections that took too long.", {{"kind", "handshake"}})),
      idle_timeouts(
          metrics.counter("workmill_http_timeouts_total", "Connections that took too long.", {{"kind", "idle"}})),
      header_timeouts(
          metrics.counter("workmill_http_timeouts_total", "Connections that took too long.", {{"kind", "header"}})),
      upload_timeouts(
          metrics.counter("workmill_http_timeouts_total", "Connections that took too long.", {{"kind", "upload"}})),
      download_timeouts(
          metrics.counter("workmill_http_timeouts_total", "Connections that took too long.", {{"kind", "download"}})),
      request_timeouts(
          metrics.counter("workmill_http_timeouts_total", "Connections that took too long.", {{"kind", "request"}})),
      write_timeouts(
          metrics.counter("workmill_http_timeouts_total", "Connections that took too long.", {{"kind", "write"}})),
      abandoned(metrics.counter("workmill_http_abandoned_total", "Requests whose client went before the answer.")),
      released(metrics.counter("workmill_http_leases_given_back_total",
                               "Jobs leased for a client that had gone, and given back.")),
      refused(metrics.counter("workmill_requests_refused_total",
                              "Requests answered with 413, 429, 431 or 503: too large, or too many.",
                              {{"protocol", "http"}})),
      upgraded(metrics.counter("workmill_requests_total", "Requests answered.",
                               {{"protocol", "http"}, {"route", to_string(Route::worker_stream)}, {"status", "1xx"}})),
      reports(metrics, "http") {
  for (std::size_t row = 0; row <= kRoutes; ++row) {
    std::string_view const route = row == kRoutes ? "none" : to_string(static_cast<Route>(row));
    seconds[row] = &metrics.histogram("workmill_request_seconds",
                                      "From a request's bytes to its answer, without requests that may wait.",
                                      telemetry::latency_buckets(), {{"protocol", "http"}, {"route", route}});
    for (std::size_t column = 2; column <= 5; ++column) {
      std::string const status = std::to_string(column) + "xx";
      requests[row][column] = &metrics.counter("workmill_requests_total", "Requests answered.",
                                               {{"protocol", "http"}, {"route", route}, {"status", status}});
    }
  }
}

std::uint64_t HttpCounters::answered() const {
  std::uint64_t sum = upgraded.value();
  for (auto const& row : requests) {
    for (telemetry::Counter const* const counter : row) sum += counter == nullptr ? 0 : counter->value();
  }
  return sum;
}

}  // namespace workmill::http
