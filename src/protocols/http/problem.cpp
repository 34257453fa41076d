#include "protocols/http/problem.h"

#include "base/json_writer.h"

namespace workmill::http {

int status_of(ErrorCode code) {
  switch (code) {  // No default, so that -Wswitch names the code which somebody forgot to map.
    case ErrorCode::malformed_json:
    case ErrorCode::invalid_field:
    case ErrorCode::unknown_field:
    case ErrorCode::missing_field:
    case ErrorCode::malformed_request: return 400;
    case ErrorCode::unauthorized: return 401;
    case ErrorCode::forbidden: return 403;
    case ErrorCode::not_found:
    case ErrorCode::job_not_found:
    case ErrorCode::batch_not_found:
    case ErrorCode::cache_miss: return 404;
    case ErrorCode::method_not_allowed: return 405;
    case ErrorCode::request_timeout: return 408;
    case ErrorCode::lease_lost:
    case ErrorCode::stream_replaced:
    case ErrorCode::batch_closed:
    case ErrorCode::batch_exists:
    case ErrorCode::job_leased:
    case ErrorCode::wrong_state: return 409;
    case ErrorCode::payload_too_large: return 413;
    case ErrorCode::unsupported_media_type: return 415;
    case ErrorCode::idempotency_key_reused: return 422;
    case ErrorCode::upgrade_required: return 426;
    case ErrorCode::queue_full:
    case ErrorCode::batches_full:
    case ErrorCode::too_many_requests:
    case ErrorCode::too_many_attempts: return 429;
    case ErrorCode::headers_too_large: return 431;
    case ErrorCode::compute_failed: return 502;
    case ErrorCode::outcome_unknown:
    case ErrorCode::overloaded:
    case ErrorCode::shutting_down:
    case ErrorCode::recovering: return 503;
    case ErrorCode::deadline_exceeded: return 504;
    case ErrorCode::disk_full: return 507;
    case ErrorCode::payload_damaged:
    case ErrorCode::io_failed:
    case ErrorCode::log_corrupt:
    case ErrorCode::log_in_use:
    case ErrorCode::log_version:
    case ErrorCode::log_fenced:
    case ErrorCode::bad_configuration:
    case ErrorCode::internal:
    case ErrorCode::no_server:
    case ErrorCode::protocol_error: return 500;
  }
  return 500;
}

std::string_view title_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::queue_full: return "The queue is full";
    case ErrorCode::lease_lost: return "The lease is over";
    case ErrorCode::malformed_json: return "The body is not valid JSON";
    case ErrorCode::invalid_field: return "A field has a value that is not allowed";
    case ErrorCode::unknown_field: return "There is no such field";
    case ErrorCode::missing_field: return "A required field is missing";
    case ErrorCode::not_found: return "Not found";
    case ErrorCode::job_not_found: return "There is no such job";
    case ErrorCode::job_leased: return "A worker holds the job";
    case ErrorCode::wrong_state: return "The state does not allow this";
    case ErrorCode::idempotency_key_reused: return "The idempotency key was used with another request";
    case ErrorCode::method_not_allowed: return "Method not allowed";
    case ErrorCode::payload_too_large: return "The body is too large";
    case ErrorCode::headers_too_large: return "The header is too large";
    case ErrorCode::malformed_request: return "Malformed request";
    case ErrorCode::unsupported_media_type: return "Unsupported media type";
    case ErrorCode::request_timeout: return "The request took too long to arrive";
    case ErrorCode::payload_damaged: return "The bytes on the disk are damaged";
    case ErrorCode::unauthorized: return "A token is needed";
    case ErrorCode::forbidden: return "The token does not allow this";
    case ErrorCode::too_many_attempts: return "Too many tokens that do not hold";
    case ErrorCode::upgrade_required: return "Only a WebSocket is served here";
    case ErrorCode::stream_replaced: return "The stream was taken over";
    case ErrorCode::cache_miss: return "Nothing is cached under this key";
    case ErrorCode::batch_not_found: return "There is no such batch";
    case ErrorCode::batch_closed: return "The batch is closed";
    case ErrorCode::batch_exists: return "Another batch has this id";
    case ErrorCode::batches_full: return "There are as many batches as may be";
    case ErrorCode::outcome_unknown: return "The outcome is not known";
    case ErrorCode::overloaded: return "The server is busy";
    case ErrorCode::shutting_down: return "The server is stopping";
    case ErrorCode::too_many_requests: return "This client has had its share";
    case ErrorCode::deadline_exceeded: return "The request's time was over";
    case ErrorCode::compute_failed: return "The value could not be computed";
    case ErrorCode::disk_full: return "The server's disk is full";
    case ErrorCode::recovering: return "The server is starting";
    case ErrorCode::io_failed:
    case ErrorCode::log_corrupt:
    case ErrorCode::log_in_use:
    case ErrorCode::log_version:
    case ErrorCode::log_fenced:
    case ErrorCode::bad_configuration:
    case ErrorCode::internal:
    case ErrorCode::no_server:
    case ErrorCode::protocol_error: return "Internal error";
  }
  return "Internal error";
}

int retry_after_seconds(ErrorCode code) {
  if (class_of(code) != ErrorClass::retryable) return 0;
  switch (code) {
    case ErrorCode::queue_full: return 2;     // Workers have to come first.
    case ErrorCode::batches_full: return 30;  // Jobs have to end first, or somebody to close or delete what was left.
    case ErrorCode::disk_full: return 30;     // Somebody has to come first.
    case ErrorCode::shutting_down:
    case ErrorCode::recovering: return 3;
    default: return 1;
  }
}

void append_problem(Error const& error, std::string_view trace_id, JsonWriter& out, ProblemExtra const& extra) {
  std::string_view const code = to_string(error.code);
  out.begin_object();
  out.key("type").plain_from([&](std::string& text) { text.append("/errors/").append(code); });
  out.key("title").value(title_of(error.code));
  out.key("status").value(status_of(error.code));
  out.key("detail").value(error.message);
  out.key("code").plain(code);
  out.key("class").plain(to_string(extra.cause != nullptr ? extra.cause->error_class : class_of(error.code)));
  if (!trace_id.empty()) out.key("trace_id").plain(trace_id);
  if (!error.field.empty()) out.key("field").value(error.field);
  if (extra.retry_after > 0) out.key("retry_after").value(extra.retry_after);
  if (extra.cause != nullptr) {
    out.key("cause").begin_object().member("class", to_string(extra.cause->error_class));
    out.member("code", extra.cause->code).member("message", extra.cause->message).end_object();
  }
  out.end_object();
}

}  // namespace workmill::http
