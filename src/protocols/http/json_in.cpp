#include "protocols/http/json_in.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/json_writer.h"
#include "base/time.h"
#include "model/job.h"
#include "protocols/http/field_names.h"
#include "protocols/http/json_values.h"

namespace workmill::http {
namespace {

constexpr std::uint64_t kWeightMax = 1'000'000;
constexpr std::uint64_t kMaxDepthMax = std::uint64_t{1} << 53;  // What every client's JSON can say exactly.

// An error's detail, which is JSON: what is too long to be kept becomes a string with its beginning.
Bytes cut_json(std::string_view json) {
  if (json.size() <= kErrorTextBytesMax) return Bytes{json};
  Bytes text;
  for (std::size_t bytes = kErrorTextBytesMax; text.empty() || text.size() > kErrorTextBytesMax;
       bytes = bytes * 3 / 4) {
    text.clear();
    append_json_string(cut(json, bytes), text);
  }
  return text;
}

std::optional<ErrorClass> parse_error_class(std::string_view text) {
  for (auto const error_class : {ErrorClass::retryable, ErrorClass::user, ErrorClass::fatal}) {
    if (to_string(error_class) == text) return error_class;
  }
  return std::nullopt;
}

std::optional<BulkAction> parse_bulk_action(std::string_view text) {
  if (text == "retry") return BulkAction::retry;
  if (text == "cancel") return BulkAction::cancel;
  if (text == "delete") return BulkAction::remove;
  return std::nullopt;
}

// The members of each object: names, and what they are called below (keywords get a second word), in the same order.

enum class JobField : std::uint8_t {
  type,
  queue,
  payload,
  payload_base64,
  id,
  priority,
  delay,
  run_at,
  expires_in,
  max_attempts,
  backoff,
  lease,
  unique,
  group,
  limits,
  tags,
  after,
  batch,
  keep_result,
  meta,
  jobs
};
constexpr FieldNames<21> kJobFields{{"type",        "queue",  "payload",    "payload_base64", "id",      "priority",
                                     "delay",       "run_at", "expires_in", "max_attempts",   "backoff", "lease",
                                     "unique",      "group",  "limits",     "tags",           "after",   "batch",
                                     "keep_result", "meta",   "jobs"}};

enum class BackoffField : std::uint8_t { first, factor, cap, jitter };
constexpr FieldNames<4> kBackoffFields{{"first", "factor", "cap", "jitter"}};

enum class UniqueField : std::uint8_t { key, while_state, for_long };
constexpr FieldNames<3> kUniqueFields{{"key", "while", "for"}};

enum class LeaseField : std::uint8_t { queues, max, wait, lease, worker, reports };
constexpr FieldNames<6> kLeaseFields{{"queues", "max", "wait", "lease", "worker", "reports"}};

enum class StreamField : std::uint8_t { subscribe, credit, reports, drain };
constexpr FieldNames<4> kStreamFields{{"subscribe", "credit", "reports", "drain"}};

enum class SubscribeField : std::uint8_t { queues, credit, lease, worker, resume, held };
constexpr FieldNames<6> kSubscribeFields{{"queues", "credit", "lease", "worker", "resume", "held"}};

enum class QueueChoiceField : std::uint8_t { name, weight };
constexpr FieldNames<2> kQueueChoiceFields{{"name", "weight"}};

enum class ReportField : std::uint8_t {
  id,
  lease,
  outcome,
  result,
  result_base64,
  cache,
  error,
  retry_in,
  for_long,
  percent,
  message,
  lines,
  data
};
constexpr FieldNames<13> kReportFields{{"id", "lease", "outcome", "result", "result_base64", "cache", "error",
                                        "retry_in", "for", "percent", "message", "lines", "data"}};

enum class ErrorField : std::uint8_t { error_class, code, message, detail };
constexpr FieldNames<4> kErrorFields{{"class", "code", "message", "detail"}};

enum class PatchJobField : std::uint8_t { priority, run_at, queue, tags, max_attempts };
constexpr FieldNames<5> kPatchJobFields{{"priority", "run_at", "queue", "tags", "max_attempts"}};

enum class PatchQueueField : std::uint8_t {
  paused,
  max_depth,
  when_full,
  max_running,
  rate,
  defaults,
  dead_queue,
  push
};
constexpr FieldNames<8> kPatchQueueFields{
    {"paused", "max_depth", "when_full", "max_running", "rate", "defaults", "dead_queue", "push"}};

enum class BulkField : std::uint8_t { action, where };
constexpr FieldNames<2> kBulkFields{{"action", "where"}};

enum class FilterField : std::uint8_t { state, queue, type, tag, group, batch };
constexpr FieldNames<6> kFilterFields{{"state", "queue", "type", "tag", "group", "batch"}};

constexpr FieldNames<1> kReportsOnly{{"reports"}};

}  // namespace

// One method for each kind of object, on top of those for values, and in their manner.
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
  bool lease(Lease& lease);
  bool reports_body(ReportBatch& batch);
  bool stream(StreamMessage& message);
  bool patch_job(JobChanges& changes);
  bool patch_queue(PatchQueue& patch);
  bool bulk(BulkJobs& bulk);

 private:
  // What a report said, before its outcome is known.
  struct ReportParts {
    std::string_view id, lease, outcome, result, message, data;
    std::optional<Duration> retry_in, extend_by;
    std::uint64_t percent = 0;
    Failed failed;
    std::vector<Bytes> lines;
    Seen seen;
  };

  // --- Objects.
  bool job(EnqueueRequest* request, TraceContext const& trace, Bytes& encoded);
  bool job_field(JobField field, Seen const& seen);
  bool more_job_fields(JobField field);
  bool jobs(EnqueueRequest& request, TraceContext const& trace);
  bool backoff();
  bool unique();
  bool tags(std::vector<std::string_view>& tags);
  bool reports(std::vector<Report>& reports);
  bool report(Report& report);
  bool report_field(ReportField field, ReportParts& parts);
  bool report_error(Failed& failed);
  bool log_lines(std::vector<Bytes>& lines);
  bool outcome(ReportParts& parts, Outcome& made);
  bool subscribe(OpenStream& open);
  bool credit(std::uint32_t& credit);
  bool queue_choices(std::vector<QueueChoice>& queues);
  bool queue_choice(QueueChoice& choice);
  bool filter(JobFilter& filter);

  service::Service const& service_;
  // Of the job that is being parsed; kept for the room of its vectors.
  JobSpecView spec_;
  Bytes raw_;
};

// --- Jobs.

bool JsonIn::Parser::enqueue(EnqueueRequest& request, TraceContext const& trace) {
  Bytes encoded;
  if (!job(&request, trace, encoded)) return false;
  if (!request.bulk) request.command.specs.push_back(std::move(encoded));
  return true;
}

// `request`: where {"jobs": […]} may stand instead of a job.
bool JsonIn::Parser::job(EnqueueRequest* request, TraceContext const& trace, Bytes& encoded) {
  spec_.tags.clear();
  spec_ = JobSpecView{.tags = std::move(spec_.tags), .traceparent = trace.traceparent, .tracestate = trace.tracestate};
  Seen seen;
  bool const well = members(kJobFields, seen, [&](std::size_t place) {
    auto const field = static_cast<JobField>(place);
    if (request != nullptr && request->bulk) return invalid("cannot stand beside jobs");
    if (field != JobField::jobs) return job_field(field, seen);
    if (request == nullptr) return fail(ErrorCode::unknown_field, "there is no such field");
    if (!seen.only(place)) return invalid("cannot stand beside the fields of a job");
    return jobs(*request, trace);
  });
  if (!well) return false;
  if (request != nullptr && request->bulk) return true;
  if (!seen.has(JobField::type)) return missing("type");
  if (auto rules = check_spec(spec_); !rules) return broken_rule(std::move(rules).error());
  encode_spec(spec_, encoded);
  return true;
}

bool JsonIn::Parser::job_field(JobField field, Seen const& seen) {
  switch (field) {
    case JobField::type: return string(spec_.type);
    case JobField::queue: return string(spec_.queue);
    case JobField::payload:
      if (seen.has(JobField::payload_base64)) return invalid("cannot stand beside payload_base64: send one of them");
      spec_.payload_kind = PayloadKind::json;
      return json(spec_.payload);
    case JobField::payload_base64:
      if (seen.has(JobField::payload)) return invalid("cannot stand beside payload: send one of them");
      raw_.clear();
      if (!base64(raw_)) return false;
      spec_.payload_kind = PayloadKind::raw;
      spec_.payload = raw_;
      return true;
    default: return more_job_fields(field);
  }
}

bool JsonIn::Parser::more_job_fields(JobField field) {
  switch (field) {
    case JobField::id: return filled_string(spec_.id);
    case JobField::priority: {
      std::uint64_t priority = 0;
      if (!whole_number(priority, kPriorityMax)) return false;
      spec_.priority = static_cast<std::uint8_t>(priority);
      return true;
    }
    case JobField::delay: return duration(spec_.delay);
    case JobField::run_at: return instant(spec_.run_at);
    case JobField::expires_in: return duration(spec_.expires_in);
    case JobField::max_attempts: return whole_number(spec_.max_attempts);
    case JobField::backoff: return backoff();
    case JobField::lease: return duration(spec_.lease);
    case JobField::unique: return unique();
    case JobField::group: return filled_string(spec_.group);
    case JobField::tags: return tags(spec_.tags);
    case JobField::keep_result: return duration(spec_.keep_result);
    case JobField::meta: return json_object(spec_.meta);
    case JobField::limits:
    case JobField::after:
    case JobField::batch: return not_yet();
    case JobField::type:
    case JobField::queue:
    case JobField::payload:
    case JobField::payload_base64:
    case JobField::jobs: break;
  }
  WM_ASSERT(false);  // Handled by the callers.
}

bool JsonIn::Parser::jobs(EnqueueRequest& request, TraceContext const& trace) {
  request.bulk = true;
  auto& specs = request.command.specs;
  bool const well = elements(kJobsPerEnqueueMax, [&] { return job(nullptr, trace, specs.emplace_back()); });
  return well && (!specs.empty() || invalid("must not be empty"));
}

bool JsonIn::Parser::backoff() {
  Backoff& backoff = spec_.backoff.emplace();
  std::optional<Duration> first, cap;
  Seen seen;
  bool const well = members(kBackoffFields, seen, [&](std::size_t place) {
    switch (static_cast<BackoffField>(place)) {
      case BackoffField::first: return duration(first);
      case BackoffField::factor: return permille(backoff.factor_permille);
      case BackoffField::cap: return duration(cap);
      case BackoffField::jitter: return permille(backoff.jitter_permille);
    }
    return false;
  });
  if (!well) return false;
  backoff.first = first.value_or(backoff.first);
  // Who asks for a longer first wait than the default cap, and for no cap, has raised the cap.
  backoff.cap = cap.value_or(std::max(backoff.cap, backoff.first));
  return true;
}

bool JsonIn::Parser::unique() {
  Seen seen;
  bool const well = members(kUniqueFields, seen, [&](std::size_t place) {
    switch (static_cast<UniqueField>(place)) {
      case UniqueField::key: return filled_string(spec_.unique_key);
      case UniqueField::while_state:
        return choice(spec_.unique_while, &parse_unique_while, "must be scheduled, queued or unfinished");
      case UniqueField::for_long: return duration(spec_.unique_for);
    }
    return false;
  });
  return well && (seen.has(UniqueField::key) || missing("key"));
}

bool JsonIn::Parser::tags(std::vector<std::string_view>& tags) {
  return elements(kTagsMax, [&] { return name(tags.emplace_back()); });
}

// --- Work.

bool JsonIn::Parser::lease(Lease& lease) {
  Seen seen;
  std::optional<Duration> wait;
  bool const well = members(kLeaseFields, seen, [&](std::size_t place) {
    switch (static_cast<LeaseField>(place)) {
      case LeaseField::queues: return queue_choices(lease.queues);
      case LeaseField::max: {
        std::uint64_t max = 0;
        if (!whole_number(max, kJobsPerLeaseMax)) return false;
        lease.max = static_cast<std::uint32_t>(max);
        return max != 0 || invalid("must not be 0");
      }
      case LeaseField::wait: return duration(wait, Duration{0}, kWaitMax);
      case LeaseField::lease: return duration(lease.lease, kLeaseMin, kLeaseMax);
      case LeaseField::worker: return name(lease.worker);
      case LeaseField::reports: return reports(lease.reports);
    }
    return false;
  });
  lease.wait = wait.value_or(Duration{0});
  return well && (seen.has(LeaseField::queues) || missing("queues"));
}

bool JsonIn::Parser::queue_choices(std::vector<QueueChoice>& queues) {
  bool const well = elements(kQueuesPerLeaseMax, [&] {
    QueueChoice choice;
    if (!queue_choice(choice)) return false;
    for (QueueChoice const& other : queues) {
      if (other.name == choice.name) return invalid("names a queue that is named before");
    }
    queues.push_back(std::move(choice));
    return true;
  });
  return well && (!queues.empty() || invalid("must not be empty"));
}

bool JsonIn::Parser::queue_choice(QueueChoice& choice) {
  if (peek() == '"') return name(choice.name);
  if (peek() != '{') return wrong_type("must be a queue's name, or an object with name and weight");
  Seen seen;
  bool const well = members(kQueueChoiceFields, seen, [&](std::size_t place) {
    if (static_cast<QueueChoiceField>(place) == QueueChoiceField::name) return name(choice.name);
    std::uint64_t weight = 0;
    if (!whole_number(weight, kWeightMax)) return false;
    choice.weight = static_cast<std::uint32_t>(weight);
    return weight != 0 || invalid("must not be 0");
  });
  return well && (seen.has(QueueChoiceField::name) || missing("name"));
}

bool JsonIn::Parser::reports_body(ReportBatch& batch) {
  Seen seen;
  bool const well = members(kReportsOnly, seen, [&](std::size_t) { return reports(batch.reports); });
  return well && (seen.only(0) || missing("reports"));
}

bool JsonIn::Parser::reports(std::vector<Report>& reports) {
  return elements(kReportsPerRequestMax, [&] { return report(reports.emplace_back()); });
}

bool JsonIn::Parser::report(Report& report) {
  ReportParts parts;
  bool const well = members(kReportFields, parts.seen,
                            [&](std::size_t place) { return report_field(static_cast<ReportField>(place), parts); });
  if (!well) return false;
  if (!parts.seen.has(ReportField::id)) return missing("id");
  if (!parts.seen.has(ReportField::lease)) return missing("lease");
  if (!parts.seen.has(ReportField::outcome)) return missing("outcome");
  report.job = service_.job_ref(parts.id);
  report.lease = parse_token(parts.lease).value_or(LeaseToken{});
  return outcome(parts, report.outcome);
}

bool JsonIn::Parser::report_field(ReportField field, ReportParts& parts) {
  switch (field) {
    case ReportField::id: return name(parts.id);
    case ReportField::lease: return string(parts.lease);
    case ReportField::outcome: return string(parts.outcome);
    case ReportField::result:
      if (parts.seen.has(ReportField::result_base64)) {
        return invalid("cannot stand beside result_base64: send one of them");
      }
      return json(parts.result);
    case ReportField::result_base64:
      if (parts.seen.has(ReportField::result)) return invalid("cannot stand beside result: send one of them");
      raw_.clear();
      if (!base64(raw_)) return false;
      parts.result = raw_;
      return true;
    case ReportField::error: return report_error(parts.failed);
    case ReportField::retry_in: return duration(parts.retry_in);
    case ReportField::for_long: return duration(parts.extend_by, kLeaseMin, kLeaseMax);
    case ReportField::percent: return whole_number(parts.percent, 100);
    case ReportField::message: return string(parts.message);
    case ReportField::lines: return log_lines(parts.lines);
    case ReportField::data: return json(parts.data);
    case ReportField::cache: return not_yet();
  }
  return false;
}

bool JsonIn::Parser::report_error(Failed& failed) {
  Seen seen;
  failed.code = "failed";
  return members(kErrorFields, seen, [&](std::size_t place) {
    std::string_view text;
    switch (static_cast<ErrorField>(place)) {
      case ErrorField::error_class:
        return choice(failed.error_class, &parse_error_class, "must be retryable, user or fatal");
      case ErrorField::code: return name(failed.code);
      case ErrorField::message:
        if (!string(text)) return false;
        failed.message = cut(text, kErrorTextBytesMax);
        return true;
      case ErrorField::detail:
        if (!json(text)) return false;
        failed.detail = cut_json(text);
        return true;
    }
    return false;
  });
}

bool JsonIn::Parser::log_lines(std::vector<Bytes>& lines) {
  return elements(kLogLinesPerReportMax, [&] {
    std::string_view line;
    if (!string(line)) return false;
    lines.emplace_back(cut(line, kLogLineBytesMax));
    return true;
  });
}

// Puts the outcome together, once all fields are known. What belongs to another outcome is refused.
bool JsonIn::Parser::outcome(ReportParts& parts, Outcome& made) {
  using enum ReportField;
  auto const allows = [&](std::initializer_list<ReportField> fields) {
    for (std::size_t place = std::to_underlying(result); place <= std::to_underlying(data); ++place) {
      auto const field = static_cast<ReportField>(place);
      bool allowed = !parts.seen.has(field);
      for (ReportField const other : fields) allowed |= other == field;
      if (!allowed)
        return invalid(fmt::format("does not belong to the outcome {}", parts.outcome), kReportFields.name(place));
    }
    return true;
  };

  if (parts.outcome == "completed") {
    if (!allows({result, result_base64})) return false;
    if (parts.result.size() > kPayloadBytesMax) {
      return fail(ErrorCode::payload_too_large, fmt::format("must be {} bytes at most", kPayloadBytesMax), "result");
    }
    PayloadKind const kind = parts.seen.has(result)          ? PayloadKind::json
                             : parts.seen.has(result_base64) ? PayloadKind::raw
                                                             : PayloadKind::none;
    made = Completed{.result_kind = kind, .result = Bytes{parts.result}};
    return true;
  }
  if (parts.outcome == "failed") {
    if (!allows({error, retry_in})) return false;
    if (!parts.seen.has(error)) return missing("error");
    parts.failed.retry_in = parts.retry_in;
    made = std::move(parts.failed);
    return true;
  }
  if (parts.outcome == "extend") {
    if (!allows({for_long})) return false;
    if (!parts.extend_by) return missing("for");
    made = Extend{.by = *parts.extend_by};
    return true;
  }
  if (parts.outcome == "progress") {
    if (!allows({percent, message})) return false;
    if (!parts.seen.has(percent)) return missing("percent");
    made = Progress{.percent = static_cast<std::uint8_t>(parts.percent),
                    .message = Bytes{cut(parts.message, kErrorTextBytesMax)}};
    return true;
  }
  if (parts.outcome == "log") {
    if (!allows({lines})) return false;
    if (!parts.seen.has(lines)) return missing("lines");
    made = LogLines{.lines = std::move(parts.lines)};
    return true;
  }
  if (parts.outcome == "released") {
    made = Released{};
    return allows({});
  }
  if (parts.outcome == "checkpoint") {
    if (!allows({data})) return false;
    if (!parts.seen.has(data)) return missing("data");
    if (parts.data.size() > kCheckpointBytesMax) {
      return fail(ErrorCode::payload_too_large, fmt::format("must be {} bytes at most", kCheckpointBytesMax), "data");
    }
    made = Checkpoint{.data = Bytes{parts.data}};
    return true;
  }
  return invalid("must be completed, failed, extend, progress, log, checkpoint or released", "outcome");
}

// --- The worker stream.

bool JsonIn::Parser::stream(StreamMessage& message) {
  Seen seen;
  bool any = false;
  bool const well = members(kStreamFields, seen, [&](std::size_t place) {
    if (std::exchange(any, true)) return invalid("cannot stand beside another member: a message has one");
    switch (static_cast<StreamField>(place)) {
      case StreamField::subscribe: return subscribe(message.emplace<OpenStream>());
      case StreamField::credit: return credit(message.emplace<TellStream>().credit.emplace());
      case StreamField::reports: {
        auto& batch = message.emplace<ReportBatch>();
        return reports(batch.reports) && (!batch.reports.empty() || invalid("must not be empty"));
      }
      case StreamField::drain: {
        bool& drain = message.emplace<TellStream>().drain;
        return boolean(drain) && (drain || invalid("must be true"));
      }
    }
    return false;
  });
  return well && (any || invalid("must be an object with one member: subscribe, credit, reports or drain"));
}

bool JsonIn::Parser::subscribe(OpenStream& open) {
  Seen seen;
  bool const well = members(kSubscribeFields, seen, [&](std::size_t place) {
    std::string_view text;
    switch (static_cast<SubscribeField>(place)) {
      case SubscribeField::queues: return queue_choices(open.lease.queues);
      case SubscribeField::credit: return credit(open.credit);
      case SubscribeField::lease: return duration(open.lease.lease, kLeaseMin, kLeaseMax);
      case SubscribeField::worker: return name(open.lease.worker);
      case SubscribeField::resume:
        if (!string(text)) return false;
        open.resume = parse_resume_token(text).value_or(ResumeToken{});  // Which no stream has: it is not known.
        return true;
      case SubscribeField::held:
        return elements(kStreamCreditMax, [&] {
          if (!name(text)) return false;
          open.held.push_back(service_.job_ref(text));
          return true;
        });
    }
    return false;
  });
  if (!well) return false;
  if (!seen.has(SubscribeField::queues)) return missing("queues");
  return seen.has(SubscribeField::credit) || missing("credit");
}

bool JsonIn::Parser::credit(std::uint32_t& credit) {
  std::uint64_t wide = 0;
  if (!whole_number(wide, kStreamCreditMax)) return false;
  credit = static_cast<std::uint32_t>(wide);
  return true;
}

// --- Changes.

bool JsonIn::Parser::patch_job(JobChanges& changes) {
  spec_.tags.clear();
  spec_ = JobSpecView{.type = "any", .tags = std::move(spec_.tags)};
  Seen seen;
  bool const well = members(kPatchJobFields, seen, [&](std::size_t place) {
    switch (static_cast<PatchJobField>(place)) {
      case PatchJobField::priority:
        if (!more_job_fields(JobField::priority)) return false;
        changes.priority = spec_.priority;
        return true;
      case PatchJobField::run_at: return instant(changes.run_at);
      case PatchJobField::queue: return name(changes.queue.emplace());
      case PatchJobField::tags:
        if (!tags(spec_.tags)) return false;
        changes.tags.emplace(spec_.tags.begin(), spec_.tags.end());
        return true;
      case PatchJobField::max_attempts:
        if (!whole_number(spec_.max_attempts)) return false;
        changes.max_attempts = spec_.max_attempts;
        return true;
    }
    return false;
  });
  if (!well) return false;
  if (auto rules = check_spec(spec_); !rules) return broken_rule(std::move(rules).error());
  return true;
}

bool JsonIn::Parser::patch_queue(PatchQueue& patch) {
  Seen seen;
  return members(kPatchQueueFields, seen, [&](std::size_t place) {
    switch (static_cast<PatchQueueField>(place)) {
      case PatchQueueField::paused: return boolean(patch.paused.emplace());
      case PatchQueueField::max_depth: {
        auto& max_depth = patch.max_depth.emplace();
        if (take_null()) return true;  // No limit any more.
        return whole_number(max_depth.emplace(), kMaxDepthMax);
      }
      case PatchQueueField::when_full:
        return choice(patch.when_full.emplace(), &parse_when_full, "must be refuse or drop_oldest");
      case PatchQueueField::max_running:
      case PatchQueueField::rate:
      case PatchQueueField::defaults:
      case PatchQueueField::dead_queue:
      case PatchQueueField::push: return not_yet();
    }
    return false;
  });
}

bool JsonIn::Parser::bulk(BulkJobs& bulk) {
  Seen seen;
  bool const well = members(kBulkFields, seen, [&](std::size_t place) {
    if (static_cast<BulkField>(place) == BulkField::where) return filter(bulk.filter);
    return choice(bulk.action, &parse_bulk_action, "must be retry, cancel or delete");
  });
  if (!well) return false;
  if (!seen.has(BulkField::action)) return missing("action");
  return seen.has(BulkField::where) || missing("where");
}

bool JsonIn::Parser::filter(JobFilter& filter) {
  Seen seen;
  return members(kFilterFields, seen, [&](std::size_t place) {
    switch (static_cast<FilterField>(place)) {
      case FilterField::state:
        return choice(filter.state.emplace(), &parse_job_state,
                      "must be scheduled, ready, leased, completed, dead or cancelled");
      case FilterField::queue: return name(filter.queue);
      case FilterField::type: return name(filter.type);
      case FilterField::tag: return name(filter.tag);
      case FilterField::group: return name(filter.group);
      case FilterField::batch: return not_yet();
    }
    return false;
  });
}

// --- The outside.

JsonIn::JsonIn(service::Service const& service) : parser_(std::make_unique<Parser>(service)) {}
JsonIn::~JsonIn() = default;

Result<JsonIn::EnqueueRequest> JsonIn::parse_enqueue(std::string_view body, TraceContext const& trace) {
  return parser_->run<EnqueueRequest>(body, [&](auto& request) { return parser_->enqueue(request, trace); });
}
Result<Lease> JsonIn::parse_lease(std::string_view body) {
  return parser_->run<Lease>(body, [&](auto& lease) { return parser_->lease(lease); });
}
Result<ReportBatch> JsonIn::parse_reports(std::string_view body) {
  return parser_->run<ReportBatch>(body, [&](auto& batch) { return parser_->reports_body(batch); });
}
Result<JsonIn::StreamMessage> JsonIn::parse_stream(std::string_view message) {
  return parser_->run<StreamMessage>(message, [&](auto& parsed) { return parser_->stream(parsed); });
}
Result<JobChanges> JsonIn::parse_patch_job(std::string_view body) {
  return parser_->run<JobChanges>(body, [&](auto& changes) { return parser_->patch_job(changes); });
}
Result<PatchQueue> JsonIn::parse_patch_queue(std::string_view body) {
  return parser_->run<PatchQueue>(body, [&](auto& patch) { return parser_->patch_queue(patch); });
}
Result<BulkJobs> JsonIn::parse_bulk_jobs(std::string_view body) {
  return parser_->run<BulkJobs>(body, [&](auto& bulk) { return parser_->bulk(bulk); });
}

}  // namespace workmill::http
