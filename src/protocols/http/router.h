#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "protocols/http/codec.h"
#include "service/admission.h"

// Which call a method and a path mean, and its query. The OpenAPI document says the same; a test holds them together.
namespace workmill::http {

enum class Route : std::uint8_t {
  create_jobs,
  lease_jobs,
  report_jobs,
  worker_stream,
  get_cached,
  compute_cached,
  get_job,
  list_jobs,
  cancel_job,
  retry_job,
  patch_job,
  delete_job,
  bulk_jobs,
  get_job_log,
  list_queues,
  get_queue,
  patch_queue,
  purge_queue,
  create_batch,
  list_batches,
  get_batch,
  close_batch,
  delete_batch,
  put_cached,
  forget_cached,
  forget_cached_by,
  healthz,
  livez,
  readyz,
  metrics,
  status,
  cpu_profile,
  heap,
  list_tokens,
  list_flags,
  get_flag,
  set_flag,
  remove_flag,
  get_flag_history,
  evaluate_flag,
  evaluate_flags,
  openapi,
  home,
};
inline constexpr std::size_t kRoutes = 43;
std::string_view to_string(Route route);  // "create_jobs": for metrics and logs, and the document's operationId.

// What a call does to the load. Health and metrics must get through when it is highest, and so must what ends it.
service::Priority priority_of(Route route);

// May be answered by what the shard has published (the cache's index, the flags), without asking it.
bool reads_published(Route route);
// Changes that. So may reports on jobs, whichever call brings them: a job's result can be a cached value.
bool changes_published(Route route);

// What a call asks of its token, where the server has tokens.
enum class Access : std::uint8_t {
  open,  // Nothing: for those who watch over the server, and must not hold secrets to do so.
  enqueue,
  work,
  read,
  admin,
  cache_read,     // read, and not limited to some queues unless it is to keys of the cache, too.
  cache_enqueue,  // enqueue, likewise.
  server_read,    // read, and not limited to some queues: it shows figures of all.
  server_admin,   // admin, likewise.
};
std::string_view to_string(Access access);  // The scope: "read" also for server_read; "" for open.

struct RouteEntry {
  Route route;
  Method method;             // What answers GET answers HEAD too.
  std::string_view pattern;  // At most one {parameter}, a whole segment.
  std::string_view query;    // The names that its query may have, with a space between.
  Access access;
};
std::span<RouteEntry const> routes();
RouteEntry const& entry_of(Route route);

struct Match {
  Route route{};
  std::string_view parameter;  // As sent, percent-encoded; empty where the pattern has none.
  std::string_view query_names;
  Access access{};
};
// method_not_allowed or not_found where there is none. HEAD matches as GET.
Result<Match> match(Method method, std::string_view path);
// "GET, HEAD, OPTIONS": what the path can be asked, empty for an unknown path. `*` is the server as a whole.
std::string allowed_methods(std::string_view path);

// A query, decoded: `%20` and `+` are spaces.
class Query {
 public:
  // unknown_field with its name where a parameter is not in `names`; invalid_field where one comes twice or is not
  // decodable.
  static Result<Query> parse(std::string_view text, std::string_view names);

  // Empty where it was not sent. A parameter sent without a value is there and empty.
  std::string_view get(std::string_view name) const;
  bool has(std::string_view name) const;

 private:
  struct Parameter {
    std::string name, value;
  };
  std::vector<Parameter> parameters_;
};

}  // namespace workmill::http
