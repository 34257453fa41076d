#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "model/batch.h"
#include "model/job.h"
#include "protocols/http/json/json_in.h"
#include "protocols/http/json/json_values.h"

// What json_in.cpp, json_jobs.cpp and json_reports.cpp share, and nobody else includes: one method for each kind of
// object, on top of those for values, and in their manner.
namespace workmill::http {

enum class JobField : std::uint8_t;     // json_jobs.cpp
enum class ReportField : std::uint8_t;  // json_reports.cpp

class JsonIn::Parser : private JsonValues {
 public:
  explicit Parser(service::Service const& service) : service_(service) {}

  // Runs `parse` over a body, from its first to its last token.
  template <class T, class Parse>
  Result<T> run(std::string_view body, Parse&& parse) {
    T value{};
    if (!begin(body) || !parse(value) || !end()) return std::unexpected(take_error());
    return value;
  }

  bool enqueue(EnqueueRequest& request, TraceContext const& trace);
  bool compute(ComputeRequest& request, std::string_view key, TraceContext const& trace);
  bool lease(Lease& lease);
  bool reports_body(ReportBatch& batch);
  bool stream(StreamMessage& message);
  bool patch_job(JobChanges& changes);
  bool patch_queue(PatchQueue& patch);
  bool bulk(BulkJobs& bulk);
  bool make_batch(MakeBatch& batch);

 private:
  // What a report said, before its outcome is known.
  struct ReportParts {
    std::string_view id, lease, outcome, result, message, data;
    std::optional<Duration> retry_in, extend_by;
    std::uint64_t percent = 0;
    Failed failed;
    std::vector<Bytes> lines;
    std::vector<CacheEntrySet> cache;
    Seen seen;
  };

  // --- Objects.
  void begin_spec(TraceContext const& trace);
  bool job(EnqueueRequest* request, TraceContext const& trace, Bytes& encoded);
  bool job_field(JobField field, Seen const& seen);
  bool more_job_fields(JobField field);
  bool jobs(EnqueueRequest& request, TraceContext const& trace);
  bool computing_job();
  bool callback(CallbackKind kind, Bytes& encoded);
  bool windows(Duration fresh, Duration stale);
  bool backoff();
  bool unique();
  bool tags(std::vector<std::string_view>& tags);
  bool reports(std::vector<Report>& reports);
  bool report(Report& report);
  bool report_field(ReportField field, ReportParts& parts);
  bool report_error(Failed& failed);
  bool log_lines(std::vector<Bytes>& lines);
  bool cache_entry(CacheEntrySet& entry);
  bool outcome(ReportParts& parts, Outcome& made);
  bool subscribe(Subscription& subscription);
  bool credit(std::uint32_t& credit);
  bool queue_choices(std::vector<QueueChoice>& queues);
  bool queue_choice(QueueChoice& choice);
  bool filter(JobFilter& filter);

  service::Service const& service_;
  // Of the job that is being parsed; kept for the room of its vectors.
  JobSpecView spec_;
  Bytes raw_;
};

}  // namespace workmill::http
