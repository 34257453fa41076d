#include "app/health/fetch.h"

#include <fmt/format.h>

#include <string>

namespace workmill::app::health {

Result<Snapshot> fetch(HttpClient& client) {
  WM_TRY(auto const status, client.call({.path = "/v1/status"}));
  Snapshot snapshot = read_status(status.root());
  std::string cursor;
  for (int page = 0; page < kQueuePagesMax; ++page) {
    WM_TRY(auto const queues,
           client.call({.path = fmt::format("/v1/queues?limit={}{}", kQueuesPerPage,
                                            cursor.empty() ? "" : "&cursor=" + url_encoded(cursor))}));
    read_queues(queues.root(), snapshot);
    cursor = queues->string_at("next");
    if (cursor.empty()) break;
  }
  auto const metrics = client.send({.path = "/metrics"});
  if (metrics && metrics->status == 200) read_metrics(metrics->body, snapshot);
  return snapshot;
}

}  // namespace workmill::app::health
