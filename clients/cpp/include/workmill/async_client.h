#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workmill/async_batches.h"
#include "workmill/async_cache.h"
#include "workmill/client.h"
#include "workmill/task.h"

// The client for coroutines and callbacks: each call begins at once and answers an Async<T>.
//
//   Task<Result<Picture>> one(AsyncClient& client, Resize resize) {
//     auto const job = co_await client.enqueue("resize", resize);
//     if (!job) co_return std::unexpected(job.error());
//     co_return co_await client.result<Picture>(job->id, 30s);
//   }
//
// What a coroutine does after a co_await, and every callback, runs on the client's own thread: keep it short, or say
// in AsyncOptions where it shall run. Destroying the client answers what is under way with call_cancelled; not from one
// of its own callbacks.
namespace workmill::client {

struct AsyncOptions {
  ServerOptions server{};
  // Runs what it is given, some time, on a thread of yours. Called on the client's thread.
  std::function<void(std::move_only_function<void()>)> executor{};
};

class AsyncClient {
 public:
  explicit AsyncClient(AsyncOptions options = {});
  AsyncClient(std::shared_ptr<detail::Backend> backend, AsyncOptions options);
  AsyncClient(AsyncClient&&) noexcept;
  AsyncClient& operator=(AsyncClient&&) noexcept;
  ~AsyncClient();

  // Each as in Client.
  Async<Enqueued> enqueue(NewJob const& job, CallOptions const& call = default_call());
  template <class T>
  Async<Enqueued> enqueue(std::string type, T const& payload, JobOptions options = default_job(),
                          CallOptions const& call = default_call()) {
    return enqueue(make_job(std::move(type), payload, std::move(options)), call);
  }
  Async<std::vector<Enqueued>> enqueue_all(std::vector<NewJob> const& jobs, CallOptions const& call = default_call());
  Async<Job> job(std::string_view id, CallOptions const& call = default_call());
  Async<Job> wait(std::string_view id, Duration patience, CallOptions const& call = default_call());
  Async<Job> completed(std::string_view id, Duration patience, CallOptions const& call = default_call());
  template <class T>
  Task<Result<T>> result(std::string id, Duration patience, CallOptions call = default_call()) {
    auto job = co_await completed(id, patience, call);
    if (!job) co_return std::unexpected(std::move(job).error());
    co_return job->template result_as<T>();
  }
  Async<void> cancel(std::string_view id, CallOptions const& call = default_call());
  Async<void> retry(std::string_view id, CallOptions const& call = default_call());
  Async<void> remove(std::string_view id, CallOptions const& call = default_call());
  Async<Job> change(std::string_view id, JobChanges const& changes, CallOptions const& call = default_call());
  Async<std::uint64_t> retry_all(JobFilter const& where, CallOptions const& call = default_call());
  Async<std::uint64_t> cancel_all(JobFilter const& where, CallOptions const& call = default_call());
  Async<std::uint64_t> remove_all(JobFilter const& where, CallOptions const& call = default_call());
  AsyncListing<JobPage> jobs(JobQuery query, CallOptions call = default_call());
  Async<JobPage> list(JobQuery const& query, CallOptions const& call = default_call());
  Async<std::vector<std::string>> job_log(std::string_view id, CallOptions const& call = default_call());
  Async<std::vector<LeasedJob>> lease(LeaseRequest const& request, CallOptions const& call = default_call());
  Async<std::vector<ReportResult>> report(std::vector<Report> const& reports, CallOptions const& call = default_call());
  Async<QueueStats> queue(std::string_view name, CallOptions const& call = default_call());
  AsyncListing<QueuePage> queues(QueueQuery query = default_queues(), CallOptions call = default_call());
  Async<QueuePage> list_queues(QueueQuery const& query = default_queues(), CallOptions const& call = default_call());
  Async<QueueStats> change_queue(std::string_view name, QueueChanges const& changes,
                                 CallOptions const& call = default_call());
  Async<QueueStats> pause(std::string_view queue, CallOptions const& call = default_call());
  Async<QueueStats> resume(std::string_view queue, CallOptions const& call = default_call());
  Async<std::uint64_t> purge(std::string_view queue, std::optional<JobState> state = {},
                             CallOptions const& call = default_call());
  AsyncCache cache() { return AsyncCache{*core_, executor_}; }
  AsyncBatches batches() { return AsyncBatches{*core_, executor_}; }
  Async<void> ping(CallOptions const& call = default_call());
  Async<void> ready(CallOptions const& call = default_call());
  Async<Json> status(CallOptions const& call = default_call());

 private:
  std::unique_ptr<detail::Core> core_;
  std::function<void(std::move_only_function<void()>)> executor_;
};

}  // namespace workmill::client
