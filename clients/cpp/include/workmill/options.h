#pragma once
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "workmill/error.h"

// Where the server is, and how long to wait for it. Values.
namespace workmill::client {

enum class LogLevel : std::uint8_t { debug, info, warn, error };
// What the library has to say. Called on a thread of the library's, one call at a time for each client or worker; it
// must not call back into that client or worker. What it throws is lost.
using LogHook = std::function<void(LogLevel, std::string_view message)>;

struct NewJob;
// Sees a job before it is sent, and may change it. Its error is the call's, and the job is not sent; so is what it
// throws, as of a handler: class retryable, with its type as the code. It is not tried again here, whatever its class.
// In the middle of an enqueue_all the parts before are enqueued, and the error's `enqueued` has their answers.
using EnqueueHook = std::function<Result<>(NewJob&)>;

// How often and when a call is tried again that failed with a retryable error, or whose connection broke (then only
// where doing it twice does no harm: reads, cancelling, deleting, enqueuing under an idempotency key, which every
// enqueue has). Before attempt n + 1 it waits a random part ("full jitter") of first * factor^(n-1), at most cap, and
// at least what the server asked for by Retry-After; where that is over a minute, the error is given at once.
struct RetryPolicy {
  unsigned attempts = 5;  // In all; 1: never again.
  Duration first{100};
  double factor = 2.0;
  Duration cap{5'000};
};

struct ServerOptions {
  std::string url{};    // Empty: WORKMILL_URL, else http://127.0.0.1:7330.
  std::string token{};  // Empty: WORKMILL_TOKEN, if it is set. Printable ASCII, as the URL.
  // For https, PEM files. bad_configuration where one of them is given with another address: the token would go in
  // clear.
  std::string ca_file{};    // Who may vouch for the server. Empty: WORKMILL_CA_FILE, else whom the system believes.
  std::string cert_file{};  // A certificate of one's own, and those behind it, for who asks who comes. Empty: none.
  std::string key_file{};   // Its key, without a password. Empty: it is in cert_file.
  Duration connect_timeout{5'000};  // For connecting, TLS included.
  Duration request_timeout{
      30'000};  // For one attempt, waiting for a connection included; a long poll has its wait on top.
  RetryPolicy retry{};
  unsigned connections_max = 16;  // In the pool. 1 or more.
  // Calls that the server holds back, as they asked it to (waiting for a job or a cached value, a lease with a wait),
  // have connections of their own, so many at most, and are in no other call's way. 1 or more.
  unsigned long_polls_max = 1'000;
  unsigned waiting_max = 1'000;  // Calls that wait for one of either; the next is refused with pool_exhausted.
  Duration idle_max{60'000};     // A connection that was idle for longer is not used again.
  LogHook log{};                 // Left out: a client says nothing, and a worker writes warnings to standard error.
  // Asked once for each call that has no traceparent of its own, on its caller's thread: the W3C traceparent of what
  // runs there, or "".
  // Left out: inside of a handler of a Worker it is the job's, else none.
  std::function<std::string()> traceparent{};
  // Asked behind it, where it has one: the W3C tracestate beside it, or "".
  std::function<std::string()> tracestate{};
  // Of clients, one after another, for each job that they send: by enqueue, by enqueue_all, to compute a cached value,
  // and as a callback of a batch. On the caller's thread and within the call, so at the same time where several threads
  // call; once a job, however often its call is tried.
  std::vector<EnqueueHook> on_enqueue{};
};

// For one call. What becomes a header is printable ASCII; `invalid_field` otherwise, and nothing is sent.
struct CallOptions {
  std::optional<Duration> timeout{};   // Instead of request_timeout.
  std::optional<Duration> deadline{};  // For all attempts and the pauses between them; of a bulk, for all its parts.
  std::stop_token stop{};              // Ends it with call_cancelled.
  std::string idempotency_key{};       // For enqueues and new batches. Empty: a new one. 1 to 255 bytes.
  std::string traceparent{};           // W3C. Empty: as ServerOptions::traceparent says.
  std::string tracestate{};            // Beside the traceparent that is given here, or that the hook has.
};
// None of them. AsyncClient's default arguments name it rather than make one, as GCC 12 destroys twice an aggregate
// that is made within a co_await expression.
inline CallOptions const& default_call() {
  static CallOptions const options;
  return options;
}

}  // namespace workmill::client
