#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "model/command.h"
#include "net/socket_address.h"
#include "service/service.h"

// The JSON of requests into commands, as the public contract says (docs/reference/). Pure: no socket.
//
// Strict: fields that are not known, that come twice, that have another type or lie out of range are refused, with the
// field's full name ("jobs[17].backoff.first"), and so is every text that is not JSON. Fields of the contract that this
// version does not serve yet are refused too, by a message that says so, and not ignored.
//
// Errors: malformed_json, with the place where it is known; unknown_field, missing_field, invalid_field and
// payload_too_large with the field. One JsonIn for each I/O thread: it keeps its buffers from one request to the next.
namespace workmill::http {

// What came in the headers, for every job of the request. Checked by the caller; empty where not sent.
struct TraceContext {
  std::string_view traceparent{};
  std::string_view tracestate{};
};

inline constexpr std::size_t kLogLinesPerReportMax = 1'000;
inline constexpr std::size_t kLogLineBytesMax = 4 * 1024;  // Longer is cut.

class JsonIn {
 public:
  // `service` tells jobs' ids, and outlives this.
  explicit JsonIn(service::Service const& service);
  ~JsonIn();
  JsonIn(JsonIn const&) = delete;
  JsonIn& operator=(JsonIn const&) = delete;

  struct EnqueueRequest {
    Enqueue command{};
    bool bulk = false;  // {"jobs": [...]}: to be answered in the same form.
  };
  // POST /v1/jobs. The idempotency key is the caller's to add.
  Result<EnqueueRequest> parse_enqueue(std::string_view body, TraceContext const& trace = {});
  struct ComputeRequest {
    JobSpecView const* spec = nullptr;  // Of the flight, all rules kept; good until the next call.
    Duration wait{};
  };
  // POST /v1/cache/{key}. `key` is one (is_cache_key), and lent as long as the spec.
  Result<ComputeRequest> parse_compute(std::string_view body, std::string_view key, TraceContext const& trace = {});
  // POST /v1/leases.
  Result<Lease> parse_lease(std::string_view body);
  // POST /v1/reports.
  Result<ReportBatch> parse_reports(std::string_view body);
  struct Subscription {
    OpenStream open{};
    std::optional<net::SocketAddress> from{};  // What its socket is bound to, if the worker says so.
  };
  // A message of the worker stream. The stream of a TellStream, and what is drawn for an OpenStream, are the caller's
  // to add.
  using StreamMessage = std::variant<Subscription, TellStream, ReportBatch>;
  Result<StreamMessage> parse_stream(std::string_view message);
  // PATCH /v1/jobs/{id}. The job is the caller's to add.
  Result<JobChanges> parse_patch_job(std::string_view body);
  // PATCH /v1/queues/{q}. The name is the caller's to add.
  Result<PatchQueue> parse_patch_queue(std::string_view body);
  // POST /v1/jobs/bulk.
  Result<BulkJobs> parse_bulk_jobs(std::string_view body);
  // POST /v1/batches. The trace and the idempotency key are the caller's to add.
  Result<MakeBatch> parse_make_batch(std::string_view body);

 private:
  class Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace workmill::http
