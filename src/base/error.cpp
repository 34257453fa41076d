#include "base/error.h"

namespace workmill {

std::string_view to_string(ErrorCode code) {
  switch (code) {  // No default, for the same reason as in class_of.
    case ErrorCode::queue_full: return "queue_full";
    case ErrorCode::lease_lost: return "lease_lost";
    case ErrorCode::malformed_json: return "malformed_json";
    case ErrorCode::invalid_field: return "invalid_field";
    case ErrorCode::unknown_field: return "unknown_field";
    case ErrorCode::missing_field: return "missing_field";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::job_not_found: return "job_not_found";
    case ErrorCode::job_leased: return "job_leased";
    case ErrorCode::wrong_state: return "wrong_state";
    case ErrorCode::idempotency_key_reused: return "idempotency_key_reused";
    case ErrorCode::method_not_allowed: return "method_not_allowed";
    case ErrorCode::payload_too_large: return "payload_too_large";
    case ErrorCode::headers_too_large: return "headers_too_large";
    case ErrorCode::malformed_request: return "malformed_request";
    case ErrorCode::unsupported_media_type: return "unsupported_media_type";
    case ErrorCode::request_timeout: return "request_timeout";
    case ErrorCode::payload_damaged: return "payload_damaged";
    case ErrorCode::unauthorized: return "unauthorized";
    case ErrorCode::forbidden: return "forbidden";
    case ErrorCode::too_many_attempts: return "too_many_attempts";
    case ErrorCode::upgrade_required: return "upgrade_required";
    case ErrorCode::stream_replaced: return "stream_replaced";
    case ErrorCode::cache_miss: return "cache_miss";
    case ErrorCode::batch_not_found: return "batch_not_found";
    case ErrorCode::batch_closed: return "batch_closed";
    case ErrorCode::batch_exists: return "batch_exists";
    case ErrorCode::batches_full: return "batches_full";
    case ErrorCode::outcome_unknown: return "outcome_unknown";
    case ErrorCode::overloaded: return "overloaded";
    case ErrorCode::shutting_down: return "shutting_down";
    case ErrorCode::disk_full: return "disk_full";
    case ErrorCode::recovering: return "recovering";
    case ErrorCode::too_many_requests: return "too_many_requests";
    case ErrorCode::deadline_exceeded: return "deadline_exceeded";
    case ErrorCode::compute_failed: return "compute_failed";
    case ErrorCode::io_failed: return "io_failed";
    case ErrorCode::log_corrupt: return "log_corrupt";
    case ErrorCode::log_in_use: return "log_in_use";
    case ErrorCode::log_version: return "log_version";
    case ErrorCode::log_fenced: return "log_fenced";
    case ErrorCode::bad_configuration: return "bad_configuration";
    case ErrorCode::internal: return "internal";
    case ErrorCode::no_server: return "no_server";
    case ErrorCode::protocol_error: return "protocol_error";
  }
  return "unknown";
}

std::string_view to_string(ErrorClass error_class) {
  switch (error_class) {
    case ErrorClass::user: return "user";
    case ErrorClass::retryable: return "retryable";
    case ErrorClass::fatal: return "fatal";
  }
  return "unknown";
}

Error with_context(Error error, std::string_view where) {
  if (error.context.empty()) {
    error.context = where;
  } else {
    error.context.insert(0, ": ").insert(0, where);
  }
  return error;
}

std::string describe(Error const& error) {
  std::string line{to_string(error.code)};
  if (!error.field.empty()) line.append(": ").append(error.field);
  if (!error.message.empty()) line.append(": ").append(error.message);
  if (!error.context.empty()) line.append(" (while ").append(error.context).append(")");
  return line;
}

}  // namespace workmill
