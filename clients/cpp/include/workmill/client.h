#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workmill/batches.h"
#include "workmill/cache.h"
#include "workmill/error.h"
#include "workmill/jobs.h"
#include "workmill/options.h"
#include "workmill/pages.h"

// The blocking client: each call waits for its answer.
//
//   workmill::client::Client client;
//   auto const job = client.enqueue("resize", Resize{.image = "cat.png", .width = 200});
//   auto const picture = client.result<Picture>(job->id, std::chrono::seconds{30});
//
// Any number of threads may call at the same time; they share a bounded pool of connections, which one thread of the
// client's own serves. No call outlives its time-outs. Nobody may be in a call when the client is destroyed.
namespace workmill::client {

namespace detail {
class Backend;
class Core;
}  // namespace detail

class Client {
 public:
  // Connects when it is first needed. A URL that is none is told by the first call, as bad_configuration.
  explicit Client(ServerOptions options = {});
  // On an engine in this process: Workmill::client() makes these (workmill/embedded.h).
  Client(std::shared_ptr<detail::Backend> backend, ServerOptions options);
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // Durable when it answers. Tried again under one idempotency key, so that it is never enqueued twice.
  Result<Enqueued> enqueue(NewJob const& job, CallOptions const& call = {});
  template <class T>
  Result<Enqueued> enqueue(std::string type, T const& payload, JobOptions options = {}, CallOptions const& call = {}) {
    return enqueue(make_job(std::move(type), payload, std::move(options)), call);
  }
  // Any number; the answers are in their order. They go in parts of 10,000 jobs or 4 MiB, each taken all or none: where
  // a later part fails, those before it are enqueued: the error's `enqueued` has their answers, also where a
  // hook or the stop token has ended it. Its field counts from the first of all: `jobs[10001].id`.
  Result<std::vector<Enqueued>> enqueue_all(std::vector<NewJob> const& jobs, CallOptions const& call = {});

  Result<Job> job(std::string_view id, CallOptions const& call = {});
  // Until the job is finished, or `patience` is over: then as it is. A server that is away meanwhile, be it for a
  // restart, is asked again until then, however many attempts a call has, and where it is away at the end the job is
  // answered as it was seen last; the deadline of `call` ends it before. However short the patience, it has no fewer
  // attempts than another call.
  Result<Job> wait(std::string_view id, Duration patience, CallOptions const& call = {});
  // The result of a job that completed within `patience`. Else an error: not_finished, or, of a job that is dead, its
  // last error with that error's code; `job_cancelled` for one that was cancelled.
  template <class T>
  Result<T> result(std::string_view id, Duration patience, CallOptions const& call = {}) {
    auto job = completed(id, patience, call);
    if (!job) return std::unexpected(std::move(job).error());
    return job->template result_as<T>();
  }
  Result<Job> completed(std::string_view id, Duration patience, CallOptions const& call = {});

  // A job that is not leased is cancelled; of one that is, the worker is told, and its report decides.
  Result<> cancel(std::string_view id, CallOptions const& call = {});
  // A dead, cancelled or scheduled job becomes ready now.
  Result<> retry(std::string_view id, CallOptions const& call = {});
  // Forgets a job that is not leased.
  Result<> remove(std::string_view id, CallOptions const& call = {});
  // Changes a job that is not leased; the answer is how it then is.
  Result<Job> change(std::string_view id, JobChanges const& changes, CallOptions const& call = {});
  // Retries, cancels or forgets all jobs that `where` names, each as the call for one does, leased ones left out of
  // removing; how many those were. An empty `where` names every job. Where the answer of an attempt was lost,
  // cancelling and removing are tried again, and the number is that of the last attempt; retrying is not.
  Result<std::uint64_t> retry_all(JobFilter const& where, CallOptions const& call = {});
  Result<std::uint64_t> cancel_all(JobFilter const& where, CallOptions const& call = {});
  Result<std::uint64_t> remove_all(JobFilter const& where, CallOptions const& call = {});
  // All that match, newest first, fetched as they are gone through, `query.limit` a call.
  Listing<JobPage> jobs(JobQuery query = {}, CallOptions call = {});
  // A page of them; `query.cursor` of the next is the `next` of this one, until that is empty.
  Result<JobPage> list(JobQuery const& query, CallOptions const& call = {});
  Result<std::vector<std::string>> job_log(std::string_view id, CallOptions const& call = {});

  Result<std::vector<LeasedJob>> lease(LeaseRequest const& request, CallOptions const& call = {});
  // Up to 1,000; one result each, in order.
  Result<std::vector<ReportResult>> report(std::vector<Report> const& reports, CallOptions const& call = {});

  Result<QueueStats> queue(std::string_view name, CallOptions const& call = {});
  // All queues by name, fetched as jobs() does; or a page of them.
  Listing<QueuePage> queues(QueueQuery query = {}, CallOptions call = {});
  Result<QueuePage> list_queues(QueueQuery const& query = {}, CallOptions const& call = {});
  // A queue that is not there yet is made; the answer is how it then is.
  Result<QueueStats> change_queue(std::string_view name, QueueChanges const& changes, CallOptions const& call = {});
  // No job of it is leased until resume().
  Result<QueueStats> pause(std::string_view queue, CallOptions const& call = {});
  Result<QueueStats> resume(std::string_view queue, CallOptions const& call = {});
  // Forgets the queue's jobs, or those in that state, but never the leased ones; how many those were, as in
  // remove_all().
  Result<std::uint64_t> purge(std::string_view queue, std::optional<JobState> state = {}, CallOptions const& call = {});

  // Values that jobs compute, shared by all clients. Not to outlive this client.
  Cache cache() { return Cache{*core_}; }
  // Sets of jobs whose end enqueues another. Not to outlive this client.
  Batches batches() { return Batches{*core_}; }

  Result<> ping(CallOptions const& call = {});   // The server is alive.
  Result<> ready(CallOptions const& call = {});  // It takes work: recovered, room on the disk, not stopping.
  // What it says of itself: an object, as GET /v1/status has it. Members may be added.
  Result<Json> status(CallOptions const& call = {});

 private:
  std::unique_ptr<detail::Core> core_;
};

}  // namespace workmill::client
