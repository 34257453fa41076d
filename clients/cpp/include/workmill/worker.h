#pragma once
#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "workmill/cache.h"
#include "workmill/error.h"
#include "workmill/jobs.h"
#include "workmill/options.h"

// A worker: takes jobs from queues, runs your handlers for them, and reports what came of each.
//
//   workmill::client::Worker worker{{.queues = {"images"}}};
//   worker.on<Resize>("resize", [](Resize const& resize, JobContext& ctx) -> Result<Picture> { … });
//   return worker.run_until_signal() ? 0 : 1;
//
// Handlers run on `concurrency` threads of the worker's own; one is for the connection. What it holds is bounded by
// its credit. It reconnects by itself for as long as it takes, and what it holds then goes on: the server's restart is
// not seen by a handler.
namespace workmill::client {

namespace detail {
class Backend;
class WorkerCore;
struct HeldJob;
}  // namespace detail

enum class WorkTransport : std::uint8_t {
  automatic,  // The stream; HTTP where the server has none.
  stream,     // GET /v1/worker: jobs are pushed, reports go in batches, cancelling is told at once.
  http,       // POST /v1/leases, on which the reports ride. Cancelling is told by the answer to the next report.
};

struct WorkerOptions {
  std::vector<QueueChoice> queues{"default"};
  unsigned concurrency = 10;  // Handlers at the same time. 1 or more.
  unsigned credit = 0;     // Jobs held and not reported yet. 0: twice the concurrency, so that the next one is there.
                           // 10,000 at most; for handlers that run inline, some thousands.
  Duration lease{60'000};  // Extended at a third of it while a handler runs. 100 ms to 7 days.
  std::string name{};      // Empty: host-process-number. One of its own for each worker that runs.
  WorkTransport transport = WorkTransport::automatic;
  Duration drain_timeout{30'000};  // Of stop(): after it, handlers' contexts are cancelled and nothing more is awaited.
  ServerOptions server{};
};

// What a handler knows of its job, and can say of it. Lent for the length of the handler's call; its calls are for the
// thread that the handler runs on, but for cancelled() and stop_token(), which any thread may ask.
class JobContext {
 public:
  JobContext(JobContext const&) = delete;
  JobContext& operator=(JobContext const&) = delete;

  std::string_view id() const;
  std::string_view type() const;
  std::string_view queue() const;
  unsigned attempt() const;  // 1 for the first run.
  unsigned max_attempts() const;
  std::string_view payload() const;  // JSON text; base64 where payload_is_bytes(); empty: none.
  bool payload_is_bytes() const;
  std::string_view meta() const;         // JSON text, or empty.
  std::string_view batch() const;        // The id of the batch that the job was put into, or empty.
  std::string_view traceparent() const;  // W3C, or empty: the parent for spans of the handler's own.
  std::string_view tracestate() const;

  // What an earlier attempt has left with checkpoint(): JSON text, or empty.
  std::string_view saved_json() const;
  template <class T>
  Result<std::optional<T>> saved() const {
    if (saved_json().empty()) return std::nullopt;
    auto value = from_json<T>(saved_json());
    if (!value) return std::unexpected(std::move(value).error());
    return std::optional<T>{*std::move(value)};
  }
  // Leaves `value` for the next attempt, should there be one. Answers when it is durable; an error says that nobody
  // knows, `lease_lost` that the job is somebody else's by now. In a handler that runs inline it is only sent, with
  // the next batch and ahead of the job's end. `payload_too_large` beyond 1 MiB, `bad_json` where it is no JSON: then
  // nothing is sent.
  template <class T>
  Result<> checkpoint(T const& value) {
    return checkpoint_json(to_json(value));
  }
  Result<> checkpoint_json(std::string_view json);

  // Sets a key of the cache, as Cache::put() does, together with the job's completion: both are durable, or neither.
  // Nothing is set where the attempt fails. Of a key's values the last counts. `payload_too_large` beyond 100 keys a
  // job, 8 MiB of a value, or 11.5 MiB of all that it sets, as sent (bytes are a third longer); `invalid_field` for a
  // key, tag, window or content type that is none.
  template <class T>
  Result<> cache(std::string_view key, T const& value, CacheOptions const& options = {}) {
    return set_cached(key, detail::cache_text(value, options.content_type), !std::same_as<T, Bytes>, options);
  }

  // Sent with the next batch. Dropped where the server is away and 10,000 reports wait already.
  void progress(int percent, std::string_view message = {});  // Of the message 8 KiB are kept.
  void log(std::string_view line);  // A line of the job's log; 4 KiB at most, the rest is cut.

  // Somebody cancelled the job, its lease is lost, or the worker's time to stop is over: end soon. What the handler
  // answers then counts all the same, if the lease still holds: a result completes the job; an error is `cancelled`.
  bool cancelled() const;
  std::stop_token stop_token() const;
  // To return from a handler that stops for that reason.
  std::unexpected<Error> cancelled_error() const { return fail(ErrorClass::retryable, "cancelled", "told to stop"); }

 private:
  friend class detail::WorkerCore;
  Result<> set_cached(std::string_view key, detail::CacheText const& value, bool is_json, CacheOptions const& options);
  JobContext(detail::WorkerCore& core, detail::HeldJob& job) : core_(core), job_(job) {}
  detail::WorkerCore& core_;
  detail::HeldJob& job_;
};

// Appends the result's JSON to `result`, or leaves it empty for none. `is_base64` where it is base64 of bytes.
struct HandlerOutput {
  std::string& result;
  bool is_base64 = false;
};
using Handler = std::function<Result<>(JobContext&, HandlerOutput&)>;
// Runs around each handler, the first that was given outermost. Call `next` once, or answer without it.
using Middleware = std::function<Result<>(JobContext&, std::function<Result<>()> const& next)>;

enum class RunOn : std::uint8_t {
  pool,  // One of the worker's threads.
  // The connection's thread, with no hop between threads: for what takes microseconds. Meanwhile nothing else of the
  // worker goes on: it must not block or make blocking calls, and no lease is extended.
  inline_thread,
};
struct HandlerOptions {
  RunOn run_on = RunOn::pool;
};

namespace detail {

template <class T>
struct HandlerResult {  // A plain value or void.
  using Value = T;
};
template <class T>
struct HandlerResult<Result<T>> {
  using Value = T;
};

template <class In>
Result<In> read_payload(JobContext& context) {
  if constexpr (std::same_as<In, NoPayload>) {
    return NoPayload{};
  } else if constexpr (std::same_as<In, Bytes>) {
    auto bytes = decode_base64(context.payload_is_bytes() ? context.payload() : std::string_view{});
    if (!bytes) return std::unexpected(std::move(bytes).error());
    return Bytes{*std::move(bytes)};
  } else {
    return from_json<In>(context.payload().empty() ? std::string_view{"null"} : context.payload());
  }
}

template <class Out>
void write_result(Out const& value, HandlerOutput& output) {
  if constexpr (std::same_as<Out, Bytes>) {
    output.result += encode_base64(value.data);
    output.is_base64 = true;
  } else {
    Codec<Out>::write(value, output.result);
  }
}

template <class In, class Function>
decltype(auto) call_handler(Function& function, In const& in, JobContext& context) {
  if constexpr (std::invocable<Function&, In const&, JobContext&>)
    return function(in, context);
  else
    return function(in);
}

// A payload that does not fit its type is the job's fault: it goes to `dead` with the code `bad_payload`.
Error bad_payload(Error error);

template <class In, class Function>
Handler make_handler(Function function) {
  return [function = std::move(function)](JobContext& context, HandlerOutput& output) mutable -> Result<> {
    auto in = read_payload<In>(context);
    if (!in) return std::unexpected(bad_payload(std::move(in).error()));
    using Answer = decltype(call_handler<In>(function, *in, context));
    if constexpr (std::is_void_v<Answer>) {
      call_handler<In>(function, *in, context);
    } else {
      auto answer = call_handler<In>(function, *in, context);
      using Value = typename HandlerResult<Answer>::Value;
      if constexpr (std::same_as<Answer, Result<Value>>) {
        if (!answer) return std::unexpected(std::move(answer).error());
        if constexpr (!std::is_void_v<Value>) write_result(*answer, output);
      } else {
        write_result(answer, output);
      }
    }
    return {};
  };
}

}  // namespace detail

struct WorkerFigures {
  std::uint64_t started = 0;     // Handlers.
  std::uint64_t completed = 0;   // Of these; reported.
  std::uint64_t failed = 0;      // Likewise.
  std::uint64_t released = 0;    // Given back without having begun.
  std::uint64_t lease_lost = 0;  // Reports that came too late, or twice because a connection broke.
  std::uint64_t reconnects = 0;
};

class Worker {
 public:
  explicit Worker(WorkerOptions options);
  // On an engine in this process: Workmill::worker() makes these.
  Worker(std::shared_ptr<detail::Backend> backend, WorkerOptions options);
  Worker(Worker&&) noexcept;
  ~Worker();  // As stop() and wait(), unless it has ended.

  // A handler for jobs of a type: of In const& and JobContext&, or of In const& alone; answering a Result<Out>, an Out,
  // or nothing. Before start(). In and Out: see json.h; NoPayload where it does not matter. It is called on several
  // threads at once. A job of a type without a handler fails with `unknown_type`, to be tried again elsewhere.
  // What a handler throws is a failure to be tried again, with the exception's type as its code. A result of more than
  // 8 MiB, or of 11.5 MiB with what is cached beside it, as sent, fails the job: `result_too_large`, class fatal. What
  // else the server refuses to take is `report_refused`, likewise, and the worker goes on. Of a message or a detail 8
  // KiB are kept.
  template <class In, class Function>
  void on(std::string type, Function function, HandlerOptions options = {}) {
    on_any(std::move(type), detail::make_handler<In>(std::move(function)), options);
  }
  void on_any(std::string type, Handler handler, HandlerOptions options = {});
  // Before start().
  void use(Middleware middleware);

  // Begins; need not have a connection yet.
  void start();
  // Takes no more jobs, finishes and reports those that run, gives back the others. Answers at once: see wait(). A
  // second call cancels the contexts of what runs and waits for no answer. Any thread, also a handler.
  void stop();
  // Until it has ended. An error: what ended it, where it was not stop(): the token is not good, or the server refuses
  // the worker's own request. Handlers that never return are waited for.
  Result<> wait();
  // start() and wait().
  Result<> run();
  // The same, and SIGTERM and SIGINT stop() it. The third signal has its default effect.
  Result<> run_until_signal();

  WorkerFigures figures() const;  // Any thread.

 private:
  std::unique_ptr<detail::WorkerCore> core_;
};

}  // namespace workmill::client
