#include "worker_core.h"

#include <algorithm>
#include <array>

#include "core.h"
#include "wire.h"
#include "worker_outbox.h"

// From a job that comes in to the report on it: who holds it, the pool, and what a handler's end means.
namespace workmill::client::detail {
namespace {

// Puts what a frame lent into the job's own storage.
void own(HeldJob& job) {
  JobView const from = job.view;
  std::array const parts{&JobView::id,          &JobView::lease,      &JobView::type, &JobView::queue,
                         &JobView::payload,     &JobView::checkpoint, &JobView::meta, &JobView::batch,
                         &JobView::traceparent, &JobView::tracestate};
  std::size_t bytes = 0;
  for (auto const part : parts) bytes += (from.*part).size();
  job.storage.reserve(bytes);
  for (auto const part : parts) job.storage.append(from.*part);
  std::size_t at = 0;
  for (auto const part : parts) {
    std::size_t const size = (from.*part).size();
    job.view.*part = std::string_view{job.storage}.substr(at, size);
    at += size;
  }
}

}  // namespace

void WorkerCore::on_frame(Frame& frame) {
  std::vector<HeldJob*> for_pool;
  for (JobView const& view : frame.jobs) take_job(view, for_pool);
  for (std::string const& id : frame.cancel) cancel_job(id);
  if (!for_pool.empty()) {
    {
      std::lock_guard const lock{pool_mutex_};
      pool_queue_.insert(pool_queue_.end(), for_pool.begin(), for_pool.end());
    }
    if (for_pool.size() == 1)
      pool_arrived_.notify_one();
    else
      pool_arrived_.notify_all();
  }
  flush();
}

void WorkerCore::take_job(JobView const& view, std::vector<HeldJob*>& for_pool) {
  if (phase_ != Phase::running) return release(view, nullptr);
  auto const found = handlers_.find(view.type);
  if (found == handlers_.end()) {
    // Ready again after its backoff, perhaps for a worker that knows it.
    log(LogLevel::warn, "there is no handler for jobs of type " + std::string{view.type});
    counters_.failed.fetch_add(1, std::memory_order_relaxed);
    append(Kind::final, 2 * kReportHeadBytes, [&](std::string& out) {
      write_head(view, "failed", out);
      out.append(
          R"(,"error":{"class":"retryable","code":"unknown_type","message":"this worker has no handler for it"}})");
    });
    return;
  }
  if (found->second.run_on == RunOn::inline_thread) {
    inline_job_.view = view;
    inline_job_.is_inline = true;
    return run_handler(inline_job_, &found->second);
  }
  if (HeldJob* const job = hold(view)) for_pool.push_back(job);
}

// Null where it is held already: it was sent again.
HeldJob* WorkerCore::hold(JobView const& view) {
  if (held_.contains(view.lease)) return nullptr;
  auto job = std::make_unique<HeldJob>();
  job->view = view;
  own(*job);
  job->stop = std::stop_source{};
  job->extend_at = Loop::Clock::now() + options_.lease / 3;
  HeldJob* const held = job.get();
  held_.emplace(held->view.lease, std::move(job));
  return held;
}

void WorkerCore::run_pool() {
  for (;;) {
    HeldJob* job = nullptr;
    {
      std::unique_lock lock{pool_mutex_};
      pool_arrived_.wait(lock, [&] { return pool_closed_ || !pool_queue_.empty(); });
      if (pool_queue_.empty()) return;
      job = pool_queue_.front();
      pool_queue_.pop_front();
    }
    run_handler(*job, &handlers_.find(job->view.type)->second);
  }
}

void WorkerCore::run_handler(HeldJob& job, Registered const* registered) {
  counters_.started.fetch_add(1, std::memory_order_relaxed);
  thread_local std::string result;
  result.clear();
  HandlerOutput output{.result = result};
  job.cached.clear();  // An inline job's is used again.
  // What the handler enqueues on this thread belongs to the same trace.
  current_traceparent() = job.view.traceparent;
  current_tracestate() = job.view.tracestate;
  Result<> answer;
  try {
    answer = call_handler(job, *registered, output);
  } catch (...) {
    answer = std::unexpected(thrown_error("the handler"));
  }
  current_traceparent().clear();
  current_tracestate().clear();
  finish_job(job, std::move(answer), output);
}

Result<> WorkerCore::call_handler(HeldJob& job, Registered const& registered, HandlerOutput& output) {
  JobContext context{*this, job};
  if (middleware_.empty()) return registered.handler(context, output);
  struct Chain {
    WorkerCore& core;
    Registered const& registered;
    JobContext& context;
    HandlerOutput& output;
    Result<> run(std::size_t at) {
      if (at == core.middleware_.size()) return registered.handler(context, output);
      return core.middleware_[at](context, [this, at] { return run(at + 1); });
    }
  };
  return Chain{*this, registered, context, output}.run(0);
}

void WorkerCore::finish_job(HeldJob& job, Result<> result, HandlerOutput const& output) {
  HeldJob* const done = job.is_inline ? nullptr : &job;
  std::size_t cached_bytes = 0;
  for (auto const& [key, entry] : job.cached) cached_bytes += entry.size() + 1;
  std::size_t bytes = output.result.size();
  if (output.is_base64)
    bytes = bytes / 4 * 3 - (output.result.ends_with("==") ? 2U : output.result.ends_with('=') ? 1U : 0U);
  std::size_t const sent = output.result.size() + cached_bytes;
  if (result && bytes > kResultBytesMax) {
    result = fatal_error("result_too_large", "a result of " + std::to_string(bytes) +
                                                 " bytes; 8 MiB are allowed: give back where it is instead");
  } else if (result && sent > kReportBytesMax) {
    result = fatal_error("result_too_large", "a result and what is cached with it of " + std::to_string(sent) +
                                                 " bytes; 11.5 MiB are allowed as sent: give back where it is instead");
  }
  if (result) {
    counters_.completed.fetch_add(1, std::memory_order_relaxed);
    append(
        Kind::final, kReportHeadBytes + output.result.size() + cached_bytes,
        [&](std::string& out) {
          write_head(job.view, "completed", out);
          if (output.is_base64)
            out.append(",\"result_base64\":\"").append(output.result).append("\"");
          else if (!output.result.empty())
            out.append(",\"result\":").append(output.result);
          std::string_view before = ",\"cache\":[";
          for (auto const& [key, entry] : job.cached) out.append(std::exchange(before, ",")).append(entry);
          out.append(job.cached.empty() ? "}" : "]}");
        },
        {}, done);
    return;
  }
  counters_.failed.fetch_add(1, std::memory_order_relaxed);
  Error error = std::move(result).error();
  error.code = as_name(std::move(error.code));
  if (job.cancelled.load()) {
    error.code = "cancelled";
    error.error_class = ErrorClass::retryable;
  }
  Report const report = Report::failed(job.name(), error);
  append(Kind::final, report.json().size(), [&](std::string& out) { out.append(report.json()); }, {}, done);
}

}  // namespace workmill::client::detail
