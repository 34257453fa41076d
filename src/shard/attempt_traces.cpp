#include "shard/attempt_traces.h"

#include <utility>
#include <variant>

#include "engine/job_slot.h"
#include "log/record.h"
#include "model/job.h"
#include "telemetry/job_trace.h"

namespace workmill::shard {
namespace {

using telemetry::Span;
using telemetry::SpanKind;
namespace attribute = telemetry::attribute;

// A failure without a code still has to have a type.
constexpr std::string_view kOtherError = "_OTHER";

std::int64_t unix_ns(Instant at) { return std::chrono::nanoseconds{at.time_since_epoch()}.count(); }

}  // namespace

std::optional<AttemptTraces::Attempt> AttemptTraces::attempt_of(BytesView bytes, LeaseToken lease) {
  JobSpecView spec;
  if (!decode_spec(bytes, spec) || spec.traceparent.empty()) return std::nullopt;
  auto const creation = telemetry::parse_traceparent(spec.traceparent);
  if (!creation || !creation->is_sampled()) return std::nullopt;
  Attempt attempt;
  attempt.creation = *creation;
  attempt.own = telemetry::attempt_context(*creation, lease);
  attempt.tracestate = spec.tracestate;
  attempt.queue = spec.queue;
  attempt.type = spec.type;
  attempt.id = spec.id;
  attempt.payload_bytes = spec.payload.size();
  return attempt;
}

void AttemptTraces::leased(LeasedJob const& job, std::string_view worker) {
  auto attempt = attempt_of(job.spec, job.token);
  if (!attempt) return;
  // A stream's worker has come back, and is sent it once more.
  if (auto const known = attempts_.find(job.number); known != attempts_.end() && known->second.own == attempt->own)
    return;
  if (attempts_.size() >= kAttemptsMax) {
    tracer_.drop();
    return;
  }
  attempt->worker = worker;
  attempt->start_ns = tracer_.unix_ns(now_);
  attempt->number = job.attempt;
  attempt->max_attempts = job.max_attempts;
  attempts_.insert_or_assign(job.number, *std::move(attempt));
}

std::optional<AttemptTraces::Attempt> AttemptTraces::attempt_before(JobNumber number, Position leased_at) {
  // One that was released stands on its lease still, and may run out of time or be found damaged without another.
  auto const view = engine_.view(number);
  if (!view || view->state != JobState::leased) return std::nullopt;
  auto const whole = reader_.record(leased_at);
  if (!whole) return std::nullopt;  // Whoever needs this record will say so.
  auto const record = log::parse_record(*whole);
  if (!record) return std::nullopt;
  auto const* const leased = std::get_if<effect::JobLeased>(&*record);
  if (leased == nullptr || leased->number != number) return std::nullopt;
  std::string worker{leased->worker};  // The record is lent until the next read.
  std::int64_t const start_ns = unix_ns(leased->at);
  LeaseToken const token = leased->token;

  auto const spec = reader_.spec(view->spec_at, view->spec_bytes);
  if (!spec) return std::nullopt;
  auto attempt = attempt_of(*spec, token);
  if (!attempt) return std::nullopt;
  attempt->worker = std::move(worker);
  attempt->start_ns = start_ns;
  attempt->number = view->attempt;
  attempt->max_attempts = view->max_attempts;
  return attempt;
}

void AttemptTraces::wrote(Effect const& effect) {
  if (auto const* completed = std::get_if<effect::JobCompleted>(&effect)) {
    end(completed->number, completed->previous,
        {.outcome = "completed", .report = "complete", .error_type = {}, .next = JobState::completed});
  } else if (auto const* failed = std::get_if<effect::JobFailed>(&effect)) {
    bool const is_reported = failed->code != engine::kLeaseExpired && failed->code != engine::kExpired;
    end(failed->number, failed->previous,
        {.outcome = is_reported ? "failed" : std::string_view{failed->code},
         .report = is_reported ? "fail" : std::string_view{},
         .error_type = failed->code.empty() ? kOtherError : std::string_view{failed->code},
         .next = failed->next});
  } else if (auto const* released = std::get_if<effect::JobReleased>(&effect)) {
    end(released->number, Position{},
        {.outcome = "released", .report = "release", .error_type = {}, .next = released->next});
  }
}

void AttemptTraces::end(JobNumber number, Position previous, End const& end) {
  std::optional<Attempt> attempt;
  if (auto const found = attempts_.find(number); found != attempts_.end()) {
    attempt = std::move(found->second);
    attempts_.erase(found);
  } else if (previous && previous < start_) {
    attempt = attempt_before(number, previous);
  }
  if (!attempt) return;

  Ended ended;
  std::int64_t const now_ns = tracer_.unix_ns(now_);
  Span& process = ended.process;
  process = telemetry::messaging_span("process", "process", attempt->queue, SpanKind::consumer);
  process.context = attempt->own;
  process.parent = attempt->creation.parent_id;
  process.tracestate = attempt->tracestate;
  process.start_ns = attempt->start_ns;
  process.end_ns = now_ns;
  if (attempt->id.empty()) {
    auto const id = ids_.encode(number);
    attempt->id.assign(id.data(), id.size());
  }
  process.add(attribute::kMessageId, attempt->id);
  process.add_number(attribute::kBodySize, attempt->payload_bytes);
  if (!attempt->worker.empty()) process.add(attribute::kClientId, attempt->worker);
  process.add(attribute::kJobType, attempt->type);
  process.add_number(attribute::kJobAttempt, attempt->number);
  process.add_number(attribute::kJobMaxAttempts, attempt->max_attempts);
  process.add(attribute::kOutcome, end.outcome);
  process.add(attribute::kJobState, to_string(end.next));
  if (!end.error_type.empty()) process.fail(end.error_type);

  if (!end.report.empty()) {
    Span report = telemetry::messaging_span(end.report, "settle", attempt->queue, SpanKind::client);
    report.context = telemetry::report_context(attempt->own);
    report.parent = attempt->own.parent_id;
    report.tracestate = attempt->tracestate;
    report.start_ns = now_ns;
    report.add(attribute::kMessageId, attempt->id);
    ended.report = std::move(report);
  }
  ended_.push_back(std::move(ended));
}

void AttemptTraces::staged(std::uint64_t batch) {
  for (auto it = ended_.rbegin(); it != ended_.rend() && it->batch == 0; ++it) it->batch = batch;
}

void AttemptTraces::durable(std::uint64_t batch, Time now) {
  while (!ended_.empty() && ended_.front().batch != 0 && ended_.front().batch <= batch) {
    Ended& ended = ended_.front();
    tracer_.emit(std::move(ended.process));
    if (ended.report) {
      ended.report->end_ns = tracer_.unix_ns(now);
      tracer_.emit(*std::move(ended.report));
    }
    ended_.pop_front();
  }
}

}  // namespace workmill::shard
