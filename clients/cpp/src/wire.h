#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "transport.h"
#include "workmill/batches.h"
#include "workmill/cache.h"
#include "workmill/jobs.h"

// What goes over the wire: values of this library into the JSON of the API, and back. Pure. Internal.
namespace workmill::client::detail {

Result<> check_json(std::string_view text);      // bad_json where it is none.
std::string format_duration(Duration duration);  // "1500ms"; below zero as zero.
std::string url_encoded(std::string_view text);

// What a report may have, as the server takes it.
inline constexpr std::size_t kResultBytesMax = std::size_t{8} << 20;  // And of each value that it sets in the cache.
// Of a result and all that it sets, as sent (bytes are a third longer): below what a server takes by default.
inline constexpr std::size_t kReportBytesMax = std::size_t{23} << 19;
inline constexpr std::size_t kCheckpointBytesMax = std::size_t{1} << 20;

// What the server would say of a cache entry of a report: `invalid_field` with its field, or `bad_json`.
Result<> check_cache_entry(std::string_view key, CacheText const& value, bool is_json, CacheOptions const& options);
// One of a report's `cache`, as JSON.
std::string cache_entry(std::string_view key, CacheText const& value, bool is_json, CacheOptions const& options);

void write_job(NewJob const& job, std::string& out);
std::string enqueue_body(NewJob const& job);
inline constexpr std::size_t kIdempotencyKeyBytesMax = 255;
// For a part of a bulk, counted from 0: the first has the key as it is, and the others have one made of it, the same
// each time and in all languages. A key that has no room for their number is one by its digest there.
std::string part_key(std::string_view key, std::size_t part);
std::string lease_body(LeaseRequest const& request);
std::string reports_body(std::vector<Report> const& reports);
std::string list_target(JobQuery const& query);
std::string list_target(QueueQuery const& query);
std::string list_target(BatchQuery const& query);
std::string changes_body(JobChanges const& changes);
std::string changes_body(QueueChanges const& changes);
std::string bulk_action_body(std::string_view action, JobFilter const& where);
void write_queues(std::vector<QueueChoice> const& queues, std::string& out);

// The error of an answer that is no Workmill's. It came, so the request may have counted.
std::unexpected<Error> not_ours(std::string const& what);
// Does it say what only a Workmill says of an error?
bool is_problem(Json const& json);
// The error of an answer whose status is 400 or more.
Error read_problem(Response const& response);
Error problem_error(Json const& problem);

Result<Enqueued> read_enqueued(std::string_view body);
Result<std::vector<Enqueued>> read_bulk(std::string_view body);
Result<Job> read_job(std::string_view body);
Result<Batch> read_batch(std::string_view body);
Result<BatchPage> read_batches(std::string_view body);
Result<JobPage> read_jobs(std::string_view body);
Result<std::vector<std::string>> read_lines(std::string_view body);
Result<std::vector<LeasedJob>> read_leased(std::string_view body);
Result<std::vector<ReportResult>> read_reports(std::string_view body);
Result<QueueStats> read_queue(std::string_view body);
Result<QueuePage> read_queues(std::string_view body);
Result<std::uint64_t> read_count(std::string_view body);
Result<Json> read_object(std::string_view body);

// A job's end as an error: see Client::completed().
Result<Job> completed_or_error(Job job);

}  // namespace workmill::client::detail
