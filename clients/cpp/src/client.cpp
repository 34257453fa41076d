#include <algorithm>
#include <charconv>
#include <optional>
#include <span>

#include "operation.h"
#include "patience.h"
#include "wire.h"
#include "workmill/async_client.h"
#include "workmill/client.h"

// Both clients, but for their caches: what each call asks, and how its answer is read.
namespace workmill::client {
namespace detail {

Call make_call(Core const& core, std::string method, std::string target, std::string body, bool repeatable,
               CallOptions const& options) {
  Call call;
  call.request.method = std::move(method);
  call.request.target = std::move(target);
  call.request.body = std::move(body);
  call.request.timeout = std::min(options.timeout.value_or(core.options().request_timeout), kLongest);
  call.request.traceparent = options.traceparent;
  call.request.tracestate = options.tracestate;
  if (call.request.traceparent.empty()) {
    if (core.options().traceparent) {
      call.request.traceparent = core.options().traceparent();
      bool const has_none = !call.request.traceparent.empty() && call.request.tracestate.empty();
      if (has_none && core.options().tracestate) call.request.tracestate = core.options().tracestate();
    } else {
      call.request.traceparent = current_traceparent();
      call.request.tracestate = current_tracestate();
    }
  }
  call.repeatable = repeatable;
  call.give_up_at = options.deadline.transform(time_after);
  return call;
}

Result<> write_hooked(Core const& core, NewJob const& job, std::string& out) {
  auto const& hooks = core.options().on_enqueue;
  if (hooks.empty()) {
    write_job(job, out);
    return {};
  }
  NewJob changed = job;
  try {
    for (EnqueueHook const& hook : hooks) {
      if (auto done = hook(changed); !done) return done;
    }
  } catch (...) {
    return std::unexpected(thrown_error("the hook"));
  }
  write_job(changed, out);
  return {};
}

void hold(Call& call, Duration wait) {
  call.request.timeout += std::min(wait, kLongest);
  call.request.waits = wait > Duration{0};
}

namespace {

constexpr std::size_t kJobsPerCall = 10'000;
constexpr std::size_t kBytesPerCall = std::size_t{4} << 20;  // Well below the 12 MiB that a server takes by default.

Result<void> read_nothing(std::string_view) { return {}; }

Call make_enqueue(Core const& core, std::string body, CallOptions const& options) {
  Call call = make_call(core, "POST", "/v1/jobs", std::move(body), true, options);
  call.request.idempotency_key = options.idempotency_key.empty() ? random_key() : options.idempotency_key;
  return call;
}

std::string job_target(std::string_view id, std::string_view rest = {}) {
  return "/v1/jobs/" + url_encoded(id) + std::string{rest};
}
std::string queue_target(std::string_view name) { return "/v1/queues/" + url_encoded(name); }

using Op = CallOptions const&;
Operation<Enqueued> op_enqueue(Core const& core, NewJob const& job, Op call) {
  std::string body;
  auto const written = write_hooked(core, job, body);
  auto made = make_enqueue(core, std::move(body), call);
  if (!written) made.refused = written.error();
  return {std::move(made), of_body<read_enqueued>};
}
Operation<Job> op_job(Core const& core, std::string_view id, Op call) {
  return {make_call(core, "GET", job_target(id), {}, true, call), of_body<read_job>};
}
Operation<void> op_cancel(Core const& core, std::string_view id, Op call) {
  return {make_call(core, "POST", job_target(id, "/cancel"), {}, true, call), of_body<read_nothing>};
}
// Not repeatable: the job may have run and died once more meanwhile.
Operation<void> op_retry(Core const& core, std::string_view id, Op call) {
  return {make_call(core, "POST", job_target(id, "/retry"), {}, false, call), of_body<read_nothing>};
}
// Repeatable: a second attempt that finds nothing counts as done (Core::on_answer).
Operation<void> op_remove(Core const& core, std::string_view id, Op call) {
  return {make_call(core, "DELETE", job_target(id), {}, true, call), of_body<read_nothing>};
}
// Repeatable: the values are the same the second time.
Operation<Job> op_change(Core const& core, std::string_view id, JobChanges const& changes, Op call) {
  return {make_call(core, "PATCH", job_target(id), changes_body(changes), true, call), of_body<read_job>};
}
// Retrying is not repeatable: see op_retry.
enum class BulkAction : std::uint8_t { retry, cancel, remove };
Operation<std::uint64_t> op_all(Core const& core, BulkAction action, JobFilter const& where, Op call) {
  std::string_view const name = action == BulkAction::retry    ? "retry"
                                : action == BulkAction::cancel ? "cancel"
                                                               : "delete";
  return {make_call(core, "POST", "/v1/jobs/bulk", bulk_action_body(name, where), action != BulkAction::retry, call),
          of_body<read_count>};
}
Operation<JobPage> op_list(Core const& core, JobQuery const& query, Op call) {
  return {make_call(core, "GET", list_target(query), {}, true, call), of_body<read_jobs>};
}
Operation<std::vector<std::string>> op_job_log(Core const& core, std::string_view id, Op call) {
  return {make_call(core, "GET", job_target(id, "/log"), {}, true, call), of_body<read_lines>};
}
// Not repeatable: the jobs of a lost answer are leased, and to nobody.
Operation<std::vector<LeasedJob>> op_lease(Core const& core, LeaseRequest const& request, Op call) {
  auto made = make_call(core, "POST", "/v1/leases", lease_body(request), false, call);
  hold(made, request.wait);
  return {std::move(made), of_body<read_leased>};
}
// Repeatable: the second time they are answered lease_lost, and change nothing.
Operation<std::vector<ReportResult>> op_report(Core const& core, std::vector<Report> const& reports, Op call) {
  return {make_call(core, "POST", "/v1/reports", reports_body(reports), true, call), of_body<read_reports>};
}
Operation<QueueStats> op_queue(Core const& core, std::string_view name, Op call) {
  return {make_call(core, "GET", queue_target(name), {}, true, call), of_body<read_queue>};
}
Operation<QueuePage> op_list_queues(Core const& core, QueueQuery const& query, Op call) {
  return {make_call(core, "GET", list_target(query), {}, true, call), of_body<read_queues>};
}
Operation<QueueStats> op_change_queue(Core const& core, std::string_view name, QueueChanges const& changes, Op call) {
  return {make_call(core, "PATCH", queue_target(name), changes_body(changes), true, call), of_body<read_queue>};
}
Operation<std::uint64_t> op_purge(Core const& core, std::string_view name, std::optional<JobState> state, Op call) {
  std::string target = queue_target(name) + "/jobs";
  if (state) target.append("?state=").append(to_string(*state));
  return {make_call(core, "DELETE", std::move(target), {}, true, call), of_body<read_count>};
}
Operation<Json> op_status(Core const& core, Op call) {
  return {make_call(core, "GET", "/v1/status", {}, true, call), of_body<read_object>};
}
Operation<void> op_health(Core const& core, std::string path, Op call) {
  return {make_call(core, "GET", std::move(path), {}, true, call), of_body<read_nothing>};
}

// ---- Waiting for a job, in parts.

// What is asked next, and whether there is a next.
class WaitParts {
 public:
  // On the thread of who waits: the trace is asked for here, and no more by the later parts.
  WaitParts(Core& core, std::string_view id, Duration patience, CallOptions const& call)
      : call_(make_call(core, "GET", job_target(id, "?wait="), {}, true, call)),
        patience_(core, "waiting for job " + std::string{id}, patience, call_.give_up_at) {}

  Operation<Job> next() {
    Duration const part = patience_.next_part();
    Call made = call_;
    made.request.target.append(format_duration(part));
    hold(made, part);
    patience_.ready(made);
    return {std::move(made), of_body<read_job>};
  }
  // Is this the answer? Where the wait ends while the server is away, it is made the job as it was seen last.
  bool is_last(Result<Job>& job) {
    if (job && job->is_finished()) return true;
    if (job) {
      if (patience_.after_answer() == Patience::Next::over) return true;
      seen_ = *std::move(job);
      return false;
    }
    auto const next = patience_.after_error(job.error(), seen_.has_value());
    if (next == Patience::Next::over && seen_) job = *std::move(seen_);
    return next != Patience::Next::ask;
  }

 private:
  Call const call_;  // Of each part, but for how long it waits.
  Patience patience_;
  std::optional<Job> seen_{};
};

Result<Job> run_wait(Core& core, std::string_view id, Duration patience, CallOptions const& call) {
  WaitParts parts{core, id, patience, call};
  for (;;) {
    auto job = run(core, parts.next(), call);
    if (parts.is_last(job)) return job;
  }
}

// One wait that is under way. Each part's answer starts the next; the callbacks own it.
struct Waiting : std::enable_shared_from_this<Waiting> {
  Waiting(Core& in, std::string_view id, Duration patience, CallOptions const& options)
      : core(in), parts(in, id, patience, options), stopper(in, options.stop) {}
  Core& core;
  WaitParts parts;
  Stopper stopper;
  std::move_only_function<void(Result<Job>)> done;

  void next() {
    stopper.set(core.start(parts.next().call, [self = shared_from_this()](Result<Response> answer) {
      auto job = of_body<read_job>(std::move(answer));
      if (!self->parts.is_last(job)) return self->next();
      self->done(std::move(job));
    }));
  }
};

Async<Job> start_wait(Core& core, Executor const& executor, std::string_view id, Duration patience,
                      CallOptions const& call, Result<Job> (*last)(Job)) {
  auto state = std::make_shared<Async<Job>::State>();
  auto waiting = std::make_shared<Waiting>(core, id, patience, call);
  waiting->done = [state, executor, last](Result<Job> job) {
    if (job && last != nullptr) job = last(*std::move(job));
    deliver<Job>(executor, state, std::move(job));
  };
  waiting->next();
  return Async<Job>{std::move(state), [weak = std::weak_ptr{waiting}] {
                      if (auto const shared = weak.lock()) shared->stopper.stop();
                    }};
}

// ---- More jobs than a call takes.

// What the server has said of a part, whose first job has that place in the whole.
Error in_whole(Error error, std::size_t first) {
  constexpr std::string_view kJobs = "jobs[";
  std::string_view const field = error.field;
  if (!field.starts_with(kJobs)) return error;
  std::size_t place = 0;
  auto const* const end = field.data() + field.size();
  auto const [rest, failed] = std::from_chars(field.data() + kJobs.size(), end, place);
  if (failed != std::errc{}) return error;
  error.field = std::string{kJobs} + std::to_string(first + place) + std::string{rest, end};
  return error;
}

// What has ended a bulk of which these are enqueued.
std::unexpected<Error> ended_bulk(Error error, std::vector<Enqueued> before) {
  error = in_whole(std::move(error), before.size());
  error.enqueued = std::move(before);
  return std::unexpected(std::move(error));
}

// A bulk in parts: as many jobs as make no more bytes than a call takes, and one at least.
class BulkParts {
 public:
  // `jobs` outlives it.
  BulkParts(Core const& core, std::span<NewJob const> jobs, CallOptions const& call)
      : core_(core), jobs_(jobs), options_(call), give_up_at_(call.deadline.transform(time_after)) {}

  // Nothing where no job is left. Where a hook refuses one, its part is the last, and is not sent.
  std::optional<Call> next() {
    if (jobs_.empty() && carried_.empty()) return std::nullopt;
    std::string body = "{\"jobs\":[" + carried_;
    std::size_t taken = std::exchange(carried_, {}).empty() ? 0 : 1;
    std::optional<Error> refused;
    while (!jobs_.empty() && taken < kJobsPerCall) {
      std::size_t const before = body.size();
      if (taken > 0) body.push_back(',');
      auto const written = write_hooked(core_, jobs_.front(), body);
      jobs_ = jobs_.subspan(1);
      if (!written) {
        refused = written.error();
        jobs_ = {};
      } else if (taken > 0 && body.size() > kBytesPerCall) {
        carried_ = body.substr(before + 1);
        body.resize(before);
        break;
      }
      ++taken;
    }
    CallOptions options = options_;
    options.idempotency_key = part_key(options_.idempotency_key, part_++);
    body.append("]}");
    Call call = make_enqueue(core_, std::move(body), options);
    call.give_up_at = give_up_at_;
    call.refused = std::move(refused);
    return call;
  }

 private:
  Core const& core_;
  std::span<NewJob const> jobs_;  // That are left.
  CallOptions const options_;
  std::optional<Loop::Clock::time_point> const give_up_at_;  // With all of it.
  std::size_t part_ = 0;
  std::string carried_{};  // The job that did not fit into the part before, as JSON: hooks have seen it.
};

Result<std::vector<Enqueued>> run_bulk(Core& core, std::span<NewJob const> jobs, CallOptions const& call) {
  BulkParts parts{core, jobs, call};
  std::vector<Enqueued> all;
  all.reserve(jobs.size());
  while (auto part = parts.next()) {
    auto answers = of_body<read_bulk>(core.run(*std::move(part), call.stop));
    if (!answers) return ended_bulk(std::move(answers).error(), std::move(all));
    all.insert(all.end(), std::make_move_iterator(answers->begin()), std::make_move_iterator(answers->end()));
  }
  return all;
}

struct Bulk : std::enable_shared_from_this<Bulk> {
  Bulk(Core& in, CallOptions const& options) : core(in), call(options), stopper(in, options.stop) {}
  Core& core;
  CallOptions const call;
  Stopper stopper;
  std::vector<Call> parts;  // The last comes first.
  std::vector<Enqueued> all;
  std::move_only_function<void(Result<std::vector<Enqueued>>)> done;

  void next() {
    if (parts.empty()) return done(std::move(all));
    Call part = std::move(parts.back());
    parts.pop_back();
    stopper.set(core.start(std::move(part), [self = shared_from_this()](Result<Response> answer) {
      auto some = of_body<read_bulk>(std::move(answer));
      if (!some) return self->done(ended_bulk(std::move(some).error(), std::move(self->all)));
      self->all.insert(self->all.end(), std::make_move_iterator(some->begin()), std::make_move_iterator(some->end()));
      self->next();
    }));
  }
};

}  // namespace
}  // namespace detail

using namespace detail;  // NOLINT(google-build-using-namespace): this file is theirs.

// ---- Client

Client::Client(ServerOptions options) {
  auto backend = make_server_backend(options);
  core_ = std::make_unique<Core>(std::move(backend), std::move(options));
}
Client::Client(std::shared_ptr<Backend> backend, ServerOptions options)
    : core_(std::make_unique<Core>(std::move(backend), std::move(options))) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Enqueued> Client::enqueue(NewJob const& job, Op call) {
  return detail::run(*core_, op_enqueue(*core_, job, call), call);
}
Result<std::vector<Enqueued>> Client::enqueue_all(std::vector<NewJob> const& jobs, Op call) {
  return run_bulk(*core_, jobs, call);
}
Result<Job> Client::job(std::string_view id, Op call) { return detail::run(*core_, op_job(*core_, id, call), call); }
Result<Job> Client::wait(std::string_view id, Duration patience, Op call) {
  return run_wait(*core_, id, patience, call);
}
Result<Job> Client::completed(std::string_view id, Duration patience, Op call) {
  auto job = run_wait(*core_, id, patience, call);
  if (!job) return job;
  return completed_or_error(*std::move(job));
}
Result<> Client::cancel(std::string_view id, Op call) { return detail::run(*core_, op_cancel(*core_, id, call), call); }
Result<> Client::retry(std::string_view id, Op call) { return detail::run(*core_, op_retry(*core_, id, call), call); }
Result<> Client::remove(std::string_view id, Op call) { return detail::run(*core_, op_remove(*core_, id, call), call); }
Result<Job> Client::change(std::string_view id, JobChanges const& changes, Op call) {
  return detail::run(*core_, op_change(*core_, id, changes, call), call);
}
Result<std::uint64_t> Client::retry_all(JobFilter const& where, Op call) {
  return detail::run(*core_, op_all(*core_, BulkAction::retry, where, call), call);
}
Result<std::uint64_t> Client::cancel_all(JobFilter const& where, Op call) {
  return detail::run(*core_, op_all(*core_, BulkAction::cancel, where, call), call);
}
Result<std::uint64_t> Client::remove_all(JobFilter const& where, Op call) {
  return detail::run(*core_, op_all(*core_, BulkAction::remove, where, call), call);
}
Listing<JobPage> Client::jobs(JobQuery query, CallOptions call) {
  std::string cursor = query.cursor;
  auto fetch = [core = core_.get(), query = std::move(query), call = std::move(call)](std::string const& at) mutable {
    query.cursor = at;
    return detail::run(*core, op_list(*core, query, call), call);
  };
  return {std::move(fetch), std::move(cursor)};
}
Result<JobPage> Client::list(JobQuery const& query, Op call) {
  return detail::run(*core_, op_list(*core_, query, call), call);
}
Result<std::vector<std::string>> Client::job_log(std::string_view id, Op call) {
  return detail::run(*core_, op_job_log(*core_, id, call), call);
}
Result<std::vector<LeasedJob>> Client::lease(LeaseRequest const& request, Op call) {
  return detail::run(*core_, op_lease(*core_, request, call), call);
}
Result<std::vector<ReportResult>> Client::report(std::vector<Report> const& reports, Op call) {
  return detail::run(*core_, op_report(*core_, reports, call), call);
}
Result<QueueStats> Client::queue(std::string_view name, Op call) {
  return detail::run(*core_, op_queue(*core_, name, call), call);
}
Listing<QueuePage> Client::queues(QueueQuery query, CallOptions call) {
  std::string cursor = query.cursor;
  auto fetch = [core = core_.get(), query = std::move(query), call = std::move(call)](std::string const& at) mutable {
    query.cursor = at;
    return detail::run(*core, op_list_queues(*core, query, call), call);
  };
  return {std::move(fetch), std::move(cursor)};
}
Result<QueuePage> Client::list_queues(QueueQuery const& query, Op call) {
  return detail::run(*core_, op_list_queues(*core_, query, call), call);
}
Result<QueueStats> Client::change_queue(std::string_view name, QueueChanges const& changes, Op call) {
  return detail::run(*core_, op_change_queue(*core_, name, changes, call), call);
}
Result<QueueStats> Client::pause(std::string_view queue, Op call) {
  return change_queue(queue, {.paused = true}, call);
}
Result<QueueStats> Client::resume(std::string_view queue, Op call) {
  return change_queue(queue, {.paused = false}, call);
}
Result<std::uint64_t> Client::purge(std::string_view queue, std::optional<JobState> state, Op call) {
  return detail::run(*core_, op_purge(*core_, queue, state, call), call);
}
Result<> Client::ping(Op call) { return detail::run(*core_, op_health(*core_, "/livez", call), call); }
Result<> Client::ready(Op call) { return detail::run(*core_, op_health(*core_, "/readyz", call), call); }
Result<Json> Client::status(Op call) { return detail::run(*core_, op_status(*core_, call), call); }

// ---- AsyncClient

AsyncClient::AsyncClient(AsyncOptions options) : executor_(std::move(options.executor)) {
  auto backend = make_server_backend(options.server);
  core_ = std::make_unique<Core>(std::move(backend), std::move(options.server));
}
AsyncClient::AsyncClient(std::shared_ptr<Backend> backend, AsyncOptions options)
    : core_(std::make_unique<Core>(std::move(backend), std::move(options.server))),
      executor_(std::move(options.executor)) {}
AsyncClient::AsyncClient(AsyncClient&&) noexcept = default;
AsyncClient& AsyncClient::operator=(AsyncClient&&) noexcept = default;
AsyncClient::~AsyncClient() = default;

Async<Enqueued> AsyncClient::enqueue(NewJob const& job, Op call) {
  return start(*core_, executor_, op_enqueue(*core_, job, call), call);
}
Async<std::vector<Enqueued>> AsyncClient::enqueue_all(std::vector<NewJob> const& jobs, Op call) {
  auto state = std::make_shared<Async<std::vector<Enqueued>>::State>();
  auto bulk = std::make_shared<Bulk>(*core_, call);
  bulk->done = [state, executor = executor_](Result<std::vector<Enqueued>> all) {
    deliver<std::vector<Enqueued>>(executor, state, std::move(all));
  };
  BulkParts parts{*core_, jobs, call};
  while (auto part = parts.next()) bulk->parts.push_back(*std::move(part));
  std::reverse(bulk->parts.begin(), bulk->parts.end());
  bulk->next();
  return Async<std::vector<Enqueued>>{std::move(state), [weak = std::weak_ptr{bulk}] {
                                        if (auto const shared = weak.lock()) shared->stopper.stop();
                                      }};
}
Async<Job> AsyncClient::job(std::string_view id, Op call) {
  return start(*core_, executor_, op_job(*core_, id, call), call);
}
Async<Job> AsyncClient::wait(std::string_view id, Duration patience, Op call) {
  return start_wait(*core_, executor_, id, patience, call, nullptr);
}
Async<Job> AsyncClient::completed(std::string_view id, Duration patience, Op call) {
  return start_wait(*core_, executor_, id, patience, call, completed_or_error);
}
Async<void> AsyncClient::cancel(std::string_view id, Op call) {
  return start(*core_, executor_, op_cancel(*core_, id, call), call);
}
Async<void> AsyncClient::retry(std::string_view id, Op call) {
  return start(*core_, executor_, op_retry(*core_, id, call), call);
}
Async<void> AsyncClient::remove(std::string_view id, Op call) {
  return start(*core_, executor_, op_remove(*core_, id, call), call);
}
Async<Job> AsyncClient::change(std::string_view id, JobChanges const& changes, Op call) {
  return start(*core_, executor_, op_change(*core_, id, changes, call), call);
}
Async<std::uint64_t> AsyncClient::retry_all(JobFilter const& where, Op call) {
  return start(*core_, executor_, op_all(*core_, BulkAction::retry, where, call), call);
}
Async<std::uint64_t> AsyncClient::cancel_all(JobFilter const& where, Op call) {
  return start(*core_, executor_, op_all(*core_, BulkAction::cancel, where, call), call);
}
Async<std::uint64_t> AsyncClient::remove_all(JobFilter const& where, Op call) {
  return start(*core_, executor_, op_all(*core_, BulkAction::remove, where, call), call);
}
AsyncListing<JobPage> AsyncClient::jobs(JobQuery query, CallOptions call) {
  std::string cursor = query.cursor;
  auto fetch = [core = core_.get(), executor = executor_, query = std::move(query),
                call = std::move(call)](std::string const& at) mutable {
    query.cursor = at;
    return start(*core, executor, op_list(*core, query, call), call);
  };
  return {std::move(fetch), std::move(cursor)};
}
Async<JobPage> AsyncClient::list(JobQuery const& query, Op call) {
  return start(*core_, executor_, op_list(*core_, query, call), call);
}
Async<std::vector<std::string>> AsyncClient::job_log(std::string_view id, Op call) {
  return start(*core_, executor_, op_job_log(*core_, id, call), call);
}
Async<std::vector<LeasedJob>> AsyncClient::lease(LeaseRequest const& request, Op call) {
  return start(*core_, executor_, op_lease(*core_, request, call), call);
}
Async<std::vector<ReportResult>> AsyncClient::report(std::vector<Report> const& reports, Op call) {
  return start(*core_, executor_, op_report(*core_, reports, call), call);
}
Async<QueueStats> AsyncClient::queue(std::string_view name, Op call) {
  return start(*core_, executor_, op_queue(*core_, name, call), call);
}
AsyncListing<QueuePage> AsyncClient::queues(QueueQuery query, CallOptions call) {
  std::string cursor = query.cursor;
  auto fetch = [core = core_.get(), executor = executor_, query = std::move(query),
                call = std::move(call)](std::string const& at) mutable {
    query.cursor = at;
    return start(*core, executor, op_list_queues(*core, query, call), call);
  };
  return {std::move(fetch), std::move(cursor)};
}
Async<QueuePage> AsyncClient::list_queues(QueueQuery const& query, Op call) {
  return start(*core_, executor_, op_list_queues(*core_, query, call), call);
}
Async<QueueStats> AsyncClient::change_queue(std::string_view name, QueueChanges const& changes, Op call) {
  return start(*core_, executor_, op_change_queue(*core_, name, changes, call), call);
}
Async<QueueStats> AsyncClient::pause(std::string_view queue, Op call) {
  return change_queue(queue, {.paused = true}, call);
}
Async<QueueStats> AsyncClient::resume(std::string_view queue, Op call) {
  return change_queue(queue, {.paused = false}, call);
}
Async<std::uint64_t> AsyncClient::purge(std::string_view queue, std::optional<JobState> state, Op call) {
  return start(*core_, executor_, op_purge(*core_, queue, state, call), call);
}
Async<void> AsyncClient::ping(Op call) { return start(*core_, executor_, op_health(*core_, "/livez", call), call); }
Async<void> AsyncClient::ready(Op call) { return start(*core_, executor_, op_health(*core_, "/readyz", call), call); }
Async<Json> AsyncClient::status(Op call) { return start(*core_, executor_, op_status(*core_, call), call); }

}  // namespace workmill::client
