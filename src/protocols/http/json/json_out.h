#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "model/allowed.h"
#include "model/batch.h"
#include "model/command.h"
#include "model/reply.h"
#include "service/service.h"
#include "service/token_store.h"

// Replies into the JSON of responses, as the public contract says (docs/reference/). Pure: each function appends one
// JSON value to `out`, and allocates nothing but its growth.
//
// `service` makes jobs' ids. What a job does not have (a result, an error, a group) is left out; what it was not sent
// with but has by default (priority, queue, backoff, lease…) is there. Specs that do not decode are a bug or a damaged
// disk: the job is then written without what was sent.
namespace workmill::http {

// {"id", "state", "duplicate"}, or {"jobs": [...]} of them where the request had that form.
void append_enqueue_reply(EnqueueReply const& reply, bool bulk, service::Service const& service, std::string& out);

// What the answer to a report names its job by.
struct ReportedJob {
  JobRef job{};
  bool is_forbidden = false;  // It was not handed over.
};
// Take these from the command before that is handed over. `allowed`: of the caller. Reports that want to set keys of
// the cache which are not his become reports on no job.
std::vector<ReportedJob> reported_jobs(std::span<Report> reports, Allowed const& allowed);

// What the worker of a job gets as its traceparent.
enum class AttemptContext : std::uint8_t {
  as_stored,  // What the job was sent with.
  own_span,   // Where its trace is sampled, the context of the attempt's span: the worker's own spans nest in it.
};

// {"jobs": [...]}; with "reports" too where the request had any. `reported` as reported_jobs() gave it.
void append_lease_reply(LeaseReply const& reply, std::span<ReportedJob const> reported, bool has_reports,
                        service::Service const& service, std::string_view trace_id, AttemptContext attempts,
                        std::string& out);
// {"reports": [...]}: {"id", "ok": true}, with "cancel_requested": true where somebody wants the job to stop, and
// "not_stored": [keys] where the cache can never hold values that came with it; or {"id", "ok": false, "error":
// {problem}}.
void append_reports_reply(ReportsReply const& reply, std::span<ReportedJob const> reported,
                          service::Service const& service, std::string_view trace_id, std::string& out);

// The messages of the worker stream. {"subscribed": {...}}; with "direct": true where it is so.
void append_stream_opened(StreamOpened const& opened, bool is_direct, std::string& out);
// {"jobs": [...]}, as append_lease_reply() has them.
void append_stream_jobs(StreamJobs const& jobs, service::Service const& service, AttemptContext attempts,
                        std::string& out);
// {"cancel": ["<id>", ...]}
void append_stream_cancel(StreamCancel const& cancel, service::Service const& service, std::string& out);
// {"drained": true}
void append_stream_drained(std::string& out);
// {"error": {problem}}; with `retry_after`, in seconds, where it is not 0.
void append_stream_error(Error const& error, std::string_view trace_id, std::uint32_t retry_after, std::string& out);

// A job as read.
void append_job(JobView const& job, service::Service const& service, std::string& out);
// {"items": [...], "next": cursor or null}.
void append_jobs_page(JobsReply const& reply, service::Service const& service, std::string& out);
// {"lines": [...]}.
void append_job_log(JobLogReply const& reply, std::string& out);
// {"count": n}.
void append_count(CountReply const& reply, std::string& out);
void append_queue(QueueView const& queue, std::string& out);
// A batch as read.
void append_batch(BatchView const& batch, service::Service const& service, std::string& out);
// {"items": [...], "next": cursor or null}.
void append_batches_page(BatchesReply const& reply, service::Service const& service, std::string& out);
void append_queues_page(QueuesReply const& reply, std::string& out);

// A problem (problem.h) is an object of its own; a lone {} for what has nothing to say.
void append_done(std::string& out);

// A page of tokens by name, behind the one of the name `after`, `limit` at most; nothing of their secrets.
void append_tokens_page(std::span<service::TokenPtr const> by_name, std::string_view after, std::size_t limit,
                        std::string& out);

// The `cursor` of a page's query. invalid_field where it is none that we made.
Result<JobNumber> parse_jobs_cursor(std::string_view cursor);
Result<BatchNumber> parse_batches_cursor(std::string_view cursor);
Result<std::string> parse_queues_cursor(std::string_view cursor);

}  // namespace workmill::http
