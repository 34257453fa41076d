#pragma once
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

// How every fallible call answers.
//
// What the world does wrong is a Result; what we did wrong is a WM_ASSERT (assert.h). An error has a code that some
// caller would act on, a class derived from it, a message for people, and the context that it gathered on the way up.
// Messages and context never carry payloads or secrets. Values only: any thread may own one.
namespace workmill {

enum class ErrorClass : std::uint8_t { user, retryable, fatal };  // Mend the request; try again; give it up.

// Numbers are append only: they stand in logs and on wires.
enum class ErrorCode : std::uint16_t {
  // 1xx: what a request can get wrong.
  queue_full = 101,
  lease_lost = 102,
  malformed_json = 103,
  invalid_field = 104,
  unknown_field = 105,
  missing_field = 106,
  not_found = 107,
  job_not_found = 108,
  job_leased = 109,   // The operation is for jobs that nobody holds.
  wrong_state = 110,  // The job's state does not allow this move.
  idempotency_key_reused = 111,
  method_not_allowed = 112,
  payload_too_large = 113,
  headers_too_large = 114,
  malformed_request = 115,
  unsupported_media_type = 116,
  request_timeout = 117,
  payload_damaged = 118,    // What is asked for cannot be read back from the disk.
  unauthorized = 120,       // Nobody we know: no token, or none that holds.
  forbidden = 121,          // Known, and not allowed to do this.
  too_many_attempts = 122,  // Tokens that do not hold came from this address, one after another.
  upgrade_required = 123,   // Only a WebSocket can be had there.
  stream_replaced = 124,    // Another connection has taken over the stream.
  cache_miss = 125,         // Nothing is kept under this key.
  batch_not_found = 126,    // There is no such batch, or no longer.
  batch_closed = 127,       // No job is put into it any more.
  batch_exists = 128,       // Another batch has this id.
  batches_full = 129,       // There are as many as may be, and all are needed.
  // 2xx: what the server cannot do just now.
  outcome_unknown = 201,
  overloaded = 202,
  shutting_down = 203,
  disk_full = 204,
  recovering = 205,
  too_many_requests = 206,  // This client has more than its share under way.
  deadline_exceeded = 207,  // Its client's time was over before it was decided: nothing happened.
  compute_failed = 208,  // The job that was to compute a cached value has failed. It says itself what class that is of.
  // 3xx: what ends the process or the start.
  io_failed = 301,
  log_corrupt = 302,
  log_in_use = 303,
  log_version = 304,
  log_fenced = 305,
  bad_configuration = 306,
  internal = 307,
  // 4xx: what the command line meets.
  no_server = 401,
  protocol_error = 402,
};

constexpr ErrorClass class_of(ErrorCode code) {
  switch (code) {  // No default, so that -Wswitch names the code which somebody forgot to class.
    case ErrorCode::malformed_json:
    case ErrorCode::invalid_field:
    case ErrorCode::unknown_field:
    case ErrorCode::missing_field:
    case ErrorCode::not_found:
    case ErrorCode::job_not_found:
    case ErrorCode::job_leased:
    case ErrorCode::wrong_state:
    case ErrorCode::idempotency_key_reused:
    case ErrorCode::method_not_allowed:
    case ErrorCode::payload_too_large:
    case ErrorCode::headers_too_large:
    case ErrorCode::malformed_request:
    case ErrorCode::unsupported_media_type:
    case ErrorCode::unauthorized:
    case ErrorCode::forbidden:
    case ErrorCode::upgrade_required:
    case ErrorCode::batch_not_found:
    case ErrorCode::batch_closed:
    case ErrorCode::batch_exists:
    case ErrorCode::cache_miss: return ErrorClass::user;
    case ErrorCode::queue_full:
    case ErrorCode::batches_full:
    case ErrorCode::request_timeout:
    case ErrorCode::outcome_unknown:
    case ErrorCode::overloaded:
    case ErrorCode::shutting_down:
    case ErrorCode::disk_full:
    case ErrorCode::recovering:
    case ErrorCode::too_many_requests:
    case ErrorCode::deadline_exceeded:
    case ErrorCode::too_many_attempts:
    case ErrorCode::compute_failed:
    case ErrorCode::no_server: return ErrorClass::retryable;
    case ErrorCode::lease_lost:
    case ErrorCode::stream_replaced:
    case ErrorCode::payload_damaged:
    case ErrorCode::io_failed:
    case ErrorCode::log_corrupt:
    case ErrorCode::log_in_use:
    case ErrorCode::log_version:
    case ErrorCode::log_fenced:
    case ErrorCode::bad_configuration:
    case ErrorCode::internal:
    case ErrorCode::protocol_error: return ErrorClass::fatal;
  }
  return ErrorClass::fatal;  // A number nobody defined came off a wire or a disk.
}

// A second question, which the class cannot answer: may the failed attempt have counted all the same?
// Then only a request with an idempotency key is tried again.
constexpr bool may_have_happened(ErrorCode code) { return code == ErrorCode::outcome_unknown; }

// The stable text of a code, as it stands in problem+json, metrics and log lines: "queue_full".
std::string_view to_string(ErrorCode code);
std::string_view to_string(ErrorClass error_class);

struct Error {
  ErrorCode code;
  std::string message;    // For people, and free of payloads and secrets. Programs look at the code.
  std::string context{};  // Where it came through, outermost first. It grows on the way up.
  std::string field{};    // The request field at fault ("backoff.first"), empty where there is none.

  bool operator==(Error const&) const = default;
};

template <class T = void>  // A class, not an alias: GCC 12's std::expected is not [[nodiscard]].
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
};

inline auto fail(ErrorCode code, std::string message) {
  return std::unexpected(Error{.code = code, .message = std::move(message)});
}
inline auto fail_field(ErrorCode code, std::string field, std::string message) {
  return std::unexpected(Error{.code = code, .message = std::move(message), .field = std::move(field)});
}

// Adds where the error came through: "opening data/00000001.wal: " ends up before what was there already.
Error with_context(Error error, std::string_view where);

// "queue_full: the queue is full (while …)": one line for a log or a terminal.
std::string describe(Error const& error);

}  // namespace workmill

#define WM_CONCAT_INNER(a, b) a##b
#define WM_CONCAT(a, b) WM_CONCAT_INNER(a, b)

// WM_TRY(auto lease, find(job)); declares `lease`, or hands the error up. WM_TRY_VOID(flush()); for Result<>.
#define WM_TRY(declaration, ...) WM_TRY_NAMED(WM_CONCAT(wm_try_, __LINE__), return, declaration, __VA_ARGS__)
#define WM_CO_TRY(declaration, ...) WM_TRY_NAMED(WM_CONCAT(wm_try_, __LINE__), co_return, declaration, __VA_ARGS__)
#define WM_TRY_NAMED(name, leave, declaration, ...)          \
  auto name = (__VA_ARGS__);                                 \
  if (!name) leave std::unexpected(std::move(name).error()); \
  declaration = *std::move(name)
#define WM_TRY_VOID(...)                                                                         \
  do {                                                                                           \
    if (auto wm_try = (__VA_ARGS__); !wm_try) return std::unexpected(std::move(wm_try).error()); \
  } while (false)
