#pragma once
#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workmill/enqueued.h"

// How every call of this library answers. Nothing here throws: what goes wrong is a value.
//
// Values only; any thread may own one.
namespace workmill::client {

using Duration = std::chrono::milliseconds;
using Time = std::chrono::sys_time<Duration>;

enum class ErrorClass : std::uint8_t {
  user,       // Mend the request, or the job's payload.
  retryable,  // Try again later. This library has done so already, as far as it was told to.
  fatal,      // Give it up.
};

std::string_view to_string(ErrorClass value);

// What the server said, with its code (docs/reference/errors.md), or one of this library's own:
//   no_server        nobody took the connection, or nobody answered in time (may_have_happened)
//   outcome_unknown  the connection broke before the answer: the request may have counted
//   timed_out        the deadline of CallOptions is over
//   pool_exhausted   too many calls wait for a connection, or this one has for too long: nothing happened
//   call_cancelled   its stop token said so, or its client is going away
//   protocol_error   what came back is no answer of a Workmill, or the server's certificate does not hold
//   bad_json         a value has not the form that was asked for
//   cache_pending    the job that computes a cached value was not done within the time that was given
//   wrong_thread     a blocking call on the library's own thread, which would wait for itself
//   not_finished     the job was not finished within the time that was given
// A worker fails jobs by codes of its own, which the job then shows:
//   bad_payload      the payload does not fit the handler's type
//   unknown_type     there is no handler for it
//   result_too_large the result has more than 8 MiB, or too much is cached beside it
//   report_refused   the server does not take the report; its reason is the message
struct Error {
  std::string code{};
  ErrorClass error_class = ErrorClass::retryable;
  std::string message{};                  // For people. Programs look at the code.
  std::string field{};                    // The field of the request that is at fault, or empty.
  int status = 0;                         // Of HTTP; 0 where the server did not say it.
  std::string trace_id{};                 // By which the server's log knows it.
  std::optional<Duration> retry_after{};  // What the server asked for; of a handler: when to run the job again.
  bool may_have_happened = false;         // The request may have counted all the same.
  std::string detail{};                   // JSON of your own that goes with a job's failure, or empty.
  std::vector<Enqueued> enqueued{};       // Of enqueue_all: the answers of its parts before the one that failed.
};

// "queue_full: the queue is full", for a log or a terminal.
std::string describe(Error const& error);

template <class T = void>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using value_type = T;
  using std::expected<T, Error>::expected;
};

// For handlers, and for code of yours that answers a Result: `return user_error("no_such_image", "…");`
// A code is a name: 1 to 128 of A-Z a-z 0-9 . _ : -
inline std::unexpected<Error> fail(ErrorClass error_class, std::string code, std::string message) {
  return std::unexpected(Error{.code = std::move(code), .error_class = error_class, .message = std::move(message)});
}
// The job is at fault, and will be every time: it goes to `dead` at once.
inline std::unexpected<Error> user_error(std::string code, std::string message) {
  return fail(ErrorClass::user, std::move(code), std::move(message));
}
// The job must not be tried again, whoever is at fault.
inline std::unexpected<Error> fatal_error(std::string code, std::string message) {
  return fail(ErrorClass::fatal, std::move(code), std::move(message));
}
// It may well succeed later: after its backoff, or after `in`. What is negative or over 100 years is not heard: the
// backoff decides.
inline std::unexpected<Error> retry_later(std::string code, std::string message, std::optional<Duration> in = {}) {
  return std::unexpected(Error{.code = std::move(code), .message = std::move(message), .retry_after = in});
}

}  // namespace workmill::client
