#include "protocols/http/router.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace workmill::http {
namespace {

// The busiest first: the search goes down the list.
constexpr std::array<RouteEntry, kRoutes> kTable{{
    {Route::create_jobs, Method::post, "/v1/jobs", "", Access::enqueue},
    {Route::lease_jobs, Method::post, "/v1/leases", "", Access::work},
    {Route::report_jobs, Method::post, "/v1/reports", "", Access::work},
    {Route::get_cached, Method::get, "/v1/cache/{key}", "", Access::cache_read},
    {Route::compute_cached, Method::post, "/v1/cache/{key}", "", Access::enqueue},
    {Route::worker_stream, Method::get, "/v1/worker", "", Access::work},
    {Route::get_job, Method::get, "/v1/jobs/{id}", "wait", Access::read},
    {Route::list_jobs, Method::get, "/v1/jobs", "state queue type tag group batch q limit cursor", Access::read},
    {Route::cancel_job, Method::post, "/v1/jobs/{id}/cancel", "", Access::admin},
    {Route::retry_job, Method::post, "/v1/jobs/{id}/retry", "", Access::admin},
    {Route::patch_job, Method::patch, "/v1/jobs/{id}", "", Access::admin},
    {Route::delete_job, Method::remove, "/v1/jobs/{id}", "", Access::admin},
    {Route::bulk_jobs, Method::post, "/v1/jobs/bulk", "", Access::admin},
    {Route::get_job_log, Method::get, "/v1/jobs/{id}/log", "", Access::read},
    {Route::list_queues, Method::get, "/v1/queues", "limit cursor", Access::read},
    {Route::get_queue, Method::get, "/v1/queues/{queue}", "", Access::read},
    {Route::patch_queue, Method::patch, "/v1/queues/{queue}", "", Access::admin},
    {Route::purge_queue, Method::remove, "/v1/queues/{queue}/jobs", "state", Access::admin},
    {Route::create_batch, Method::post, "/v1/batches", "", Access::enqueue},
    {Route::list_batches, Method::get, "/v1/batches", "state limit cursor", Access::read},
    {Route::get_batch, Method::get, "/v1/batches/{id}", "", Access::read},
    {Route::close_batch, Method::post, "/v1/batches/{id}/close", "", Access::enqueue},
    {Route::delete_batch, Method::remove, "/v1/batches/{id}", "", Access::enqueue},
    {Route::put_cached, Method::put, "/v1/cache/{key}", "fresh stale tags", Access::cache_enqueue},
    {Route::forget_cached, Method::remove, "/v1/cache/{key}", "", Access::cache_enqueue},
    {Route::forget_cached_by, Method::remove, "/v1/cache", "tag prefix", Access::cache_enqueue},
    {Route::evaluate_flag, Method::post, "/ofrep/v1/evaluate/flags/{key}", "", Access::read},
    {Route::evaluate_flags, Method::post, "/ofrep/v1/evaluate/flags", "flagConfigEtag flagConfigLastModified",
     Access::read},
    {Route::list_flags, Method::get, "/v1/flags", "limit cursor", Access::server_read},
    {Route::get_flag, Method::get, "/v1/flags/{key}", "", Access::server_read},
    {Route::set_flag, Method::put, "/v1/flags/{key}", "", Access::server_admin},
    {Route::remove_flag, Method::remove, "/v1/flags/{key}", "", Access::server_admin},
    {Route::get_flag_history, Method::get, "/v1/flags/{key}/history", "limit cursor", Access::server_read},
    {Route::healthz, Method::get, "/healthz", "verbose", Access::open},
    {Route::livez, Method::get, "/livez", "verbose", Access::open},
    {Route::readyz, Method::get, "/readyz", "verbose exclude", Access::open},
    {Route::metrics, Method::get, "/metrics", "", Access::server_read},
    {Route::status, Method::get, "/v1/status", "", Access::server_read},
    {Route::cpu_profile, Method::get, "/v1/debug/cpu-profile", "seconds", Access::server_admin},
    {Route::heap, Method::get, "/v1/debug/heap", "", Access::server_admin},
    {Route::list_tokens, Method::get, "/v1/tokens", "limit cursor", Access::server_admin},
    {Route::openapi, Method::get, "/openapi.json", "", Access::read},
    {Route::home, Method::get, "/", "", Access::read},
}};

struct PathMatch {
  bool matches = false;
  std::string_view parameter;
};

PathMatch match_path(std::string_view pattern, std::string_view path) {
  std::size_t const open = pattern.find('{');
  if (open == std::string_view::npos) return {pattern == path, {}};
  std::string_view const before = pattern.substr(0, open);
  std::string_view const behind = pattern.substr(pattern.find('}') + 1);
  if (path.size() <= before.size() + behind.size()) return {};
  if (!path.starts_with(before) || !path.ends_with(behind)) return {};
  std::string_view const parameter = path.substr(before.size(), path.size() - before.size() - behind.size());
  if (parameter.find('/') != std::string_view::npos) return {};
  return {true, parameter};
}

bool has_word(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    std::size_t const space = std::min(words.find(' '), words.size());
    if (words.substr(0, space) == word) return true;
    words.remove_prefix(std::min(space + 1, words.size()));
  }
  return false;
}

Result<std::string> decode_query_part(std::string_view text) {
  std::string spaced{text};
  std::replace(spaced.begin(), spaced.end(), '+', ' ');
  std::string decoded;
  if (!append_percent_decoded(spaced, decoded)) {
    return fail(ErrorCode::malformed_request, "a % in the query is not followed by two hex digits");
  }
  return decoded;
}

}  // namespace

std::span<RouteEntry const> routes() { return kTable; }

RouteEntry const& entry_of(Route route) {
  for (RouteEntry const& entry : kTable) {
    if (entry.route == route) return entry;
  }
  WM_ASSERT(false);  // The table has them all: a test holds it to that.
  return kTable[0];
}

std::string_view to_string(Route route) {
  switch (route) {
    case Route::create_jobs: return "create_jobs";
    case Route::lease_jobs: return "lease_jobs";
    case Route::report_jobs: return "report_jobs";
    case Route::worker_stream: return "worker_stream";
    case Route::get_cached: return "get_cached";
    case Route::compute_cached: return "compute_cached";
    case Route::get_job: return "get_job";
    case Route::list_jobs: return "list_jobs";
    case Route::cancel_job: return "cancel_job";
    case Route::retry_job: return "retry_job";
    case Route::patch_job: return "patch_job";
    case Route::delete_job: return "delete_job";
    case Route::bulk_jobs: return "bulk_jobs";
    case Route::get_job_log: return "get_job_log";
    case Route::list_queues: return "list_queues";
    case Route::get_queue: return "get_queue";
    case Route::patch_queue: return "patch_queue";
    case Route::purge_queue: return "purge_queue";
    case Route::create_batch: return "create_batch";
    case Route::list_batches: return "list_batches";
    case Route::get_batch: return "get_batch";
    case Route::close_batch: return "close_batch";
    case Route::delete_batch: return "delete_batch";
    case Route::put_cached: return "put_cached";
    case Route::forget_cached: return "forget_cached";
    case Route::forget_cached_by: return "forget_cached_by";
    case Route::healthz: return "healthz";
    case Route::livez: return "livez";
    case Route::readyz: return "readyz";
    case Route::metrics: return "metrics";
    case Route::status: return "status";
    case Route::cpu_profile: return "cpu_profile";
    case Route::heap: return "heap";
    case Route::list_tokens: return "list_tokens";
    case Route::list_flags: return "list_flags";
    case Route::get_flag: return "get_flag";
    case Route::set_flag: return "set_flag";
    case Route::remove_flag: return "remove_flag";
    case Route::get_flag_history: return "get_flag_history";
    case Route::evaluate_flag: return "evaluate_flag";
    case Route::evaluate_flags: return "evaluate_flags";
    case Route::openapi: return "openapi";
    case Route::home: return "home";
  }
  return "";
}

bool reads_published(Route route) {
  switch (route) {
    case Route::get_cached:
    case Route::compute_cached:
    case Route::list_flags:
    case Route::get_flag:
    case Route::evaluate_flag:
    case Route::evaluate_flags: return true;
    default: return false;
  }
}

bool changes_published(Route route) {
  switch (route) {
    case Route::put_cached:
    case Route::forget_cached:
    case Route::forget_cached_by:
    case Route::set_flag:
    case Route::remove_flag: return true;
    default: return false;
  }
}

service::Priority priority_of(Route route) {
  using enum service::Priority;
  switch (route) {
    case Route::create_jobs:
    case Route::create_batch:
    case Route::put_cached:
    case Route::list_jobs:
    case Route::list_batches: return load;
    case Route::lease_jobs:
    case Route::worker_stream:
    case Route::get_cached:
    case Route::compute_cached:  // Of a value that is there. One that has to compute is load: Endpoints::priority().
    case Route::get_job:
    case Route::get_job_log:
    case Route::get_batch:
    case Route::evaluate_flag:
    case Route::evaluate_flags: return work;
    case Route::report_jobs:
    case Route::cancel_job:
    case Route::retry_job:
    case Route::patch_job:
    case Route::delete_job:
    case Route::bulk_jobs:
    case Route::list_queues:
    case Route::get_queue:
    case Route::patch_queue:
    case Route::purge_queue:
    case Route::close_batch:  // Else what is done could not be told, and the batch would stay.
    case Route::delete_batch:
    case Route::forget_cached:
    case Route::forget_cached_by:
    case Route::healthz:
    case Route::livez:
    case Route::readyz:
    case Route::metrics:
    case Route::status:
    case Route::cpu_profile:
    case Route::heap:
    case Route::list_tokens:
    case Route::list_flags:
    case Route::get_flag:
    case Route::set_flag:  // What switches something off must get through.
    case Route::remove_flag:
    case Route::get_flag_history:
    case Route::openapi:
    case Route::home: return relief;
  }
  return load;
}

std::string_view to_string(Access access) {
  switch (access) {
    case Access::open: return "";
    case Access::enqueue:
    case Access::cache_enqueue: return "enqueue";
    case Access::work: return "work";
    case Access::read:
    case Access::cache_read:
    case Access::server_read: return "read";
    case Access::admin:
    case Access::server_admin: return "admin";
  }
  return "";
}

Result<Match> match(Method method, std::string_view path) {
  Method const wanted = method == Method::head ? Method::get : method;
  bool path_is_known = false;
  for (RouteEntry const& entry : kTable) {
    PathMatch const found = match_path(entry.pattern, path);
    if (!found.matches) continue;
    if (entry.method == wanted) return Match{entry.route, found.parameter, entry.query, entry.access};
    path_is_known = true;
  }
  if (path_is_known) return fail(ErrorCode::method_not_allowed, "this path cannot be asked that way");
  return fail(ErrorCode::not_found, "there is nothing at this path; /openapi.json lists what there is");
}

std::string allowed_methods(std::string_view path) {
  if (path == "*") return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
  std::string list;
  for (RouteEntry const& entry : kTable) {
    if (!match_path(entry.pattern, path).matches) continue;
    list.append(to_string(entry.method)).append(", ");
    if (entry.method == Method::get) list.append("HEAD, ");
  }
  if (!list.empty()) list.append("OPTIONS");
  return list;
}

Result<Query> Query::parse(std::string_view text, std::string_view names) {
  Query query;
  while (!text.empty()) {
    std::size_t const end = std::min(text.find('&'), text.size());
    std::string_view const part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (part.empty()) continue;
    std::size_t const equals = std::min(part.find('='), part.size());
    WM_TRY(std::string name, decode_query_part(part.substr(0, equals)));
    WM_TRY(std::string value, decode_query_part(part.substr(std::min(equals + 1, part.size()))));
    if (!has_word(names, name)) {
      return fail_field(ErrorCode::unknown_field, std::move(name), "this call knows no such query parameter");
    }
    if (query.has(name)) return fail_field(ErrorCode::invalid_field, std::move(name), "sent twice");
    query.parameters_.push_back({std::move(name), std::move(value)});
  }
  return query;
}

std::string_view Query::get(std::string_view name) const {
  for (Parameter const& parameter : parameters_) {
    if (parameter.name == name) return parameter.value;
  }
  return {};
}

bool Query::has(std::string_view name) const {
  return std::any_of(parameters_.begin(), parameters_.end(), [&](Parameter const& it) { return it.name == name; });
}

}  // namespace workmill::http
