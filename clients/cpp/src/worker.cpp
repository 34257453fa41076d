#include "workmill/worker.h"

#include <algorithm>

#include "transport.h"
#include "wire.h"
#include "worker_core.h"
#include "worker_outbox.h"

// What users see of a worker: JobContext, and Worker itself.
namespace workmill::client {
namespace detail {
namespace {

constexpr std::size_t kCacheEntriesMax = 100;  // Of a report, as the server takes it.

}  // namespace

void WorkerCore::report(HeldJob const& job, Report const& report) {
  static_cast<void>(job);
  append(Kind::notice, report.json().size(), [&](std::string& out) { out.append(report.json()); });
}

Result<> WorkerCore::checkpoint(HeldJob& job, std::string_view json) {
  if (closed_.load()) return std::unexpected(transport_error("outcome_unknown", "the worker has stopped", false));
  if (json.size() > kCheckpointBytesMax) {
    return fail(ErrorClass::user, "payload_too_large",
                "a checkpoint of " + std::to_string(json.size()) + " bytes; 1 MiB is allowed");
  }
  if (auto good = check_json(json); !good) return std::unexpected(in_field(std::move(good).error(), "data"));
  auto const write = [&](std::string& out) {
    write_head(job.view, "checkpoint", out);
    out.append(",\"data\":").append(json).append("}");
  };
  std::size_t const bytes = kReportHeadBytes + json.size();
  if (job.is_inline) {
    append(Kind::final, bytes, write);
    return {};
  }
  // Shared with the loop, which may answer when nobody waits any more.
  struct Answer {
    std::mutex mutex;
    std::condition_variable arrived;
    std::optional<Result<>> result;
  };
  auto const answer = std::make_shared<Answer>();
  append(Kind::final, bytes, write, [answer](Result<> result) {
    std::lock_guard const lock{answer->mutex};
    answer->result.emplace(std::move(result));
    answer->arrived.notify_all();
  });
  std::unique_lock lock{answer->mutex};
  // A server that is away is waited for as long as the worker does so itself; the bound is for one that never answers.
  auto const is_over = [&] { return answer->result.has_value() || closed_.load(); };
  auto const until = Loop::Clock::now() + options_.lease + options_.server.request_timeout;
  while (!is_over() && Loop::Clock::now() < until) {
    answer->arrived.wait_for(lock, std::chrono::milliseconds{100}, is_over);
  }
  Result<> const unknown =
      std::unexpected(transport_error("outcome_unknown", "nobody knows whether the checkpoint is durable", true));
  return answer->result.value_or(unknown);
}

// The last of a key's values counts.
Result<> WorkerCore::cache(HeldJob& job, std::string_view key, std::string entry) {
  auto const found =
      std::find_if(job.cached.begin(), job.cached.end(), [&](auto const& one) { return one.first == key; });
  if (found == job.cached.end() && job.cached.size() >= kCacheEntriesMax) {
    return fail(ErrorClass::user, "payload_too_large", "a job sets 100 keys at most");
  }
  std::size_t bytes = entry.size();
  for (auto const& [other, text] : job.cached) bytes += other == key ? 0 : text.size();
  if (bytes > kReportBytesMax) {
    return fail(ErrorClass::user, "payload_too_large", "what a job caches has 11.5 MiB at most, as sent");
  }
  if (found == job.cached.end())
    job.cached.emplace_back(key, std::move(entry));
  else
    found->second = std::move(entry);
  return {};
}

}  // namespace detail

std::string_view JobContext::id() const { return job_.view.id; }
std::string_view JobContext::type() const { return job_.view.type; }
std::string_view JobContext::queue() const { return job_.view.queue; }
unsigned JobContext::attempt() const { return job_.view.attempt; }
unsigned JobContext::max_attempts() const { return job_.view.max_attempts; }
std::string_view JobContext::payload() const { return job_.view.payload; }
bool JobContext::payload_is_bytes() const { return job_.view.payload_is_bytes; }
std::string_view JobContext::meta() const { return job_.view.meta; }
std::string_view JobContext::batch() const { return job_.view.batch; }
std::string_view JobContext::traceparent() const { return job_.view.traceparent; }
std::string_view JobContext::tracestate() const { return job_.view.tracestate; }
std::string_view JobContext::saved_json() const { return job_.view.checkpoint; }
bool JobContext::cancelled() const { return job_.cancelled.load(); }
std::stop_token JobContext::stop_token() const { return job_.stop.get_token(); }

Result<> JobContext::set_cached(std::string_view key, detail::CacheText const& value, bool is_json,
                                CacheOptions const& options) {
  if (auto good = detail::check_cache_entry(key, value, is_json, options); !good) return good;
  if (value.body.size() > detail::kResultBytesMax) {
    return fail(ErrorClass::user, "payload_too_large", "a cached value has 8 MiB at most");
  }
  return detail::WorkerCore::cache(job_, key, detail::cache_entry(key, value, is_json, options));
}
Result<> JobContext::checkpoint_json(std::string_view json) { return core_.checkpoint(job_, json); }
void JobContext::progress(int percent, std::string_view message) {
  core_.report(job_, Report::progress(job_.name(), std::clamp(percent, 0, 100), message));
}
void JobContext::log(std::string_view line) { core_.report(job_, Report::log(job_.name(), {std::string{line}})); }

Worker::Worker(WorkerOptions options) {
  auto backend = detail::make_server_backend(options.server);
  core_ = std::make_unique<detail::WorkerCore>(std::move(backend), std::move(options));
}
Worker::Worker(std::shared_ptr<detail::Backend> backend, WorkerOptions options)
    : core_(std::make_unique<detail::WorkerCore>(std::move(backend), std::move(options))) {}
Worker::Worker(Worker&&) noexcept = default;
Worker::~Worker() = default;

void Worker::on_any(std::string type, Handler handler, HandlerOptions options) {
  core_->add_handler(std::move(type), std::move(handler), options);
}
void Worker::use(Middleware middleware) { core_->add_middleware(std::move(middleware)); }
void Worker::start() { core_->start(); }
void Worker::stop() { core_->stop(); }
Result<> Worker::wait() { return core_->wait(); }
Result<> Worker::run() {
  core_->start();
  return core_->wait();
}
Result<> Worker::run_until_signal() {
  core_->stop_on_signals();
  return run();
}
WorkerFigures Worker::figures() const { return core_->figures(); }

}  // namespace workmill::client
