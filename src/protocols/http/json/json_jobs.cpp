#include "protocols/http/json/json_in_parser.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "protocols/http/field_names.h"
#include "protocols/http/request_values.h"

// Jobs as they are sent, and what may be changed of them.
namespace workmill::http {

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

namespace {

constexpr FieldNames<21> kJobFields{{"type",        "queue",  "payload",    "payload_base64", "id",      "priority",
                                     "delay",       "run_at", "expires_in", "max_attempts",   "backoff", "lease",
                                     "unique",      "group",  "limits",     "tags",           "after",   "batch",
                                     "keep_result", "meta",   "jobs"}};

enum class BackoffField : std::uint8_t { first, factor, cap, jitter };
constexpr FieldNames<4> kBackoffFields{{"first", "factor", "cap", "jitter"}};

enum class UniqueField : std::uint8_t { key, while_state, for_long };
constexpr FieldNames<3> kUniqueFields{{"key", "while", "for"}};

enum class ComputeField : std::uint8_t { job, fresh, stale, wait, error_for, tags };
constexpr FieldNames<6> kComputeFields{{"job", "fresh", "stale", "wait", "error_for", "tags"}};
constexpr Duration kComputeWaitDefault = std::chrono::seconds{30};

enum class BatchField : std::uint8_t { id, on_success, on_finish, meta };
constexpr FieldNames<4> kBatchFields{{"id", "on_success", "on_finish", "meta"}};

enum class PatchJobField : std::uint8_t { priority, run_at, queue, tags, max_attempts };
constexpr FieldNames<5> kPatchJobFields{{"priority", "run_at", "queue", "tags", "max_attempts"}};

}  // namespace

bool JsonIn::Parser::enqueue(EnqueueRequest& request, TraceContext const& trace) {
  Bytes encoded;
  if (!job(&request, trace, encoded)) return false;
  if (!request.bulk) request.command.specs.push_back(std::move(encoded));
  return true;
}

// Keeps the room of its vectors.
void JsonIn::Parser::begin_spec(TraceContext const& trace) {
  spec_.tags.clear();
  spec_.cache_tags.clear();
  spec_ = JobSpecView{.tags = std::move(spec_.tags),
                      .traceparent = trace.traceparent,
                      .tracestate = trace.tracestate,
                      .cache_tags = std::move(spec_.cache_tags)};
}

// `request`: where {"jobs": […]} may stand instead of a job.
bool JsonIn::Parser::job(EnqueueRequest* request, TraceContext const& trace, Bytes& encoded) {
  begin_spec(trace);
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
    case JobField::batch: return filled_string(spec_.batch);
    case JobField::tags: return tags(spec_.tags);
    case JobField::keep_result: return duration(spec_.keep_result);
    case JobField::meta: return json_object(spec_.meta);
    case JobField::limits:
    case JobField::after: return not_yet();
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

// --- Get or compute.

bool JsonIn::Parser::compute(ComputeRequest& request, std::string_view key, TraceContext const& trace) {
  begin_spec(trace);
  spec_.cache_key = key;
  std::optional<Duration> fresh, stale, error_for, wait;
  Seen seen;
  bool const well = members(kComputeFields, seen, [&](std::size_t place) {
    switch (static_cast<ComputeField>(place)) {
      case ComputeField::job: return computing_job();
      case ComputeField::fresh: return duration(fresh, Duration{0}, kCacheWindowMax);
      case ComputeField::stale: return duration(stale, Duration{0}, kCacheWindowMax);
      case ComputeField::wait: return duration(wait, Duration{0}, kWaitMax);
      case ComputeField::error_for: return duration(error_for, Duration{0}, kCacheErrorForMax);
      case ComputeField::tags: return elements(kCacheTagsMax, [&] { return name(spec_.cache_tags.emplace_back()); });
    }
    return false;
  });
  if (!well) return false;
  if (!seen.has(ComputeField::job)) return missing("job");
  spec_.cache_fresh = fresh.value_or(kFreshDefault);
  spec_.cache_stale = stale.value_or(Duration{0});
  spec_.cache_error_for = error_for.value_or(Duration{0});
  if (!windows(spec_.cache_fresh, spec_.cache_stale)) return false;
  request.spec = &spec_;
  request.wait = wait.value_or(kComputeWaitDefault);
  return true;
}

// The job of a flight: it runs now, once, and is known by its key.
bool JsonIn::Parser::computing_job() {
  Seen seen;
  bool const well = members(kJobFields, seen, [&](std::size_t place) {
    auto const field = static_cast<JobField>(place);
    switch (field) {
      case JobField::id:
      case JobField::unique:
      case JobField::delay:
      case JobField::run_at:
      case JobField::batch:
      case JobField::after: return invalid("is not for a job that computes a cached value");
      case JobField::jobs: return fail(ErrorCode::unknown_field, "there is no such field");
      default: return job_field(field, seen);
    }
  });
  if (!well) return false;
  if (!seen.has(JobField::type)) return missing("type");
  if (auto rules = check_spec(spec_); !rules) return broken_rule(std::move(rules).error());
  return true;
}

bool JsonIn::Parser::windows(Duration fresh, Duration stale) {
  auto rules = check_cache_windows(fresh, stale);
  return rules || broken_rule(std::move(rules).error());
}

// --- Batches.

bool JsonIn::Parser::make_batch(MakeBatch& batch) {
  Seen seen;
  bool const well = members(kBatchFields, seen, [&](std::size_t place) {
    switch (static_cast<BatchField>(place)) {
      case BatchField::id: return name(batch.id);
      case BatchField::on_success: return callback(CallbackKind::success, batch.on_success);
      case BatchField::on_finish: return callback(CallbackKind::finish, batch.on_finish);
      case BatchField::meta: {
        std::string_view meta;
        if (!json_object(meta)) return false;
        if (meta.size() > kBatchMetaBytesMax) {
          return fail(ErrorCode::payload_too_large, fmt::format("must be {} bytes at most", kBatchMetaBytesMax));
        }
        batch.meta = meta;
        return true;
      }
    }
    return false;
  });
  if (!well) return false;
  return seen.has(BatchField::on_success) || seen.has(BatchField::on_finish) || missing("on_finish");
}

// Without a trace: whoever enqueues it has the batch's.
bool JsonIn::Parser::callback(CallbackKind kind, Bytes& encoded) {
  begin_spec({});
  Seen seen;
  bool const well = members(kJobFields, seen, [&](std::size_t place) {
    auto const field = static_cast<JobField>(place);
    if (field == JobField::jobs) return fail(ErrorCode::unknown_field, "there is no such field");
    return job_field(field, seen);
  });
  if (!well) return false;
  if (!seen.has(JobField::type)) return missing("type");
  if (auto rules = check_callback(kind, spec_); !rules) {
    Error error = std::move(rules).error();
    error.field.erase(0, to_string(kind).size() + 1);  // Which is where we are.
    return broken_rule(std::move(error));
  }
  encode_spec(spec_, encoded);
  return true;
}

bool JsonIn::Parser::patch_job(JobChanges& changes) {
  begin_spec({});
  spec_.type = "any";
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

}  // namespace workmill::http
